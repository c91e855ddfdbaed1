"""A room over several workers, on a real server: placement, and media that cross from one worker to another."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

from mediaserver.admission import SECOND, Admission
from mediaserver.settings import LimitSettings, MediaSettings
from mediaserver.workers import Workers, WorkerSlot
from tests.mediaserver.conftest import Open, run
from tests.mediaserver.test_end_to_end import by_whip, frames, new_peer, publish, received, view

# Placement


class Site:
    """Workers as busy as the test says."""

    def __init__(self, *busy: float, **limits: Any) -> None:
        settings = LimitSettings(**limits)
        self.admission = Admission(settings, 1000)
        self.workers = Workers(lambda slot, events: None, lambda: 0, self.admission.add_worker, settings)
        for number in range(len(busy)):
            slot = WorkerSlot(number, None, None, self.admission.add_worker())  # type: ignore[arg-type]
            self.workers._slots.append(slot)
        self.be(*busy)

    def be(self, *busy: float) -> None:
        for second in range(30):
            figures = [(share, 100) for share in busy]
            self.admission.sample(figures, memory=0, packets=0, legs=0, now=second * SECOND)

    def place(self, home: int, *others: int, source: bool = False) -> int:
        slots = list(self.workers)
        served = {slots[home]: 20} | {slots[other]: 5 for other in others}
        return self.workers.place(slots[home], served, source).number


def test_rooms_go_to_the_worker_with_the_least_to_do() -> None:
    site = Site(0.5, 0.2, 0.4)
    assert site.workers.pick().number == 1
    for _ in range(100):
        site.workers.pick().join(30 * SECOND)
    shares = [slot.use.expected for slot in site.workers]
    assert max(shares) - min(shares) <= 0.16, shares  # at 0.005 each they went to the two that had room
    assert shares[0] < 0.56


@pytest.mark.parametrize(
    ("busy", "others", "source", "chosen"),
    [
        ((0.3, 0.0), (), False, 0),  # as long as its own is not that busy all are in one place
        ((0.7, 0.1, 0.05), (), False, 2),
        ((0.7, 0.1, 0.12), (2,), False, 2),  # that one has the room's tracks already
        ((0.7, 0.1, 0.4), (2,), False, 1),  # but is busier by more than a copy takes
        ((0.7, 0.1), (), True, 0),  # a cart stays as long as there is room
        ((0.9, 0.1), (), True, 1),
        ((0.7, 0.69), (), False, 0),  # nothing is won
    ],
)
def test_viewers_go_elsewhere_when_the_room_s_worker_is_busy(
    busy: tuple[float, ...], others: tuple[int, ...], source: bool, chosen: int
) -> None:
    assert Site(*busy).place(0, *others, source=source) == chosen


def test_a_teaching_round_goes_to_all_workers() -> None:
    """A thousand viewers who take next to nothing: the last of them is not to get each picture late."""
    site = Site(0.1, 0.05, 0.05, 0.05)
    slots = list(site.workers)
    served = Counter({slots[0]: 1})
    for _ in range(1000):
        served[site.workers.place(slots[0], served, False)] += 1
    assert max(served.values()) - min(served.values()) <= 200
    assert served[slots[0]] <= 400
    assert site.workers.place(slots[0], served, True) is slots[0]  # the cart comes again


# Media


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Carts are on the first worker, all others on the second."""

    def place(workers: Workers, home: WorkerSlot, served: Any, source: bool) -> WorkerSlot:
        return list(workers)[0 if home.participants == 0 else 1]

    monkeypatch.setattr(Workers, "place", place)
    monkeypatch.setattr(Workers, "pick", lambda workers: next(iter(workers)))


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.05)


def test_pictures_cross_from_worker_to_worker(site: Open, apart: None) -> None:
    async def main() -> None:
        async with site(media=MediaSettings(udp="127.0.0.1:0", workers=2)) as s:
            cart, doctor = await s.doctor("Cart", "cart"), await s.doctor("Doctor", "observer")
            sender, _ = await publish(cart, {"camera": VideoStreamTrack(), "microphone": AudioStreamTrack()})
            added = [(await doctor.until("track-added"))["track"] for _ in range(2)]
            receiver, tracks = await view(doctor, added)
            await frames(tracks, 5)
            student = new_peer()
            seen = received(student)
            student.addTransceiver("video", direction="recvonly")
            resource = await by_whip(s, "/whep/r", "observer", student)
            await frames(seen, 5)
            live = s.server.rooms["r"]
            assert [member.slot.number for member in live.members.values()] == [0, 1, 1]
            workers = list(s.server.rooms.workers)
            assert live.room.planes.mirrors == 2
            home, far = (slot.worker.counters() for slot in workers)
            assert home["relayed"] > 10
            assert home["relay_dropped"] == 0
            assert far["rtp_out"] > far["relay_taken"] > 10
            assert home["rtp_out"] == 0
            text = s.server.metrics.text().decode()
            assert "mediaserver_track_copies 2.0" in text
            assert 'mediaserver_worker_participants{worker="1"} 2.0' in text
            served = sum(count for _, count in workers[1].worker.latency_histogram()[0])
            assert served > 10, "latency is counted where it ends"
            plane_id = next(track.plane_id for track in live.room.tracks.values() if track.kind == "video")
            assert sum(live.room.planes.track_stats(plane_id)["served"]["counts"]) > 5
            async with s.http.delete(resource, headers=s.bearer("observer")) as response:
                assert response.status == 200
            await cart.ask("leave")
            await doctor.ask("leave")
            await until(lambda: len(s.server.rooms.ids) == 0)
            await until(lambda: all(slot.worker.counters()["packets_held"] == 0 for slot in workers))
            for peer in (sender, receiver, student):
                await peer.close()

    run(main())
