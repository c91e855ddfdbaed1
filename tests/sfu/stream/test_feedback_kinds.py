"""How a viewer's line becomes known: by transport-wide numbers, by packets' own (RFC 8888), or by REMB alone."""

from __future__ import annotations

import pytest

from mediaserver.sfu.wire import rtcp_packets
from mediaserver.sfu.wire.rtcp_packets import Remb
from tests.sim.consultation import CAMERA, ULTRASOUND, VOICE, Consultation
from tests.sim.network import MS, SECOND, LinkSpec, short_queue
from tests.sim.viewer import OWN_SSRC, Arrivals

SOURCES = (CAMERA, ULTRASOUND, VOICE)


@pytest.mark.parametrize("bps", [1_500_000, 3_000_000, 20_000_000])
def test_by_packets_own_numbers_a_line_is_known_as_well_as_by_transport_wide_ones(bps: int) -> None:
    line = LinkSpec(steps=((0, bps),), queue=short_queue(bps))
    estimates, shown = {}, {}
    for named in (False, True):
        house = Consultation(sources=SOURCES)
        doctor = house.join(line, named=named)
        house.laboratory.run(20 * SECOND)
        told = house.laboratory.engine.peer_stats(doctor.number)
        estimates[named] = told["estimate_bps"]
        shown[named] = sum(receiver.bytes for receiver in doctor.pictures.values())
        assert told["padding_bytes"] > 0  # it was probed
        assert sum(receiver.corrupt for receiver in doctor.pictures.values()) == 0
    assert estimates[True] >= 0.75 * min(bps, estimates[False])
    assert estimates[True] <= 1.2 * max(bps, estimates[False])
    assert shown[True] > 0.8 * shown[False]


def test_a_line_that_narrows_is_noticed_by_packets_own_numbers() -> None:
    house = Consultation(sources=SOURCES)
    doctor = house.join(LinkSpec(steps=((0, 5_000_000), (10 * SECOND, 1_500_000)), queue=100_000), named=True)
    house.laboratory.run(9 * SECOND)
    wide = house.laboratory.engine.peer_stats(doctor.number)["estimate_bps"]
    house.laboratory.run(6 * SECOND)
    narrow = house.laboratory.engine.peer_stats(doctor.number)["estimate_bps"]
    assert wide > 3_000_000
    assert narrow < 1_600_000


def test_feedback_by_numbers_that_was_not_agreed_on_changes_nothing() -> None:
    house = Consultation(sources=SOURCES)
    doctor = house.join(LinkSpec())
    house.laboratory.run(5 * SECOND)
    before = house.laboratory.engine.peer_stats(doctor.number)["estimate_bps"]
    arrivals = Arrivals()
    for number in range(50):
        arrivals.note(doctor.number * 1000, number, house.laboratory.now - number * MS)
    doctor.post_rtcp(arrivals.message(house.laboratory.now), house.laboratory.now)
    house.laboratory.run(100 * MS)
    assert house.laboratory.engine.peer_stats(doctor.number)["estimate_bps"] >= before * 0.9


def test_remb_bounds_a_viewer_that_tells_nothing_else() -> None:
    house = Consultation(sources=SOURCES)
    doctor = house.join(LinkSpec())
    doctor.feedback = False
    for _ in range(5):
        remb = rtcp_packets.write(Remb(OWN_SSRC, 900_000, ()), capacity=1200)
        doctor.post_rtcp(remb, house.laboratory.now)
        house.laboratory.run(SECOND)
    assert 0 < house.laboratory.engine.peer_stats(doctor.number)["estimate_bps"] <= 900_000
    before = sum(receiver.bytes for receiver in doctor.pictures.values())
    house.laboratory.run(5 * SECOND)
    assert (sum(receiver.bytes for receiver in doctor.pictures.values()) - before) * 8 / 5 < 1_200_000
    # Who gets little can't tell of more: after a while without a complaint more is tried, step by step.
    house.laboratory.run(16 * SECOND)
    before = sum(receiver.bytes for receiver in doctor.pictures.values())
    house.laboratory.run(2 * SECOND)
    assert (sum(receiver.bytes for receiver in doctor.pictures.values()) - before) * 8 / 2 > 4_000_000


def test_after_each_try_that_was_too_much_the_next_one_waits_for_twice_as_long() -> None:
    house = Consultation(sources=SOURCES)
    doctor = house.join(LinkSpec())
    doctor.feedback = False
    before = 0
    tries: list[int] = []
    for second in range(80):
        house.laboratory.run(SECOND)
        came = sum(receiver.bytes for receiver in doctor.pictures.values())
        bps, before = (came - before) * 8, came
        if bps > 1_200_000:
            tries.append(second)
        remb = rtcp_packets.write(Remb(OWN_SSRC, 900_000 if bps > 1_000_000 else 1_000_000, ()), capacity=1200)
        doctor.post_rtcp(remb, house.laboratory.now)
    starts = [second for second in tries if second - 1 not in tries]
    assert len(starts) == 3
    assert 9 <= starts[0] <= 14
    assert 18 <= starts[1] - starts[0] <= 26
    assert 36 <= starts[2] - starts[1] <= 46


def test_more_than_a_receivers_own_estimate_is_tried_in_steps() -> None:
    """A line that becomes wide is found, and one that stays thin is not flooded by the tries."""
    bps = 1_500_000
    steps = ((0, bps), (40 * SECOND, 8 * bps))
    house = Consultation(sources=SOURCES)
    doctor = house.join(LinkSpec(steps=steps, queue=short_queue(bps)), remb=True)
    begin = house.laboratory.now
    house.laboratory.run(40 * SECOND)
    thin = [one for one in zip(doctor.down.times, doctor.down.queued, strict=True) if one[0] > begin + 5 * SECOND]
    assert sum(queued < 0 for _, queued in thin) < 0.04 * len(thin)
    ultrasound = doctor.pictures[house.ssrc(doctor, "ultrasound")]
    assert len([at for at in ultrasound.shown_at if at > begin + 10 * SECOND]) > 20 * 25
    house.laboratory.run(30 * SECOND)
    assert min(ultrasound.encodings[-60:]) >= 1
