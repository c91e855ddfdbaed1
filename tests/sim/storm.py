"""A storm of joins in virtual time: many viewers come into one room within a second.

python -m tests.sim.storm --viewers 1000 --within 1 --seed 1
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from mediaserver.codecs.payload import Codec
from tests.sim.consultation import Consultation, SourceSpec
from tests.sim.encoder import Encoding, VideoSpec
from tests.sim.figures import percentile
from tests.sim.network import MS, SECOND, LinkSpec
from tests.sim.viewer import Viewer

CAMERA = SourceSpec(
    "camera",
    VideoSpec(Codec.CODEC_VP8, (Encoding(640, 360, 250_000, 700_000, "h"),)),
    floor_kbps=400,
    alarm_kbps=600,
    floor_frames=15,
    least_height=360,
    rank=3,
)
"""One picture of one encoding, so that nobody is helped by a keyframe of another."""
LINE = LinkSpec(steps=((0, 10_000_000),), queue=150_000, delay=20 * MS)
WATCHED_US = 1_500 * MS
"""The storm is watched so long after the last join."""


class StormFigures(msgspec.Struct):
    """`first_ms`: from when a viewer's transport was up to its first picture, sorted; of those that had none it is told
    in `without`. `asked_most`: keyframes that were asked of the publisher within any one second of the storm."""

    viewers: int
    without: int
    first_ms: list[float]
    asked: int
    asked_most: int
    keyframes: int
    corrupt: int

    def within(self, share: float) -> float:
        """ms within which this share (in per cent) of the viewers had a picture."""
        return percentile(self.first_ms, share)


def run_storm(
    viewers: int, *, within: int = SECOND, seed: int = 1, sources: Sequence[SourceSpec] = (CAMERA,)
) -> StormFigures:
    """`viewers` join within so many µs, evenly drawn, each over a line of its own of 10 Mbit/s and 40 ms."""
    held = Consultation(seed=seed, sources=sources)
    laboratory, cart = held.laboratory, held.cart
    encoder = cart.tracks[0].encoder
    assert encoder is not None
    draw = random.Random(seed)
    begin, end = laboratory.now, laboratory.now + within + WATCHED_US
    made = encoder.keyframes
    joined: list[Viewer] = []
    asked: list[int] = []
    for at in sorted(draw.randrange(within) for _ in range(viewers)):
        laboratory.at(begin + at, lambda: joined.append(held.join(LINE)))
    for at in range(begin, end, 10 * MS):
        laboratory.at(at, lambda: asked.append(cart.plis))
    laboratory.run(end - begin)
    first, corrupt = [], 0
    for viewer in joined:
        receiver = viewer.pictures[held.ssrc(viewer, sources[0].source)]
        corrupt += receiver.corrupt
        if viewer.connected_at and receiver.shown_at:
            first.append((receiver.shown_at[0] - viewer.connected_at) / MS)
    steps = [later - earlier for earlier, later in pairwise(asked)]
    window = SECOND // (10 * MS)
    return StormFigures(
        viewers=viewers,
        without=viewers - len(first),
        first_ms=sorted(first),
        asked=asked[-1] - asked[0],
        asked_most=max(sum(steps[at : at + window]) for at in range(len(steps))),
        keyframes=encoder.keyframes - made,
        corrupt=corrupt,
    )


def main(arguments: list[str]) -> int:
    """Prints the figures; 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.storm", description=__doc__)
    parser.add_argument("--viewers", type=int, default=1000)
    parser.add_argument("--within", type=float, default=1.0, help="seconds in which they join (1)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    figures = run_storm(options.viewers, within=int(options.within * SECOND), seed=options.seed)
    print(
        f"{figures.viewers} viewers, {figures.without} without a picture; first picture p50/p95/p99/most "
        f"{' / '.join(f'{figures.within(share):.0f}' for share in (50, 95, 99, 100))} ms after the transport was up; "
        f"{figures.asked} keyframes asked, at most {figures.asked_most} in a second; {figures.keyframes} made; "
        f"{figures.corrupt} pictures corrupt"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
