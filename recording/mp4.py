"""Fragmented MP4 (ISO/IEC 14496-12) with one track, written fragment by fragment.

The description of the codec (`avcC`, `hvcC`, `av1C`, `dOps`) comes from FFmpeg's muxer, which reads it out of the
first picture. The fragments are written here, because FFmpeg's muxer keeps the last one until the next sample
comes: of a publisher who mutes or shows a still page, seconds would stay in memory.

The header ends with room for a segment index (`sidx`). It is filled in when the file is complete, so that a player
knows the duration and can seek with a few ranged reads.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av

from mediaserver.recording.sample import Fragment, Patch, Sample

INDEX_ROOM = 12 * 1024
"""Bytes kept free for the index at the end of the header: a thousand entries."""

_SIDX = struct.Struct(">I4sIIIQQHH")
_MOVFLAGS = {"movflags": "empty_moov+default_base_moof", "use_editlist": "0"}
_DESCRIPTIONS = {"h264": b"avcC", "hevc": b"hvcC", "av1": b"av1C"}
_SYNC = 0x02000000
_NOT_SYNC = 0x01010000
_START_CODE = b"\0\0\1"


def header(codec: str, clock_rate: int, picture: bytes, width: int, height: int) -> bytes:
    """The file up to the first fragment.

    `codec` is FFmpeg's name: h264, hevc, av1 or opus. `picture` is a keyframe with its parameter sets (unused for
    sound). Raises ValueError when the picture does not describe the codec.
    """
    if codec == "opus":
        return _opus_header() + _free(INDEX_ROOM)
    out = io.BytesIO()
    time_base = Fraction(1, clock_rate)
    try:
        with av.open(out, "w", format="mp4", options=_MOVFLAGS) as container:
            stream = container.add_mux_stream(codec, width=width, height=height)
            stream.time_base = time_base
            packet = av.Packet(picture)
            packet.pts = packet.dts = 0
            packet.time_base = time_base
            packet.is_keyframe = True
            packet.stream = stream
            container.mux(packet)
    except av.FFmpegError as error:
        raise ValueError(f"FFmpeg cannot describe this {codec} picture: {error}") from error
    start = _initialisation(out.getvalue())
    # FFmpeg writes the box without content when it has found nothing to put in.
    if struct.pack(">I", 8) + _DESCRIPTIONS[codec] in start:
        raise ValueError(f"this {codec} picture carries no parameter sets")
    return start + _free(INDEX_ROOM)


@functools.cache
def _opus_header() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4", options=_MOVFLAGS) as container:
        stream = container.add_stream("libopus", rate=48_000)
        stream.codec_context.layout = "stereo"
        container.start_encoding()
    data = bytearray(_initialisation(out.getvalue()))
    # An RTP stream has no encoder's run-in to skip (RFC 7587); what FFmpeg wrote is that of the template's encoder.
    pre_skip = data.index(b"dOps") + 6
    data[pre_skip : pre_skip + 2] = b"\0\0"
    return bytes(data)


def _initialisation(data: bytes) -> bytes:
    """The ftyp and moov boxes in front of `data`."""
    end = 0
    while data[end + 4 : end + 8] in (b"ftyp", b"moov"):
        end += int.from_bytes(data[end : end + 4], "big")
    return data[:end]


def _free(size: int) -> bytes:
    return struct.pack(">I4s", size, b"free") + bytes(size - 8)


def fragment(sequence: int, samples: Sequence[Sample]) -> bytes:
    """A movie fragment with its media data; `sequence` counts from 1. Times are in units of the clock rate."""
    reordered = any(sample.pts != sample.dts for sample in samples)
    flags = 0x701 | (0x800 if reordered else 0)
    table = bytearray()
    for sample in samples:
        table += struct.pack(
            ">III", min(sample.duration, 0xFFFFFFFF), len(sample.data), _SYNC if sample.keyframe else _NOT_SYNC
        )
        if reordered:
            table += struct.pack(">i", sample.pts - sample.dts)
    moof_size = 8 + 16 + 8 + 16 + 20 + 20 + len(table)
    media = b"".join(sample.data for sample in samples)
    head = struct.pack(">I4s", moof_size, b"moof") + struct.pack(">I4sII", 16, b"mfhd", 0, sequence)
    head += struct.pack(">I4s", moof_size - 24, b"traf") + struct.pack(">I4sII", 16, b"tfhd", 0x020000, 1)
    head += struct.pack(">I4sIQ", 20, b"tfdt", 0x01000000, samples[0].dts)
    head += struct.pack(">I4sIIi", 20 + len(table), b"trun", 0x01000000 | flags, len(samples), moof_size + 8)
    return b"".join((head, table, struct.pack(">I4s", 8 + len(media), b"mdat"), media))


def finish(header_size: int, clock_rate: int, fragments: Sequence[Fragment]) -> list[Patch]:
    """The index of a complete file, to be written over the room at the end of its header.

    Each entry begins with a picture to start from, as a player looks no further back.
    """
    entries: list[list[int]] = []
    for part in fragments:
        if part.keyframe or not entries:
            entries.append([0, 0])
        entries[-1][0] += part.size
        entries[-1][1] = part.time + part.duration
    most = (INDEX_ROOM - _SIDX.size - 8) // 12
    step = -(-len(entries) // most) if entries else 1
    grouped = [(sum(e[0] for e in entries[i : i + step]), entries[min(i + step, len(entries)) - 1][1])
               for i in range(0, len(entries), step)]  # fmt: skip
    size = _SIDX.size + 12 * len(grouped)
    first = fragments[0].time if fragments else 0
    box = bytearray(_SIDX.pack(size, b"sidx", 0x01000000, 1, clock_rate, first, 0, 0, len(grouped)))
    for length, end in grouped:
        box += struct.pack(">III", length, min(end - first, 0xFFFFFFFF), 0x90000000)
        first = end
    return [
        Patch(header_size - INDEX_ROOM, struct.pack(">I4s", INDEX_ROOM - size, b"free")),
        Patch(header_size - size, bytes(box)),
    ]


def length_prefixed(annex_b: bytes) -> bytes:
    """NAL units with start codes (Annex B of H.264 and H.265) as MP4 holds them: each behind its size in 4 bytes."""
    out = bytearray()
    for unit in nal_units(annex_b):
        out += len(unit).to_bytes(4, "big")
        out += unit
    return bytes(out)


def nal_units(annex_b: bytes) -> Iterator[bytes]:
    """The NAL units between the start codes, without trailing zeros."""
    start = annex_b.find(_START_CODE)
    while start >= 0:
        end = annex_b.find(_START_CODE, start + 3)
        unit = annex_b[start + 3 : end if end >= 0 else None].rstrip(b"\0")
        if unit:
            yield unit
        start = end
