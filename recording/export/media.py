"""A recording's files, read: coded packets, pictures and sound, each at its place on the wall clock.

Publishers' clocks drift against each other, so the manifest's mapping places every unit. Files come from a network:
what FFmpeg can't read is an `ExportError` that names the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import av
from av.container import InputContainer

from mediaserver.recording import raw
from mediaserver.recording.export.progress import ExportError
from mediaserver.recording.manifest import Segment, Track
from mediaserver.recording.storage import LocalStorage, Reader, ReaderFile, Unreadable
from mediaserver.recording.timeline import wall_at
from mediaserver.recording.views import iso

MICROSECOND = Fraction(1, 1_000_000)


class Source(Protocol):
    """Where an export's media come from, such as a `Storage`."""

    def fetch(self, folder: Path, segment: Segment) -> Path | ReaderFile:
        """A media file in the clear. Raises OSError."""


class Files(Source, Protocol):
    """As well for who wants a recording's files as such. Everything raises OSError."""

    def stored(self, folder: Path, segment: Segment) -> Reader:
        """A media file as it lies in the store."""

    def media(self, folder: Path, segment: Segment) -> Reader:
        """A media file in the clear."""

    def read(self, path: Path) -> bytes:
        """A small file of the recording, in the clear."""


PLAIN = LocalStorage(Path())
"""For files that lie in the recording's folder, in the clear."""


def playable(track: Track) -> list[Segment]:
    """Its files without those that hold packets."""
    return [segment for segment in track.segments if segment.container != raw.CONTAINER]


def unplayable(tracks: Iterable[Track]) -> list[str]:
    """In words, each file that holds packets, and why. What they hold is only ever what no container could take, also
    where the codec is a known one: there is no picture in it to start from, or none that describes itself."""
    return [
        f"{segment.file} ({track.source}, {iso(segment.first_us)} to {iso(segment.last_us)}) holds {segment.units} "
        f"packets as they came: {_why_packets(segment)}"
        for track in tracks
        for segment in track.segments
        if segment.container == raw.CONTAINER
    ]


def left_out(tracks: Iterable[Track]) -> list[str]:
    """As `unplayable`, for an export that can't hold them."""
    return [f"left out: {words} (--format zip has it)" for words in unplayable(tracks)]


def _why_packets(segment: Segment) -> str:
    if not segment.codec:
        return "their payload type is of no codec that was agreed on"
    return f"{segment.codec} without anything that a file could begin with"


@contextmanager
def opened(folder: Path, segment: Segment, source: Source) -> Iterator[InputContainer]:
    """The segment's file. Raises OSError, such as `Unreadable`, and `ExportError`, later too, for what FFmpeg finds
    wrong with it."""
    file = source.fetch(folder, segment)
    with nullcontext() if isinstance(file, Path) else file:
        try:
            container = av.open(cast("Path | BinaryIO", file), "r")
        except Unreadable:
            raise
        except (av.FFmpegError, OSError) as error:
            raise ExportError(f"{segment.file} cannot be read: {error}") from error
        with container:
            if not container.streams:
                raise ExportError(f"{segment.file} cannot be read: it holds no media")
            yield container


def packets(segment: Segment, container: InputContainer) -> Iterator[av.Packet[Any]]:
    """The packets in decoding order; their times are wall-clock time in µs."""
    for packet in container.demux(container.streams[0]):
        if packet.pts is None or packet.dts is None or packet.time_base is None:
            continue
        ticks = packet.time_base * segment.clock_rate
        pts = wall_us(segment, packet.pts * ticks)
        # A decoding time belongs to its picture: the line through the mapping may bend between the two.
        dts = pts + round((packet.dts - packet.pts) * packet.time_base / MICROSECOND)
        packet.duration = round((packet.duration or 0) * packet.time_base / MICROSECOND)
        packet.time_base = MICROSECOND
        packet.pts, packet.dts = pts, dts
        yield packet


def pictures(segment: Segment, container: InputContainer) -> Iterator[tuple[int, av.VideoFrame]]:
    """Wall-clock time (µs) and picture, in the order in which they are shown. Raises `ExportError`."""
    for frame in _decoded(segment, container):
        if isinstance(frame, av.VideoFrame):
            yield wall_us(segment, _ticks(segment, frame)), frame


def sound(segment: Segment, container: InputContainer) -> Iterator[tuple[int, av.AudioFrame]]:
    """Wall-clock time (µs) of the first sample, and samples. Raises `ExportError`."""
    for frame in _decoded(segment, container):
        if isinstance(frame, av.AudioFrame):
            yield wall_us(segment, _ticks(segment, frame)), frame


def wall_us(segment: Segment, ticks: float | Fraction) -> int:
    """The wall-clock time of a media time of the file, in units of its clock rate."""
    return wall_at(segment.mapping, segment.clock_rate, segment.first_rtp + round(ticks))


def _ticks(segment: Segment, frame: av.VideoFrame | av.AudioFrame) -> Fraction:
    assert frame.pts is not None
    assert frame.time_base is not None
    return frame.pts * frame.time_base * segment.clock_rate


def _decoded(segment: Segment, container: InputContainer) -> Iterator[Any]:
    stream = container.streams[0]
    stream.codec_context.thread_count = 1
    try:
        yield from (frame for frame in container.decode(stream) if frame.pts is not None)
    except av.FFmpegError as error:
        raise ExportError(f"{segment.file} cannot be decoded: {error}") from error
