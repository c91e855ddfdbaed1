"""RTP payloads of encoders that are modelled: what is in front is what the codec's payload format asks for, what is
behind tells the laboratory the truth about the frame, whatever a server rewrites in front of it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mediaserver.codecs.payload import Codec

PAYLOAD_MAX = 1_150
"""Bytes of one payload, so that with header, extensions and tag a packet has less than 1,200."""
NOBODY = 0xFFFFFFFF
_TRUTH = struct.Struct("!2sIQHHBBBBHHII")
TRUTH_SIZE = _TRUTH.size
MAGIC = b"\xf7\x1a"
_FILL = bytes(PAYLOAD_MAX)
SHOWN, KEY = 1, 2


class Truth(NamedTuple):
    """What the laboratory knows of the unit (the frame of one layer) that a payload is a part of.

    `unit` numbers the units of one encoding; `captured` is µs; `index` of `count` payloads; `references` are units
    that must have been decoded (`NOBODY` where there is none). Sound has `unit`, `captured` and a size of 0 alone.
    """

    magic: bytes
    unit: int
    captured: int
    index: int
    count: int
    encoding: int
    spatial: int
    temporal: int
    flags: int
    width: int
    height: int
    first: int
    second: int


def read_truth(payload: bytes) -> Truth:
    """The truth at the end of a payload. ValueError where there is none: somebody changed more than a descriptor."""
    if len(payload) < TRUTH_SIZE:
        raise ValueError(f"a payload of {len(payload)} bytes is none of the laboratory's")
    truth = Truth._make(_TRUTH.unpack_from(payload, len(payload) - TRUTH_SIZE))
    if truth.magic != MAGIC:
        raise ValueError("the end of a payload has been changed")
    return truth


class Unit(NamedTuple):
    """A frame of one layer as an encoder gives it. `references` as in `Truth`; `differences` are what VP9 and AV1 say
    of them, in pictures or frames; `last` tells the highest layer of its picture."""

    codec: Codec
    number: int
    captured: int
    size: int
    encoding: int
    spatial: int
    temporal: int
    key: bool
    sync: bool
    last: bool
    width: int
    height: int
    references: tuple[int, ...]
    picture: int
    tl0: int
    differences: tuple[int, ...] = ()


def sound(number: int, captured: int, size: int) -> bytes:
    """An Opus packet of 20 ms (fullband, one frame) of this size."""
    truth = _TRUTH.pack(MAGIC, number & 0xFFFFFFFF, captured, 0, 1, 0, 0, 0, SHOWN, 0, 0, NOBODY, NOBODY)
    return b"\xf8" + _FILL[: max(0, size - 1 - TRUTH_SIZE)] + truth


def vp8_head(unit: Unit, first: bool) -> bytes:
    """RFC 7741: picture id of 15 bits, TL0PICIDX, temporal id; and the frame header's beginning (RFC 6386)."""
    discardable = 0x20 if unit.temporal == 2 else 0
    descriptor = bytes((0x80 | discardable | (0x10 if first else 0), 0xE0)) + struct.pack(
        "!HBB", 0x8000 | unit.picture & 0x7FFF, unit.tl0 & 0xFF, unit.temporal << 6 | (0x20 if unit.sync else 0)
    )
    if not first:
        return descriptor
    if unit.key:
        size = struct.pack("<HH", unit.width, unit.height)
        return descriptor + b"\x10\x00\x00\x9d\x01\x2a" + size
    return descriptor + b"\x11\x00\x00"


def vp9_head(unit: Unit, first: bool, last: bool) -> bytes:
    """RFC 9628, flexible mode as Chromium writes it, with the structure in front of a keyframe."""
    inter = bool(unit.differences)
    structure = first and unit.key and unit.spatial == 0
    flags = 0xB0 | (0x40 if inter else 0) | (0x08 if first else 0) | (0x04 if last else 0) | (0x02 if structure else 0)
    out = struct.pack(
        "!BHB",
        flags,
        0x8000 | unit.picture & 0x7FFF,
        unit.temporal << 5 | (0x10 if unit.sync else 0) | unit.spatial << 1 | (1 if depends_below(unit) else 0),
    )
    for index, difference in enumerate(unit.differences):
        out += bytes((difference << 1 | (index + 1 < len(unit.differences)),))
    if structure:
        out += b"\x10" + struct.pack("!HH", unit.width, unit.height) if unit.last else VP9_THREE
    if first:
        # The uncompressed header: a key frame with its size, or any other frame.
        out += vp9_key(unit) if unit.key and unit.spatial == 0 else b"\x86\x00"
    return out


VP9_THREE = b"\x50" + struct.pack("!HHHHHH", 320, 180, 640, 360, 1280, 720)


def depends_below(unit: Unit) -> bool:
    """The D bit: the layer below of the same picture is used."""
    return unit.spatial > 0 and (unit.number - 1) in unit.references


