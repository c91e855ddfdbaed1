"""The MP4 inside a DICOM object: the pictures of a part of a file, as they were sent or encoded again, and sound.

The coded pictures are copied whole: only their parameter sets change where a stream is called High, and their
supplemental information (SEI) goes where it could tell whose they are.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from mediaserver.recording.export import avc, media, voices
from mediaserver.recording.export.dicom.coding import H265_51, Coding
from mediaserver.recording.export.dicom.timing import Unit
from mediaserver.recording.export.media import MICROSECOND
from mediaserver.recording.export.progress import ExportError
from mediaserver.recording.export.transcode import Box, H264Encoder
from mediaserver.recording.export.voices import RATE, Samples
from mediaserver.recording.manifest import Segment

AAC_BITS = 96_000
STEP_US = 12
"""A tick of 90 kHz, rounded up."""
MAX_FRAGMENT = 0xFFFF_FFFE
"""The longest fragment (PS3.5, A.4)."""


class Clip(NamedTuple):
    """What was written: the pictures' times (wall clock, µs) and size, and how many bytes are theirs."""

    times: npt.NDArray[np.int64]
    width: int
    height: int
    picture_bytes: int


def scan(segment: Segment, container: InputContainer) -> list[Unit]:
    """Every coded picture of a file. Raises av.FFmpegError."""
    return [
        Unit(packet.pts or 0, packet.size, packet.is_keyframe) for packet in media.packets(segment, container)
    ]  # fmt: skip


class Copier:
    """The coded pictures of a file as a raw stream, changed no more than `coding` says."""

    def __init__(self, segment: Segment, container: InputContainer, coding: Coding, without_sei: bool) -> None:
        self._segment = segment
        self._packets = media.packets(segment, container)
        self._relabel = coding.how == "relabel"
        self._h265 = coding.syntax == H265_51
        self._without_sei = without_sei
        extradata = container.streams.video[0].codec_context.extradata or b""
        self._sets = avc.hvcc_sets(extradata) if self._h265 else avc.avcc_sets(extradata)

    def part(self, count: int, target: OutputContainer) -> tuple[Any, Iterator[av.Packet[Any]], tuple[int, int]]:
        """A stream of `target`, the next `count` pictures for it, and their size."""
        size = self._segment.width, self._segment.height
        name = "hevc" if self._h265 else "h264"
        stream = target.add_mux_stream(name, width=size[0], height=size[1])
        stream.time_base = Fraction(1, self._segment.clock_rate)
        return stream, self._take(count), size

    def _take(self, count: int) -> Iterator[av.Packet[Any]]:
        for index in range(count):
            packet = next(self._packets, None)
            if packet is None:
                return
            try:
                nals = list(avc.units(bytes(packet)))
            except ValueError as error:
                raise ExportError(f"{self._segment.file} cannot be read: {error}") from error
            kinds = {self._kind(nal) for nal in nals}
            if index == 0 and not kinds & {avc.SPS_265 if self._h265 else avc.SPS_264}:
                nals = self._sets + nals
            copy = av.Packet(avc.annex_b(self._changed(nal) for nal in nals if not self._is_left_out(nal)))
            copy.time_base = packet.time_base
            copy.pts, copy.dts, copy.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
            yield copy

    def _kind(self, nal: bytes) -> int:
        return avc.kind_265(nal) if self._h265 else avc.kind_264(nal)

    def _changed(self, nal: bytes) -> bytes:
        return avc.as_high(nal) if self._relabel and self._kind(nal) == avc.SPS_264 else nal

    def _is_left_out(self, nal: bytes) -> bool:
        return self._without_sei and self._kind(nal) in (avc.SEI_265 if self._h265 else (avc.SEI_264,))


class Transcoder:
    """The pictures of a file encoded again."""

    def __init__(self, segment: Segment, container: InputContainer, coding: Coding, masks: Sequence[Box]) -> None:
        self._segment = segment
        self._pictures = media.pictures(segment, container)
        self._held: list[tuple[int, av.VideoFrame]] = []
        self._level = coding.level
        self._masks = masks

    def part(self, end_us: int, target: OutputContainer) -> tuple[Any, Iterator[av.Packet[Any]], tuple[int, int]]:
        """A stream of `target`, the pictures for it that are shown before `end_us`, and their size."""
        encoder = H264Encoder(target, self._segment.width, self._segment.height, self._level, self._masks)
        return encoder.stream, encoder.encode(self._until(end_us)), (encoder.width, encoder.height)

    def _until(self, end_us: int) -> Iterator[tuple[int, av.VideoFrame]]:
        while True:
            picture = self._held.pop() if self._held else next(self._pictures, None)
            if picture is None:
                return
            if picture[0] >= end_us:
                self._held.append(picture)
                return
            yield picture


