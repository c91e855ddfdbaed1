"""Cuts access units into RTP payloads as browsers do: RFC 6184 for H.264 (packetization-mode 1), RFC 7741 for VP8, and
the RTP Payload Format For AV1 (version 1.0)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAX_PAYLOAD = 1160
"""With header, extensions and tag this stays within the 1,200 bytes that browsers keep to."""

_STAP_A, _FU_A = 24, 28
_OBU_EXTENSION, _OBU_SIZE = 0x04, 0x02
_SEQUENCE_HEADER, _TEMPORAL_DELIMITER = 1, 2
_CONTINUES, _CONTINUED, _NEW_SEQUENCE = 0x80, 0x40, 0x08


def packetise(codec: str, frame: bytes, limit: int = MAX_PAYLOAD) -> list[bytes]:
    """The payloads of one access unit, each at most `limit` bytes. Raises `ValueError` for an unknown codec and for AV1
    that is malformed."""
    match codec:
        case "H264":
            return _packetise_h264(frame, limit)
        case "VP8":
            return [_vp8_descriptor(number) + part for number, part in enumerate(split_evenly(frame, limit - 1))]
        case "AV1":
            return _packetise_av1(frame, limit)
        case "opus":
            return [frame]
    raise ValueError(f"no way to packetise {codec}")


def split_evenly(data: bytes, limit: int) -> list[bytes]:
    """Pieces of nearly one size, the longer ones last, so that no short rest is left over."""
    count = max(1, -(-len(data) // limit))
    size, longer = divmod(len(data), count)
    pieces = []
    offset = 0
    for number in range(count):
        end = offset + size + (number >= count - longer)
        pieces.append(data[offset:end])
        offset = end
    return pieces


def nal_units(stream: bytes) -> Iterator[bytes]:
    """The NAL units of an Annex B stream, without start codes and trailing zeros."""
    start = stream.find(b"\0\0\1")
    while start >= 0:
        start += 3
        end = stream.find(b"\0\0\1", start)
        unit = (stream[start:] if end < 0 else stream[start:end]).rstrip(b"\0")
        if unit:
            yield unit
        start = end


def _packetise_h264(frame: bytes, limit: int) -> list[bytes]:
    payloads: list[bytes] = []
    together: list[bytes] = []
    room = limit - 1

    def flush() -> None:
        if len(together) == 1:
            payloads.append(together[0])
        elif together:
            importance = max(unit[0] & 0x60 for unit in together)
            parts = b"".join(struct.pack("!H", len(unit)) + unit for unit in together)
            payloads.append(bytes([importance | _STAP_A]) + parts)
        together.clear()

    for unit in nal_units(frame):
        if len(unit) > limit:
            flush()
            payloads += _fragment(unit, limit)
            room = limit - 1
            continue
        if len(unit) + 2 > room:
            flush()
            room = limit - 1
        together.append(unit)
        room -= len(unit) + 2
    flush()
    return payloads


def _fragment(unit: bytes, limit: int) -> Iterator[bytes]:
    indicator, kind = unit[0] & 0xE0 | _FU_A, unit[0] & 0x1F
    pieces = split_evenly(unit[1:], limit - 2)
    for number, piece in enumerate(pieces):
        edge = (0x80 if number == 0 else 0) | (0x40 if number == len(pieces) - 1 else 0)
        yield bytes([indicator, edge | kind]) + piece


def obus(unit: bytes) -> Iterator[bytes]:
    """The OBUs of a temporal unit (AV1, section 5.3), without their size fields. Raises `ValueError`."""
    at = 0
    while at < len(unit):
        header = unit[at : at + (2 if unit[at] & _OBU_EXTENSION else 1)]
        if not header[0] & _OBU_SIZE:
            raise ValueError("an OBU without its size")
        size, start = _read_leb128(unit, at + len(header))
        at = start + size
        if at > len(unit):
            raise ValueError("an OBU that is cut off")
        yield bytes([header[0] & ~_OBU_SIZE]) + header[1:] + unit[start:at]


def _read_leb128(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 56:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            return value, at
    raise ValueError("a size that is cut off")


def _leb128(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _packetise_av1(unit: bytes, limit: int) -> list[bytes]:
    # Temporal delimiters are not sent (section 5). Each element carries its length, so that no packet has to know how
    # many will follow: W is 0.
    kept = [obu for obu in obus(unit) if obu[0] >> 3 & 15 != _TEMPORAL_DELIMITER]
    starts = any(obu[0] >> 3 & 15 == _SEQUENCE_HEADER for obu in kept)
    packets = [bytearray([_NEW_SEQUENCE if starts else 0])]
    for obu in kept:
        at = 0
        while at < len(obu):
            if limit - len(packets[-1]) < 4:
                packets.append(bytearray([0]))
            room = limit - len(packets[-1]) - 2
            piece = obu[at : at + room]
            packets[-1] += _leb128(len(piece)) + piece
            at += len(piece)
            if at < len(obu):
                packets[-1][0] |= _CONTINUED
                packets.append(bytearray([_CONTINUES]))
    return [bytes(packet) for packet in packets]


def _vp8_descriptor(number: int) -> bytes:
    # The S bit marks the start of the first partition; no extensions, one layer.
    return b"\x10" if number == 0 else b"\x00"
