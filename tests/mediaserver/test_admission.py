"""Limits: the state machine in virtual time, and what a real server says when it is full."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from mediaserver.admission import FIRST_COST, SECOND, Admission, Gate
from mediaserver.settings import LimitSettings, RoomSettings
from tests.mediaserver.conftest import Open, run

CALM = 5 * SECOND


class House:
    """Workers whose participants cost a share each, and the admission that looks at them once a second."""

    def __init__(self, workers: int, cost: float, **limits: Any) -> None:
        self.cost = cost
        self.now = 0
        self.inside = [0] * workers
        self.admission = Admission(LimitSettings(**limits), 10**6)
        for _ in range(workers):
            self.admission.add_worker()

    def busy(self, worker: int) -> float:
        return min(1.0, self.inside[worker] * self.cost)

    def join(self, opens: bool = True) -> bool:
        if self.admission.refusal(opens=opens) is not None:
            return False
        worker = min(range(len(self.inside)), key=lambda number: self.admission.workers[number].expected)
        self.inside[worker] += 1
        self.admission.workers[worker].joined(self.now)
        return True

    def second(self, memory: float = 0.1, packets: float = 0.1, legs: int = 0) -> None:
        self.now += SECOND
        busy = [(self.busy(worker), count) for worker, count in enumerate(self.inside)]
        self.admission.sample(busy, memory=memory, packets=packets, legs=legs, now=self.now)

    def refused(self, opens: bool = True) -> str:
        refusal = self.admission.refusal(opens=opens)
        return refusal.reason if refusal is not None else ""


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize(
    ("cost", "rate"), [(0.0005, 100), (0.0005, 1000), (0.004, 2), (0.004, 50), (0.02, 1), (0.02, 5)]
)
def test_joins_at_any_rate_stop_at_the_limit(workers: int, cost: float, rate: int) -> None:
    """So many try each second, and are never all let in; nobody inside finds a worker at its end."""
    house = House(workers, cost)
    room = workers * 0.8 / cost
    peak = 0.0
    for _ in range(60 + round(1.5 * room / rate)):
        for _ in range(rate):
            house.join()
        house.second()
        peak = max(peak, *map(house.busy, range(workers)))
    # What a participant takes is known only when the first have settled: those that come until then may go past it.
    rush = max(0.0, 4 * rate * (cost - FIRST_COST) / workers)
    assert peak <= min(1.0, 0.82 + 2 * cost + rush)
    assert sum(house.inside) >= 0.85 * room
    assert not house.join()


def test_the_reserve_is_for_rooms_that_are_open() -> None:
    house = House(1, 0.01)
    while house.join():
        house.second()
    opened = house.inside[0]
    assert 70 <= opened <= 82
    while house.join(opens=False):
        house.second()
    assert opened + 4 <= house.inside[0] <= 87
    assert house.refused(opens=False) == "busy"


def test_no_flapping() -> None:
    """Use that wavers around the limit shuts it once."""
    chance = random.Random(5)
    house = House(1, 0.01)
    house.inside = [80]
    changes, before = 0, ""
    for _ in range(600):
        house.cost = 0.01 * chance.uniform(0.96, 1.06)
        house.second()
        changes += house.refused() != before
        before = house.refused()
    assert changes == 1
    house.inside = [60]
    for _ in range(20):
        house.second()
    assert house.refused() == ""


def test_it_opens_when_it_has_been_calm_for_long_enough() -> None:
    gate = Gate(100, CALM)
    gate.note(100, 0)
    assert gate.shut
    gate.note(94, 1 * SECOND)
    gate.note(94, 5 * SECOND)
    gate.note(97, 6 * SECOND)  # not under it by the margin: it begins anew
    gate.note(94, 7 * SECOND)
    gate.note(94, 11 * SECOND)
    assert gate.shut
    gate.note(94, 12 * SECOND)
    assert not gate.shut


@pytest.mark.parametrize(
    ("use", "reason"),
    [({"memory": 0.9}, "memory"), ({"packets": 0.95}, "memory"), ({"legs": 1000}, "legs")],
)
def test_other_limits(use: dict[str, Any], reason: str) -> None:
    house = House(2, 0.001, max_legs=1000)
    house.second(**use)
    assert house.refused() == house.refused(opens=False) == reason
    for _ in range(4):
        house.second()
        assert house.refused() == reason
    for _ in range(3):
        house.second()
    assert house.refused() == ""


def test_one_worker_with_room_is_enough() -> None:
    house = House(2, 0.01)
    house.inside = [95, 10]
    for _ in range(20):
        house.second()
    assert house.refused() == ""
    house.inside = [95, 95]
    for _ in range(20):
        house.second()
    assert house.refused() == house.refused(opens=False) == "busy"


# A real server


async def _is_ready(s: Any) -> tuple[int, str]:
    async with s.http.get(f"{s.url}/readyz") as response:
        return response.status, (await response.text())


def test_a_full_server_refuses_in_every_way(site: Open) -> None:
    limits = LimitSettings(max_participants=2, retry_seconds=7, calm_seconds=0)

    async def main() -> None:
        async with site(limits=limits) as s:
            first = await s.doctor()
            assert (await _is_ready(s))[0] == 200
            second = await s.doctor()
            status, text = await _is_ready(s)
            assert status == 503
            assert "2 participants" in text
            third = await s.connect()
            refusal = await third.join(s.token())
            assert (refusal["code"], refusal["retry_seconds"]) == ("overloaded", 7)
            assert "2 participants" in refusal["message"]
            for path, role in (("/whip/r", "cart"), ("/whep/r", "observer"), ("/whep/other", "observer")):
                headers = s.bearer(role, path.split("/")[2]) | {"Content-Type": "application/sdp"}
                async with s.http.post(s.url + path, data="v=0", headers=headers) as response:
                    body = await response.json()
                    assert (response.status, body["code"], body["status"]) == (503, "overloaded", 503)
                    assert response.content_type == "application/problem+json"
                    assert response.headers["Retry-After"] == "7"
            async with s.http.get(f"{s.url}/metrics") as response:
                text = await response.text()
            for line in (
                'mediaserver_limit{of="participants"} 2.0',
                'mediaserver_limit_use{of="participants"} 2.0',
                'mediaserver_joins_refused_total{of="participants"} 4.0',
                "mediaserver_rooms_accepted 0.0",
                "mediaserver_joins_accepted 0.0",
            ):
                assert line in text, line
            # A session that was dropped is inside still: it comes back.
            await first.socket.close()
            again = await s.connect()
            resumed = await again.join(s.token(), resume=first.joined["resume"])
            assert resumed["resumed"] is True
            await second.ask("leave")
            await again.ask("leave")
            while (await _is_ready(s))[0] != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            assert (await third.join(s.token()))["type"] == "joined"

    run(main())


def test_no_room_is_opened_over_the_limit_of_rooms(site: Open) -> None:
    async def main() -> None:
        async with site(rooms=RoomSettings(max_rooms=1)) as s:
            await s.doctor()
            assert (await _is_ready(s))[0] == 503
            other = await s.connect()
            assert (await other.join(s.token(room="q"), room="q"))["code"] == "overloaded"
            assert (await other.join(s.token()))["type"] == "joined"  # the room that is open

    run(main())
