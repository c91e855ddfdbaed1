"""A bottleneck in virtual time, numbers only, and a sender that behaves as an SFU does: it sends the layers that fit.

Rates in bit/s, times in µs, sizes in bytes with IP and UDP headers.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from mediaserver.sfu.policy.bwe.bandwidth import Bandwidth
from mediaserver.sfu.wire.rtcp_packets import write_transport

MS = 1_000
SECOND = 1_000_000
PACKET = 1_200
PADDING_PACKET = 283
FEEDBACK_US = 50 * MS


class World:
    """What happens when, in order."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 10 * SECOND
        self.chance = random.Random(seed)
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, time: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (max(time, self.now), next(self._order), action))

    def every(self, period: int, action: Callable[[], None]) -> None:
        def again() -> None:
            action()
            self.at(self.now + period, again)

        self.at(self.now, again)

    def run(self, until: int) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = until


@dataclass
class Line:
    """A drop-tail queue before a link, then a delay. `rate` may change at any time."""

    world: World
    rate: float
    delay: int = 20 * MS
    queue_us: int = 300 * MS  # what fits in the queue, as time at the rate
    loss: float = 0.0
    jitter: int = 0  # extra delay, uniform, never reordering
    down: bool = False  # what is sent is lost
    burst: tuple[float, float] | None = None  # Gilbert-Elliott: chances to enter and to leave the bad state
    free_at: int = 0
    dropped: int = 0
    waits: list[tuple[int, int]] = field(default_factory=list)  # time, µs in the queue
    _last_out: int = 0
    _bad: bool = False

    def lost(self) -> bool:
        if self.burst:
            self._bad = self.world.chance.random() < (1 - self.burst[1] if self._bad else self.burst[0])
            if self._bad:
                return True
        return self.down or self.world.chance.random() < self.loss

    def send(self, size: int, arrive: Callable[[int], None] | None) -> None:
        """`arrive` is called with the time of arrival when it has come, if it does."""
        now = self.world.now
        wait = max(0, self.free_at - now)
        if wait > self.queue_us:
            self.dropped += 1
            return
        self.free_at = now + wait + round(size * 8e6 / self.rate)
        self.waits.append((now, wait))
        if self.lost() or arrive is None:
            return
        out = self.free_at + self.delay + (self.world.chance.randrange(self.jitter) if self.jitter else 0)
        out = self._last_out = max(out, self._last_out)
        self.world.at(out, lambda: arrive(out))

    def wait_p95(self, since: int) -> float:
        """ms."""
        waits = sorted(wait for time, wait in self.waits if time >= since)
        return waits[int(len(waits) * 0.95)] / MS if waits else 0.0


class Viewer:
    """The far end: it reports arrivals by transport-wide feedback, with a clock of its own."""

    def __init__(self, world: World, send: Callable[[bytes], None], offset: int = 7_000 * SECOND) -> None:
        self.world, self.send, self.offset = world, send, offset
        self.arrivals: dict[int, int] = {}
        self.next_base: int | None = None
        self.count = 0
        world.every(FEEDBACK_US, self.report)

    def arrive(self, number: int, time: int) -> None:
        self.arrivals[number] = time + self.offset
        if self.next_base is None:
            self.next_base = number

    def report(self) -> None:
        if not self.arrivals or self.next_base is None:
            return
        last = max(self.arrivals)
        base = min(self.next_base, min(self.arrivals))
        log = [self.arrivals.get(number) for number in range(base, last + 1)]
        done = 0
        while done < len(log):
            data, consumed = write_transport(1, 2, self.count & 0xFF, (base + done) & 0xFFFF, log[done:], 1200)
            done += consumed
            self.count += 1
            if data:
                self.send(data)
        self.next_base = last + 1
        self.arrivals.clear()


