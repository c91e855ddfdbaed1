"""How many consultations are carried within budget: doubling until one step fails, then halving what is in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from mediaserver.loadtest.report import Report

CLOSE = 0.1
"""The search ends when the least that fails is so little more, as a share, than the most that passes."""

Verdict = Literal["within budget", "budget broken", "generator's limit"]


class Step(msgspec.Struct, frozen=True):
    """One try: `broken` names the budgets, and whose they are. `busiest_thread` is the share of a core that the
    server's busiest thread took, which is that of the worker where there is one."""

    consultations: int
    verdict: Verdict
    broken: list[str]
    packets_out: float
    server_cores: float
    busiest_thread: float
    generator_busy: float


class Told(msgspec.Struct, frozen=True):
    """What a search found: `most` were carried. `limit` says what stood in the way of more."""

    most: int
    limit: Literal["server", "generator", "end of the search"]
    steps: list[Step]


class Found(msgspec.Struct, frozen=True):
    """The same with the report of the most that was within budget, or else of the least that was not."""

    most: int
    limit: Literal["server", "generator", "end of the search"]
    steps: list[Step]
    report: Report

    def told(self) -> Told:
        return Told(self.most, self.limit, self.steps)


class Searcher:
    """`step` plays so many consultations and judges them; `tell` hears of each; no more than `limit` are tried."""

    def __init__(self, step: Callable[[int], Awaitable[Report]], tell: Callable[[str], None], limit: int) -> None:
        self._step = step
        self._tell = tell
        self._limit = limit
        self._steps: list[Step] = []
        self._passed: tuple[int, Report] | None = None
        self._failed: tuple[int, Report] | None = None

    async def run(self, first: int) -> Found:
        count: int | None = min(first, self._limit)
        while count is not None:
            await self._try(count)
            count = self._next(first)
        best = self._passed or self._failed
        assert best is not None
        return Found(self._passed[0] if self._passed else 0, self._limit_of(), self._steps, best[1])

    async def _try(self, count: int) -> None:
        report = await self._step(count)
        # A step that breaks no budget is good even if the generator was at its limit.
        verdict: Verdict = "within budget"
        if not report.passed:
            verdict = "generator's limit" if report.own_limit else "budget broken"
        broken = [f"{check.name} ({check.segment})" for check in report.checks if not check.holds]
        self._steps.append(
            Step(
                count,
                verdict,
                broken,
                report.packets_per_second["out"],
                report.server.get("cpu_cores", 0.0),
                report.server.get("busiest_thread_cores", 0.0),
                report.generator["busy_share"],
            )
        )
        self._tell(f"{count} consultations: {verdict}" + (f": {', '.join(broken[:3])}" if broken else ""))
        if report.passed and (self._passed is None or count > self._passed[0]):
            self._passed = (count, report)
        elif not report.passed and (self._failed is None or count < self._failed[0]):
            self._failed = (count, report)

    def _next(self, first: int) -> int | None:
        """How many to try now; None at the end."""
        most = self._passed[0] if self._passed else 0
        if self._failed is None:
            return min(2 * most, self._limit) if most < self._limit else None
        least = self._failed[0]
        if least - most <= max(1, CLOSE * most):
            return None
        return (most + least) // 2

    def _limit_of(self) -> Literal["server", "generator", "end of the search"]:
        if self._failed is None:
            return "end of the search"
        return "generator" if self._failed[1].own_limit else "server"
