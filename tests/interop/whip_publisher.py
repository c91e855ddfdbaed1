"""A publisher of another make, as a process: FFmpeg's `whip` muxer by way of PyAV.

    python -m tests.interop.whip_publisher URL TOKEN CERTIFICATE KEY SECONDS

Each picture carries its number, and each second begins with a burst of sound. It prints one number a line when it
hands that picture to the muxer, and ends by itself or at a line on its standard input.
"""

from __future__ import annotations

import select
import sys
import time
from fractions import Fraction
from threading import Event

import av
import numpy as np

from mediaserver.loadtest.raster import draw_code

WIDTH, HEIGHT, RATE = 640, 480, 30
SAMPLES = 960  # of one Opus packet, 20 ms


def open_muxer(url: str, token: str, certificate: str, key: str) -> av.container.OutputContainer:
    options = {"authorization": token, "cert_file": certificate, "key_file": key}
    return av.open(url, "w", format="whip", options=options)


def add_video(muxer: av.container.OutputContainer) -> av.VideoStream:
    stream = muxer.add_stream("libx264", rate=RATE)
    stream.width, stream.height = WIDTH, HEIGHT
    stream.pix_fmt = "yuv420p"
    stream.bit_rate = 1_000_000
    stream.gop_size = RATE
    stream.max_b_frames = 0
    stream.codec_context.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}
    return stream


def add_audio(muxer: av.container.OutputContainer) -> av.AudioStream:
    stream = muxer.add_stream("libopus", rate=48_000)
    stream.layout = "stereo"
    stream.format = "flt"
    stream.codec_context.options = {"application": "lowdelay", "frame_duration": "20"}
    return stream


def picture(number: int) -> av.VideoFrame:
    planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    planes[:HEIGHT] = (np.arange(WIDTH)[np.newaxis] * 2 + number * 5) % 180
    draw_code(planes[:HEIGHT], number)
    frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
    frame.pts = number
    frame.time_base = Fraction(1, RATE)
    return frame


def sound(number: int) -> av.AudioFrame:
    """The 20 ms that begin at `number` * 20 ms."""
    wave = np.sin(np.arange(SAMPLES) * 2 * np.pi / 48).astype(np.float32).repeat(2)[np.newaxis] * 0.7
    frame = av.AudioFrame.from_ndarray(wave * (number % 50 == 0), format="flt", layout="stereo")
    frame.sample_rate = 48_000
    frame.pts = SAMPLES * number
    frame.time_base = Fraction(1, 48_000)
    return frame


def main(url: str, token: str, certificate: str, key: str, seconds: float) -> None:
    with open_muxer(url, token, certificate, key) as muxer:
        video, audio = add_video(muxer), add_audio(muxer)
        pace, began = Event(), 0.0
        sounds = 0
        for number in range(int(seconds * RATE)):
            began = began or time.monotonic()
            wait = began + number / RATE - time.monotonic()
            if wait > 0:
                pace.wait(wait)
            if select.select([sys.stdin], [], [], 0)[0]:
                break
            muxer.mux(video.encode(picture(number)))
            while sounds * SAMPLES / 48_000 <= number / RATE:
                muxer.mux(audio.encode(sound(sounds)))
                sounds += 1
            print(number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:5], float(sys.argv[5]))
