"""A room over two workers is served as one on one worker is.

The tests of the stream run again here, with publishers on one engine and viewers on another; what is new of that comes
after them.
"""

from __future__ import annotations

import itertools
from types import ModuleType

import pytest

from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.tap import TapRing
from mediaserver.sfu.wire import packet, rtcp_packets
from mediaserver.sfu.wire.rtcp_packets import Nack, PictureLoss
from tests.sfu.stream import (
    test_capture,
    test_catchup,
    test_continuity,
    test_encodings,
    test_engine,
    test_numbering,
    test_redundancy,
    test_repairing,
    test_sources,
    test_wanted,
    test_watch,
)
from tests.sfu.stream.spread import SpreadEngine
from tests.sfu.stream.test_catchup import Ward, settled, shown
from tests.sfu.stream.test_engine import MS, VIDEO, VP8_DELTA, VP8_KEY, House, leg, sequences
from tests.sim.peer import ScriptedPeer

MODULES = (
    test_capture,
    test_catchup,
    test_continuity,
    test_encodings,
    test_engine,
    test_numbering,
    test_redundancy,
    test_repairing,
    test_sources,
    test_wanted,
    test_watch,
)
OTHERWISE = {
    # Whether the publisher is still asked for it only its own worker knows: a key picture comes instead.
    "test_what_is_still_awaited_comes_later",
}
RING = 4096


@pytest.fixture(autouse=True)
def _two_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in MODULES:
        if hasattr(module, "Engine"):
            monkeypatch.setattr(module, "Engine", SpreadEngine)


def _again(module: ModuleType) -> None:
    about = module.__name__.rpartition("_")[2]
    for name, value in vars(module).items():
        if name.startswith("test_") and name not in OTHERWISE and getattr(value, "__module__", "") == module.__name__:
            globals()[f"test_{about}__{name.removeprefix('test_')}"] = value


for _module in MODULES:
    _again(_module)


def spread_of(house: House) -> SpreadEngine:
    assert isinstance(house.engine, SpreadEngine)
    return house.engine


def asked(house: House) -> int:
    house.wait(1)
    items = [item for report in house.cart.reports for item in rtcp_packets.read(report)]
    house.cart.reports.clear()
    return sum(isinstance(item, PictureLoss) for item in items)


def test_packets_are_shared_and_come_home() -> None:
    house = House(viewers=3)
    engine = spread_of(house)
    for i in range(3000):  # the histories hold fewer
        house.send(VP8_KEY if i == 0 else VP8_DELTA, timestamp=3000 * i)
    assert len(house.doctors[2].received) == 3000
    house.wait(200 * MS)
    home, far = engine.home.counters(), engine.far.counters()
    assert (home["relayed"], home["relay_dropped"], far["relay_taken"]) == (3000, 0, 3000)
    assert far["packets_held"] == far["pool_bytes"] == 0  # not one was copied
    assert home["packets_held"] <= 2 * 1024 + 8
    engine.remove_track(100)
    house.wait(200 * MS)
    assert engine.home.counters()["packets_held"] == 0


def test_who_closes_first_does_not_matter() -> None:
    for first in ("home", "far"):
        house = House(viewers=1)
        engine = spread_of(house)
        for i in range(200):
            house.send(VP8_KEY if i == 0 else VP8_DELTA, timestamp=3000 * i)
        engine.late = True
        house.send(VP8_DELTA)  # in the ring
        engine._peers.clear()
        engine._tracks.clear()
        engine._legs.clear()
        for peer in (house.cart, *house.doctors):
            peer.engine = Engine()
        setattr(engine, first, Engine())
        setattr(engine, "far" if first == "home" else "home", Engine())


def test_a_worker_that_is_late_loses_what_does_not_fit_and_goes_on_at_a_key_picture() -> None:
    house = House(viewers=2)
    engine = spread_of(house)
    house.send(VP8_KEY)
    house.send(VP8_DELTA)
    engine.far.counters()
    before = len(house.doctors[0].received)
    engine.late = True
    asked(house)
    for i in range(RING + 500):
        house.send(VP8_DELTA, timestamp=3000 * (i + 2))
    assert engine.home.counters()["relay_dropped"] >= 500
    assert asked(house) == 0  # nothing could be given yet
    engine.late = False
    house.wait(1 * MS)
    house.send(VP8_DELTA, timestamp=3000 * 6000)
    assert asked(house) == 1
    house.send(VP8_KEY, timestamp=3000 * 6001)
    house.send(VP8_DELTA, timestamp=3000 * 6002)
    for doctor in house.doctors:
        assert packet.payload_of(doctor.received[-2]) == VP8_KEY
        assert len(doctor.received) >= before + RING - 10
        numbers = sequences(doctor.received)
        assert len(set(numbers)) == len(numbers)