def vp9_key(unit: Unit) -> bytes:
    """frame_marker 2, profile 0, key frame, shown; sync code; colour space 2; then the size."""
    bits = "10" + "0000" + "1" + "0" + f"{0x498342:024b}" + "010" + "0" + f"{unit.width - 1:016b}{unit.height - 1:016b}"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def h264_parameters(width: int, height: int) -> bytes:
    """A STAP-A with an SPS of that size (multiples of 16 are exact, others are cropped) and a PPS."""
    columns, rows = (width + 15) // 16, (height + 15) // 16
    crop = rows * 16 - height
    bits = f"{66:08b}{0xC0:08b}{31:08b}" + _ue(0) + _ue(0) + _ue(2) + _ue(1) + "0" + _ue(columns - 1) + _ue(rows - 1)
    bits += "1" + "1" + ("1" + _ue(0) + _ue(0) + _ue(0) + _ue(crop // 2) if crop else "0") + "0" + "1"
    bits += "0" * (-len(bits) % 8)
    sps = _escaped(b"\x67" + int(bits, 2).to_bytes(len(bits) // 8, "big"))
    pps = b"\x68\xce\x3c\x80"
    return b"\x78" + struct.pack("!H", len(sps)) + sps + struct.pack("!H", len(pps)) + pps


def _escaped(nal: bytes) -> bytes:
    """With emulation prevention (H.264, section 7.4.1)."""
    out, zeros = bytearray(), 0
    for byte in nal:
        if zeros == 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


def _ue(value: int) -> str:
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def h264_head(unit: Unit, first: bool, last: bool) -> bytes:
    """RFC 6184: FU-A of an IDR or another slice; of the highest temporal layer nothing is referred to."""
    discardable = unit.temporal > 0 and unit.sync
    indicator = (0x00 if discardable else 0x60) | 28
    header = (0x80 if first else 0) | (0x40 if last else 0) | (5 if unit.key else 1)
    slice_head = (b"\x88\x80" if unit.key else b"\x9a\x00") if first else b""
    return bytes((indicator, header)) + slice_head


def av1_head(unit: Unit, first: bool, last: bool) -> bytes:
    """The AV1 payload format: one OBU element, a fragment of a frame; of a keyframe a sequence header stands before."""
    if not first:
        return bytes(((0x80 | (0 if last else 0x40)) | 0x10,))
    goes_on = 0 if last else 0x40
    # OBU_FRAME with an extension that names the layer
    frame = bytes((6 << 3 | 0x04, unit.temporal << 5 | unit.spatial << 3, 0x10 if unit.key else 0x30))
    if unit.key and unit.spatial == 0:
        sequence = av1_sequence(unit.width, unit.height)
        return bytes((0x08 | goes_on | 0x20, len(sequence))) + sequence + frame
    return bytes((goes_on | 0x10,)) + frame


def av1_sequence(width: int, height: int) -> bytes:
    """A reduced still picture header tells the size and no more: profile 0, still_picture, reduced, level 5."""
    bits = "000" + "1" + "1" + "00101" + "1111" + "1111" + f"{width - 1:016b}{height - 1:016b}"
    bits += "1" + "0" * (-(len(bits) + 1) % 8)
    return b"\x08" + int(bits, 2).to_bytes(len(bits) // 8, "big")


def payloads(unit: Unit) -> list[bytes]:
    """The payloads of a unit, of equal size but for the last, all with the truth at the end."""
    count = max(1, -(-unit.size // PAYLOAD_MAX))
    extra = 1 if unit.codec == Codec.CODEC_H264 and unit.key else 0
    out = []
    first_reference, second_reference = (*unit.references, NOBODY, NOBODY)[:2]
    flags = SHOWN | (KEY if unit.key else 0)
    share = -(-unit.size // count)
    for index in range(count + extra):
        at = index - extra
        truth = _TRUTH.pack(
            MAGIC,
            unit.number,
            unit.captured,
            index,
            count + extra,
            unit.encoding,
            unit.spatial,
            unit.temporal,
            flags,
            unit.width,
            unit.height,
            first_reference,
            second_reference,
        )
        if at < 0:
            out.append(_h264_first(unit, truth))
            continue
        head = _head(unit, at == 0, at == count - 1)
        size = min(share, unit.size - at * share) - len(head) - TRUTH_SIZE
        out.append(head + _FILL[: max(0, size)] + truth)
    return out


def _h264_first(unit: Unit, truth: bytes) -> bytes:
    """Parameter sets, and an SEI of user data (H.264, annex D) that holds the truth."""
    sei = b"\x06\x05" + bytes((len(truth),)) + truth
    return h264_parameters(unit.width, unit.height) + struct.pack("!H", len(sei)) + sei


def _head(unit: Unit, first: bool, last: bool) -> bytes:
    if unit.codec == Codec.CODEC_VP8:
        return vp8_head(unit, first)
    if unit.codec == Codec.CODEC_VP9:
        return vp9_head(unit, first, last)
    if unit.codec == Codec.CODEC_H264:
        return h264_head(unit, first, last)
    return av1_head(unit, first, last)
