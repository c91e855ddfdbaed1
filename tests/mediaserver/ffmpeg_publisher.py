"""Publishes a picture and a sound by FFmpeg's own WHIP muxer: `python ffmpeg_publisher.py URL TOKEN CERT KEY SECONDS`.

A process of its own, since the muxer blocks.
"""

from __future__ import annotations

import fractions
import sys
import time

import av
import numpy as np

RATE = 30


def main(url: str, token: str, certificate: str, key: str, seconds: str) -> None:
    options = {"authorization": token, "cert_file": certificate, "key_file": key}
    with av.open(url, "w", format="whip", options=options) as output:
        picture = output.add_stream("libx264", rate=RATE)
        picture.width, picture.height, picture.pix_fmt = 640, 480, "yuv420p"
        picture.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "bf": "0", "g": "30"}
        sound = output.add_stream("libopus", rate=48000, layout="stereo")
        started = time.monotonic()
        for number in range(int(float(seconds) * RATE)):
            shade = np.full((480, 640, 3), number % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
            frame.pts, frame.time_base = number, fractions.Fraction(1, RATE)
            output.mux(picture.encode(frame))
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 3200), np.int16), format="s16", layout="stereo")
            silence.sample_rate, silence.pts = 48000, number * 1600
            silence.time_base = fractions.Fraction(1, 48000)
            output.mux(sound.encode(silence))
            time.sleep(max(0.0, started + number / RATE - time.monotonic()))


if __name__ == "__main__":
    main(*sys.argv[1:])
