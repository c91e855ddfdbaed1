"""From RTP timestamps to wall-clock time.

Pure. Two kinds of facts are collected while recording: a sender report (RFC 3550, section 6.4.1) ties an RTP
timestamp to the publisher's own clock, and an arrival ties it to ours, late by the way through the network. All
tracks of a participant share the publisher's clock. How far that clock is off ours is estimated from the reports
of all its tracks together: the quickest way within a window counts. So what one participant sends is in sync
with itself to the precision of its reports, whatever the network did, and a drift against our clock is followed.
A track without usable reports is placed by its quickest arrivals alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

NTP_UNIX_SECONDS = 2_208_988_800
"""From 1900, where NTP counts from, to 1970 (RFC 868)."""

WINDOW_US = 60_000_000
"""The span of reports among which the quickest counts. A drift of 200 ppm makes 12 ms of it."""

STEP_US = 500_000
"""A publisher's clock that moves this much against ours from one report to the next has been set."""

NOTICED_US = 150_000
"""A smaller step shows too, where RTP time went on as our clock did and only the publisher's clock did not: reports are
late by less than this as a rule."""

SAME_STEP_US = 10_000_000
"""All tracks of a publisher tell of one step within this."""

PLAUSIBLE_US = 5_000_000
"""Reports that place a track further than this from where its arrivals do are not believed."""

THIN_US = 5_000_000
"""Least time between two mapping points that are kept."""


def ntp_to_unix_us(ntp: int) -> int:
    """A 64-bit NTP timestamp (RFC 5905, section 6) as Unix time in µs."""
    return ((ntp >> 32) - NTP_UNIX_SECONDS) * 1_000_000 + ((ntp & 0xFFFFFFFF) * 1_000_000 >> 32)


class Unwrapper:
    """Makes the 32-bit RTP timestamps of one SSRC count on past 2^32. Takes steps of less than 2^31 both ways."""

    __slots__ = ("_last",)

    def __init__(self, last: int | None = None) -> None:
        self._last = last

    def __call__(self, timestamp: int) -> int:
        """The unwrapped value; the first one is the timestamp itself."""
        self._last = timestamp if self._last is None else self._near(timestamp, self._last)
        return self._last

    def peek(self, timestamp: int) -> int:
        """As a call, but without a step: for a timestamp that may be far off, as a report's may."""
        return timestamp if self._last is None else self._near(timestamp, self._last)

    @staticmethod
    def _near(timestamp: int, last: int) -> int:
        return last + ((timestamp - last + 0x80000000) & 0xFFFFFFFF) - 0x80000000


class Report(NamedTuple):
    """A sender report: the RTP timestamp (unwrapped), the publisher's clock, our wall clock on arrival; µs."""

    rtp: int
    ntp_us: int
    wall_us: int


class Arrival(NamedTuple):
    """When the media of an RTP timestamp (unwrapped) arrived, on our wall clock; µs."""

    rtp: int
    wall_us: int


class Point(NamedTuple):
    """A point of the mapping: this RTP timestamp (unwrapped) was taken at this wall-clock time; µs."""

    rtp: int
    wall_us: int


class Source(NamedTuple):
    """What is known of one SSRC's time. `participant` names the clock that its reports are written by."""

    participant: str
    clock_rate: int
    reports: Sequence[Report]
    arrivals: Sequence[Arrival]


def map_sources(sources: Mapping[str, Source]) -> dict[str, list[Point]]:
    """The mapping of each source, by the same keys: points in the order of RTP time, none only without facts."""
    by_clock: dict[str, list[Report]] = {}
    for source in sources.values():
        by_clock.setdefault(source.participant, []).extend(source.reports)
    steps: dict[str, list[int]] = {}
    for source in sources.values():
        steps.setdefault(source.participant, []).extend(_steps(source))
    offsets = {
        clock: _quickest([(r.wall_us, r.wall_us - r.ntp_us) for r in reports], _first_of_each(steps[clock]))
        for clock, reports in by_clock.items()
    }
    mapping = {}
    for key, source in sources.items():
        arrived = _by_arrival(source)
        reported = _by_report(source, offsets[source.participant])
        believed = bool(reported) and _agree(reported, arrived, source.clock_rate)
        mapping[key] = _thin(reported if believed else arrived)
    return mapping


