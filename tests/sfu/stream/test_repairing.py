"""What viewers get again, over lines in virtual time: once per round trip, a share of the line, and at no cost to the
publisher."""

from __future__ import annotations

import itertools

import pytest

from mediaserver.sfu.wire import rtcp_packets
from mediaserver.sfu.wire.rtcp_packets import Nack
from tests.sim.consultation import ULTRASOUND, VOICE, Consultation, single
from tests.sim.network import MS, SECOND, LinkSpec
from tests.sim.viewer import OWN_SSRC, Viewer

GOOD = LinkSpec()
SOURCES = (single(ULTRASOUND), VOICE)


def ask(doctor: Viewer, ssrc: int, numbers: list[int], now: int) -> None:
    nack = Nack(OWN_SSRC, ssrc, tuple(number & 0xFFFF for number in numbers))
    doctor.post_rtcp(rtcp_packets.write(nack, capacity=1200), now)


def refused(house: Consultation) -> dict[str, int]:
    counters = house.laboratory.engine.counters()
    return {name: counters[f"repair_{name}"] for name in ("recent", "spent", "old", "often", "unheeded")}


def test_a_viewer_on_a_bad_line_costs_the_publisher_and_the_others_nothing() -> None:
    house = Consultation(sources=SOURCES)
    asked = house.cart.nacks
    good, bad = house.join(GOOD), house.join(LinkSpec(loss=0.05))
    house.laboratory.run(20 * SECOND)
    ssrc = house.ssrc(bad, "ultrasound")
    receiver, clean = bad.pictures[ssrc], good.pictures[house.ssrc(good, "ultrasound")]
    assert receiver.recovered > 300
    assert receiver.given_up == 0
    assert receiver.recovered + receiver.repeated < bad.nacks * 1.05
    assert receiver.repeated < receiver.recovered * 0.05  # what was only late
    assert house.cart.nacks == asked
    stats = house.laboratory.engine.leg_stats
    assert stats(ssrc)["retransmitted"] >= receiver.recovered
    assert (good.nacks, stats(clean.ssrc)["retransmitted"]) == (0, 0)


def test_who_asks_for_everything_all_the_time_gets_each_packet_once_a_round_trip_and_a_share_of_the_line() -> None:
    house = Consultation(sources=SOURCES)
    doctor = house.join(GOOD)
    laboratory = house.laboratory
    laboratory.run(5 * SECOND)
    ssrc = house.ssrc(doctor, "ultrasound")
    receiver = doctor.pictures[ssrc]
    before, begin = laboratory.engine.peer_stats(doctor.number)["repair_bytes"], laboratory.now
    estimates = []
    for _ in range(1000):
        ask(doctor, ssrc, [receiver.highest - back for back in range(60)], laboratory.now)
        laboratory.run(10 * MS)
        estimates.append(laboratory.engine.peer_stats(doctor.number)["estimate_bps"])
    sent = laboratory.engine.peer_stats(doctor.number)["repair_bytes"] - before
    share = max(estimates) / 4
    assert sent * 8 <= share * ((laboratory.now - begin) / SECOND + 1)
    told = refused(house)
    assert told["recent"] > 100
    assert told["unheeded"] > 10_000
    assert house.cart.nacks == 0


def test_where_lines_are_not_estimated_repairs_are_a_share_of_what_is_sent() -> None:
    house = Consultation(sources=SOURCES)
    doctor = house.join(GOOD)
    doctor.feedback = False  # agreed and then never given: no estimate
    laboratory = house.laboratory
    laboratory.run(5 * SECOND)
    ssrc = house.ssrc(doctor, "ultrasound")
    engine, receiver = laboratory.engine, doctor.pictures[ssrc]
    before = engine.peer_stats(doctor.number)["repair_bytes"]
    bytes_before, begin = engine.leg_stats(ssrc)["bytes"], laboratory.now
    for _ in range(1000):
        ask(doctor, ssrc, [receiver.highest - back for back in range(20)], laboratory.now)
        laboratory.run(10 * MS)
    seconds = (laboratory.now - begin) / SECOND
    media = (engine.leg_stats(ssrc)["bytes"] - bytes_before) * 8 / seconds
    repair = (engine.peer_stats(doctor.number)["repair_bytes"] - before) * 8
    assert 0.15 * media < repair / seconds < 0.25 * media * (seconds + 2) / seconds * 1.2
    assert refused(house)["spent"] > 1000


def test_repairs_wait_for_their_turn_on_a_narrow_line() -> None:
    house = Consultation(sources=(ULTRASOUND,))
    doctor = house.join(LinkSpec(steps=((0, 1_500_000),), queue=30_000))
    laboratory = house.laboratory
    laboratory.run(15 * SECOND)
    ssrc = house.ssrc(doctor, "ultrasound")
    receiver = doctor.pictures[ssrc]
    overflowed = doctor.down.overflowed
    arrivals: list[int] = []
    take = doctor.receive_rtp

    def note(plain: bytes, now: int) -> None:
        if int.from_bytes(plain[8:12], "big") == receiver.rtx_ssrc:
            arrivals.append(now)
        take(plain, now)

    doctor.receive_rtp = note  # type: ignore[method-assign]
    ask(doctor, ssrc, [receiver.highest - back for back in range(20)], laboratory.now)
    laboratory.run(SECOND)
    assert len(arrivals) >= 15
    assert arrivals[-1] - arrivals[0] > 50 * MS
    assert doctor.down.overflowed == overflowed


@pytest.mark.parametrize(
    ("outage", "estimated"), [(600 * MS, True), (600 * MS, False), (950 * MS, False), (2_000 * MS, False)]
)
def test_after_a_hole_too_large_to_repair_the_picture_moves_at_once(outage: int, estimated: bool) -> None:
    house = Consultation(sources=(ULTRASOUND, VOICE) if estimated else SOURCES)
    begin = 8 * SECOND
    doctor = house.join(LinkSpec(outages=((begin, begin + outage),)))
    doctor.feedback = estimated
    laboratory = house.laboratory
    end = laboratory.now + begin + outage
    laboratory.run(14 * SECOND)
    receiver = doctor.pictures[house.ssrc(doctor, "ultrasound")]
    again = next(at for at in receiver.shown_at if at > end)
    assert again - end < 300 * MS
    assert receiver.corrupt == 0
    shown = [at for at in receiver.shown_at if at > again]
    assert max(later - earlier for earlier, later in itertools.pairwise(shown)) < 250 * MS
    assert laboratory.engine.counters()["repair_given_up"] <= 2


def test_what_is_too_old_for_any_jitter_buffer_is_not_sent() -> None:
    house = Consultation(sources=(VOICE, single(ULTRASOUND)))
    doctor = house.join(GOOD)
    laboratory = house.laboratory
    laboratory.run(5 * SECOND)
    ssrc = house.ssrc(doctor, "ultrasound")
    before = laboratory.engine.leg_stats(ssrc)["retransmitted"]
    old = doctor.pictures[ssrc].highest
    house.cart.tracks[1].muted = True
    laboratory.run(1500 * MS)
    ask(doctor, ssrc, [old], laboratory.now)
    laboratory.run(100 * MS)
    assert laboratory.engine.leg_stats(ssrc)["retransmitted"] == before
    assert refused(house)["old"] == 1
