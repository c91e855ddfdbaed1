"""Which container a codec goes to, and one face for both: a header, fragments, and what completes the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mediaserver.codecs.payload import Codec
from mediaserver.recording import mp4, raw, webm
from mediaserver.recording.sample import Fragment, Patch, Sample


class Format(NamedTuple):
    """How a codec is kept. `name` is FFmpeg's for the codec; `container` is also the file's extension."""

    name: str
    container: str
    annex_b: bool = False


FORMATS = {
    Codec.CODEC_OPUS: Format("opus", "mp4"),
    Codec.CODEC_VP8: Format("vp8", "webm"),
    Codec.CODEC_VP9: Format("vp9", "webm"),
    Codec.CODEC_H264: Format("h264", "mp4", annex_b=True),
    Codec.CODEC_H265: Format("hevc", "mp4", annex_b=True),
    Codec.CODEC_AV1: Format("av1", "mp4"),
}
"""By codec; what is not here cannot be recorded."""


class Muxer:
    """One file: its header, then fragments. Holds no samples, so a fragment can be written at any time."""

    def __init__(self, kept: Format, clock_rate: int, fragments: int = 0) -> None:
        """`fragments`: so many are in the file already."""
        self._format = kept
        self._clock_rate = clock_rate
        self._fragments = fragments

    def header(self, picture: bytes, width: int, height: int) -> bytes:
        """The file up to the first fragment. `picture` is the first keyframe with its parameter sets; the size is the
        picture's as shown.

        Raises ValueError when it does not describe the codec.
        """
        if self._format.container == "webm":
            return webm.header(self._format.name, width, height)
        return mp4.header(self._format.name, self._clock_rate, picture, width, height)

    def fragment(self, samples: Sequence[Sample]) -> bytes:
        """`samples` in decoding order, at least one."""
        if self._format.annex_b:
            samples = [sample._replace(data=mp4.length_prefixed(sample.data)) for sample in samples]
        self._fragments += 1
        if self._format.container == "webm":
            return webm.cluster(self._clock_rate, samples)
        return mp4.fragment(self._fragments, samples)


def complete(container: str, head: bytes, clock_rate: int, fragments: Sequence[Fragment]) -> tuple[list[Patch], bytes]:
    """What turns a file that has grown into one that a player can seek in: patches, and bytes for its end.

    `head` is the file's header as it was written first. The same call on the same file gives the same bytes.
    """
    if container == raw.CONTAINER:
        return [], b""
    if container == "webm":
        return webm.finish(head, clock_rate, fragments)
    return mp4.finish(len(head), clock_rate, fragments), b""
