"""The recordings in `chromium/` (made by capture.py), by encoding."""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from aiortc.rtp import unpack_header_extensions

from mediaserver.codecs.payload import Codec, codec_from_name

FOLDER = Path(__file__).parent / "chromium"
NAMES = sorted(path.stem for path in FOLDER.glob("*.rtpdump"))
DESCRIPTOR, RID = 1, 2


class Recorded(NamedTuple):
    """`encoding`: by the order in which their rids came. `sequence` counts on over the wrap."""

    encoding: int
    sequence: int
    timestamp: int
    marker: bool
    payload: bytes
    descriptor: bytes


def codec_of(name: str) -> Codec:
    return codec_from_name(name.split("-")[0])


@lru_cache
def recorded(name: str) -> tuple[Recorded, ...]:
    data = (FOLDER / f"{name}.rtpdump").read_bytes()
    at = data.index(b"\n") + 1 + 16
    rids: dict[int, int] = {}  # ssrc: encoding
    first: dict[int, int] = {}
    packets = []
    while at < len(data):
        size, original, _ = struct.unpack_from("!HHI", data, at)
        raw = data[at + 8 : at + size]
        at += size
        ssrc = int.from_bytes(raw[8:12])
        body = raw[12 + 4 * (raw[0] & 0x0F) :]
        values: dict[int, bytes] = {}
        if raw[0] & 0x10:
            length = 4 + 4 * int.from_bytes(body[2:4])
            values = dict(unpack_header_extensions(int.from_bytes(body[:2]), body[4:length]))
            body = body[length:]
        if raw[0] & 0x20:
            # What is held in part was nothing but padding.
            body = b"" if len(raw) < original - 8 or not body else body[: -body[-1]]
        rids.setdefault(ssrc, len(rids))
        number = int.from_bytes(raw[2:4])
        start = first.setdefault(ssrc, number)
        sequence = 1000 + start + ((number - start + 0x8000) % 0x10000 - 0x8000)
        timestamp = int.from_bytes(raw[4:8])
        if body:
            packets.append(
                Recorded(rids[ssrc], sequence, timestamp, bool(raw[1] & 0x80), body, values.get(DESCRIPTOR, b""))
            )
    return tuple(packets)
