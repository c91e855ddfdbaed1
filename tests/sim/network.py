"""A line between a peer and the server in virtual time: one `Link` each way, the same for the same seed.

Times are µs. A link is a FIFO server of a given rate behind a short drop-tail queue, then a delay: what a packet meets
is computed when it is offered, so a packet costs one call and no event of its own.
"""

from __future__ import annotations

import heapq
import math
import random
from array import array
from bisect import bisect_right
from collections import deque
from typing import Protocol

import msgspec

from mediaserver.sfu.stream.params import Address

SECOND = 1_000_000
MS = 1_000
HEADERS = 28
"""Bytes of IPv4 and UDP that a datagram costs on the line."""
JITTER_MEMORY_US = 20 * MS
"""How long a queue somewhere else stays about as long as it was."""
FOREVER = 1 << 62


class BurstLoss(msgspec.Struct, frozen=True):
    """The Gilbert-Elliott model, stepped by packets: `share` of all packets is lost, in bursts of `length` packets of
    which `in_burst` are lost (the mean each)."""

    share: float
    length: float = 5.0
    in_burst: float = 1.0


class Competitor(msgspec.Struct, frozen=True):
    """Other traffic through the same queue from `at` to `until`: Poisson packets at `bps`, or where that is 0 a
    greedy TCP (Reno) with a round trip of `round_trip` beside the queue."""

    at: int
    until: int
    bps: int = 0
    round_trip: int = 40 * MS
    packet: int = 1500


class LinkSpec(msgspec.Struct, frozen=True):
    """One direction. `steps` are pairs of (from this time on, bits per second) counted from the link's start, and
    repeat after `repeat` µs unless it is 0. `queue` bounds what waits, in bytes. `outages` are pairs of (from,
    until). `jitter` is the standard deviation of a delay that wanders within some 20 ms."""

    steps: tuple[tuple[int, int], ...] = ((0, 100_000_000),)
    repeat: int = 0
    queue: int = 150_000
    delay: int = 20 * MS
    jitter: int = 0
    reorder: bool = False
    loss: float = 0.0
    burst: BurstLoss | None = None
    outages: tuple[tuple[int, int], ...] = ()
    competitors: tuple[Competitor, ...] = ()


