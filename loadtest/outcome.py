"""What a load test has measured, before anybody judges it; and how the parts of several processes add up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from mediaserver.loadtest.histogram import HistogramView, merge
from mediaserver.loadtest.measure import ProcessSample
from mediaserver.loadtest.peers import SourceTimes, Totals
from mediaserver.loadtest.scenario import Scenario
from mediaserver.loadtest.storm import StormFigures

T = TypeVar("T")


class Entry(msgspec.Struct, frozen=True):
    """Somebody who came in, and how long that took."""

    role: Literal["cart", "viewer"]
    room: str
    group: str
    line: str
    seconds: float


class Leg(msgspec.Struct, frozen=True):
    """One stream at one viewer, from its first packet to the end; times in ms.

    `line` names what is in the way: that of the viewer, of the cart, or both; nothing where the latency is that of the
    server alone. `missed` packets did not come in their turn, `lost` ones not at all, `unseen` ones left the cart after
    the last one that arrived. `overtaken` ones came behind later ones, `overtaken_ms` later on average. `share` is what
    came of what the cart sends. `first_frame_ms` counts from when the viewer began to join (in a storm, from when its
    transport was up), None when no picture came. Of `watched_s`, `under_frames_s` and `under_bits_s` were below the
    floors. `recovered_ms` is from the end of an outage to the next whole frame."""

    room: str
    group: str
    viewer: int
    source: str
    line: str
    received: int
    share: float
    missed: int
    lost: int
    unseen: int
    repaired: int
    duplicates: int
    refused: int
    overtaken: int
    overtaken_ms: float
    frames: int
    frames_per_second: float
    first_frame_ms: float | None
    longest_gap_ms: float
    freezes: int
    frozen_s: float
    watched_s: float
    under_frames_s: float
    under_bits_s: float
    recovered_ms: float | None
    latency_ms: dict[str, float]
    """p50, p99, p99.9 and the greatest; empty without stamps"""


class Upstream(msgspec.Struct, frozen=True):
    """One stream of a cart: what it sent, and what the server said of it."""

    room: str
    group: str
    source: str
    line: str
    packets: int
    asked_again: int
    reported_lost: int
    keyframes: int
    keyframe_requests: int


class Second(msgspec.Struct, frozen=True):
    """What one second of the measured part showed. `latency` is that of packets from their leaving, where no line is in
    the way, `intended` from when they were due; `lateness` is our own."""

    elapsed: float
    sent: int
    received: int
    received_octets: int
    dropped: int
    not_sent: int
    viewers: int
    latency: HistogramView
    intended: HistogramView
    lateness: HistogramView


class ServerSecond(msgspec.Struct, frozen=True):
    """The server's process at one moment; `cpu` in parts of one core since the moment before. `backlog` is of its
    recorder, in packets, as far as it was asked."""

    elapsed: float
    cpu: float
    resident_mib: float
    descriptors: int
    backlog: float | None = None


class GlassFigures(msgspec.Struct, frozen=True):
    """From glass to glass of one source, of decoded pictures: ages by the codes in them. `decoding` is our own part.
    `unread` pictures had no code that could be read, `undecoded` units no picture."""

    source: str
    line: str
    ages: HistogramView
    decoding: HistogramView
    unread: int
    undecoded: int


class SkewFigures(msgspec.Struct, frozen=True):
    """How far the first source was ahead of the second and how far behind it, each second at each viewer."""

    first: str
    second: str
    ahead: HistogramView
    behind: HistogramView


class Part(msgspec.Struct, frozen=True):
    """What one process of the generator has measured. `lines` are figures of its relay, with its CPU seconds."""

    seconds: float
    entries: list[Entry]
    refused: list[str]
    gone: list[str]
    legs: list[Leg]
    upstreams: list[Upstream]
    totals: Totals
    times: dict[str, SourceTimes]
    skews: list[SkewFigures]
    glass: list[GlassFigures]
    timeline: list[Second]
    lines: dict[str, float] = {}
    cpu_seconds: float = 0.0
    """of the threads that send and receive"""
    storm: StormFigures | None = None


class Outcome(msgspec.Struct, frozen=True):
    """A whole run. `counters` is what the server's metrics grew by."""

    scenario: Scenario
    part: Part
    before: ProcessSample | None = None
    after: ProcessSample | None = None
    counters: dict[str, float] = {}
    server: list[ServerSecond] = []
    processes: int = 1


