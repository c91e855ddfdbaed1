"""One run of the ultrasound consultation over one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tests.sim.consultation import CONSULTATION, WIDE, Consultation, SourceSpec
from tests.sim.figures import RunFigures, doctor_figures
from tests.sim.lines import Line
from tests.sim.network import SECOND
from tests.sim.viewer import Viewer


class Run(NamedTuple):
    """What ran, for who wants to look closer than the figures; the first doctor has the line."""

    consultation: Consultation
    doctor: Viewer
    begin: int
    end: int
    figures: RunFigures


def run_line(
    line: Line,
    *,
    policy: str = "clinical",
    seconds: int = 60,
    seed: int = 1,
    doctors: int = 1,
    consultation: Sequence[SourceSpec] = CONSULTATION,
) -> Run:
    """The cart publishes, the doctors join after it, the first one over the line and the others over wide ones."""
    sources = [one for one in consultation if not line.sources or one.source in line.sources]
    held = Consultation(seed=seed, sources=sources, policy=policy)
    laboratory = held.laboratory
    begin = laboratory.now
    doctor = held.join(line.down, line.up)
    for _ in range(doctors - 1):
        held.join(WIDE)
    for index, at in enumerate(line.moves):
        addr = ("203.0.113.1", 7000 + index)
        laboratory.at(begin + at, lambda addr=addr: laboratory.move(doctor, addr))  # type: ignore[misc]
    laboratory.run(seconds * SECOND)
    end = laboratory.now
    network, pictures, sounds = doctor_figures(line, held, doctor, begin, end)
    cart = held.cart
    figures = RunFigures(
        line=line.name,
        policy=policy,
        seconds=seconds,
        seed=seed,
        network=network,
        pictures=pictures,
        sounds=sounds,
        publisher_kbps=cart.up.offered * 8 / ((end - cart.up.start) / SECOND) / 1000,
        publisher_keyframes=sum(track.encoder.keyframes for track in cart.tracks if track.encoder is not None),
        publisher_plis=cart.plis,
        publisher_nacks=cart.nacks,
    )
    return Run(held, doctor, begin, end, figures)
