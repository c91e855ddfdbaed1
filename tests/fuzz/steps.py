"""How an input tells several things in a row."""

from __future__ import annotations

import struct
from collections.abc import Iterator


def steps(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Of each step a byte that says what, two bytes of size, and that many bytes."""
    while len(data) >= 3:
        size = int.from_bytes(data[1:3])
        yield data[0], data[3 : 3 + size]
        data = data[3 + size :]


def step(what: int, data: bytes = b"") -> bytes:
    return struct.pack("!BH", what, len(data)) + data
