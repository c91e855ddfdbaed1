"""Order, holes, and what comes too late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mediaserver.recording.reorder import MAX_WAITING, SETTLE_US, Missing, Reorder

WINDOW = 600_000


def begun(first: int) -> Reorder[str]:
    """Past its beginning, with the packet "a" popped; the clock stands at 0."""
    reorder: Reorder[str] = Reorder(WINDOW)
    reorder.push(first, -SETTLE_US, "a")
    assert reorder.pop(0) == ["a"]
    return reorder


def test_passes_what_is_in_order_at_once() -> None:
    reorder = begun(70_000)
    reorder.push(70_001, 10, "b")
    reorder.push(70_002, 10, "c")
    assert reorder.pop(10) == ["b", "c"]
    assert reorder.pop(20) == []


def test_begins_with_the_first_of_what_comes_together() -> None:
    reorder: Reorder[str] = Reorder(WINDOW)
    reorder.push(11, 0, "b")
    reorder.push(10, 60_000, "a")
    assert reorder.pop(SETTLE_US - 1) == []
    assert reorder.pop(SETTLE_US) == ["a", "b"]


def test_waits_for_a_retransmission() -> None:
    reorder = begun(1)
    reorder.push(3, 10, "c")
    assert reorder.pop(500_000) == []
    reorder.push(2, 510_000, "b")
    assert reorder.pop(510_000) == ["b", "c"]


def test_names_a_hole_with_its_place_and_time() -> None:
    reorder = begun(0)
    reorder.push(1, 100, "b")
    reorder.push(5, 700, "e")
    assert reorder.pop(700 + WINDOW - 1) == ["b"]
    assert reorder.pop(700 + WINDOW) == [Missing(2, 4, 100, 700), "e"]
    assert Missing(2, 4, 100, 700).packets == 3


def test_drops_and_counts_the_late_and_the_double() -> None:
    reorder = begun(0)
    for sequence, packet in ((1, "b"), (1, "b"), (4, "d"), (4, "d")):
        reorder.push(sequence, 0, packet)
    assert reorder.pop(WINDOW) == ["b", Missing(2, 3, 0, 0), "d"]
    reorder.push(2, WINDOW, "b")
    assert reorder.pop(2 * WINDOW) == []
    assert (reorder.late, reorder.duplicates) == (2, 1)


def test_a_second_hole_has_its_own_time() -> None:
    reorder = begun(0)
    reorder.push(1, 0, "b")
    reorder.push(3, 0, "c")
    reorder.push(5, 400_000, "e")
    assert reorder.pop(WINDOW) == ["b", Missing(2, 2, 0, 0), "c"]
    assert reorder.pop(400_000 + WINDOW) == [Missing(4, 4, 0, 400_000), "e"]


def test_flush_waits_for_nothing() -> None:
    reorder: Reorder[str] = Reorder(WINDOW)
    reorder.push(1, 0, "a")
    reorder.push(3, 0, "c")
    assert reorder.flush() == ["a", Missing(2, 2, 0, 0), "c"]


def test_holds_a_bounded_number() -> None:
    reorder: Reorder[int] = Reorder(1 << 60)
    reorder.push(0, 0, 0)
    assert reorder.pop(SETTLE_US) == [0]
    for sequence in range(2, MAX_WAITING + 3):
        reorder.push(sequence, 0, sequence)
    assert reorder.waiting == 0
    assert len(reorder.pop(0)) == MAX_WAITING + 2


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 100_000)), min_size=1, max_size=80))
def test_every_number_comes_once_and_in_order(feed: list[tuple[int, int]]) -> None:
    reorder: Reorder[int] = Reorder(WINDOW)
    out: list[int | Missing] = []
    now = 0
    for sequence, step in feed:
        now += step
        reorder.push(sequence, now, sequence)
        out += reorder.pop(now)
    out += reorder.flush()
    expected = out[0] if isinstance(out[0], int) else -1
    for item in out:
        first, last = (item.first, item.last) if isinstance(item, Missing) else (item, item)
        assert first == expected
        expected = last + 1
    popped = {item for item in out if isinstance(item, int)}
    assert popped <= {sequence for sequence, _ in feed}
    assert len(feed) == len(popped) + reorder.late + reorder.duplicates
