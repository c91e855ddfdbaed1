"""What one source owes: asked for in time, not too often, and not for ever; on lossy lines in virtual time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediaserver.sfu.stream.inbound import IncomingSource

MS = 1000
BASE = 65536


@dataclass
class Line:
    """One direction: a delay, more of it for packets that are overtaken, and loss in bursts of a mean length."""

    delay: int
    loss: float = 0.0
    burst: float = 1.0
    late: float = 0.0
    late_by: int = 0
    draw: random.Random = field(default_factory=lambda: random.Random(1))
    bad: bool = False

    def carry(self, now: int) -> int | None:
        """When it arrives, None when it is lost (a Gilbert channel)."""
        leave = 1 / self.burst
        enter = leave * self.loss / (1 - self.loss) if self.loss else 0.0
        self.bad = self.draw.random() >= leave if self.bad else self.draw.random() < enter
        if self.bad:
            return None
        late = self.draw.randint(1, self.late_by) if self.draw.random() < self.late else 0
        return now + self.delay + late


class World:
    """A publisher that keeps a second of packets and answers each NACK, and the server's account of it."""

    def __init__(self, to_server: Line, to_publisher: Line, *, rtx: bool = True, kept: bool = False) -> None:
        self.now = 0
        self.forth, self.back, self.rtx = to_server, to_publisher, rtx
        self.source = IncomingSource(kept=kept, repeats=not rtx)
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.count = 0
        self.requests: Counter[int] = Counter()
        self.first_asked: dict[int, int] = {}
        self.last_asked: dict[int, int] = {}
        self.sent: dict[int, int] = {}
        self.came: dict[int, int] = {}
        self.overdue = 0
        self.alarm = 0
        self.repeated = 0

    def at(self, when: int, what: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (when, self.count, what))

    def publish(self, packets: int, frame: int = 8, interval: int = 33 * MS) -> None:
        for number in range(packets):
            when = number // frame * interval + number % frame * 200
            self.at(when, lambda n=BASE + 100 + number: self.send(n))  # type: ignore[misc]

    def send(self, number: int) -> None:
        self.sent[number] = self.now
        arrival = self.forth.carry(self.now)
        if arrival is not None:
            self.at(arrival, lambda: self.take(number))

    def take(self, number: int) -> None:
        if number in self.came:
            return  # SRTP refuses a replay
        self.came[number] = self.now
        missed = self.source.receive(number, self.now)
        if missed > 0:
            self.wake(self.now + 4 * MS)
        elif self.source.overtaken:
            self.wake(self.now)

    def repair(self, number: int) -> None:
        if self.source.recover(number, self.now):
            assert number not in self.came
            self.came[number] = self.now

    def wake(self, when: int) -> None:
        if self.alarm == 0 or when < self.alarm:
            self.alarm = when
            self.at(when, self.ask)

    def ask(self) -> None:
        if self.now != self.alarm:
            return  # another call was sooner
        self.alarm = 0
        numbers, overdue, deadline = self.source.ask(self.now)
        self.overdue += overdue
        full = [BASE + number for number in numbers]
        assert full == sorted(set(full))
        for number in full:
            assert number not in self.came, "asked for what is here"
            assert number not in self.last_asked or self.now - self.last_asked[number] >= 20 * MS
            self.requests[number] += 1
            self.first_asked.setdefault(number, self.now)
            self.last_asked[number] = self.now
        arrival = self.back.carry(self.now) if full else None
        if arrival is not None:
            self.at(arrival, lambda: self.answer(full))
        if deadline:
            assert deadline > self.now
            self.wake(deadline)

    def answer(self, numbers: list[int]) -> None:
        for number in numbers:
            if self.now - self.sent.get(number, -(10**9)) > 1000 * MS:
                continue
            self.repeated += 1
            arrival = self.forth.carry(self.now)
            if arrival is not None:
                self.at(arrival, (lambda n=number: self.repair(n)) if self.rtx else (lambda n=number: self.take(n)))  # type: ignore[misc]

    def run(self) -> None:
        while self.events:
            self.now, _, what = heapq.heappop(self.events)
            what()

    @property
    def missing(self) -> int:
        """Packets that never came, those at the very end left aside (nothing shows that they are missing)."""
        last = max(self.came)
        return sum(number not in self.came for number in range(min(self.came), last))


