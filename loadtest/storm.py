"""A storm of joins: the transports of all viewers of one room come up within a second.

Signalling a thousand viewers and shaking hands with them takes longer than that where client and server share a few
cores. So everybody comes in up to the answer, then everybody shakes hands up to the last flight, and then those flights
leave, spread over the time of the storm: what the server meets is a second in which a thousand viewers want a picture.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import msgspec

from mediaserver.loadtest.connect import Holds
from mediaserver.loadtest.peers import SenderStats

STAGES = 2
WATCH_SECONDS = 0.01
SETTLED_SECONDS = 4.0
"""From the release until the storm counts as over."""

T = TypeVar("T")


class Look(NamedTuple):
    """The publisher's counts at one moment, in ns."""

    at: int
    stats: SenderStats


class StormFigures(msgspec.Struct, frozen=True):
    """`first_frame_ms` is from each viewer's transport being up to its first whole picture, by the kernel's stamps.
    `requests` are the times since the release at which a request of a keyframe came to the publisher, and
    `request_gap_ms` is the least between two. `frame_bytes` and `keyframe_bytes` are means over what it sent."""

    viewers: int
    signalling_seconds: float
    handshake_seconds: float
    up_after_ms: list[float]
    up_within_ms: float
    first_frame_ms: list[float]
    without_picture: int
    requests: list[float]
    request_gap_ms: float
    keyframes: int
    keyframe_bytes: float
    frame_bytes: dict[str, float]
    kbit_per_second: dict[str, float]

    @property
    def requests_per_second(self) -> float:
        """The most in any second."""
        return max((sum(at <= other < at + 1000 for other in self.requests) for at in self.requests), default=0)


class _Stage:
    """Where all that are still coming wait for each other."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._waiting = 0
        self._all = asyncio.Event()
        self.passed = 0.0

    async def wait(self) -> None:
        self._waiting += 1
        self._check()
        await self._all.wait()

    def give_up(self) -> None:
        self._expected -= 1
        self._check()

    def _check(self) -> None:
        if self._waiting >= self._expected and not self._all.is_set():
            self.passed = time.monotonic()
            self._all.set()


class _Seat(Holds):
    """One viewer's place among those that are under way at once."""

    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self._taken = False
        self.stage = 0
        self.released_ns = 0

    async def take(self) -> None:
        await self._storm.places.acquire()
        self._taken = True

    def give(self) -> None:
        if self._taken:
            self._storm.places.release()
        self._taken = False

    async def answered(self) -> None:
        await self._wait()
        await self.take()

    async def almost_up(self) -> None:
        await self._wait()
        await asyncio.sleep(self._storm.next_turn() - time.monotonic())
        self.released_ns = time.monotonic_ns()

    async def _wait(self) -> None:
        self.give()
        stage = self._storm.stages[self.stage]
        self.stage += 1
        await stage.wait()


class Storm:
    """Lets `viewers` in together, `at_once` under way at a time until then."""

    def __init__(self, viewers: int, at_once: int, seconds: float) -> None:
        self.places = asyncio.Semaphore(at_once)
        self.stages = [_Stage(viewers) for _ in range(STAGES)]
        self._viewers = viewers
        self._seconds = seconds
        self._turn = 0
        self._began = time.monotonic()
        self._looks: list[Look] = []

    def next_turn(self) -> float:
        """When the next viewer's last flight leaves, on the monotonic clock."""
        self._turn += 1
        return self.stages[-1].passed + (self._turn - 1) * self._seconds / self._viewers

    async def admit(self, enter: Callable[[Holds], Coroutine[None, None, T]]) -> tuple[T, int]:
        """Let one viewer in; what came of it, and when its last flight left."""
        seat = _Seat(self)
        await seat.take()
        try:
            return await enter(seat), seat.released_ns
        finally:
            seat.give()
            for stage in self.stages[seat.stage :]:
                stage.give_up()

    async def watch(self, look: Callable[[], SenderStats]) -> None:
        """Follow what the publisher counts, until cancelled."""
        while True:
            self._looks.append(Look(time.monotonic_ns(), look()))
            await asyncio.sleep(WATCH_SECONDS)

    async def settle(self) -> None:
        """Wait until the storm is over."""
        await asyncio.sleep(self.stages[-1].passed + SETTLED_SECONDS - time.monotonic())

    def figures(self, ups: Sequence[tuple[int, int, int]]) -> StormFigures:
        """`ups`: of each viewer when its last flight left, when it was up, when it had a picture (0: never), in ns."""
        release = int(self.stages[-1].passed * 1e9)
        stormy = [look for look in self._looks if look.at >= release]
        calm = [look for look in self._looks if look.at < release]
        first, last = stormy[0].stats, stormy[-1].stats
        requests = [(at - release) / 1e6 for at in last.request_times if at >= release]
        keyframes = last.keyframes - first.keyframes
        return StormFigures(
            viewers=self._viewers,
            signalling_seconds=self.stages[0].passed - self._began,
            handshake_seconds=self.stages[1].passed - self.stages[0].passed,
            up_after_ms=[(up - left) / 1e6 for left, up, _ in ups],
            up_within_ms=(max(up for _, up, _ in ups) - min(up for _, up, _ in ups)) / 1e6 if ups else 0.0,
            first_frame_ms=[max(0.0, (seen - up) / 1e6) for _, up, seen in ups if seen],
            without_picture=sum(not seen for _, _, seen in ups),
            requests=requests,
            request_gap_ms=min((after - before for before, after in pairwise(requests)), default=0.0),
            keyframes=keyframes,
            keyframe_bytes=(last.keyframe_octets - first.keyframe_octets) / max(1, keyframes),
            frame_bytes={"before": _frame_bytes(calm), "storm": _frame_bytes(stormy)},
            kbit_per_second={"before": _rate(calm), "storm": _rate(stormy)},
        )


def _frame_bytes(looks: Sequence[Look]) -> float:
    if len(looks) < 2:
        return 0.0
    first, last = looks[0].stats, looks[-1].stats
    return (last.octets - first.octets) / max(1, last.frames - first.frames)


def _rate(looks: Sequence[Look]) -> float:
    if len(looks) < 2:
        return 0.0
    return (looks[-1].stats.octets - looks[0].stats.octets) * 8e6 / (looks[-1].at - looks[0].at)