def short_queue(bps: int, us: int = 120 * MS) -> int:
    """Bytes of a queue that a link of this rate empties in `us`, at least ten full packets."""
    return max(15_000, bps * us // (8 * SECOND))


class Rival(Protocol):
    """Somebody else's packets."""

    next: int

    def advance(self, link: Link) -> None:
        """Do what is due at `next`, and say when it goes on."""


class Link:
    """One direction of a line that starts at `start`. `offer` puts a datagram on its way; `take` gives what has come,
    and `due` says when the next will.

    Of the caller's datagrams it counts `offered` (bytes on the line, headers included), `carried`, `overflowed`
    (dropped by the queue), `lost` (dropped on the way), all in bytes, and keeps when each was offered and how long it
    queued: `times`, `queued` (µs, -1 for the dropped) and `sizes` are parallel.
    """

    def __init__(self, spec: LinkSpec, seed: int, start: int) -> None:
        self.spec = spec
        self.start = start
        self.offered = self.carried = self.overflowed = self.lost = 0
        self.packets = self.lost_packets = self.overflowed_packets = 0
        self.times, self.queued, self.sizes = array("q"), array("q"), array("q")
        self.rival_bytes = 0
        self.due = FOREVER
        self._random = random.Random(seed)
        self._starts = [at for at, _ in spec.steps]
        self._steady = len(spec.steps) == 1
        self._free = float(start)  # when the queue will be empty
        self._waiting: deque[tuple[float, int]] = deque()
        self._backlog = 0
        self._way: list[tuple[int, int, bytes, Address]] = []
        self._row: deque[tuple[int, int, bytes, Address]] = deque()
        self._count = 0
        self._now = start
        self._last_arrival = 0
        self._bad = False
        self._jitter, self._jitter_at = 0.0, start
        self._rivals = [make_rival(one, start, seed + index) for index, one in enumerate(spec.competitors)]
        self._plain = not (spec.jitter or spec.loss or spec.burst or spec.outages)

    # What the line carries

    def rate(self, at: int) -> int:
        """Bits per second at this time."""
        return self._rate_until(at)[0]

    def _rate_until(self, at: float) -> tuple[int, float]:
        """The rate, and until when it holds."""
        steps, since = self.spec.steps, at - self.start
        if self._steady or since < 0:
            return steps[0][1], FOREVER if self._steady else self.start
        base = 0
        if self.spec.repeat:
            base = int(since) // self.spec.repeat * self.spec.repeat
            since -= base
        index = bisect_right(self._starts, since) - 1
        ends = self._starts[index + 1] if index + 1 < len(steps) else self.spec.repeat or FOREVER
        return steps[index][1], self.start + base + ends

    def capacity(self, begin: int, end: int) -> int:
        """Bytes that the line could carry in that time, outages taken off."""
        total, at = 0.0, float(begin)
        edges = sorted(self.start + edge for outage in self.spec.outages for edge in outage)
        while at < end:
            rate, until = self._rate_until(at)
            until = min(until, end, *(edge for edge in edges if edge > at))
            if not self._out(at):
                total += rate * (until - at) / (8 * SECOND)
            at = until
        return int(total)

    def _out(self, at: float) -> bool:
        return any(self.start + begin <= at < self.start + end for begin, end in self.spec.outages)

    def _served(self, begin: float, size: int) -> float:
        """When the last bit of a packet that is served from `begin` on has left."""
        if self._steady:
            return begin + size * 8_000_000 / self.spec.steps[0][1]
        bits = size * 8.0
        while True:
            rate, until = self._rate_until(begin)
            room = (until - begin) * rate / SECOND
            if bits <= room:
                return begin + bits * SECOND / rate
            bits -= room
            begin = until

    # A packet's way

    def enter(self, size: int, now: float) -> float:
        """Into the queue: when it leaves it, or -1 where there is no room."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            self._backlog -= waiting.popleft()[1]
        if self._backlog + size > self.spec.queue and waiting:
            return -1.0
        self._free = self._served(max(self._free, now), size)
        waiting.append((self._free, size))
        self._backlog += size
        return self._free

    def offer(self, datagram: bytes, addr: Address, now: int) -> int:
        """Send from or to that address at `now`, or at the time of the last call if that was later. When it will
        arrive, or -1."""
        now = self._now = max(now, self._now)
        for rival in self._rivals:
            while rival.next <= now:
                rival.advance(self)
        size = len(datagram) + HEADERS
        self.offered += size
        self.packets += 1
        gone = bool(self.spec.outages) and self._out(now)
        left = -1.0 if gone else self.enter(size, now)
        self.times.append(now)
        self.sizes.append(size)
        self.queued.append(int(left) - now if left >= 0 else -1)
        if gone:
            self.lost += size
            self.lost_packets += 1
            return -1
        if left < 0:
            self.overflowed += size
            self.overflowed_packets += 1
            return -1
        if not self._plain and self._lose(left):
            self.lost += size
            self.lost_packets += 1
            return -1
        self.carried += size
        arrival = math.ceil(left) + self.spec.delay
        if self.spec.jitter:
            arrival += self._wander(now)
        if self.spec.reorder:
            heapq.heappush(self._way, (arrival, self._count, datagram, addr))
        else:
            arrival = self._last_arrival = max(arrival, self._last_arrival)
            self._row.append((arrival, self._count, datagram, addr))
        self._count += 1
        if arrival < self.due:
            self.due = arrival
        return arrival

    def take(self, now: int) -> list[tuple[int, int, bytes, Address]]:
        """What has arrived, in that order: when, a count, the datagram, its address."""
        found: list[tuple[int, int, bytes, Address]] = []
        row, way = self._row, self._way
        while row and row[0][0] <= now:
            found.append(row.popleft())
        while way and way[0][0] <= now:
            found.append(heapq.heappop(way))
        self.due = row[0][0] if row else way[0][0] if way else FOREVER
        return found

    def _lose(self, left: float) -> bool:
        spec, draw = self.spec, self._random.random
        if spec.outages and self._out(left):
            return True
        if spec.burst is not None:
            burst = spec.burst
            leave = 1 / burst.length
            bad = burst.share / burst.in_burst  # the share of time in the bad state
            self._bad = draw() >= leave if self._bad else draw() < leave * bad / (1 - bad)
            if self._bad and draw() < burst.in_burst:
                return True
        return spec.loss > 0 and draw() < spec.loss

    def _wander(self, now: int) -> int:
        """An Ornstein-Uhlenbeck process about a mean of its own deviation, never below none."""
        kept = math.exp((self._jitter_at - now) / JITTER_MEMORY_US)
        self._jitter = self._jitter * kept + math.sqrt(1 - kept * kept) * self._random.gauss(0, self.spec.jitter)
        self._jitter_at = now
        return max(0, int(self._jitter) + self.spec.jitter)


class Poisson:
    """Packets that come at random."""

    def __init__(self, spec: Competitor, start: int, seed: int) -> None:
        self.spec, self.end = spec, start + spec.until
        self.next = start + spec.at
        self._gap = spec.packet * 8_000_000 / spec.bps
        self._random = random.Random(seed)

    def advance(self, link: Link) -> None:
        if link.enter(self.spec.packet, self.next) >= 0:
            link.rival_bytes += self.spec.packet
        self.next += max(1, int(self._random.expovariate(1) * self._gap))
        if self.next >= self.end:
            self.next = FOREVER


class Reno:
    """A bulk transfer: slow start, then a packet more each round trip, and half of them after a loss."""

    def __init__(self, spec: Competitor, start: int) -> None:
        self.spec, self.end = spec, start + spec.until
        self.next = start + spec.at
        self.window, self.threshold = 10.0, math.inf
        self._flight: list[tuple[int, bool]] = []  # when an acknowledgement comes, or its absence is noticed
        self._recovered = 0

    def advance(self, link: Link) -> None:
        now = self.next
        while self._flight and self._flight[0][0] <= now:
            _, arrived = heapq.heappop(self._flight)
            if arrived:
                self.window += 1 if self.window < self.threshold else 1 / self.window
            elif now >= self._recovered:
                self.threshold = self.window = max(2.0, self.window / 2)
                self._recovered = now + self.spec.round_trip
        while len(self._flight) < int(self.window) and now < self.end:
            left = link.enter(self.spec.packet, now)
            if left >= 0:
                link.rival_bytes += self.spec.packet
            back = math.ceil(left if left >= 0 else now) + self.spec.round_trip
            heapq.heappush(self._flight, (back, left >= 0))
        self.next = max(now + 1, self._flight[0][0]) if self._flight else FOREVER


def make_rival(spec: Competitor, start: int, seed: int) -> Rival:
    return Poisson(spec, start, seed) if spec.bps else Reno(spec, start)
