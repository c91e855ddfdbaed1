"""Access units of one file into fragments.

Pure: it holds the samples of the fragment that is being filled, and gives out entries. A fragment is cut when it is
long enough, before a keyframe (so that a player can start at a fragment), and when nothing more has come for as long.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from mediaserver.codecs.payload import Codec, codec_name
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


class SegmentBuilder:
    """One media file being filled."""

    def __init__(self, origin: Origin, first: AccessUnit, fragment_us: int) -> None:
        """`first` is the keyframe (or packet of sound) that the file begins with; it still has to be added.

        Raises ValueError when it does not describe its codec, and KeyError for a codec that is not in `FORMATS`.
        """
        kept = FORMATS[origin.codec]
        self.origin = origin
        self.codec = origin.codec
        self.size = (first.width, first.height)
        self.config = first.config
        picture = first.data if first.config is None or first.config in first.data else first.config + first.data
        self._muxer = Muxer(kept, origin.clock_rate, picture, first.width, first.height)
        self._fragment_us = fragment_us
        self._ticks = fragment_us * origin.clock_rate // 1_000_000
        self._held: list[_Held] = []
        self._held_bytes = 0
        self._last_dts = -1
        self._duration = origin.clock_rate // (50 if origin.codec == Codec.CODEC_OPUS else 30)
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
            header=len(self._muxer.header),
        )
        self.out: list[Entry] = [Entry(opened, self._muxer.header)]

    def add(self, unit: AccessUnit, rtp: int, arrived_us: int) -> None:
        """A unit in decoding order; `rtp` is its timestamp, unwrapped, `arrived_us` wall-clock time.

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
        self._held.append(_Held(unit.data, pts, dts, unit.keyframe, arrived_us))
        self._held_bytes += len(unit.data)
        self._last_dts = dts

    def tick(self, wall_us: int) -> None:
        """Write out what has waited for company for too long."""
        if self._held and wall_us - self._held[0].arrived_us >= self._fragment_us + _IDLE_SLACK_US:
            self._cut(self._duration)

    def close(self) -> None:
        if self._held:
            self._cut(self._duration)
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
        )
        self.out.append(Entry(written, data))
        self._held = []
        self._held_bytes = 0
