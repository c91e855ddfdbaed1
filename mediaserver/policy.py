"""From the budgets that an operator may change to what the session layer and the data plane go by."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mediaserver.budgets import SourceBudget
from mediaserver.sfu.session.model import Source
from mediaserver.sfu.session.settings import DEFAULT_SOURCES, Priority, SourcePolicy
from mediaserver.sfu.stream.params import FreshnessParams

LEAST_STALE_US = 50_000
"""The data plane takes no less."""


def source_policies(budgets: Mapping[Source, SourceBudget]) -> dict[Source, SourcePolicy]:
    """The policy of every source that has a budget."""
    return {
        source: msgspec.structs.replace(
            DEFAULT_SOURCES.get(source, SourcePolicy()), priority=_priority(budget), freshness=_freshness(budget)
        )
        for source, budget in budgets.items()
    }


def _priority(budget: SourceBudget) -> Priority:
    return Priority(
        rank=budget.rank,
        best_rank=budget.best_rank,
        worst_rank=budget.worst_rank,
        floor_bps=round(budget.kbit_per_second.floor * 1000),
        floor_frames=round(budget.frames_per_second.floor),
        least_height=budget.least_height,
        frames_first=budget.frames_first,
        sized=budget.sized,
    )


def _freshness(budget: SourceBudget) -> FreshnessParams | None:
    if not budget.stale_ms:
        return None
    return FreshnessParams(
        stale_us=max(LEAST_STALE_US, int(budget.stale_ms * 1000)),
        stale_frames=budget.stale_frames,
        unchanged_us=int(budget.unchanged_ms * 1000),
    )
