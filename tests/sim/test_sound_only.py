"""Doctors that hear alone, and what becomes of that when a picture joins or the line is too thin."""

from __future__ import annotations

import pytest

from tests.sim.consultation import CAMERA, STETHOSCOPE, ULTRASOUND, VOICE, Consultation
from tests.sim.figures import SoundFigures, first_after, sound_figures
from tests.sim.network import MS, SECOND, LinkSpec, short_queue
from tests.sim.viewer import Viewer

SOURCES = (CAMERA, ULTRASOUND, STETHOSCOPE, VOICE)
PICTURES = ("camera", "ultrasound")
BROWSERS_REPORT_US = 5 * SECOND
"""libwebrtc's interval for sound, which it varies by half of it."""


def listen(house: Consultation, line: LinkSpec, *, repairs_sound: bool = False) -> Viewer:
    doctor = house.join(line, repairs_sound=repairs_sound, without=PICTURES)
    doctor.report_us = BROWSERS_REPORT_US
    return doctor


def heard(house: Consultation, doctor: Viewer, begin: int) -> dict[str, SoundFigures]:
    return {
        spec.source: sound_figures(spec, doctor.sounds[house.ssrc(doctor, spec.source)], begin, house.laboratory.now)
        for spec in (STETHOSCOPE, VOICE)
    }


def test_on_a_clean_line_nothing_is_said_of_single_packets() -> None:
    house = Consultation(sources=SOURCES)
    doctor = listen(house, LinkSpec(steps=((0, 2_000_000),), queue=short_queue(2_000_000)))
    begin = house.laboratory.now
    house.laboratory.run(60 * SECOND)
    assert doctor.feedback_count == 0
    assert house.laboratory.engine.peer_stats(doctor.number)["estimate_bps"] == 0
    assert all(sound.lost == 0 and sound.longest_gap_ms < 60 for sound in heard(house, doctor, begin).values())


@pytest.mark.parametrize("mbps", [3, 20])
@pytest.mark.parametrize("after_s", [1, 15])
def test_pictures_that_join_later_come_as_soon_as_with_a_doctor_that_joins(mbps: int, after_s: int) -> None:
    bps = mbps * 1_000_000
    line = LinkSpec(steps=((0, bps),), queue=short_queue(bps))
    times: dict[bool, list[float]] = {}
    for later in (False, True):
        house = Consultation(sources=SOURCES)
        if later:
            doctor = listen(house, line)
            house.laboratory.run(after_s * SECOND)
            doctor.report_us = SECOND
            for source in PICTURES:
                house.view(doctor, source)
        else:
            house.laboratory.run(after_s * SECOND)
            doctor = house.join(line, repairs_sound=False)
        begin = house.laboratory.now
        house.laboratory.run(10 * SECOND)
        picture = doctor.pictures[house.ssrc(doctor, "ultrasound")]
        best = max(picture.encodings[-60:])
        found = [first_after(picture, begin), first_after(picture, begin, encoding=best)]
        times[later] = [SECOND if one is None else one for one in found] + [float(best)]
        assert house.laboratory.engine.peer_stats(doctor.number)["estimate_bps"] > bps // 3
    assert times[True][0] <= times[False][0] + 100
    assert times[True][1] <= times[False][1] + 500
    assert times[True][2] == times[False][2]


def test_where_copies_of_sound_are_too_much_for_the_line_they_are_left_out() -> None:
    """Stethoscope and voice take some 220 kbit/s with all that goes with them, and 50 more with copies of the voice."""
    house = Consultation(sources=SOURCES)
    doctor = listen(house, LinkSpec(steps=((0, 260_000),), queue=short_queue(260_000)))
    begin = house.laboratory.now
    house.laboratory.run(60 * SECOND)
    assert doctor.feedback_count > 0
    assert all(sound.lost < 0.05 for sound in heard(house, doctor, begin).values())


def test_losses_begin_feedback_and_calm_ends_it() -> None:
    """Half a second of each twenty is lost, three times; then the line is whole."""
    house = Consultation(sources=SOURCES)
    outages = tuple((at * SECOND, at * SECOND + 500 * MS) for at in range(4, 64, 20))
    doctor = listen(house, LinkSpec(steps=((0, 2_000_000),), queue=short_queue(2_000_000), outages=outages))
    counts = []
    for _ in range(30):
        house.laboratory.run(4 * SECOND)
        counts.append(doctor.feedback_count)
    assert counts[0] == 0 < counts[2] < counts[5] < counts[11]
    assert counts[-10:] == [counts[-1]] * 10
    assert house.laboratory.engine.peer_stats(doctor.number)["estimate_bps"] == 0
