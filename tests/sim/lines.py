"""The table of lines: what stands between the server and a doctor, by name."""

from __future__ import annotations

import msgspec

from tests.sim.network import MS, SECOND, BurstLoss, Competitor, LinkSpec, short_queue
from tests.sim.traces import trace_link


class Line(msgspec.Struct, frozen=True):
    """A doctor's line. `down` is from the server to the doctor. `changes` are the times (µs from the join) at which
    the line gets better: from there recovery is measured. `moves`: when the doctor's address changes."""

    name: str
    about: str
    down: LinkSpec
    up: LinkSpec
    changes: tuple[int, ...] = ()
    moves: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()
    """Of the consultation; all of them where empty."""


def line(
    name: str,
    about: str,
    mbps: float,
    *,
    delay_ms: int = 20,
    up_mbps: float = 2.0,
    changes: tuple[int, ...] = (),
    moves: tuple[int, ...] = (),
    steps: tuple[tuple[int, int], ...] = (),
    outages: tuple[tuple[int, int], ...] = (),
    burst: BurstLoss | None = None,
    loss: float = 0.0,
    jitter_ms: int = 0,
    reorder: bool = False,
    competitors: tuple[Competitor, ...] = (),
    sources: tuple[str, ...] = (),
) -> Line:
    """A line of so many Mbit/s down, with a delay each way. Outages and jitter hold for both ways, loss downwards."""
    bps = int(mbps * 1e6)
    down = LinkSpec(
        steps=steps or ((0, bps),),
        queue=short_queue(bps),
        delay=delay_ms * MS,
        jitter=jitter_ms * MS,
        reorder=reorder,
        loss=loss,
        burst=burst,
        outages=outages,
        competitors=competitors,
    )
    up_bps = int(up_mbps * 1e6)
    up = LinkSpec(
        steps=((0, up_bps),),
        queue=short_queue(up_bps),
        delay=delay_ms * MS,
        jitter=jitter_ms * MS,
        outages=outages,
    )
    return Line(name, about, down, up, changes, moves, sources)


def trace(name: str, about: str, *, delay_ms: int = 30) -> Line:
    up = LinkSpec(steps=((0, 2_000_000),), queue=short_queue(2_000_000), delay=delay_ms * MS)
    return Line(name, about, trace_link(name, delay=delay_ms * MS), up)


LINES = {
    one.name: one
    for one in (
        line("clean-10", "10 Mbit/s, nothing else", 10),
        line("4m-40ms", "4 Mbit/s, 40 ms each way", 4, delay_ms=40),
        line("2.5m", "2.5 Mbit/s", 2.5),
        line("1.2m", "1.2 Mbit/s, without the stethoscope", 1.2, sources=("camera", "ultrasound", "voice")),
        line(
            "steps",
            "2, then 0.8, then 2 Mbit/s, 20 s each",
            2,
            steps=((0, 2_000_000), (20 * SECOND, 800_000), (40 * SECOND, 2_000_000)),
            changes=(40 * SECOND,),
        ),
        line("loss-3", "10 Mbit/s, 3 % random loss", 10, loss=0.03),
        line("burst-10", "10 Mbit/s, 10 % lost in bursts of 5", 10, burst=BurstLoss(0.10, 5.0)),
        line("jitter-30", "10 Mbit/s, 30 ms of jitter", 10, jitter_ms=30),
        line(
            "outage-2s",
            "10 Mbit/s, gone for 2 s after 15 s",
            10,
            outages=((15 * SECOND, 17 * SECOND),),
            changes=(17 * SECOND,),
        ),
        trace("lte-drive", "LTE from a moving car"),
    )
}
"""The table that the figures are made from."""

MORE_LINES = {
    one.name: one
    for one in (
        line("1.2m-all", "1.2 Mbit/s", 1.2),
        line("reorder-30", "10 Mbit/s, 30 ms of jitter that reorders", 10, jitter_ms=30, reorder=True),
        line("moved", "10 Mbit/s, the address changes after 10 s", 10, changes=(10 * SECOND,), moves=(10 * SECOND,)),
        line(
            "shared",
            "4 Mbit/s shared with a download from 10 to 30 s",
            4,
            competitors=(Competitor(10 * SECOND, 30 * SECOND),),
            changes=(30 * SECOND,),
        ),
        line(
            "busy",
            "4 Mbit/s, of which others take 1.5",
            4,
            competitors=(Competitor(0, 3_600 * SECOND, bps=1_500_000),),
        ),
        trace("lte-still", "LTE that stands still"),
        trace("hspa-walk", "3G on foot"),
        trace("adsl-evening", "ADSL of a household in the evening"),
    )
}
ALL_LINES = LINES | MORE_LINES
