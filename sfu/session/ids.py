"""Identifiers and credentials, from a source of randomness that is passed in."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Generic, TypeVar

Owner = TypeVar("Owner")


class Ids(Generic[Owner]):
    """Hands out plane ids, unique per process, and remembers whose they are; makes names and credentials.

    `random_bytes(n)` is `os.urandom` in production and a seeded generator in tests. `Owner` is what the
    reports of the data plane go to: a room, or a recorder for its taps.
    """

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random = random_bytes
        self._last = 0
        self._owners: dict[int, Owner] = {}

    def claim(self, owner: Owner) -> int:
        """A fresh plane id (peer, track, leg or tap) that belongs to `owner` until it is released."""
        self._last += 1
        self._owners[self._last] = owner
        return self._last

    def owner(self, plane_id: int) -> Owner | None:
        """Whose id it is; None when it was released."""
        return self._owners.get(plane_id)

    def release(self, plane_id: int) -> None:
        """Nothing will be reported of this id any more."""
        self._owners.pop(plane_id, None)

    def __len__(self) -> int:
        return len(self._owners)

    def name(self, prefix: str) -> str:
        """A name that cannot be guessed (96 bits), such as "t-…" for a track; letters, digits, "-" and "_"."""
        return f"{prefix}-{base64.urlsafe_b64encode(self._random(12)).decode()}"

    def ufrag(self) -> str:
        """An ICE username fragment: 12 ice-chars, 72 bits (RFC 8839, section 5.4, asks for 24)."""
        return base64.b64encode(self._random(9)).decode()

    def pwd(self) -> str:
        """An ICE password: 32 ice-chars, 192 bits (RFC 8839, section 5.4, asks for 128)."""
        return base64.b64encode(self._random(24)).decode()

    def ssrc(self) -> int:
        """A random SSRC, never 0."""
        return int.from_bytes(self._random(4), "big") or 1

    def session_id(self) -> int:
        """The sess-id of an SDP origin line: 63 random bits (RFC 9429, section 5.2.1)."""
        return int.from_bytes(self._random(8), "big") >> 1