def merge_parts(parts: Sequence[Part]) -> Part:
    """Several processes as one. Seconds are those that began at the same time."""
    if len(parts) == 1:
        return parts[0]
    return Part(
        seconds=max(part.seconds for part in parts),
        entries=_all(parts, lambda part: part.entries),
        refused=_all(parts, lambda part: part.refused),
        gone=_all(parts, lambda part: part.gone),
        legs=_all(parts, lambda part: part.legs),
        upstreams=_all(parts, lambda part: part.upstreams),
        totals=_sum_totals([part.totals for part in parts]),
        times=_merge_times([part.times for part in parts]),
        skews=_merge_skews(_all(parts, lambda part: part.skews)),
        glass=_merge_glass(_all(parts, lambda part: part.glass)),
        timeline=[merge_seconds(seconds) for seconds in zip(*(part.timeline for part in parts), strict=False)],
        lines=_sum_lines([part.lines for part in parts]),
        cpu_seconds=sum(part.cpu_seconds for part in parts),
        storm=next((part.storm for part in parts if part.storm is not None), None),
    )


def _all(parts: Iterable[Part], of: Callable[[Part], list[T]]) -> list[T]:
    return [entry for part in parts for entry in of(part)]


def _sum_totals(totals: Sequence[Totals]) -> Totals:
    def total(column: tuple[Any, ...]) -> Any:
        return merge(column) if isinstance(column[0], HistogramView) else sum(column)

    return Totals._make(total(column) for column in zip(*totals, strict=True))


def _merge_times(times: Sequence[dict[str, SourceTimes]]) -> dict[str, SourceTimes]:
    sources = dict.fromkeys(source for one in times for source in one)
    return {
        source: SourceTimes(*map(merge, zip(*(one[source] for one in times if source in one), strict=True)))
        for source in sources
    }


def _merge_skews(skews: Sequence[SkewFigures]) -> list[SkewFigures]:
    pairs: dict[tuple[str, str], list[SkewFigures]] = {}
    for skew in skews:
        pairs.setdefault((skew.first, skew.second), []).append(skew)
    return [
        SkewFigures(*pair, merge(one.ahead for one in found), merge(one.behind for one in found))
        for pair, found in pairs.items()
    ]


def _merge_glass(figures: Sequence[GlassFigures]) -> list[GlassFigures]:
    sources: dict[tuple[str, str], list[GlassFigures]] = {}
    for one in figures:
        sources.setdefault((one.source, one.line), []).append(one)
    return [
        GlassFigures(
            *key,
            merge(one.ages for one in found),
            merge(one.decoding for one in found),
            sum(one.unread for one in found),
            sum(one.undecoded for one in found),
        )
        for key, found in sources.items()
    ]


def merge_seconds(seconds: Sequence[Second]) -> Second:
    return Second(
        elapsed=max(second.elapsed for second in seconds),
        sent=sum(second.sent for second in seconds),
        received=sum(second.received for second in seconds),
        received_octets=sum(second.received_octets for second in seconds),
        dropped=sum(second.dropped for second in seconds),
        not_sent=sum(second.not_sent for second in seconds),
        viewers=sum(second.viewers for second in seconds),
        latency=merge(second.latency for second in seconds),
        intended=merge(second.intended for second in seconds),
        lateness=merge(second.lateness for second in seconds),
    )


def _sum_lines(lines: Sequence[dict[str, float]]) -> dict[str, float]:
    """Counts add up; of times the worst process tells."""
    names = dict.fromkeys(name for one in lines for name in one)
    return {name: (max if name.startswith("lateness") else sum)(one.get(name, 0.0) for one in lines) for name in names}
