"""Cuts access units into RTP payloads as browsers do: RFC 6184 for H.264 (packetization-mode 1), RFC 7741 for VP8."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAX_PAYLOAD = 1160
"""With header, extensions and tag this stays within the 1,200 bytes that browsers keep to."""

_STAP_A, _FU_A = 24, 28


def packetise(codec: str, frame: bytes, limit: int = MAX_PAYLOAD) -> list[bytes]:
    """The payloads of one access unit, each at most `limit` bytes. Raises `ValueError` for an unknown codec."""
    match codec:
        case "H264":
            return _packetise_h264(frame, limit)
        case "VP8":
            return [_vp8_descriptor(number) + part for number, part in enumerate(split_evenly(frame, limit - 1))]
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


def _vp8_descriptor(number: int) -> bytes:
    # The S bit marks the start of the first partition; no extensions, one layer.
    return b"\x10" if number == 0 else b"\x00"
