"""Order, holes, and what comes too late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mediaserver.recording.reorder import MAX_WAITING, Missing, Reorder

WINDOW = 600_000


def test_passes_what_is_in_order_at_once() -> None:
    reorder: Reorder[str] = Reorder(WINDOW)
    reorder.push(70_000, 0, "a")
    reorder.push(70_001, 10, "b")
    assert reorder.pop(10) == ["a", "b"]
    assert reorder.pop(20) == []


def test_waits_for_a_retransmission() -> None:
    reorder: Reorder[str] = Reorder(WINDOW)
    reorder.push(1, 0, "a")
    reorder.push(3, 10, "c")
    assert reorder.pop(500_000) == ["a"]
    reorder.push(2, 510_000, "b")
    assert reorder.pop(510_000) == ["b", "c"]


def test_names_a_hole_with_its_place_and_time() -> None:
    reorder: Reorder[str] = Reorder(WINDOW)
    reorder.push(1, 100, "a")
    reorder.push(5, 700, "e")
    assert reorder.pop(700 + WINDOW - 1) == ["a"]
    assert reorder.pop(700 + WINDOW) == [Missing(2, 4, 100, 700), "e"]
    assert Missing(2, 4, 100, 700).packets == 3


def test_drops_and_counts_the_late_and_the_double() -> None:
    reorder: Reorder[str] = Reorder(WINDOW)
    for sequence, packet in ((1, "a"), (1, "a"), (4, "d"), (4, "d")):
        reorder.push(sequence, 0, packet)
    assert reorder.pop(WINDOW) == ["a", Missing(2, 3, 0, 0), "d"]
    reorder.push(2, WINDOW, "b")
    assert reorder.pop(2 * WINDOW) == []
    assert (reorder.late, reorder.duplicates) == (2, 1)


def test_a_second_hole_has_its_own_time() -> None:
    reorder: Reorder[str] = Reorder(WINDOW)
    reorder.push(1, 0, "a")
    reorder.push(3, 0, "c")
    reorder.push(5, 400_000, "e")
    assert reorder.pop(WINDOW) == ["a", Missing(2, 2, 0, 0), "c"]
    assert reorder.pop(400_000 + WINDOW) == [Missing(4, 4, 0, 400_000), "e"]


def test_flush_waits_for_nothing() -> None:
    reorder: Reorder[str] = Reorder(WINDOW)
    reorder.push(1, 0, "a")
    reorder.push(3, 0, "c")
    assert reorder.flush() == ["a", Missing(2, 2, 0, 0), "c"]


def test_holds_a_bounded_number() -> None:
    reorder: Reorder[int] = Reorder(1 << 60)
    reorder.push(0, 0, 0)
    for sequence in range(2, MAX_WAITING + 3):
        reorder.push(sequence, 0, sequence)
    assert reorder.waiting == 0
    assert len(reorder.pop(0)) == MAX_WAITING + 3


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
    assert popped | set(range(feed[0][0])) >= {sequence for sequence, _ in feed} - {
        s for s in range(41) if any(isinstance(m, Missing) and m.first <= s <= m.last for m in out)
    }
