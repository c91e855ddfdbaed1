"""Viewers join while pictures flow of which their lines are not known to carry any yet."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediaserver.codecs.payload import Codec
from mediaserver.sfu.stream.params import EventKind, QualityReason
from mediaserver.sfu.wire import packet
from tests.sim.consultation import CAMERA, STETHOSCOPE, ULTRASOUND, VOICE, Consultation, single, with_codec
from tests.sim.figures import FREEZE_US, doctor_figures
from tests.sim.lines import Line, line
from tests.sim.network import MS, SECOND
from tests.sim.viewer import Viewer

ONE_ENCODING = (single(CAMERA), with_codec(single(ULTRASOUND), Codec.CODEC_H264), STETHOSCOPE, VOICE)
"""5 Mbit/s of ultrasound and 2 of the camera, as a cart sends them that sends one encoding of each."""
WIDE = line("wide", "100 Mbit/s", 100, delay_ms=2)
HARDWARE_BPS = 20_000_000
"""An encoder that knows of no line sends at its full rate from the first picture on."""


class Sealed:
    """Every datagram of a viewer's media by its SSRC and number: what leaves again must be what left before, byte for
    byte. In runs of fewer than 2^16 packets a number names one index of the cipher."""

    def __init__(self, doctor: Viewer) -> None:
        self._seen: dict[bytes, bytes] = {}
        self._take = doctor.receive
        doctor.receive = self.receive  # type: ignore[method-assign]

    def receive(self, datagram: bytes, now: int) -> None:
        if packet.classify(datagram) == packet.DemuxKind.DEMUX_RTP and not packet.looks_like_rtcp(datagram):
            name = datagram[2:4] + datagram[8:12]
            assert self._seen.setdefault(name, datagram) == datagram
        self._take(datagram, now)


def join(consultation: Consultation, viewers: int, apart: int, over: Line = WIDE) -> None:
    for _ in range(viewers):
        Sealed(consultation.join(over.down, over.up, shakes_hands=True))
        consultation.laboratory.run(apart)


def gaps(consultation: Consultation, source: str) -> list[list[int]]:
    """Of each viewer, how long it was shown no new picture, in ms: only what is a freeze."""
    return [
        [(b - a) // MS for a, b in pairwise(picture.shown_at) if b - a >= FREEZE_US]
        for doctor in consultation.doctors
        for picture in [doctor.pictures[consultation.ssrc(doctor, source)]]
    ]


def first_ms(consultation: Consultation, source: str) -> list[int]:
    return [
        (doctor.pictures[consultation.ssrc(doctor, source)].shown_at[0] - doctor.connected_at) // MS
        for doctor in consultation.doctors
    ]


def paused(consultation: Consultation) -> Counter[int]:
    """How often each leg was told to be paused by its line."""
    return Counter(
        event.id
        for event in consultation.laboratory.events
        if event.kind == EventKind.LEG_QUALITY and event.value >> 16 == QualityReason.PAUSED_BY_LINE
    )


@pytest.mark.parametrize("apart", [40 * MS, 110 * MS, 170 * MS])
@pytest.mark.parametrize("warm_up", [0, 60 * MS, 150 * MS, 300 * MS])
def test_on_a_wide_line_no_picture_freezes_after_the_first(warm_up: int, apart: int) -> None:
    consultation = Consultation(sources=ONE_ENCODING, warm_up=warm_up, start_bps=HARDWARE_BPS)
    join(consultation, 5, apart)
    consultation.laboratory.run(2 * SECOND)
    assert gaps(consultation, "ultrasound") == [[]] * 5
    assert gaps(consultation, "camera") == [[]] * 5
    assert max(first_ms(consultation, "ultrasound")) < 1_000
    assert max(first_ms(consultation, "camera")) < 1_000
    assert all(picture.corrupt == 0 for doctor in consultation.doctors for picture in doctor.pictures.values())


def test_no_picture_freezes_that_begins_while_others_watch() -> None:
    """Nothing was known of their lines but that they carry what was sent before."""
    consultation = Consultation(sources=ONE_ENCODING, start_bps=HARDWARE_BPS)
    ultrasound = consultation.cart.tracks[1]
    ultrasound.muted = True
    join(consultation, 3, 500 * MS)
    consultation.laboratory.run(3 * SECOND)
    shown = [len(doctor.pictures[consultation.ssrc(doctor, "ultrasound")].shown_at) for doctor in consultation.doctors]
    ultrasound.muted = False
    begin = consultation.laboratory.now
    consultation.laboratory.run(2 * SECOND)
    for doctor, before in zip(consultation.doctors, shown, strict=True):
        picture = doctor.pictures[consultation.ssrc(doctor, "ultrasound")]
        times = picture.shown_at[before:]
        assert times[0] - begin < 500 * MS
        assert all(b - a < FREEZE_US for a, b in pairwise(times))
        assert picture.corrupt == 0


def run_thin(mbps: float) -> tuple[Consultation, dict[str, float]]:
    """One viewer joins with the cart, over a line that carries no ultrasound of 5 Mbit/s."""
    over = line("thin", f"{mbps} Mbit/s", mbps)
    consultation = Consultation(sources=ONE_ENCODING, warm_up=0, start_bps=HARDWARE_BPS)
    begin = consultation.laboratory.now
    join(consultation, 1, 5 * SECOND, over)
    network, pictures, sounds = doctor_figures(
        over, consultation, consultation.doctors[0], begin, consultation.laboratory.now
    )
    return consultation, {
        "overflow": network.overflow,
        "frozen": pictures["ultrasound"].freeze_s,
        "paused": pictures["ultrasound"].paused_s,
        "lost": sounds["voice"].lost,
    }


@pytest.mark.parametrize("mbps", [1.2, 2.5, 4.0])
def test_a_thin_line_is_found_out_before_a_queue_of_seconds_stands_in_it(mbps: float) -> None:
    consultation, figures = run_thin(mbps)
    ultrasound = consultation.ssrc(consultation.doctors[0], "ultrasound")
    assert figures["lost"] < 0.01
    assert figures["paused"] > 4  # within the first second of five
    assert paused(consultation)[ultrasound] == 1


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(1, 1000),
    warm_up=st.sampled_from([0, 100 * MS, 1 * SECOND]),
    steps=st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from([0.6, 1.2, 4.0, 6.0, 8.0, 20.0, 100.0])), min_size=1, max_size=4
    ),
    loss=st.sampled_from([0.0, 0.03, 0.2]),
)
def test_no_number_leaves_twice_with_different_bytes(
    seed: int, warm_up: int, steps: list[tuple[int, float]], loss: float
) -> None:
    """Whatever a line does meanwhile: pictures are parked, left out, taken up again and repeated."""
    rates = {0: int(steps[0][1] * 1e6)} | {at * 100 * MS: int(mbps * 1e6) for at, mbps in sorted(steps)}
    over = line("changing", "", 1, loss=loss, steps=tuple(sorted(rates.items())))
    consultation = Consultation(seed=seed, sources=ONE_ENCODING, warm_up=warm_up, start_bps=HARDWARE_BPS)
    join(consultation, 2, 100 * MS, over)
    consultation.laboratory.run(3 * SECOND)
    for doctor in consultation.doctors:
        assert all(picture.corrupt == 0 for picture in doctor.pictures.values())
