"""The laboratory's clock: peers at the ends of lines around the real engine, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.params import Address, PlaneEvent
from tests.sim.lab_peer import LabPeer
from tests.sim.network import MS, SECOND

START = 10 * SECOND
EVENTS_EVERY = 100 * MS
GRAIN = 250
"""µs of one turn, as a worker's loop takes what has come meanwhile. What a peer measures is exact all the same."""


class Laboratory:
    """The engine, the peers, and the clock `now` (µs). `events` is all that the engine reported."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.now = START
        self.peers: list[LabPeer] = []
        self.events: list[PlaneEvent] = []
        self.lost_to_nowhere = 0
        self._by_address: dict[Address, LabPeer] = {}
        self._plans: list[tuple[int, int, Callable[[], None]]] = []
        self._planned = 0
        self._next_events = START
        engine.advance(self.now)

    def add(self, peer: LabPeer) -> None:
        """From now on this peer takes part."""
        self.peers.append(peer)
        self._by_address[peer.addr] = peer
        peer.start(self.now)

    def move(self, peer: LabPeer, addr: Address) -> None:
        """A peer changes its address: what is under way to the old one gets lost."""
        del self._by_address[peer.addr]
        peer.move(addr, self.now)
        peer.wake = self.now
        self._by_address[addr] = peer

    def at(self, time: int, act: Callable[[], None]) -> None:
        """Do something at that time."""
        heappush(self._plans, (time, self._planned, act))
        self._planned += 1

    def run(self, us: int) -> None:
        """Let time pass."""
        end = self.now + us
        while True:
            now = -(-self._next() // GRAIN) * GRAIN
            if now > end:
                break
            self.now = max(now, self.now)
            self._turn(self.now)
        self.now = end
        self.events += self.engine.poll_events()

    def _next(self) -> int:
        first = min(self.engine.deadline(), self._next_events)
        if self._plans and self._plans[0][0] < first:
            first = self._plans[0][0]
        for peer in self.peers:
            if peer.wake < first:
                first = peer.wake
            if peer.up.due < first:
                first = peer.up.due
            if peer.down.due < first:
                first = peer.down.due
        return first

    def _turn(self, now: int) -> None:
        engine = self.engine
        while self._plans and self._plans[0][0] <= now:
            heappop(self._plans)[2]()
        batch = []
        for peer in self.peers:
            if peer.wake <= now:
                peer.tick(now)
                peer.wake = peer.deadline()
            if peer.up.due <= now:
                batch += [one[2:] for one in peer.up.take(now)]
        if batch:
            engine.receive_batch(batch, now)
        elif engine.deadline() <= now:
            engine.advance(now)
        if now >= self._next_events:
            self._next_events = now + EVENTS_EVERY
            self.events += engine.poll_events()
            for peer in self.peers:
                told = engine.peer_stats(peer.number)
                peer.told.append((now, told.get("estimate_bps", 0), told.get("allocated_bps", 0)))
        for datagram, addr in engine.transmits():
            receiver = self._by_address.get(addr)
            if receiver is None:
                self.lost_to_nowhere += 1
            else:
                receiver.down.offer(datagram, addr, now)
        for peer in self.peers:
            if peer.down.due <= now:
                for arrival, _, datagram, addr in peer.down.take(now):
                    if addr == peer.addr:
                        peer.receive(datagram, arrival)
                peer.wake = peer.deadline()