def wall_at(points: Sequence[Point], clock_rate: int, rtp: int) -> int:
    """The wall-clock time of an RTP timestamp, µs: between two points on the line through them, outside at the
    nominal clock rate. `points` must not be empty."""
    right = bisect_right(points, rtp, key=lambda point: point.rtp)
    if right == 0 or right == len(points):
        nearest = points[0] if right == 0 else points[-1]
        return nearest.wall_us + (rtp - nearest.rtp) * 1_000_000 // clock_rate
    before, after = points[right - 1], points[right]
    return before.wall_us + (rtp - before.rtp) * (after.wall_us - before.wall_us) // (after.rtp - before.rtp)


def _steps(source: Source) -> list[int]:
    """When (our clock) the first reports after steps of the publisher's clock arrived."""
    found = []
    for before, after in pairwise(source.reports):
        passed = after.wall_us - before.wall_us
        theirs = after.ntp_us - before.ntp_us
        media = (after.rtp - before.rtp) * 1_000_000 // source.clock_rate
        if abs(theirs - media) > NOTICED_US and abs(theirs - passed) > NOTICED_US > abs(media - passed):
            found.append(after.wall_us)
    return found


def _first_of_each(times: Iterable[int]) -> set[int]:
    """Of those that lie close together only the first."""
    first: list[int] = []
    for time in sorted(times):
        if not first or time - first[-1] > SAME_STEP_US:
            first.append(time)
    return set(first)


def _quickest(samples: Iterable[tuple[int, int]], steps: Collection[int] = ()) -> dict[int, int]:
    """For each time among `samples` (time, delay) the least delay within half a window around it.

    A step of the delay by more than `STEP_US` begins a new epoch: what is on its other side does not count. A
    step lasts; a single late sample is none, so the least of three on each side is compared. Smaller ones are known
    by `steps`, the times at which new epochs begin.
    """
    ordered = sorted(samples)
    result: dict[int, int] = {}
    start = 0
    for index in range(1, len(ordered) + 1):
        if (
            index == len(ordered)
            or ordered[index][0] in steps
            or abs(_least(ordered[index : index + 3]) - _least(ordered[max(0, index - 3) : index])) > STEP_US
        ):
            result.update(_sliding_least(ordered[start:index]))
            start = index
    return result


def _least(samples: Sequence[tuple[int, int]]) -> int:
    return min(delay for _, delay in samples)


def _sliding_least(samples: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Least delay within half a window on both sides, in one pass with a monotonic queue."""
    queue: list[tuple[int, int]] = []
    head = 0
    ahead = 0
    result = {}
    for time, _ in samples:
        while ahead < len(samples) and samples[ahead][0] <= time + WINDOW_US // 2:
            while len(queue) > head and queue[-1][1] >= samples[ahead][1]:
                queue.pop()
            queue.append(samples[ahead])
            ahead += 1
        while queue[head][0] < time - WINDOW_US // 2:
            head += 1
        result[time] = queue[head][1]
    return result


def _by_report(source: Source, offsets: Mapping[int, int]) -> list[Point]:
    return _rising(Point(report.rtp, report.ntp_us + offsets[report.wall_us]) for report in source.reports)


def _by_arrival(source: Source) -> list[Point]:
    delays = _quickest((a.wall_us, a.wall_us - a.rtp * 1_000_000 // source.clock_rate) for a in source.arrivals)
    return _rising(Point(a.rtp, a.rtp * 1_000_000 // source.clock_rate + delays[a.wall_us]) for a in source.arrivals)


def _rising(points: Iterable[Point]) -> list[Point]:
    """Those points that go forward in both clocks."""
    kept: list[Point] = []
    for point in sorted(points):
        if not kept or (point.rtp > kept[-1].rtp and point.wall_us > kept[-1].wall_us):
            kept.append(point)
    return kept


def _agree(reported: Sequence[Point], arrived: Sequence[Point], clock_rate: int) -> bool:
    """Whether the reports put the media where it arrived, give or take `PLAUSIBLE_US`."""
    return all(abs(wall_at(reported, clock_rate, rtp) - wall) <= PLAUSIBLE_US for rtp, wall in arrived)


def _thin(points: Sequence[Point]) -> list[Point]:
    """The first, the last, and between them one in `THIN_US` at most."""
    kept: list[Point] = []
    for point in points[:-1]:
        if not kept or point.wall_us - kept[-1].wall_us >= THIN_US:
            kept.append(point)
    return [*kept, *points[-1:]]
