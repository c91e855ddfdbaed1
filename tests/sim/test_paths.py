"""A viewer's path dies without a word, and it comes back by another one after an ICE restart."""

from __future__ import annotations

from tests.sim.consultation import Consultation
from tests.sim.lines import line
from tests.sim.network import MS, SECOND
from tests.sim.test_joins import HARDWARE_BPS, ONE_ENCODING, Sealed

DIES = 3 * SECOND
NOTICED = 700 * MS
"""From then on until the offer of an ICE restart is here: a page takes 0.5 s of silence for the end of a path."""
BACK = 1_000 * MS


def test_the_picture_begins_with_the_path_and_not_with_what_is_reported_of_it() -> None:
    over = line("dies", "20 Mbit/s, gone for 1 s after 3 s", 20, outages=((DIES, DIES + BACK),))
    consultation = Consultation(sources=ONE_ENCODING, start_bps=HARDWARE_BPS)
    laboratory = consultation.laboratory
    begin = laboratory.now
    doctor = consultation.join(over.down, over.up, shakes_hands=True)
    Sealed(doctor)
    laboratory.run(DIES + NOTICED)
    laboratory.engine.restart_peer(doctor.number, "renewed", doctor.pwd)
    doctor.ufrag = "renewed"
    laboratory.run(BACK - NOTICED)
    back, asked = laboratory.now, consultation.cart.plis
    laboratory.move(doctor, ("203.0.113.1", 7000))
    laboratory.run(2 * over.down.delay + 5 * MS)  # the check has come, and nothing that it has brought is known of
    assert consultation.cart.plis > asked
    laboratory.run(SECOND)
    for source in ("ultrasound", "camera"):
        picture = doctor.pictures[consultation.ssrc(doctor, source)]
        shown = [at for at in picture.shown_at if at > begin + DIES + 100 * MS]
        assert shown[0] - back < 500 * MS
        assert len(shown) > 15
        assert picture.corrupt == 0