def world(*, rtt: int, loss: float = 0.0, burst: float = 1.0, late: float = 0.0, late_by: int = 0, seed: int = 1,
          rtx: bool = True, kept: bool = False, packets: int = 8000, frame: int = 8) -> World:  # fmt: skip
    made = World(
        Line(rtt // 2, loss, burst, late, late_by, random.Random(seed)),
        Line(rtt // 2, loss, burst, draw=random.Random(seed + 1)),
        rtx=rtx,
        kept=kept,
    )
    made.publish(packets, frame)
    made.run()
    return made


@pytest.mark.parametrize("rtx", [True, False])
@pytest.mark.parametrize("rtt", [10 * MS, 40 * MS, 150 * MS])
def test_three_percent_of_loss_is_repaired_with_little_more_than_what_was_lost(rtt: int, rtx: bool) -> None:
    made = world(rtt=rtt, loss=0.03, rtx=rtx)
    lost = len(made.requests)
    assert 200 < lost < 290
    assert made.missing == made.overdue == 0 or rtt == 150 * MS
    assert made.missing <= 1
    assert sum(made.requests.values()) <= 1.15 * lost
    assert made.repeated <= 1.1 * lost
    assert abs(made.source.round_trip - rtt) < rtt // 4
    delays = sorted(made.came[number] - made.sent[number] for number in made.requests if number in made.came)
    assert delays[len(delays) // 2] < rtt * 3 // 2 + 5 * MS + 33 * MS


def test_bursts_are_asked_for_at_once_and_again_later() -> None:
    made = world(rtt=40 * MS, loss=0.1, burst=8)
    counted = made.source.counted()
    assert made.missing / len(made.sent) < 0.002
    assert sum(made.requests.values()) <= 1.6 * len(made.requests)
    assert counted["lost"] == made.missing
    assert counted["repaired"] == counted["recovered"]


def test_a_line_that_reorders_teaches_patience() -> None:
    made = world(rtt=60 * MS, late=0.2, late_by=20 * MS, packets=40000, frame=40)
    assert made.missing == made.overdue == 0
    tolerance, distance = made.source.tolerance
    assert 15 * MS <= tolerance <= 30 * MS
    assert distance > 8
    early = sum(when < 2000 * MS for when in made.first_asked.values())
    late = sum(when > 20_000 * MS for when in made.first_asked.values())
    overtaken = made.source.counted()["reordered"]
    assert late < 0.02 * overtaken
    assert early > 0


def test_patience_goes_when_packets_are_lost_rather_than_late() -> None:
    made = World(Line(20 * MS, late=0.2, late_by=20 * MS), Line(20 * MS))
    made.publish(4000)
    made.run()
    waited, _ = made.source.tolerance
    made.forth.late, made.forth.loss = 0.0, 0.03
    start = BASE + 100 + 4000
    for number in range(start, start + 4000):
        made.at(made.now + (number - start) * 4 * MS, lambda n=number: made.send(n))  # type: ignore[misc]
    made.run()
    assert waited > 12 * MS
    assert made.source.tolerance[0] < 5 * MS


def test_nothing_is_asked_for_after_it_was_given_up() -> None:
    source = IncomingSource()
    source.receive(BASE, 0)
    source.receive(BASE + 3, 1000)
    asked = []
    now, told = 1000, 0
    while True:
        numbers, overdue, deadline = source.ask(now)
        told += overdue
        if numbers:
            assert numbers == [1, 2]
            asked.append(now)
        if deadline == 0:
            break
        now = deadline
    gaps = [b - a for a, b in itertools.pairwise(asked)]
    assert gaps == sorted(gaps)
    assert gaps[0] >= 100 * MS
    assert asked[-1] <= 401 * MS
    assert told == 2
    assert source.counted()["given_up"] == 2
    assert not source.recover(1, now)


def test_a_recorder_has_packets_asked_for_longer_but_viewers_are_told_as_before() -> None:
    told = {}
    last = {}
    for kept in (False, True):
        source = IncomingSource(kept=kept)
        source.receive(BASE, 0)
        source.receive(BASE + 2, 0)
        now = 0
        while True:
            numbers, overdue, deadline = source.ask(now)
            if overdue:
                told[kept] = now
            if numbers:
                last[kept] = now
            if deadline == 0:
                break
            now = deadline
    assert last[True] > 1000 * MS > 401 * MS >= last[False]
    assert abs(told[True] - told[False]) < 300 * MS


def test_requests_are_bounded_by_what_comes_and_by_a_burst() -> None:
    source = IncomingSource()
    sequence, now, asked = BASE, 0, 0
    for _ in range(2000):  # every other packet is lost, and nothing is ever answered
        source.receive(sequence, now)
        sequence += 2
        now += 1000
        asked += len(source.ask(now)[0])
    assert asked <= 128 + 2000 * 0.25 + 2 * 20 + 1


def test_a_copy_may_come_before_anything_shows_the_loss() -> None:
    source = IncomingSource()
    source.receive(BASE, 0)
    assert source.recover(2, 10)
    assert source.ask(5 * MS)[0] == [1]
    assert not source.recover(2, 6 * MS)
    assert not source.recover(500, 6 * MS)
    assert not source.recover(0, 6 * MS)
    assert source.counted()["lost"] == 1


def test_a_hole_too_large_is_a_new_start() -> None:
    source = IncomingSource()
    source.receive(BASE, 0)
    assert source.receive(BASE + 100, 0) == 99
    assert source.receive(BASE + 1000, 0) == -1
    assert source.ask(50 * MS) == ([], 0, 0)


@settings(max_examples=30, deadline=None)
@given(
    rtt=st.integers(2 * MS, 300 * MS),
    loss=st.floats(0, 0.3),
    burst=st.floats(1, 20),
    late=st.floats(0, 0.3),
    late_by=st.integers(1, 60 * MS),
    seed=st.integers(0, 1000),
    rtx=st.booleans(),
    kept=st.booleans(),
)
def test_on_any_line_requests_stay_in_bounds(
    rtt: int, loss: float, burst: float, late: float, late_by: int, seed: int, rtx: bool, kept: bool
) -> None:
    made = world(
        rtt=rtt, loss=loss, burst=burst, late=late, late_by=late_by, seed=seed, rtx=rtx, kept=kept, packets=1500
    )
    for number, times in made.requests.items():
        assert times <= (16 if kept else 10)
        patience = 5000 * MS if kept else 400 * MS
        assert made.last_asked[number] - made.first_asked[number] <= patience
        assert made.last_asked[number] <= made.came.get(number, 10**12)
    seconds = made.now / 1e6
    late_account = 64 + 0.025 * len(made.came) + 5 * seconds if kept else 0
    assert sum(made.requests.values()) <= 128 + 0.25 * len(made.came) + 20 * seconds + 1 + late_account
    counted = made.source.counted()
    assert counted["awaited"] == 0
    assert counted["lost"] == made.missing


def test_for_a_recorder_the_requests_go_on_for_seconds_and_stay_few() -> None:
    """A publisher that answers nothing: five seconds of requests, one a second in the end, and no more than a share."""
    source = IncomingSource(kept=True)
    requests: Counter[int] = Counter()
    late: list[tuple[int, int]] = []
    now, number = 0, BASE
    told: dict[int, int] = {}
    while now < 20_000 * MS:
        now += 2 * MS  # 500 packets a second, one in ten lost
        number += 1
        if number % 10 and now < 15_000 * MS:
            source.receive(number, now)
        else:
            told.setdefault(number, now)
        for one in source.ask(now)[0]:
            full = BASE + one
            requests[full] += 1
            if now - told[full] > 700 * MS:
                late.append((now, full))
    assert max(now - told[full] for now, full in late) > 4_500 * MS
    assert all(now - told[full] < 5_200 * MS for now, full in late)
    # One for 40 packets that come, 5 a second and 64 at once; all of it together no more than a live account allows.
    assert len(late) <= 15 * (450 / 40 + 5) + 5 * 5 + 64
    assert max(requests.values()) <= 16


def test_what_viewers_wait_for_is_asked_for_whatever_a_recorder_lacks() -> None:
    """Hundreds of packets that nobody but the recorder waits for do not keep a fresh loss waiting."""
    source = IncomingSource(kept=True)
    source.receive(BASE, 0)
    source.receive(BASE + 201, 0)
    now = 0
    while now < 2_000 * MS:
        now += 10 * MS
        source.receive(BASE + 201 + now // (10 * MS), now)
        source.ask(now)
    highest = BASE + 201 + now // (10 * MS)
    source.receive(highest + 12, now)
    asked = source.ask(now)[0]
    assert set(asked) >= {(highest + step - BASE) & 0xFFFF for step in range(1, 5)}
