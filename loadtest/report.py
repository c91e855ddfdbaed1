"""What a run means: the figures of an outcome, and its verdict by the budgets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from mediaserver.budgets import DEFAULT_BUDGETS, SourceBudget
from mediaserver.loadtest.histogram import HistogramView
from mediaserver.loadtest.run import Leg, Outcome
from mediaserver.loadtest.storm import StormFigures

OWN_LATENESS_NS = 5_000_000
"""A generator that is later than this once in a hundred times tells more of itself than of the server."""
STORM_KEYFRAMES_PER_SECOND = 2
STORM_FIRST_FRAME_MS = 1000.0


class Check(msgspec.Struct, frozen=True):
    """One demand: what was measured, what is allowed, and whether it holds."""

    name: str
    measured: str
    allowed: str
    holds: bool


class SourceReport(msgspec.Struct, frozen=True):
    """One source over all its viewers. Latency is from the send stamp to the kernel's receive stamp at the viewer."""

    source: str
    legs: int
    received: int
    lost: int
    own_drops_possible: bool
    repaired: int
    latency_ms: dict[str, float]
    jitter_p99_ms: float
    first_frame_ms: dict[str, float]
    least_frames_per_second: float
    longest_gap_ms: float
    stamped: int


class Report(msgspec.Struct, frozen=True):
    settings: dict[str, Any]
    seconds: float
    packets_per_second: dict[str, float]
    megabits_per_second: dict[str, float]
    join_ms: dict[str, dict[str, float]]
    sources: list[SourceReport]
    server: dict[str, float]
    generator: dict[str, float]
    worst_legs: list[Leg]
    refused: list[str]
    gone: list[str]
    timeline: list[dict[str, Any]]
    checks: list[Check]
    notes: list[str]
    storm: dict[str, Any] | None = None

    @property
    def passed(self) -> bool:
        return all(check.holds for check in self.checks)


def judge(outcome: Outcome, budgets: Mapping[str, SourceBudget] = DEFAULT_BUDGETS) -> Report:
    """The report of a run, with every demand of the budgets that it can tell about."""
    sources = [_source_report(outcome, source) for source in outcome.times]
    return Report(
        settings=msgspec.to_builtins(outcome.settings),
        seconds=outcome.seconds,
        packets_per_second={
            "in": outcome.totals.sent / outcome.seconds,
            "out": outcome.totals.received / outcome.seconds,
        },
        megabits_per_second={
            "in": outcome.totals.sent_octets * 8e-6 / outcome.seconds,
            "out": outcome.totals.received_octets * 8e-6 / outcome.seconds,
        },
        join_ms={
            role: spread([joined.seconds * 1000 for joined in outcome.joined if joined.role == role])
            for role in ("cart", "viewer")
        },
        sources=sources,
        server=_server(outcome),
        generator=_generator(outcome),
        worst_legs=sorted(outcome.legs, key=_badness, reverse=True)[:5],
        refused=outcome.refused,
        gone=outcome.gone,
        timeline=[msgspec.to_builtins(second) for second in outcome.timeline],
        checks=_checks(outcome, sources, budgets),
        notes=_notes(outcome),
        storm=_storm(outcome.storm) if outcome.storm is not None else None,
    )


