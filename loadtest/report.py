"""What a run means: the figures of an outcome, and its verdict by the budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from mediaserver.budgets import DEFAULT_BUDGETS, Skew, SourceBudget
from mediaserver.loadtest.figures import (
    SourceReport,
    generator_figures,
    glass,
    heat,
    second_figures,
    server_figures,
    skew_figures,
    source_report,
    spread,
    storm_figures,
)
from mediaserver.loadtest.findings import Finding, find, starved_viewers
from mediaserver.loadtest.outcome import Leg, Outcome
from mediaserver.loadtest.verdict import Check, demands

DEFAULT_SKEW = Skew()


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
    sources = [source_report(part, source) for source in part.times]
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
        glass=[glass(figures) for figures in part.glass],
        skews=[skew_figures(figures) for figures in part.skews if figures.ahead.total + figures.behind.total],
        server=server_figures(outcome),
        generator=generator_figures(part),
        lines=part.lines,
        worst_legs=sorted(part.legs, key=_badness, reverse=True)[:10],
        starved=[
            {"room": room, "viewer": viewer, "legs": lacking} for (room, viewer), lacking in starved_viewers(part.legs)
        ],
        refused=part.refused,
        gone=part.gone,
        timeline=[second_figures(second) for second in part.timeline],
        heat=[heat(second.latency) for second in part.timeline],
        server_timeline=[msgspec.to_builtins(second) for second in outcome.server],
        checks=demands(outcome, sources, budgets, skew),
        findings=find(outcome),
        storm=storm_figures(part.storm) if part.storm is not None else None,
    )


def _badness(leg: Leg) -> tuple[float, float, float, float]:
    return (0.0 if leg.received else 1.0, leg.lost + leg.unseen, leg.frozen_s, leg.latency_ms.get("p99", 0.0))
