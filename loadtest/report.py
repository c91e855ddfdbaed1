"""What a run means: the figures of an outcome, and its verdict by the budgets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from mediaserver.budgets import DEFAULT_BUDGETS, Skew, SourceBudget
from mediaserver.loadtest.findings import MISSED, Finding, Segment, find, loss_segment, own_trouble, starved_viewers
from mediaserver.loadtest.histogram import HistogramView
from mediaserver.loadtest.outcome import GlassFigures, Leg, Outcome, Part, Second, SkewFigures
from mediaserver.loadtest.run import percentiles
from mediaserver.loadtest.scenario import Scenario, rooms_of, viewers_of
from mediaserver.loadtest.storm import StormFigures

STORM_KEYFRAMES_PER_SECOND = 2
STORM_FIRST_FRAME_MS = 1000.0
RATED_DELAY_MS = 20.0
RATED_LOSS = 0.01
"""The line that the frame budgets assume: a round trip of 40 ms, 1 % loss, and room enough."""
DEFAULT_SKEW = Skew()
HEAT_STEP = 16
"""Buckets of a histogram that are one of the heat map: two to the octave."""


class Check(msgspec.Struct, frozen=True):
    """One demand: what was measured, what is allowed, whether it holds, and whose it is when it does not."""

    name: str
    measured: str
    allowed: str
    holds: bool
    segment: Segment = "server"


class SourceReport(msgspec.Struct, frozen=True):
    """One source over all its viewers. `latency_ms` is from a packet's leaving to the kernel's receive stamp at viewers
    without a line, `intended_ms` the same from when it was due, `lined_ms` that through lines."""

    source: str
    legs: int
    direct_legs: int
    received: int
    missed: int
    lost: int
    lost_direct: int
    own_drops_possible: bool
    repaired: int
    latency_ms: dict[str, float]
    intended_ms: dict[str, float]
    lined_ms: dict[str, float]
    jitter_p99_ms: float
    first_frame_ms: dict[str, float]
    least_frames_per_second: float
    longest_gap_ms: float
    freezes: int
    frozen_s: float
    under_frames_s: float
    under_bits_s: float
    watched_s: float
    recovered_ms: dict[str, float]
    stamped: int


class Report(msgspec.Struct, frozen=True):
    scenario: dict[str, Any]
    seconds: float
    processes: int
    packets_per_second: dict[str, float]
    megabits_per_second: dict[str, float]
    join_ms: dict[str, dict[str, float]]
    sources: list[SourceReport]
    glass: list[dict[str, Any]]
    skews: list[dict[str, Any]]
    server: dict[str, float]
    generator: dict[str, float]
    lines: dict[str, float]
    worst_legs: list[Leg]
    starved: list[dict[str, Any]]
    refused: list[str]
    gone: list[str]
    timeline: list[dict[str, Any]]
    heat: list[dict[int, int]]
    """packets of each second by latency, in steps of half an octave: the number of the step, and how many"""
    server_timeline: list[dict[str, Any]]
    checks: list[Check]
    findings: list[Finding]
    storm: dict[str, Any] | None = None

    @property
    def passed(self) -> bool:
        return all(check.holds for check in self.checks)

    @property
    def notes(self) -> list[str]:
        """What a reader must know before trusting the figures."""
        return [
            finding.text for finding in self.findings if finding.segment == "generator" or finding.kind == "no-stamps"
        ]

    @property
    def own_limit(self) -> bool:
        """A budget is broken, but by the generator or while that was in trouble: nothing is proved of the server."""
        if self.passed:
            return False
        own = any(finding.segment == "generator" for finding in self.findings)
        return own or all(check.segment == "generator" for check in self.checks if not check.holds)


def judge(outcome: Outcome, budgets: Mapping[str, SourceBudget] = DEFAULT_BUDGETS, skew: Skew = DEFAULT_SKEW) -> Report:
    """The report of a run, with every demand of the budgets that it can tell about."""
    part = outcome.part
    sources = [_source_report(part, source) for source in part.times]
    return Report(
        scenario=msgspec.to_builtins(outcome.scenario),
        seconds=part.seconds,
        processes=outcome.processes,
        packets_per_second={"in": part.totals.sent / part.seconds, "out": part.totals.received / part.seconds},
        megabits_per_second={
            "in": part.totals.sent_octets * 8e-6 / part.seconds,
            "out": part.totals.received_octets * 8e-6 / part.seconds,
        },
        join_ms={
            role: spread([entry.seconds * 1000 for entry in part.entries if entry.role == role])
            for role in ("cart", "viewer")
        },
        sources=sources,
        glass=[_glass(figures) for figures in part.glass],
        skews=[_skew(figures) for figures in part.skews if figures.ahead.total + figures.behind.total],
        server=_server(outcome),
        generator=_generator(part),
        lines=part.lines,
        worst_legs=sorted(part.legs, key=_badness, reverse=True)[:10],
        starved=[
            {"room": room, "viewer": viewer, "legs": lacking} for (room, viewer), lacking in starved_viewers(part.legs)
        ],
        refused=part.refused,
        gone=part.gone,
        timeline=[_second(second) for second in part.timeline],
        heat=[_heat(second.latency) for second in part.timeline],
        server_timeline=[msgspec.to_builtins(second) for second in outcome.server],
        checks=_checks(outcome, sources, budgets, skew),
        findings=find(outcome),
        storm=_storm(part.storm) if part.storm is not None else None,
    )


def spread(values: Sequence[float]) -> dict[str, float]:
    """Count, p50, p95, p99 and the greatest."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0}

    def at(percent: int) -> float:
        return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]

    return {"count": len(ordered), "p50": at(50), "p95": at(95), "p99": at(99), "max": ordered[-1]}


