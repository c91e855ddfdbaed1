"""Made streams of layers, whose frames' references are known: written as VP8, VP9 or with a dependency descriptor."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.codecs.descriptors import ABSENT, DISCARDABLE, REQUIRED, SWITCH, Descriptor, Structure, Template
from tests.codecs.samples import AV1_INTER, AV1_KEY, VP8_KEY, VP9_INTER, VP9_KEY

PATTERNS = {1: [0], 2: [0, 1], 3: [0, 2, 1, 2]}
TICKS = 3000


@dataclass
class Frame:
    """One layer of a picture. `needs` are the frames that it refers to, by their numbers in the stream."""

    encoding: int
    number: int
    picture: int
    spatial: int
    temporal: int
    key: bool
    needs: list[int]
    is_top: bool
    sync: bool = False
    key_index: int = 0
    tl0: int = 0


@dataclass(frozen=True)
class Made:
    frame: int
    part: int
    parts: int
    encoding: int
    sequence: int
    timestamp: int
    marker: bool
    payload: bytes
    descriptor: bytes

    @property
    def offered(self) -> tuple[int, int, int, bool, bytes, bytes]:
        return self.encoding, self.sequence, self.timestamp, self.marker, self.payload, self.descriptor


@dataclass
class Stream:
    """`form`: vp8, vp9 or dd (AV1 with descriptors). `between`: layers refer to each other in every picture, not in key
    pictures alone. `keys`: pictures that are key pictures, beside the first."""

    form: str
    spatial: int
    temporal: int
    pictures: int
    keys: frozenset[int] = frozenset()
    between: bool = True
    encoding: int = 0
    first: int = 0
    frames: list[Frame] = field(default_factory=list, init=False, repr=False)
    packets: list[Made] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        self.plan()
        self.write()

    def plan(self) -> None:
        pattern = PATTERNS[self.temporal]
        latest: dict[tuple[int, int], int] = {}  # (spatial, temporal): number
        at = groups = key_index = tl0 = -1
        for picture in range(self.pictures):
            key = picture == 0 or picture in self.keys
            at = 0 if key else (at + 1) % len(pattern)
            groups = 0 if key else groups + (at == 0)
            key_index += key
            temporal = pattern[at]
            tl0 += temporal == 0
            # As libwebrtc's VP8: the upper layers of every other group refer to the lowest alone.
            sync = groups % 2 == 0 and pattern.index(temporal) == at
            lower: int | None = None
            if key:
                latest.clear()
            for spatial in range(self.spatial):
                number = len(self.frames)
                needs = [] if lower is None or not (key or self.between) else [lower]
                if not key:
                    highest = 0 if sync else temporal
                    needs += sorted({latest[spatial, t] for t in range(highest + 1) if (spatial, t) in latest})
                frame = Frame(
                    self.encoding, number, picture, spatial, temporal, key, needs, spatial == self.spatial - 1
                )
                frame.sync, frame.key_index, frame.tl0 = sync, key_index, tl0
                self.frames.append(frame)
                latest[spatial, temporal] = number
                lower = number

    # ---- as packets

    def write(self) -> None:
        sequence = 5000 + 1000 * self.encoding
        for frame in self.frames:
            parts = 1 + (frame.number * 7 + frame.picture) % 3
            for part in range(parts):
                sequence += 1
                payload, descriptor = getattr(self, self.form)(frame, part == 0, part == parts - 1)
                timestamp = (self.first * 977 + 3_000_000_000 + frame.picture * TICKS) % 2**32
                marker = frame.is_top and part == parts - 1
                made = Made(frame.number, part, parts, self.encoding, sequence, timestamp, marker, payload, descriptor)
                self.packets.append(made)

    def vp8(self, frame: Frame, start: bool, end: bool) -> tuple[bytes, bytes]:
        picture_id = (self.first + frame.picture) & 0x7FFF
        head = bytes(
            [0x90 if start else 0x80, 0xF0, 0x80 | picture_id >> 8, picture_id & 0xFF, (self.first + frame.tl0) & 0xFF]
        )
        last = frame.temporal << 6 | frame.sync << 5 | (self.first + frame.key_index) & 0x1F
        return head + bytes([last]) + (VP8_KEY if frame.key and start else b"\x01more"), b""

    def vp9(self, frame: Frame, start: bool, end: bool) -> tuple[bytes, bytes]:
        picture_id = (self.first + frame.picture) & 0x7FFF
        between = frame.spatial > 0 and bool(frame.needs) and self.frames[frame.needs[0]].picture == frame.picture
        predicted = not frame.key
        flags = 0xA0 | predicted << 6 | start << 3 | end << 2
        # Non-flexible mode. What follows refers to no picture of a higher temporal layer before this one.
        up = frame.sync and frame.temporal == 0
        layers = frame.temporal << 5 | up << 4 | frame.spatial << 1 | between
        head = bytes([flags, 0x80 | picture_id >> 8, picture_id & 0xFF, layers, (self.first + frame.tl0) & 0xFF])
        is_key = frame.key and frame.spatial == 0 and start
        return head + (VP9_KEY if is_key else VP9_INTER), b""

    def dd(self, frame: Frame, start: bool, end: bool) -> tuple[bytes, bytes]:
        structure = self.structure()
        template = (frame.spatial * self.temporal + frame.temporal) * 2 + (not frame.key)
        differences = [frame.number - number for number in frame.needs]
        descriptor = Descriptor(start, end, (structure.first + template) % 64, self.first + frame.number)
        if frame.key and frame.spatial == 0 and start:
            descriptor.structure = structure
        if differences:
            descriptor.differences = differences
        if frame.sync and frame.temporal == 0 and not frame.key:
            descriptor.indications = self.indications(frame.spatial, frame.temporal, False, True)
        is_key = frame.key and frame.spatial == 0 and start
        return (b"\x18" + AV1_KEY if is_key else b"\x10" + AV1_INTER), descriptor.data()

    def targets(self) -> list[tuple[int, int]]:
        return [(spatial, temporal) for spatial in range(self.spatial) for temporal in range(self.temporal)]

    def indications(self, spatial: int, temporal: int, key: bool, sync: bool = False) -> list[int]:
        found = []
        for upper, faster in self.targets():
            if temporal > faster or spatial > upper or (spatial < upper and not (key or self.between)):
                found.append(ABSENT)
            elif key or (spatial == upper and temporal == 0 and (sync or faster == 0)):
                found.append(SWITCH)
            elif temporal == faster and temporal > 0 and spatial == upper:
                found.append(DISCARDABLE)
            else:
                found.append(REQUIRED)
        return found

    def structure(self) -> Structure:
        templates = [
            Template(spatial, temporal, self.indications(spatial, temporal, key))
            for spatial, temporal in self.targets()
            for key in (True, False)
        ]
        return Structure(templates, self.first % 64)
