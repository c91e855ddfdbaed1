"""Access units of one file into fragments.

Pure: it holds the samples of the fragment that is being filled, and gives out entries. A fragment is cut when it is
long enough, before a keyframe (so that a player can start at a fragment), and when nothing more has come for as long.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from mediaserver.codecs.payload import Codec, codec_from_name, codec_name
from mediaserver.codecs.unit import AccessUnit
from mediaserver.recording import journal
from mediaserver.recording.entry import Entry
from mediaserver.recording.muxer import FORMATS, Muxer
from mediaserver.recording.sample import Sample

MAX_FRAGMENT_BYTES = 4 << 20
_IDLE_SLACK_US = 100_000
_MAX_SPAN_SECONDS = 30
"""What one fragment can span at the very most: a WebM cluster has 16 bits of milliseconds."""


class Origin(NamedTuple):
    """Where a file's media come from."""

    track: str
    file: str
    stream: int
    ssrc: int
    codec: Codec
    clock_rate: int
    first_rtp: int
    reason: str


class _Held(NamedTuple):
    data: bytes
    pts: int
    dts: int
    keyframe: bool
    arrived_us: int
    sequence: int


class SegmentBuilder:
    """One media file being filled."""

    def __init__(self, origin: Origin, first: AccessUnit, fragment_us: int) -> None:
        """`first` is the keyframe (or packet of sound) that the file begins with; it still has to be added.

        Raises ValueError when it does not describe its codec, and KeyError for a codec that is not in `FORMATS`.
        """
        self._begin(origin, (first.width, first.height), first.config, fragment_us)
        picture = first.data if first.config is None or first.config in first.data else first.config + first.data
        header = self._muxer.header(picture, first.width, first.height)
        kept = FORMATS[origin.codec]
        opened = journal.Opened(
            track=origin.track,
            file=origin.file,
            container=kept.container,
            codec=codec_name(origin.codec),
            clock_rate=origin.clock_rate,
            stream=origin.stream,
            ssrc=origin.ssrc,
            width=first.width,
            height=first.height,
            first_rtp=origin.first_rtp,
            reason=origin.reason,
            header=len(header),
        )
        self.out.append(Entry(opened, header))

    @classmethod
    def resumed(cls, opened: journal.Opened, fragments: int, span: int, fragment_us: int) -> SegmentBuilder:
        """Go on with a file that holds so many fragments, up to `span` units of the clock rate. Raises KeyError for a
        codec that is not in `FORMATS`."""
        self = cls.__new__(cls)
        codec = codec_from_name(opened.codec)
        origin = Origin(
            opened.track,
            opened.file,
            opened.stream,
            opened.ssrc,
            codec,
            opened.clock_rate,
            opened.first_rtp,
            opened.reason,
        )
        self._begin(origin, (opened.width, opened.height), None, fragment_us, fragments)
        self._last_dts = span - 1
        return self

    def _begin(
        self, origin: Origin, size: tuple[int, int], config: bytes | None, fragment_us: int, fragments: int = 0
    ) -> None:
        self.origin = origin
        self.codec = origin.codec
        self.size = size
        self.config = config
        self.out: list[Entry] = []
        self._muxer = Muxer(FORMATS[origin.codec], origin.clock_rate, fragments)
        self._fragment_us = fragment_us
        self._ticks = fragment_us * origin.clock_rate // 1_000_000
        self._held: list[_Held] = []
        self._held_bytes = 0
        self._last_dts = -1
        self._duration = origin.clock_rate // (50 if origin.codec == Codec.CODEC_OPUS else 30)

    def add(self, unit: AccessUnit, rtp: int, arrived_us: int, sequence: int = 0) -> None:
        """A unit in decoding order; `rtp` is its timestamp, unwrapped, `arrived_us` wall-clock time, `sequence` the
        extended number of its last packet.

        What is to be shown before the file's first picture is left out: it could not be decoded.
        """
        pts = rtp - self.origin.first_rtp
        if pts < 0:
            return
        dts = max(pts, self._last_dts + 1)
        if self._held:
            step = dts - self._last_dts
            if self._is_full(unit, dts):
                self._cut(step)
            if step < self._ticks:
                self._duration = step
        self._held.append(_Held(unit.data, pts, dts, unit.keyframe, arrived_us, sequence))
        self._held_bytes += len(unit.data)
        self._last_dts = dts

    def tick(self, wall_us: int) -> None:
        """Write out what has waited for company for too long."""
        if self._held and wall_us - self._held[0].arrived_us >= self._fragment_us + _IDLE_SLACK_US:
            self._cut(self._duration)

    def flush(self) -> None:
        """Make a fragment of what is held, however short."""
        if self._held:
            self._cut(self._duration)

    def close(self) -> None:
        self.flush()
        self.out.append(Entry(journal.Closed(self.origin.track, self.origin.file)))

    def _is_full(self, unit: AccessUnit, dts: int) -> bool:
        span = dts - self._held[0].dts
        starts = unit.keyframe and self.codec != Codec.CODEC_OPUS
        return span >= self._ticks or (starts and span >= self._ticks // 4) or self._held_bytes >= MAX_FRAGMENT_BYTES

    def _cut(self, last_duration: int) -> None:
        """Make a fragment of what is held; its last sample lasts `last_duration`."""
        held = self._held
        last_duration = min(last_duration, _MAX_SPAN_SECONDS * self.origin.clock_rate)
        samples = [
            Sample(sample.data, sample.pts, sample.dts, after.dts - sample.dts, sample.keyframe)
            for sample, after in pairwise(held)
        ]
        last = held[-1]
        samples.append(Sample(last.data, last.pts, last.dts, last_duration, last.keyframe))
        data = self._muxer.fragment(samples)
        rate = self.origin.clock_rate
        quickest = min(held, key=lambda sample: sample.arrived_us - sample.pts * 1_000_000 // rate)
        written = journal.Written(
            track=self.origin.track,
            file=self.origin.file,
            size=len(data),
            time=held[0].dts,
            duration=last.dts + last_duration - held[0].dts,
            units=len(held),
            keyframes=sum(sample.keyframe for sample in held),
            keyframe=held[0].keyframe,
            rtp=self.origin.first_rtp + quickest.pts,
            arrived_us=quickest.arrived_us,
            sequence=last.sequence,
        )
        self.out.append(Entry(written, data))
        self._held = []
        self._held_bytes = 0
