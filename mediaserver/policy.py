"""From the budgets that an operator may change to what the session layer and the data plane go by."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mediaserver.budgets import SourceBudget
from mediaserver.sfu.session.model import Source
from mediaserver.sfu.session.settings import DEFAULT_SOURCES, Priority, SourcePolicy


def source_policies(budgets: Mapping[Source, SourceBudget]) -> dict[Source, SourcePolicy]:
    """The policy of every source that has a budget."""
    return {
        source: msgspec.structs.replace(DEFAULT_SOURCES.get(source, SourcePolicy()), priority=_priority(budget))
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