def spread(values: Sequence[float]) -> dict[str, float]:
    """Count, p50, p95, p99 and the greatest."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0}

    def at(percent: int) -> float:
        return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]

    return {"count": len(ordered), "p50": at(50), "p95": at(95), "p99": at(99), "max": ordered[-1]}


def _percentiles(view: HistogramView) -> dict[str, float]:
    figures = {f"p{percent:g}": view.percentile(percent) / 1e6 for percent in (50, 99, 99.9)}
    return {**figures, "max": view.greatest / 1e6}


def _source_report(outcome: Outcome, source: str) -> SourceReport:
    legs = [leg for leg in outcome.legs if leg.source == source]
    times = outcome.times[source]
    return SourceReport(
        source=source,
        legs=len(legs),
        received=sum(leg.received for leg in legs),
        lost=sum(leg.lost + leg.unseen for leg in legs),
        own_drops_possible=outcome.totals.dropped > 0,
        repaired=sum(leg.repaired for leg in legs),
        latency_ms=_percentiles(times.latency),
        jitter_p99_ms=times.jitter.percentile(99) / 1e6,
        first_frame_ms=spread([leg.first_frame_ms for leg in legs if leg.first_frame_ms is not None]),
        least_frames_per_second=min((leg.frames_per_second for leg in legs), default=0.0),
        longest_gap_ms=max((leg.longest_gap_ms for leg in legs), default=0.0),
        stamped=times.latency.total,
    )


def _server(outcome: Outcome) -> dict[str, float]:
    """CPU, memory and descriptors of the process where it could be looked at, and its own words about drops."""
    figures: dict[str, float] = {}
    before, after = outcome.before, outcome.after
    if before is not None and after is not None:
        cpu = after.cpu_seconds - before.cpu_seconds
        ticks = after.user_seconds + after.system_seconds - before.user_seconds - before.system_seconds
        figures["cpu_cores"] = cpu / outcome.seconds
        figures["cpu_us_per_forwarded_packet"] = cpu * 1e6 / max(1, outcome.totals.received)
        figures["user_share"] = (after.user_seconds - before.user_seconds) / ticks if ticks > 0 else 0.0
        figures["resident_mib"] = after.resident_bytes / 2**20
        figures["resident_growth_mib"] = (after.resident_bytes - before.resident_bytes) / 2**20
        figures["descriptors"] = after.descriptors
        figures["threads"] = after.threads
    counters = outcome.counters
    count = counters.get("mediaserver_forward_latency_seconds_count", 0)
    if count:
        figures["own_forward_latency_mean_us"] = counters["mediaserver_forward_latency_seconds_sum"] * 1e6 / count
    for name, value in sorted(counters.items()):
        if value and (".".join(name.split(".")[:1]).endswith("plane_drops_total") or "tap_dropped" in name):
            figures[name.removeprefix("mediaserver_plane_").replace("drops_total.", "dropped_")] = value
    return figures


def _generator(outcome: Outcome) -> dict[str, float]:
    totals = outcome.totals
    return {
        "busy_share": totals.busy / 1e9 / outcome.seconds,
        "sender_lateness_p50_ms": totals.sender_lateness.percentile(50) / 1e6,
        "sender_lateness_p99_ms": totals.sender_lateness.percentile(99) / 1e6,
        "sender_lateness_max_ms": totals.sender_lateness.greatest / 1e6,
        "reading_lateness_p99_ms": totals.receiver_lateness.percentile(99) / 1e6,
        "not_sent": totals.send_failures,
        "dropped_at_own_sockets": totals.dropped,
        "retransmitted": outcome.retransmitted,
        "keyframe_requests": outcome.keyframe_requests,
        "unknown_packets": totals.unknown,
        "feedback_messages": totals.feedbacks,
        "feedback_share": totals.feedback_octets / max(1, totals.received_octets),
    }


def _storm(figures: StormFigures) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(figures)
    return told | {
        "up_after_ms": spread(figures.up_after_ms),
        "first_frame_ms": spread(figures.first_frame_ms),
        "requests_per_second": figures.requests_per_second,
    }


def _storm_checks(figures: StormFigures) -> list[Check]:
    slowest = max(figures.first_frame_ms, default=math.inf)
    requests = figures.requests
    # The request that begins a second and the one that begins the next may both be of its two.
    allowed = STORM_KEYFRAMES_PER_SECOND * (requests[-1] - requests[0]) / 1000 + 1 if requests else 1
    measured = f"{len(requests)}, at most {figures.requests_per_second} in a second"
    return [
        Check(
            "storm: keyframe requests",
            measured,
            f"{allowed:.0f}, {STORM_KEYFRAMES_PER_SECOND} a second",
            len(requests) <= allowed + 0.1,
        ),
        _at_most("storm: last first frame", slowest, STORM_FIRST_FRAME_MS),
        Check("storm: all have a picture", f"{figures.without_picture} have none", "all", not figures.without_picture),
    ]


def _badness(leg: Leg) -> tuple[float, float, float]:
    return (leg.lost + leg.unseen, 0.0 if leg.received else 1.0, leg.mean_latency_ms or 0.0)


def _checks(outcome: Outcome, sources: Iterable[SourceReport], budgets: Mapping[str, SourceBudget]) -> list[Check]:
    settings = outcome.settings
    wanted = settings.carts * (1 + settings.viewers)
    failed = len(outcome.refused)
    checks = [
        Check("everyone joined", f"{wanted - failed} of {wanted}", "all", failed == 0),
        Check("everyone stayed", f"{len(outcome.gone)} gone", "none gone", not outcome.gone),
    ]
    if outcome.storm is not None:
        checks += _storm_checks(outcome.storm)
    for report in sources:
        checks += _source_checks(report, budgets.get(report.source, SourceBudget()), settings.max_loss)
    return checks


def _source_checks(report: SourceReport, budget: SourceBudget, max_loss: float) -> list[Check]:
    name = report.source
    if not report.legs:
        return []
    loss = report.lost / max(1, report.lost + report.received)
    checks = [
        Check(f"{name}: loss after repair", f"{report.lost} ({loss:.4%})", f"{max_loss:.4%}", loss <= max_loss),
        Check(
            f"{name}: all viewers have it",
            f"{report.first_frame_ms['count']:.0f} of {report.legs}",
            "all",
            report.first_frame_ms["count"] == report.legs,
        ),
    ]
    if report.stamped:
        checks.append(_at_most(f"{name}: server p99", report.latency_ms["p99"], budget.server_p99_ms))
        if budget.server_jitter_p99_ms:
            checks.append(_at_most(f"{name}: jitter p99", report.jitter_p99_ms, budget.server_jitter_p99_ms))
    if "p95" in report.first_frame_ms and budget.first_frame_ms:
        checks.append(_at_most(f"{name}: first frame p95", report.first_frame_ms["p95"], budget.first_frame_ms))
    floor = budget.frames_per_second.floor
    if floor:
        least = report.least_frames_per_second
        checks.append(Check(f"{name}: least frames/s", f"{least:.1f}", f"at least {floor:g}", least >= floor))
    return checks


def _at_most(name: str, measured: float, allowed: float) -> Check:
    return Check(name, f"{measured:.3f} ms", f"{allowed:g} ms", measured <= allowed)


def _notes(outcome: Outcome) -> list[str]:
    """What a reader must know before trusting the figures."""
    totals = outcome.totals
    notes = []
    if totals.dropped or totals.send_failures:
        notes.append(
            f"The generator itself lost packets ({totals.dropped} for want of room in its sockets, "
            f"{totals.send_failures} not sent): give it a machine of its own, or fewer peers."
        )
    if totals.sender_lateness.percentile(99) > OWN_LATENESS_NS:
        late = totals.sender_lateness.percentile(99) / 1e6
        notes.append(f"The generator was late: one frame in a hundred left {late:.1f} ms or more after its time.")
    if outcome.legs and not any(times.latency.total for times in outcome.times.values()):
        notes.append("The server does not pass abs-capture-time on, so that its latency could not be measured.")
    negative = sum(times.latency.negative for times in outcome.times.values())
    if negative:
        notes.append(f"{negative} packets seem to have arrived before they left: the system's clock was set.")
    return notes
