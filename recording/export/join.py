"""All tracks of a recording in one file, in sync, nothing transcoded.

Each access unit is placed where the manifest's mapping puts it on the wall clock, so that publishers whose clocks
drift apart stay together. A stream of the file holds one codec configuration: where a track's picture size or codec
changes, another stream goes on.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
from av.container import InputContainer, OutputContainer

from mediaserver.recording import raw
from mediaserver.recording.manifest import Manifest, Segment, Track
from mediaserver.recording.timeline import wall_at
from mediaserver.recording.views import iso

STEP_US = 1000
"""Least time between two units of a stream: the tick of Matroska."""

Format = Literal["mkv", "mp4"]

MP4_CODECS = frozenset({"H264", "H265", "AV1", "VP9", "opus"})
_FORMATS = {"mkv": "matroska", "mp4": "mp4"}
MICROSECOND = Fraction(1, 1_000_000)


class ExportError(Exception):
    """The recording cannot be exported so; the message says why, and what can be done."""


@dataclass(slots=True)
class _Lane:
    """One segment on its way into one stream of the file."""

    segment: Segment
    container: InputContainer
    out: Any


def join(
    folder: Path,
    manifest: Manifest,
    out: Path,
    container: Format,
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Write the recording in `folder` to `out`. Reads each file once. `progress` is told how much of its length is
    done, a share of 1. Raises `ExportError` and OSError."""
    check(manifest, container)
    segments = [segment for track in manifest.tracks for segment in _playable(track)]
    origin = min(segment.first_us for segment in segments)
    length = max(segment.last_us for segment in segments) - origin or 1
    options = {"movflags": "faststart"} if container == "mp4" else {}
    try:
        with ExitStack() as stack:
            target = stack.enter_context(av.open(out, "w", format=_FORMATS[container], options=options))
            target.metadata.update(title=manifest.room, comment=manifest.id, creation_time=iso(origin))
            lanes = _lanes(folder, manifest, target, stack)
            placed = (_placed(number, lane, origin) for number, lane in enumerate(lanes))
            last: dict[int, int] = {}
            for dts, _, lane, packet in heapq.merge(*placed):
                # Decoding times only go up, in any container's clock.
                dts = max(dts, last.get(lane.out.index, -STEP_US) + STEP_US)
                last[lane.out.index] = packet.dts = dts
                packet.stream = lane.out
                target.mux(packet)
                progress(min(1.0, dts / length))
    except av.FFmpegError as error:
        raise ExportError(f"FFmpeg: {error}") from error


def _playable(track: Track) -> list[Segment]:
    """Without those that hold packets."""
    return [segment for segment in track.segments if segment.container != raw.CONTAINER]


def check(manifest: Manifest, container: Format) -> None:
    """Raises `ExportError` for what can be told from the manifest alone."""
    segments = [(track, segment) for track in manifest.tracks for segment in _playable(track)]
    if not segments:
        raise ExportError(f"recording {manifest.id} holds no media")
    for track, segment in segments if container == "mp4" else ():
        if segment.codec not in MP4_CODECS:
            name = track.label or track.source
            raise ExportError(f"MP4 cannot hold {segment.codec}, which is the codec of {name}: export to MKV")


def _lanes(folder: Path, manifest: Manifest, target: OutputContainer, stack: ExitStack) -> list[_Lane]:
    """Open every segment, and give each a stream of the file that fits it."""
    lanes = []
    for track in manifest.tracks:
        streams: dict[object, Any] = {}
        for segment in _playable(track):
            try:
                source = stack.enter_context(av.open(folder / segment.file))
            except (av.FFmpegError, OSError) as error:
                raise ExportError(f"{segment.file} cannot be read: {error}") from error
            stream = source.streams[0]
            configuration = (segment.codec, segment.width, segment.height, stream.codec_context.extradata)
            if configuration not in streams:
                streams[configuration] = _stream(target, stream, track, segment, len(streams))
            lanes.append(_Lane(segment, source, streams[configuration]))
    return lanes


def _stream(target: OutputContainer, template: Any, track: Track, segment: Segment, number: int) -> Any:
    stream = target.add_stream_from_template(template, opaque=True)
    stream.time_base = Fraction(1, segment.clock_rate)
    title = track.label or track.source
    stream.metadata["title"] = f"{title} ({number + 1})" if number else title
    return stream


def _placed(number: int, lane: _Lane, origin: int) -> Iterator[tuple[int, int, _Lane, av.Packet[Any]]]:
    """A segment's packets with their decoding time in µs from `origin`; `number` breaks ties."""
    segment = lane.segment
    for packet in lane.container.demux(lane.container.streams[0]):
        if packet.pts is None or packet.dts is None or packet.time_base is None:
            continue
        ticks = packet.time_base * segment.clock_rate
        rtp = segment.first_rtp + round(packet.pts * ticks)
        pts = max(0, wall_at(segment.mapping, segment.clock_rate, rtp) - origin)
        dts = pts + round((packet.dts - packet.pts) * packet.time_base / MICROSECOND)
        packet.duration = round((packet.duration or 0) * packet.time_base / MICROSECOND)
        packet.time_base = MICROSECOND
        packet.pts, packet.dts = pts, dts
        yield dts, number, lane, packet
