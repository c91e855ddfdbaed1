"""Encoders that are modelled: no pictures, but frames of realistic sizes in the layers that a browser would make.

A model has a target rate, makes frames whose sizes wander about it, pays for a keyframe with smaller frames after it,
and keeps to its temporal (and with SVC spatial) structure.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import msgspec

from mediaserver.codecs.payload import Codec
from tests.sim.payloads import Unit

SECOND = 1_000_000


class Encoding(msgspec.Struct, frozen=True):
    """One simulcast encoding, or one spatial layer of SVC. Rates are bits per second of payloads; below `least` it is
    not sent at all. An encoding may have each second or third picture alone (`every`), and temporal layers of its own
    (0: those of the picture)."""

    width: int
    height: int
    least: int
    most: int
    rid: str = ""
    every: int = 1
    temporal: int = 0


class VideoSpec(msgspec.Struct, frozen=True):
    """A picture's encoder. `encodings` lowest first; with `svc` they are the layers of one stream. `key_cost` is what
    a keyframe weighs in mean frames at `most` of its encoding, by the scene."""

    codec: Codec
    encodings: tuple[Encoding, ...]
    frames: int = 30
    temporal: int = 3
    svc: bool = False
    key_cost: float = 5.0


# Per number of temporal layers: the layer of each picture of the cycle, how much more than the mean it weighs, how many
# pictures back its references are, and whether it is a point where one may switch up. (libvpx's L1T2 and L1T3: layers
# take 60 and 40, or 40, 20 and 40 per cent of the rate.)
PATTERNS: dict[int, tuple[tuple[int, float, tuple[int, ...], bool], ...]] = {
    1: ((0, 1.0, (1,), False),),
    2: ((0, 1.2, (2,), False), (1, 0.8, (1,), True)),
    3: ((0, 1.6, (4,), False), (2, 0.8, (1,), True), (1, 0.8, (2,), True), (2, 0.8, (1, 3), False)),
}


class Rates:
    """Sizes of the frames of one encoding."""

    def __init__(self, draw: random.Random, frames: int, key_cost: float) -> None:
        self._draw = draw
        self._frames = frames
        self._key_cost = key_cost
        self._scene = 0.0
        self._debt = 0.0

    def size(self, bps: int, weight: float, key: bool, elapsed: float) -> int:
        """Bytes of the next frame at this rate. `elapsed`: mean frames since the one before."""
        mean = bps / 8 / self._frames
        draw = self._draw
        self._scene = 0.95 * self._scene + 0.31 * draw.gauss(0, 0.12)
        noise = math.exp(self._scene + draw.gauss(0, 0.08))
        self._debt -= mean * elapsed
        if key:
            size = mean * self._key_cost * noise
        else:
            # What has been spent too much is saved over the next half second or so, without starving a frame.
            owed = min(0.5, max(-0.3, self._debt / (mean * self._frames * 0.5)))
            size = mean * weight * noise * (1 - owed)
        self._debt = min(self._debt + size, mean * self._frames)
        return max(90, int(size))


class Encoder:
    """The encoder of one track. `rates` holds what each encoding may have now, 0 for none. `made`: what came out, as
    (time, encoding or spatial layer, bytes)."""

    def __init__(self, spec: VideoSpec, seed: int) -> None:
        self.spec = spec
        self.rates = [0] * len(spec.encodings)
        self.interval = SECOND // spec.frames
        draw = random.Random(seed)
        self._sizes = [Rates(draw, spec.frames // one.every, spec.key_cost) for one in spec.encodings]
        streams = 1 if spec.svc else len(spec.encodings)
        self._streams = [Stream(draw) for _ in range(streams)]
        self._wanted = True
        self._pictures = 0
        self.keyframes = 0
        self.made: list[tuple[int, int, int]] = []

    def want_keyframe(self) -> None:
        """As a browser does, the next picture is a keyframe on all encodings."""
        self._wanted = True

    def allot(self, bps: int) -> None:
        """Divide a rate as libwebrtc does: the lowest encodings first, each up to its most, none below its least, and
        the lowest at its least even where there is less."""
        left = bps
        for index, encoding in enumerate(self.spec.encodings):
            granted = min(left, encoding.most) if left >= encoding.least else 0
            if index == 0:
                granted = max(granted, encoding.least)
            if granted and not self.rates[index]:
                self._wanted = True
            self.rates[index] = granted
            left = max(0, left - granted)

    def encode(self, now: int) -> list[Unit]:
        """The units of one picture, the lowest encoding first."""
        key, self._wanted = self._wanted, False
        self.keyframes += key
        if self.spec.svc:
            units = self._encode_svc(now, key)
        else:
            units = [
                self._encode_one(now, index, rate, key)
                for index, rate in enumerate(self.rates)
                if rate and (key or self._pictures % self.spec.encodings[index].every == 0)
            ]
        self._pictures += 1
        self.made += [(now, max(unit.encoding, unit.spatial), unit.size) for unit in units]
        return units

    def _encode_one(self, now: int, index: int, rate: int, key: bool) -> Unit:
        stream, encoding = self._streams[index], self.spec.encodings[index]
        temporal, weight, back, sync = stream.step(PATTERNS[encoding.temporal or self.spec.temporal], key)
        size = self._sizes[index].size(rate, weight, key, 1.0)
        number = stream.picture
        return Unit(
            codec=self.spec.codec,
            number=number,
            captured=now,
            size=size,
            encoding=index,
            spatial=0,
            temporal=temporal,
            key=key,
            sync=sync,
            last=True,
            width=encoding.width,
            height=encoding.height,
            references=() if key else tuple(number - one for one in back),
            picture=stream.picture_id,
            tl0=stream.tl0,
            differences=() if key else back,
        )

    def _encode_svc(self, now: int, key: bool) -> list[Unit]:
        """L3T3 with every layer predicted from the one below (VP9 and AV1 in Chromium's Lx modes)."""
        stream = self._streams[0]
        layers = [index for index, rate in enumerate(self.rates) if rate]
        if not layers:
            return []
        temporal, weight, back, sync = stream.step(PATTERNS[self.spec.temporal], key)
        count = len(self.spec.encodings)
        units = []
        for spatial in layers:
            encoding = self.spec.encodings[spatial]
            number = stream.picture * count + spatial
            below = (number - 1,) if spatial else ()
            size = self._sizes[spatial].size(self.rates[spatial], weight, key, 1.0)
            units.append(
                Unit(
                    codec=self.spec.codec,
                    number=number,
                    captured=now,
                    size=size,
                    encoding=0,
                    spatial=spatial,
                    temporal=temporal,
                    key=key,
                    sync=sync,
                    last=spatial == layers[-1],
                    width=encoding.width,
                    height=encoding.height,
                    references=below + (() if key else (number - back[0] * count,)),
                    picture=stream.picture_id,
                    tl0=stream.tl0,
                    differences=() if key else back[:1],
                )
            )
        return units


class Stream:
    """Where an encoder is in its cycle of temporal layers."""

    def __init__(self, draw: random.Random) -> None:
        self.picture = -1
        self.tl0 = draw.randrange(256)
        self._offset = draw.randrange(1 << 15)
        self._since_key = 0

    @property
    def picture_id(self) -> int:
        """15 bits, from a start that was drawn."""
        return (self.picture + self._offset) & 0x7FFF

    def step(
        self, pattern: Sequence[tuple[int, float, tuple[int, ...], bool]], key: bool
    ) -> tuple[int, float, tuple[int, ...], bool]:
        """To the next picture; a keyframe begins the cycle anew. A row of PATTERNS."""
        self.picture += 1
        self._since_key = 0 if key else self._since_key + 1
        row = pattern[self._since_key % len(pattern)]
        if row[0] == 0:
            self.tl0 = (self.tl0 + 1) & 0xFF
        return row


def references_known(units: Sequence[Unit]) -> bool:
    """Whether every reference of these units, in their order, is one of those before it since the last keyframe."""
    known: set[tuple[int, int]] = set()
    for unit in units:
        if any((unit.encoding, reference) not in known for reference in unit.references):
            return False
        known.add((unit.encoding, unit.number))
    return True