def test_what_did_not_fit_is_given_again_to_who_asks() -> None:
    house = House(viewers=2)
    engine = spread_of(house)
    for i in range(2):
        house.send(VP8_KEY if i == 0 else VP8_DELTA, timestamp=3000 * i)
    engine.late = True
    for i in range(RING + 100):
        house.send(VP8_DELTA, timestamp=3000 * (i + 2))
    engine.late = False
    house.wait(1 * MS)
    for i in range(20):
        house.send(VP8_DELTA, timestamp=3000 * (5000 + i))
    house.wait(20 * MS)
    for number, doctor in enumerate(house.doctors):
        numbers = sequences(doctor.received)
        have = set(numbers)
        gap = [n for n in range(numbers[-1] - 60, numbers[-1]) if n & 0xFFFF not in have]
        assert gap, "the newest are there, and what stands before them is not"
        doctor.send_rtcp(rtcp_packets.write(Nack(1, 7000 + number, tuple(n & 0xFFFF for n in gap))), house.now)
        house.wait(50 * MS)
        assert {n & 0xFFFF for n in gap} <= set(sequences(doctor.received))
    assert engine.far.counters()["relay_again"] > 0


def test_key_pictures_are_limited_over_all_workers() -> None:
    """Viewers here and there ask, and the publisher is asked as if all were in one place."""
    house = House(viewers=3)
    engine = spread_of(house)
    at_home = ScriptedPeer(engine.home, 90, ("192.0.2.1", 5900))
    engine.place(90, engine.home)
    house.doctors.append(at_home)
    at_home.engine = engine  # type: ignore[assignment]
    engine._peers[90].add_peer(90, at_home.ufrag, at_home.pwd)
    at_home.check(house.now, nominate=True)
    at_home.agree()
    engine.add_leg(290, 100, 90, leg(9000, 9001))
    house.send(VP8_KEY)
    assert len(at_home.received) == 1
    asked(house)
    for _ in range(20):
        for i, doctor in enumerate(house.doctors):
            ssrc = 9000 if doctor is at_home else 7000 + i
            doctor.send_rtcp(rtcp_packets.write(PictureLoss(1, ssrc)), house.now)
        house.wait(50 * MS)
    assert 1 <= asked(house) <= 1_000_000 // VIDEO.keyframe_interval_us + 1


def test_a_viewer_on_another_worker_catches_up_from_what_was_kept() -> None:
    """The first one there: its worker has nothing of the track yet."""
    ward = Ward(viewers=0)
    ward.picture(key=True, packets=4)
    ward.wait(33 * MS)
    ward.play(10)
    doctor = ward.join()
    assert shown(doctor.received) == [0] * 4 + list(range(1, 11))
    assert ward.asked() == 0
    ward.play(3)
    numbers = sequences(doctor.received)
    assert [(b - a) & 0xFFFF for a, b in itertools.pairwise(numbers)] == [1] * (len(numbers) - 1)


def test_the_copy_goes_with_its_last_leg_and_comes_again() -> None:
    ward = settled()
    engine = spread_of(ward)
    assert engine.mirrors == 1
    engine.remove_leg(200)
    ward.wait(200 * MS)
    assert engine.mirrors == 0
    relayed = engine.home.counters()["relayed"]
    ward.play(5)
    assert engine.home.counters()["relayed"] == relayed
    assert engine.far.counters()["packets_held"] == 0
    doctor = ward.join()
    ward.play(5)
    assert shown(doctor.received)[-1] == ward.pictures - 1


def test_the_publisher_leaves_and_another_comes() -> None:
    house = House(viewers=2)
    engine = spread_of(house)
    house.send(VP8_KEY)
    engine.remove_peer(1)
    house.wait(200 * MS)
    assert engine.home.counters()["packets_held"] == 0
    assert [type(i).__name__ for r in house.doctors[0].reports for i in rtcp_packets.read(r)].count("Bye") == 1
    again = ScriptedPeer(engine, 80, ("192.0.2.1", 5800))  # type: ignore[arg-type]
    engine.place(80, engine.home)
    engine.home.add_peer(80, again.ufrag, again.pwd)
    again.check(house.now, nominate=True)
    again.agree()
    engine.add_track(180, 80, VIDEO)
    engine.add_leg(280, 180, 2, leg(7500, 7501))
    house.cart = again
    house.sequence = 100
    house.send(VP8_KEY, ssrc=99)
    assert packet.parse_rtp(house.doctors[0].received[-1]).ssrc == 7500


def test_a_recorder_listens_at_home_alone() -> None:
    house = House(viewers=1)
    engine = spread_of(house)
    ring = TapRing(64)
    engine.add_tap(300, 100, ring)
    house.send(VP8_KEY)
    assert [entry[0] for entry in ring.read(10)] == [0]
    house.wait(200 * MS)
    engine.remove_tap(300)
    house.wait(200 * MS)
    assert ring.closed


def test_latency_is_told_of_the_whole_way() -> None:
    """The copy's figures are its track's, those of copies that are gone included."""
    house = House(viewers=1)
    engine = spread_of(house)
    house.send(VP8_KEY)
    assert (
        sum(engine.leg_stats(200)["paced"]["counts"]) == 0
    )  # it came from another worker, and waited for nothing else
    assert engine.track_stats(100)["packets"] == 1
    engine.remove_leg(200)
    assert set(engine.track_stats(100)["served"]) == {"sum", "most", "counts"}