def _source_report(part: Part, source: str) -> SourceReport:
    legs = [leg for leg in part.legs if leg.source == source]
    direct = [leg for leg in legs if not leg.line]
    times = part.times[source]
    return SourceReport(
        source=source,
        legs=len(legs),
        direct_legs=len(direct),
        received=sum(leg.received for leg in legs),
        missed=sum(leg.missed for leg in direct),
        lost=sum(leg.lost + leg.unseen for leg in legs),
        lost_direct=sum(leg.lost + leg.unseen for leg in direct),
        own_drops_possible=part.totals.dropped > 0,
        repaired=sum(leg.repaired for leg in legs),
        latency_ms=percentiles(times.latency),
        intended_ms=percentiles(times.intended),
        lined_ms=percentiles(times.lined),
        jitter_p99_ms=times.jitter.percentile(99) / 1e6,
        first_frame_ms=spread([leg.first_frame_ms for leg in legs if leg.first_frame_ms is not None]),
        least_frames_per_second=min(
            (leg.frames_per_second for leg in legs if leg.watched_s or not leg.frames), default=0.0
        ),
        longest_gap_ms=max((leg.longest_gap_ms for leg in legs), default=0.0),
        freezes=sum(leg.freezes for leg in legs),
        frozen_s=sum(leg.frozen_s for leg in legs),
        under_frames_s=sum(leg.under_frames_s for leg in legs),
        under_bits_s=sum(leg.under_bits_s for leg in legs),
        watched_s=sum(leg.watched_s for leg in legs),
        recovered_ms=spread([leg.recovered_ms for leg in legs if leg.recovered_ms is not None]),
        stamped=times.latency.total + times.lined.total,
    )


def _glass(figures: GlassFigures) -> dict[str, Any]:
    ages = figures.ages
    return {
        "source": figures.source,
        "line": figures.line,
        "pictures": ages.total,
        "unread": figures.unread,
        "undecoded": figures.undecoded,
        "p50_ms": ages.percentile(50) / 1e6,
        "p95_ms": ages.percentile(95) / 1e6,
        "p99_ms": ages.percentile(99) / 1e6,
        "max_ms": ages.greatest / 1e6,
        "decoding_p95_ms": figures.decoding.percentile(95) / 1e6,
    }


