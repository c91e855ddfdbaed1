"""Many who join at once cost the publisher next to nothing, and none of them waits."""

from __future__ import annotations

import pytest

from tests.sim.network import SECOND
from tests.sim.storm import StormFigures, run_storm


def check(figures: StormFigures) -> None:
    assert figures.without == 0
    assert figures.within(100) < 1_000
    assert figures.asked_most <= 2
    assert figures.corrupt == 0


@pytest.mark.parametrize("within", [SECOND // 100, SECOND])
def test_a_small_storm(within: int) -> None:
    check(run_storm(40, within=within, seed=3))


@pytest.mark.soak
def test_a_thousand_join_within_a_second() -> None:
    check(run_storm(1000))
