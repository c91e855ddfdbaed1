"""One picture of a recorded file as JPEG, made in a process of its own.

    python -m mediaserver.recording.still SECONDS WIDTH <opening >picture.jpg

What is decoded came from a publisher, so the decoder is kept away from the server: a process that has little memory
and little time, and whose end harms nobody. It is the keyframe at or before the moment, which costs one decoded
picture wherever it lies. The file (`storage.face.Opening`, as JSON) is inherited, and its key comes by the pipe.
"""

from __future__ import annotations

import os
import resource
import sys
from fractions import Fraction

import av
import msgspec
from av.video.codeccontext import VideoCodecContext

from mediaserver.recording.storage.face import Opening

MEMORY = 1 << 30
CPU_SECONDS = 10
UNITS = 100
"""A decoder that has shown nothing after so many units never will."""
MOST_PIXELS = 8192 * 8192
QUALITY = 5
"""The quantizer of the JPEG, 2 (best) to 31."""


def still(file: Opening, seconds: float, width: int) -> bytes:
    """A JPEG `width` pixels wide, or as wide as the source where that is less. Raises ValueError."""
    try:
        with av.open(file.open(), "r") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            assert stream.time_base is not None
            container.seek(max(0, round(seconds / stream.time_base)), stream=stream)
            for _, frame in zip(range(UNITS), container.decode(stream), strict=False):
                return _jpeg(frame, width)
    except (av.FFmpegError, OSError, IndexError) as error:
        raise ValueError(f"{file.name}: {error}") from error
    raise ValueError(f"{file.name}: no picture there")


def _jpeg(frame: av.VideoFrame, width: int) -> bytes:
    if frame.width * frame.height > MOST_PIXELS:
        raise ValueError(f"a picture of {frame.width}x{frame.height}")
    width = min(width, frame.width)
    height = max(1, round(frame.height * width / frame.width))
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, 30)
    encoder.qmin = encoder.qmax = QUALITY
    picture = frame.reformat(width, height, "yuvj420p", dst_color_range="JPEG")
    picture.pts = 0
    return b"".join(bytes(packet) for packet in (*encoder.encode(picture), *encoder.encode(None)))


def main() -> int:
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    seconds, width = sys.argv[1:]
    file = msgspec.json.decode(sys.stdin.buffer.read(), type=Opening)
    try:
        sys.stdout.buffer.write(still(file, float(seconds), int(width)))
    except (ValueError, MemoryError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
