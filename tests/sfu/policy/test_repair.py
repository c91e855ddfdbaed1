"""What viewers get again: never twice within a round trip, never more than a share of their line."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mediaserver.sfu.policy.repair import Repairs, RepairVerdict

MS = 1000
SEND, RECENT = RepairVerdict.REPAIR_SEND, RepairVerdict.REPAIR_RECENT


def repairs(round_trip: int = 40 * MS) -> Repairs:
    made = Repairs()
    for _ in range(20):
        made.measured(round_trip)
    return made


def test_a_number_asked_for_within_the_round_trip_goes_once() -> None:
    made = repairs()
    assert made.may(7, 1000 * MS) == SEND
    made.leaves(7, 1000 * MS)
    for later in (0, 10, 35):
        assert made.may(7, (1000 + later) * MS) == RECENT
    assert made.may(7, 1042 * MS) == SEND


def test_what_waits_for_its_turn_is_not_granted_again_until_it_must_have_been_let_go() -> None:
    made = repairs()
    assert made.may(7, 1000 * MS) == SEND
    assert made.may(7, 1300 * MS) == RECENT
    made.leaves(7, 1300 * MS)
    assert made.may(7, 1330 * MS) == RECENT
    assert made.may(7, 1342 * MS) == SEND
    assert made.may(7, 1900 * MS) == SEND


def test_a_packet_is_not_sent_again_without_end_but_its_number_comes_round() -> None:
    made = repairs()
    sent, verdicts = [], []
    for at in range(0, 1400, 5):
        verdicts.append(made.may(7, (1000 + at) * MS))
        if verdicts[-1] == SEND:
            made.leaves(7, (1000 + at) * MS)
            sent.append(at)
    # A round trip apart at first, and then with more and more patience.
    assert sent == [0, 40, 80, 120, 200, 360, 680, 1320]
    assert set(verdicts[-10:]) == {RepairVerdict.REPAIR_OFTEN}
    assert made.may(7, 30_000 * MS) == SEND


def test_what_a_viewer_is_sent_is_measured_where_its_line_is_not() -> None:
    made = repairs()
    assert made.sending(10_000_000, 1000 * MS) == 0
    assert made.sending(10_010_000, 1100 * MS) == 0
    assert made.sending(10_125_000, 1500 * MS) == 2_000_000
    assert made.sending(10_130_000, 1600 * MS) == 2_000_000
    assert made.sending(5_000, 2600 * MS) == 2_000_000  # a stream has gone: from here anew
    assert made.sending(130_000, 3600 * MS) == 1_000_000


def test_what_no_jitter_buffer_waits_for_stays() -> None:
    made = repairs()
    assert made.may(7, 0, age=1000 * MS) == SEND
    assert made.may(8, 0, age=1041 * MS) == RepairVerdict.REPAIR_OLD


def test_sound_is_never_refused_for_its_share_but_counts() -> None:
    made = repairs()
    sent = 0
    while made.may(sent, 1000 * MS, estimate=300_000) == SEND:
        sent += 1
    assert sent == 24000 // 1200
    assert made.may(sent, 1000 * MS, estimate=300_000) == RepairVerdict.REPAIR_SPENT
    assert made.may(sent, 1000 * MS, estimate=300_000, small=True, size=100) == SEND


@settings(deadline=None)
@given(
    estimate=st.integers(50_000, 50_000_000),
    round_trip=st.integers(1 * MS, 500 * MS),
    asked=st.lists(
        st.tuples(st.integers(0, 30 * MS), st.integers(0, 255), st.integers(60, 1400), st.integers(0, 100 * MS)),
        max_size=300,
    ),
)
def test_whatever_is_asked_for_stays_a_share_of_the_line(
    estimate: int, round_trip: int, asked: list[tuple[int, int, int, int]]
) -> None:
    made = repairs(round_trip)
    now = start = 10_000 * MS
    sent: dict[int, int] = {}
    total = 0
    queue: list[tuple[int, int]] = []
    for wait, number, size, delay in asked:
        now += wait
        for leaving, waiting in sorted(queue):
            if leaving <= now:
                made.leaves(waiting, leaving)
                sent[waiting] = leaving
                queue.remove((leaving, waiting))
        if made.may(number, now, estimate=estimate, size=size) == SEND:
            total += size
            if number in sent:
                assert now - sent[number] >= round_trip * 3 // 4 - 2 * MS
            assert all(waiting != number for _, waiting in queue)
            queue.append((now + delay, number))
    share = estimate / 4
    assert total * 8 <= max(share, 192_000) + share * (now - start) / 1e6 + 1


@given(st.lists(st.integers(0, 5 * MS), min_size=1, max_size=3000))
@settings(deadline=None, max_examples=20)
def test_look_ups_are_bounded(waits: list[int]) -> None:
    made = repairs()
    now = start = 1000 * MS
    heeded = 0
    for wait in waits:
        now += wait
        heeded += made.heed(now)
    assert heeded <= 1024 + (now - start) / 1e6 * 2000 + 1
