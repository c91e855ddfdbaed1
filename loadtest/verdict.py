"""The verdict on a run: what was measured beside what the budgets allow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from mediaserver.budgets import Skew, SourceBudget
from mediaserver.loadtest.figures import SourceReport, skew_figures, spread
from mediaserver.loadtest.findings import MISSED, Segment, loss_segment, own_trouble
from mediaserver.loadtest.outcome import Leg, Outcome, Part, SkewFigures
from mediaserver.loadtest.scenario import Scenario, rooms_of, viewers_of
from mediaserver.loadtest.storm import StormFigures

STORM_KEYFRAMES_PER_SECOND = 2
STORM_FIRST_FRAME_MS = 1000.0
RATED_DELAY_MS = 20.0
RATED_LOSS = 0.01
"""The line that the frame budgets assume: a round trip of 40 ms, 1 % loss, and room enough."""


class Check(msgspec.Struct, frozen=True):
    """One demand: what was measured, what is allowed, whether it holds, and whose it is when it does not."""

    name: str
    measured: str
    allowed: str
    holds: bool
    segment: Segment = "server"


def demands(
    outcome: Outcome, sources: Iterable[SourceReport], budgets: Mapping[str, SourceBudget], skew: Skew
) -> list[Check]:
    """Every demand that the run can tell about."""
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
    told = skew_figures(figures)
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
