"""Pictures into H.264 High, for what takes no other codec. Never done unasked: it costs quality, and time.

The encoder is x264 of PyAV's FFmpeg. It keeps the time of every picture, and shows them in the order of their coding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

import av
from av.container import OutputContainer
from av.filter import Graph
from av.video.frame import PictureType

from mediaserver.recording.export.media import MICROSECOND

CRF = 18
"""The quality: of x264's scale, what its makers call visually lossless or nearly so."""
PRESET = "veryfast"
GOP_SECONDS = 2
MAX_RATE = "20M"
"""What a scene of noise may cost at most, bit/s."""
CLOCK = 90_000
RATE = Fraction(30)
"""Only a hint for the rate control: times are those of the pictures."""


Box = tuple[int, int, int, int]
"""A rectangle of pixels: x, y, width, height."""


class H264Encoder:
    """Pictures of one size in, packets for `stream` of `target` out."""

    def __init__(
        self, target: OutputContainer, width: int, height: int, level: str = "", masks: Sequence[Box] = ()
    ) -> None:
        """4:2:0 has even sizes: an odd one is made even by a line of black. `masks` are painted over."""
        self.width, self.height = width + width % 2, height + height % 2
        self.stream = target.add_stream("libx264", rate=RATE)
        context = self.stream.codec_context
        context.width, context.height, context.pix_fmt = self.width, self.height, "yuv420p"
        context.time_base = Fraction(1, CLOCK)
        context.gop_size = int(GOP_SECONDS * RATE)
        context.options = {
            "preset": PRESET,
            "crf": str(CRF),
            "profile": "high",
            "bf": "0",
            "maxrate": MAX_RATE,
            "bufsize": MAX_RATE,
        }
        if level:
            context.options |= {"level": level}
        self._masks = masks
        self._source = (0, 0)
        self._graph: Graph | None = None

    def encode(self, frames: Iterator[tuple[int, av.VideoFrame]]) -> Iterator[av.Packet[av.VideoStream]]:
        """Times are in µs, here and there. Raises av.FFmpegError."""
        last = -1
        for time_us, frame in frames:
            picture = self._prepare(frame)
            last = max(last + 1, time_us * CLOCK // 1_000_000)
            picture.pts, picture.time_base = last, Fraction(1, CLOCK)
            picture.pict_type = PictureType.NONE
            yield from self._timed(self.stream.encode(picture))
        yield from self._timed(self.stream.encode(None))

    @staticmethod
    def _timed(packets: Sequence[av.Packet[av.VideoStream]]) -> Iterator[av.Packet[av.VideoStream]]:
        for packet in packets:
            assert packet.pts is not None
            assert packet.dts is not None
            assert packet.time_base is not None
            packet.pts = round(packet.pts * packet.time_base / MICROSECOND)
            packet.dts = round(packet.dts * packet.time_base / MICROSECOND)
            packet.duration = 0
            packet.time_base = MICROSECOND
            yield packet

    def _prepare(self, frame: av.VideoFrame) -> av.VideoFrame:
        """In the encoder's format, with the masks painted."""
        if self._graph is None or self._source != (frame.width, frame.height):
            self._source = (frame.width, frame.height)
            self._graph = self._filters(frame)
        self._graph.push(frame)
        picture = self._graph.pull()
        assert isinstance(picture, av.VideoFrame)
        return picture

    def _filters(self, frame: av.VideoFrame) -> Graph:
        graph = Graph()
        time_base = Fraction(1, CLOCK)
        steps = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base)]
        for x, y, width, height in self._masks:
            steps.append(graph.add("drawbox", f"x={x}:y={y}:w={width}:h={height}:color=black:t=fill"))
        steps.append(graph.add("pad", f"w={self.width}:h={self.height}:x=0:y=0:color=black"))
        steps.append(graph.add("format", "yuv420p"))
        steps.append(graph.add("buffersink"))
        for before, after in pairwise(steps):
            before.link_to(after)
        graph.configure()
        return graph