@dataclass
class Figures:
    """One sample each 50 ms: time, target, what arrives (bit/s over the last 50 ms)."""

    times: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)

    def mean(self, values: list[float] | list[int], start: int, end: int) -> float:
        inside = [value for time, value in zip(self.times, values, strict=True) if start <= time < end]
        return sum(inside) / len(inside)

    def reached(self, bps: float, start: int) -> float:
        """s after `start` until the target is at least that; a large number for never."""
        return next(
            ((t - start) / SECOND for t, v in zip(self.times, self.targets, strict=True) if t >= start and v >= bps),
            1e9,
        )

    def fell(self, bps: float, start: int) -> float:
        return next(
            ((t - start) / SECOND for t, v in zip(self.times, self.targets, strict=True) if t >= start and v <= bps),
            1e9,
        )


class Sender:
    """An SFU towards one viewer: layers at 30 frames/s that fit the target, voice, probes by padding, a pacer."""

    def __init__(
        self,
        world: World,
        line: Line,
        layers: tuple[int, ...] = (150_000, 400_000, 1_000_000, 2_000_000, 3_000_000, 5_000_000, 8_000_000),
        *,
        voice: bool = True,
        back_delay: int = 20 * MS,
        make_viewer: Callable[[World, Callable[[bytes], None]], Viewer] = Viewer,
    ) -> None:
        self.world, self.line, self.layers = world, line, layers
        self.bandwidth = Bandwidth(world.now)
        self.start = world.now
        self.back_down = False
        self.back_delay = back_delay
        self.numbers = 0
        self.queue: list[int] = []
        self.budget = 0.0
        self.paced_at = world.now
        self.arrived_bytes = 0
        self.media_bytes = 0
        self.padding_bytes = 0
        self.last_arrival = 0
        self.figures = Figures()
        self.viewer = make_viewer(world, self.feed_back)
        self.probing = False
        self.process_due = world.now
        world.every(33_333, self.frame)
        if voice:
            world.every(20 * MS, lambda: self.transmit(160, 0))
        world.every(2 * MS, self.pace)
        world.every(50 * MS, self.sample)

    def feed_back(self, data: bytes) -> None:
        if not self.back_down:
            self.world.at(self.world.now + self.back_delay, lambda: self.bandwidth.feedback(data, self.world.now))

    def layer(self) -> int:
        room = self.bandwidth.target_bps - 70_000
        return max((rate for rate in self.layers if rate <= room), default=0)

    def frame(self) -> None:
        rate = self.layer()
        self.bandwidth.demand(rate, self.layers[-1], self.world.now)
        size = rate / 30 / 8 * self.world.chance.uniform(0.8, 1.2)
        if len(self.queue) < 400:  # what waits longer is thrown away
            self.queue += [PACKET] * round(size / PACKET) if size >= PACKET else [round(size)] * (size > 0)

    def transmit(self, size: int, kind: int) -> None:
        number = self.numbers
        self.numbers += 1
        assert self.bandwidth.sent(size, self.world.now, kind) == number & 0xFFFF

        def arrive(time: int) -> None:
            self.arrived_bytes += size
            if kind == 0:
                self.last_arrival = time
            self.viewer.arrive(number, time)

        if kind == 2:
            self.padding_bytes += size
        else:
            self.media_bytes += size
        self.line.send(size, arrive)

    def pace(self) -> None:
        now = self.world.now
        if now >= self.process_due:
            self.process_due = self.bandwidth.process(now)
            assert self.process_due > now
        passed = now - self.paced_at
        self.paced_at = now
        probing = self.bandwidth.probe_bps
        rate = max(probing, self.bandwidth.pacing_bps)
        if bool(probing) != self.probing:
            self.budget = 0.0
            self.probing = bool(probing)
        self.budget = min(self.budget + rate * passed / 8e6, rate * 10 * MS / 8e6)
        while self.budget > 0:
            if self.queue:
                size = self.queue.pop(0)
                self.transmit(size, 0)
            elif probing and self.bandwidth.probe_bps:
                size = PADDING_PACKET
                self.transmit(size, 2)
            else:
                break
            self.budget -= size

    def sample(self) -> None:
        self.figures.times.append(self.world.now)
        self.figures.targets.append(self.bandwidth.target_bps)
        self.figures.arrived.append(self.arrived_bytes * 160)
        self.arrived_bytes = 0
