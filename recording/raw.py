"""RTP packets as they came, in a file that other tools read: the "rtpdump" format of rtptools, known to Wireshark too.

A line of text, a header with the time of the start, and then for each packet the size of its record, its own size, and
the milliseconds since the start, all big-endian, before the packet itself with a header of 12 bytes (RFC 3550, section
5.1; extensions and padding are left out). The upper bits of numbers and timestamps follow from those of the first
packet, which stand in the journal and in the manifest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mediaserver.sfu.stream.tap import TapPacket

CONTAINER = "rtp"

_MAGIC = b"#!rtpplay1.0 0.0.0.0/0\n"
_START = struct.Struct(">IIIHH")
_RECORD = struct.Struct(">HHI")
_RTP = struct.Struct(">BBHII")
HEADER_SIZE = len(_MAGIC) + _START.size


def header(start_us: int) -> bytes:
    """The file up to the first packet; `start_us` is Unix time in µs."""
    seconds, rest = divmod(start_us, 1_000_000)
    return _MAGIC + _START.pack(seconds & 0xFFFFFFFF, rest, 0, 0, 0)


def started_us(data: bytes) -> int:
    """What `header` was given; 0 of a file that is too short."""
    if len(data) < HEADER_SIZE:
        return 0
    seconds, rest, _, _, _ = _START.unpack_from(data, len(_MAGIC))
    return int(seconds * 1_000_000 + rest)


def record(packet: TapPacket, after_us: int) -> bytes:
    """One packet that arrived so long (µs) after the start."""
    _, _, sequence, timestamp, ssrc, payload_type, marker, payload = packet
    size = _RTP.size + len(payload)
    return b"".join((
        _RECORD.pack(_RECORD.size + size, size, max(0, after_us // 1000) & 0xFFFFFFFF),
        _RTP.pack(0x80, payload_type & 0x7F | (0x80 if marker else 0), sequence & 0xFFFF, timestamp, ssrc),
        payload,
    ))  # fmt: skip


def read(data: bytes, first_sequence: int, start_us: int) -> Iterator[TapPacket]:
    """The packets of a file, in the order in which they were written, up to the first record that is torn. Arrivals are
    `start_us` and the milliseconds that the file tells; numbers are extended from `first_sequence` on."""
    highest = first_sequence
    at = HEADER_SIZE
    while at + _RECORD.size + _RTP.size <= len(data):
        length, size, offset = _RECORD.unpack_from(data, at)
        end = at + _RECORD.size + size
        if length != _RECORD.size + size or size < _RTP.size or end > len(data):
            return
        _, kind, sequence, timestamp, ssrc = _RTP.unpack_from(data, at + _RECORD.size)
        extended = highest + ((sequence - highest + 0x8000) & 0xFFFF) - 0x8000
        highest = max(highest, extended)
        payload = data[at + _RECORD.size + _RTP.size : end]
        yield (0, start_us + offset * 1000, extended, timestamp, ssrc, kind & 0x7F, kind >> 7, payload)
        at = end