def write(
    out: Path,
    prepare: Callable[[OutputContainer], tuple[Any, Iterator[av.Packet[Any]], tuple[int, int]]],
    sound: Callable[[int], Iterable[Samples]] | None,
    progress: Callable[[int], None],
) -> Clip:
    """Write the MP4. `sound` gives samples from a moment on; `progress` is told the time of each picture.

    Times in the file count from its first picture. Raises `ExportError`, av.FFmpegError and OSError.
    """
    times: list[int] = []
    picture_bytes = 0
    with av.open(out, "w", format="mp4", options={"movflags": "faststart"}) as target:
        stream, packets, (width, height) = prepare(target)
        first = next(packets, None)
        if first is None or first.pts is None:
            raise ExportError("there is no picture that can be decoded")
        start_us = first.pts
        lanes: list[Iterator[tuple[int, int, Any, av.Packet[Any]]]] = [_pictures(stream, first, packets, start_us)]
        if sound is not None:
            lanes.append(_encoded(target, sound(start_us)))
        for _, lane, into, packet in heapq.merge(*lanes):
            if lane == 0:
                times.append((packet.pts or 0) + start_us)
                picture_bytes += packet.size
                progress(times[-1])
            packet.stream = into
            target.mux(packet)
    _make_even(out)
    return Clip(np.array(times, np.int64), width, height, picture_bytes)


def _pictures(
    stream: Any, first: av.Packet[Any], rest: Iterator[av.Packet[Any]], start_us: int
) -> Iterator[tuple[int, int, Any, av.Packet[Any]]]:
    last = -STEP_US
    for packet in itertools.chain((first,), rest):
        assert packet.pts is not None
        assert packet.dts is not None
        # The line through the mapping may bend between a picture's two times; decoding times only go up all the same.
        last = max(packet.dts - start_us, last + STEP_US)
        packet.pts, packet.dts = max(packet.pts - start_us, last), last
        yield last, 0, stream, packet


def _encoded(target: OutputContainer, blocks: Iterable[Samples]) -> Iterator[tuple[int, int, Any, av.Packet[Any]]]:
    """AAC; its times are in µs too."""
    stream = target.add_stream("aac", rate=RATE, layout="mono")
    assert isinstance(stream, AudioStream)
    stream.codec_context.bit_rate = AAC_BITS
    return _aac(stream, blocks)


def _aac(stream: AudioStream, blocks: Iterable[Samples]) -> Iterator[tuple[int, int, Any, av.Packet[Any]]]:
    at = 0
    for block in blocks:
        frame = av.AudioFrame.from_ndarray(block[np.newaxis], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
        at += len(block)
        yield from _timed(stream, stream.encode(frame))
    yield from _timed(stream, stream.encode(None))


def _timed(stream: AudioStream, packets: Sequence[av.Packet[Any]]) -> Iterator[tuple[int, int, Any, av.Packet[Any]]]:
    for packet in packets:
        assert packet.dts is not None
        assert packet.time_base is not None
        # The muxer takes them in their own clock, to the sample.
        yield round(packet.dts * packet.time_base / MICROSECOND), 1, stream, packet


def _make_even(out: Path) -> None:
    """DICOM's values are of even length: a box of free space makes one of an odd file."""
    size = out.stat().st_size
    if size % 2:
        with out.open("ab") as file:
            size += file.write((9).to_bytes(4, "big") + b"free\0")
    if size > MAX_FRAGMENT:
        raise ExportError(f"an object of {size} bytes is more than one fragment can hold")


def voice_between(
    folder: Path, segments: Sequence[Segment], end_us: int, source: media.Source
) -> Callable[[int], Iterable[Samples]]:
    """For `write`: all voices from a moment to `end_us`."""
    return lambda start_us: voices.mix(folder, segments, start_us, end_us, source)