def _skew(figures: SkewFigures) -> dict[str, Any]:
    return {
        "first": figures.first,
        "second": figures.second,
        "samples": figures.ahead.total + figures.behind.total,
        "ahead_p95_ms": _share_percentile(figures.ahead, figures.behind) / 1e6,
        "behind_p95_ms": _share_percentile(figures.behind, figures.ahead) / 1e6,
    }


def _share_percentile(view: HistogramView, rest: HistogramView) -> float:
    """The 95th percentile over both, where the rest counts as none at all."""
    beyond = 0.05 * (view.total + rest.total)
    return view.percentile(100 * (1 - beyond / view.total)) if view.total > beyond else 0.0


def _second(second: Second) -> dict[str, Any]:
    return {
        "elapsed": second.elapsed,
        "sent": second.sent,
        "received": second.received,
        "received_octets": second.received_octets,
        "dropped": second.dropped,
        "not_sent": second.not_sent,
        "viewers": second.viewers,
        "latency_ms": percentiles(second.latency),
        "intended_ms": percentiles(second.intended),
        "lateness_ms": percentiles(second.lateness),
    }


def _heat(view: HistogramView) -> dict[int, int]:
    steps: dict[int, int] = {}
    for bucket, count in view.counts.items():
        steps[bucket // HEAT_STEP] = steps.get(bucket // HEAT_STEP, 0) + count
    return dict(sorted(steps.items()))


def _server(outcome: Outcome) -> dict[str, float]:
    """CPU, memory and descriptors of the process where it could be looked at, and its own words about drops."""
    figures: dict[str, float] = {}
    before, after, part = outcome.before, outcome.after, outcome.part
    if before is not None and after is not None:
        cpu = after.cpu_seconds - before.cpu_seconds
        ticks = after.user_seconds + after.system_seconds - before.user_seconds - before.system_seconds
        figures["cpu_cores"] = cpu / part.seconds
        figures["cpu_us_per_forwarded_packet"] = cpu * 1e6 / max(1, part.totals.received)
        figures["user_share"] = (after.user_seconds - before.user_seconds) / ticks if ticks > 0 else 0.0
        figures["resident_mib"] = after.resident_bytes / 2**20
        figures["resident_growth_mib"] = (after.resident_bytes - before.resident_bytes) / 2**20
        figures["descriptors"] = after.descriptors
        figures["threads"] = after.threads
    counters = outcome.counters
    count = counters.get("mediaserver_forward_latency_seconds_count", 0)
    if count:
        figures["own_forward_latency_mean_us"] = counters["mediaserver_forward_latency_seconds_sum"] * 1e6 / count
    backlogs = [second.backlog for second in outcome.server if second.backlog is not None]
    if backlogs:
        figures["recorder_backlog_packets_max"] = max(backlogs)
    for name, value in sorted(counters.items()):
        if value and (".".join(name.split(".")[:1]).endswith("plane_drops_total") or "tap_dropped" in name):
            figures[name.removeprefix("mediaserver_plane_").replace("drops_total.", "dropped_")] = value
    return figures


def _generator(part: Part) -> dict[str, float]:
    totals = part.totals
    return {
        "busy_share": totals.busy / 1e9 / part.seconds,
        "cpu_us_per_packet": part.cpu_seconds * 1e6 / max(1, totals.sent + totals.received),
        "sender_lateness_p50_ms": totals.sender_lateness.percentile(50) / 1e6,
        "sender_lateness_p99_ms": totals.sender_lateness.percentile(99) / 1e6,
        "sender_lateness_max_ms": totals.sender_lateness.greatest / 1e6,
        "reading_lateness_p99_ms": totals.receiver_lateness.percentile(99) / 1e6,
        "not_sent": totals.send_failures,
        "dropped_at_own_sockets": totals.dropped,
        "untimed": totals.untimed,
        "not_decoded_for_want_of_room": totals.untaped,
        "retransmitted": sum(stream.asked_again for stream in part.upstreams),
        "keyframe_requests": sum(stream.keyframe_requests for stream in part.upstreams),
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


def _badness(leg: Leg) -> tuple[float, float, float, float]:
    return (0.0 if leg.received else 1.0, leg.lost + leg.unseen, leg.frozen_s, leg.latency_ms.get("p99", 0.0))


# The demands


def _checks(
    outcome: Outcome, sources: Iterable[SourceReport], budgets: Mapping[str, SourceBudget], skew: Skew
) -> list[Check]:
    part = outcome.part
    wanted = sum(1 + len(viewers_of(room.group)) for room in rooms_of(outcome.scenario))
    failed = len(part.refused)
    checks = [
        Check("everyone joined", f"{failed} of {wanted + _returns(outcome)} could not", "all", failed == 0),
        Check("everyone stayed", f"{len(part.gone)} gone", "none gone", not part.gone),
    ]
    if part.storm is not None:
        checks += _storm_checks(part.storm)
    for report in sources:
        checks += _source_checks(outcome, report, budgets.get(report.source, SourceBudget()))
    checks += [check for figures in part.skews for check in _skew_checks(figures, skew)]
    return [_own_first(check, part) for check in checks]


def _own_first(check: Check, part: Part) -> Check:
    """What a generator in trouble breaks may be its own."""
    timed = check.name.endswith((" p95", " p99", "frames/s", "floor", "freezes"))
    if not check.holds and timed and own_trouble(part) and check.segment == "server":
        return msgspec.structs.replace(check, segment="generator")
    return check


def _returns(outcome: Outcome) -> int:
    """Joins of those who came back."""
    wanted = sum(1 + len(viewers_of(room.group)) for room in rooms_of(outcome.scenario))
    return max(0, len(outcome.part.entries) + len(outcome.part.refused) - wanted)


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


def rated_lines(scenario: Scenario) -> set[str]:
    """The names of what is in the way of legs for which the frame budgets are made; "" is nothing."""

    def rated(name: str) -> bool:
        line = scenario.lines[name]
        cut = scenario.outage is not None and name in scenario.outage.lines
        return (
            line.delay_ms + line.jitter_ms <= RATED_DELAY_MS
            and line.loss <= RATED_LOSS
            and not (line.kbit_up or line.kbit_down or cut)
        )

    return {"", *(name for name in scenario.lines if rated(name))}


def _source_checks(outcome: Outcome, report: SourceReport, budget: SourceBudget) -> list[Check]:
    name, part, scenario = report.source, outcome.part, outcome.scenario
    legs = [leg for leg in part.legs if leg.source == name]
    if not legs:
        return []
    direct = [leg for leg in legs if not leg.line]
    rated = [leg for leg in legs if leg.line in rated_lines(scenario)]
    seen = sum(leg.first_frame_ms is not None for leg in legs)
    checks = [Check(f"{name}: all viewers have it", f"{seen} of {len(legs)}", "all", seen == len(legs))]
    if direct:
        checks += _loss_checks(part, name, direct, scenario.max_loss)
    if part.times[name].latency.total:
        checks.append(_at_most(f"{name}: server p99", report.latency_ms["p99"], budget.server_p99_ms))
        if budget.server_jitter_p99_ms:
            checks.append(_at_most(f"{name}: jitter p99", report.jitter_p99_ms, budget.server_jitter_p99_ms))
    if rated:
        checks += _frame_checks(name, rated, budget)
    checks += _outage_checks(outcome, name, legs, budget)
    for figures in part.glass:
        judged = figures.source == name and figures.line in rated_lines(scenario)
        if judged and figures.ages.total and budget.glass_to_glass_ms:
            checks.append(
                _at_most(f"{name}: glass to glass p95", figures.ages.percentile(95) / 1e6, budget.glass_to_glass_ms)
            )
    return checks


def _loss_checks(part: Part, name: str, direct: Sequence[Leg], allowed: float) -> list[Check]:
    received, lost = sum(leg.received for leg in direct), sum(leg.lost + leg.unseen for leg in direct)
    missed, segment = sum(leg.missed for leg in direct), loss_segment(part, direct)
    total = max(1, received + lost)
    return [
        Check(
            f"{name}: loss after repair",
            f"{lost} ({lost / total:.4%})",
            f"{allowed:.4%}",
            lost / total <= allowed,
            segment,
        ),
        Check(
            f"{name}: lost before repair",
            f"{missed} ({missed / total:.4%})",
            f"{max(MISSED, allowed):.4%}",
            missed / total <= max(MISSED, allowed),
            segment,
        ),
    ]


def _frame_checks(name: str, rated: Sequence[Leg], budget: SourceBudget) -> list[Check]:
    checks = []
    firsts = spread([leg.first_frame_ms for leg in rated if leg.first_frame_ms is not None])
    if "p95" in firsts and budget.first_frame_ms:
        checks.append(_at_most(f"{name}: first frame p95", firsts["p95"], budget.first_frame_ms))
    floor = budget.frames_per_second.floor
    if floor:
        # Of legs that lasted: who comes and goes in a moment has no rate.
        least = min((leg.frames_per_second for leg in rated if leg.watched_s or not leg.frames), default=floor)
        checks.append(Check(f"{name}: least frames/s", f"{least:.1f}", f"at least {floor:g}", least >= floor))
    under = sum(max(leg.under_frames_s, leg.under_bits_s) for leg in rated)
    watched = sum(leg.watched_s for leg in rated)
    checks.append(Check(f"{name}: time under a floor", f"{under:.1f} of {watched:.0f} s", "0 s", under == 0))
    freezes, frozen = sum(leg.freezes for leg in rated), sum(leg.frozen_s for leg in rated)
    checks.append(Check(f"{name}: freezes", f"{freezes} ({frozen:.1f} s)", "none", freezes == 0))
    return checks


def _outage_checks(outcome: Outcome, name: str, legs: Sequence[Leg], budget: SourceBudget) -> list[Check]:
    outage = outcome.scenario.outage
    hit = [leg for leg in legs if outage is not None and set(leg.line.split("+")) & set(outage.lines)]
    # Whoever was not there through the outage has nothing to recover from.
    hit = [leg for leg in hit if outage is not None and leg.watched_s > outage.seconds]
    if not hit or not budget.recovery_ms:
        return []
    back = spread([leg.recovered_ms for leg in hit if leg.recovered_ms is not None])
    checks = [
        Check(f"{name}: back after the outage", f"{back['count']} of {len(hit)}", "all", back["count"] == len(hit))
    ]
    if "p95" in back:
        checks.append(_at_most(f"{name}: recovery p95", back["p95"], budget.recovery_ms))
    return checks


def _skew_checks(figures: SkewFigures, skew: Skew) -> list[Check]:
    told = _skew(figures)
    if not told["samples"]:
        return []
    ahead, behind = {
        ("microphone", "camera"): (skew.sound_ahead_ms, skew.sound_behind_ms),
        ("ultrasound", "camera"): (skew.ultrasound_camera_ms, skew.ultrasound_camera_ms),
        ("stethoscope", "ultrasound"): (skew.stethoscope_picture_ms, skew.stethoscope_picture_ms),
    }[figures.first, figures.second]
    name = f"{figures.first} to {figures.second}"
    return [
        _at_most(f"{name}: ahead p95", told["ahead_p95_ms"], ahead),
        _at_most(f"{name}: behind p95", told["behind_p95_ms"], behind),
    ]


def _at_most(name: str, measured: float, allowed: float) -> Check:
    return Check(name, f"{measured:.3f} ms", f"{allowed:g} ms", measured <= allowed)
