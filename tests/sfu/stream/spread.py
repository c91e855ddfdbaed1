"""Two engines that look like one: publishers on the one, viewers on the other, as a room over two workers has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mediaserver.sfu.session.ids import Ids
from mediaserver.sfu.session.planes import RoomPlanes
from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.params import Address, EventKind, PlaneEvent

MIRRORS = 1_000_000
"""Ids of copies begin above those of the tests."""
TRACK_EVENTS = (
    EventKind.TRACK_LIVE,
    EventKind.PICTURE,
    EventKind.TRACK_BYE,
    EventKind.TRACK_FRESHNESS,
    EventKind.LAYERS_WANTED,
    EventKind.SOUND,
    EventKind.VOICE,
)


class SpreadEngine(RoomPlanes):
    """Has the face of an `Engine`. The first peer is at home, all others are on the far engine."""

    def __init__(self, **options: Any) -> None:
        ids: Ids[Any] = Ids(lambda size: bytes(size))
        ids._last = MIRRORS
        super().__init__(ids, self)
        self.home = Engine(**options)
        self.far = Engine(**options)
        self.now = 0
        self.late = False
        """The far engine does nothing."""
        self._at: dict[Address, Engine] = {}
        self._first: int | None = None

    def add_peer(self, peer: int, ufrag: str, pwd: str) -> None:
        if self._first is None:
            self._first = peer
        self.place(peer, self.home if peer == self._first else self.far)
        super().add_peer(peer, ufrag, pwd)

    def receive(self, datagram: bytes, addr: Address, now: int) -> None:
        self.receive_batch([(datagram, addr)], now)

    def receive_batch(self, datagrams: list[tuple[bytes, Address]], now: int) -> None:
        for engine in (self.home, self.far):
            # Tests give publishers the first of their addresses.
            here = [one for one in datagrams if (one[1][0] == "192.0.2.1") == (engine is self.home)]
            if here:
                engine.receive_batch(here, now)
        self.advance(now)

    def advance(self, now: int) -> None:
        self.now = now
        for _ in range(3):  # there, back, and there again
            self.home.advance(now)
            if not self.late:
                self.far.advance(now)

    def deadline(self) -> int:
        return min(self.home.deadline(), self.far.deadline()) if not self.late else self.home.deadline()

    def transmits(self) -> list[tuple[bytes, Address]]:
        if not self.late:
            self.far.advance(self.now)
        return self.home.transmits() + self.far.transmits()

    def poll_events(self) -> list[PlaneEvent]:
        events = self.home.poll_events()
        for event in self.far.poll_events():
            # Of a track its home tells, and nobody else.
            assert event.kind not in TRACK_EVENTS, event
            if event.id <= MIRRORS:
                events.append(event)
        for event in events:
            if event.kind is EventKind.REMOVED:
                self.forget(event.id)
        return events

    def counters(self) -> Mapping[str, int]:
        return Counter(self.home.counters()) + Counter(self.far.counters())
