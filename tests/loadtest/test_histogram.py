from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.loadtest.histogram import bucket_floor, histogram_of, merge

TIMES = st.lists(st.integers(0, 10**12), min_size=1, max_size=300)


@given(TIMES, st.sampled_from([1, 50, 90, 99, 99.9, 100]))
def test_percentiles_are_within_a_bucket_of_the_exact_ones(values: list[int], percent: float) -> None:
    ordered = sorted(values)
    exact = ordered[max(1, -(-len(ordered) * percent // 100).__trunc__()) - 1]
    measured = histogram_of(values).percentile(percent)
    assert exact <= measured <= max(exact * 1.04, exact + 1)


@given(TIMES)
def test_the_greatest_is_exact(values: list[int]) -> None:
    view = histogram_of(values)
    assert view.greatest == max(values) == view.percentile(100)
    assert view.total == len(values)


@given(TIMES, TIMES)
def test_an_interval_is_what_came_between(first: list[int], then: list[int]) -> None:
    both = histogram_of(first + then)
    recent = both.since(histogram_of(first))
    assert recent.counts == histogram_of(then).counts
    assert recent.total == len(then)
    merged = merge((histogram_of(first), histogram_of(then)))
    assert merged.counts == both.counts
    assert merged.greatest == both.greatest


def test_nothing_has_no_percentiles() -> None:
    assert histogram_of([]).percentile(99) == 0


def test_times_before_zero_are_counted_apart() -> None:
    view = histogram_of([-5, 10])
    assert (view.negative, view.total, view.percentile(1)) == (1, 2, 0)


@pytest.mark.parametrize("bucket", [0, 31, 32, 33, 63, 64, 500, 1183])
def test_buckets_follow_each_other(bucket: int) -> None:
    assert bucket_floor(bucket) < bucket_floor(bucket + 1)
    assert histogram_of([bucket_floor(bucket)]).counts == {bucket: 1}
