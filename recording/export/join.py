"""All tracks of a recording in one file, in sync; nothing is transcoded unless that is asked for.

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

from mediaserver.recording.export import media
from mediaserver.recording.export.progress import ExportError as ExportError
from mediaserver.recording.export.transcode import H264Encoder
from mediaserver.recording.manifest import Manifest, Segment
from mediaserver.recording.views import iso

STEP_US = 1000
"""Least time between two units of a stream: the tick of Matroska."""

Format = Literal["mkv", "mp4"]

MP4_CODECS = frozenset({"H264", "H265", "AV1", "VP9", "opus"})
_FORMATS = {"mkv": "matroska", "mp4": "mp4"}


@dataclass(slots=True)
class _Lane:
    """One segment on its way into one stream of the file."""

    segment: Segment
    container: InputContainer
    out: Any
    encoder: H264Encoder | None

    def packets(self) -> Iterator[av.Packet[Any]]:
        """In decoding order, with wall-clock times in µs."""
        if self.encoder is None:
            yield from media.packets(self.segment, self.container)
            return
        yield from self.encoder.encode(media.pictures(self.segment, self.container))


def join(
    folder: Path,
    manifest: Manifest,
    out: Path,
    container: Format,
    progress: Callable[[float], None] = lambda share: None,
    transcode: bool = False,
    source: media.Source = media.PLAIN,
) -> None:
    """Write the recording in `folder` to `out`. Reads each file once. `progress` is told how much of its length is
    done, a share of 1. What the container can't hold is an error, or becomes H.264 with `transcode`.

    Raises `ExportError` and OSError.
    """
    check(manifest, container, transcode)
    segments = [segment for track in manifest.tracks for segment in media.playable(track)]
    origin = min(segment.first_us for segment in segments)
    length = max(segment.last_us for segment in segments) - origin or 1
    options = {"movflags": "faststart"} if container == "mp4" else {}
    try:
        with ExitStack() as stack:
            target = stack.enter_context(av.open(out, "w", format=_FORMATS[container], options=options))
            target.metadata.update(title=manifest.room, comment=manifest.id, creation_time=iso(origin))
            if lacking := media.left_out(manifest.tracks):
                target.metadata["description"] = "; ".join(lacking)
            lanes = _lanes(folder, manifest, target, stack, source)
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


def check(manifest: Manifest, container: Format, transcode: bool = False) -> None:
    """Raises `ExportError` for what can be told from the manifest alone."""
    segments = [(track, segment) for track in manifest.tracks for segment in media.playable(track)]
    if not segments:
        packets = media.unplayable(manifest.tracks)
        raise ExportError(
            f"recording {manifest.id} holds no media"
            + (f" that can be played, but packets: export it to ZIP (--format zip). {packets[0]}" if packets else "")
        )
    for track, segment in segments if container == "mp4" and not transcode else ():
        if segment.codec not in MP4_CODECS:
            raise ExportError(
                f"MP4 cannot hold {segment.codec}, which is the codec of {track.label or track.source}: export to MKV "
                "(--format mkv), or have it transcoded to H.264 (--transcode)"
            )


def _lanes(
    folder: Path, manifest: Manifest, target: OutputContainer, stack: ExitStack, source: media.Source
) -> list[_Lane]:
    """Open every segment, and give each a stream of the file that fits it."""
    lanes = []
    for track in manifest.tracks:
        streams: dict[object, Any] = {}
        for segment in media.playable(track):
            opened = stack.enter_context(media.opened(folder, segment, source))
            stream = opened.streams[0]
            encoder = None
            configuration: object = (segment.codec, segment.width, segment.height, stream.codec_context.extradata)
            if target.format.name == "mp4" and segment.codec not in MP4_CODECS:
                # An encoder ends with its file, and its stream with it.
                encoder = H264Encoder(target, segment.width, segment.height)
                configuration = segment.file
            if configuration not in streams:
                out = encoder.stream if encoder else target.add_stream_from_template(stream, opaque=True)
                out.time_base = Fraction(1, segment.clock_rate)
                number = f" ({len(streams) + 1})" if streams else ""
                out.metadata["title"] = f"{track.label or track.source}{number}"
                streams[configuration] = out
            lanes.append(_Lane(segment, opened, streams[configuration], encoder))
    return lanes


def _placed(number: int, lane: _Lane, origin: int) -> Iterator[tuple[int, int, _Lane, av.Packet[Any]]]:
    """A segment's packets with their decoding time in µs from `origin`; `number` breaks ties."""
    for packet in lane.packets():
        assert packet.pts is not None
        assert packet.dts is not None
        shown = max(0, packet.pts - origin)
        packet.pts, packet.dts = shown, packet.dts + shown - packet.pts
        yield packet.dts, number, lane, packet
