"""Loops of encoded media: drawn and encoded once, then replayed for as long as needed at next to no cost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import msgspec
import numpy as np

from mediaserver.loadtest import phantom, scene, sound

ENCODERS = {"H264": "libx264", "VP8": "libvpx", "AV1": "libsvtav1"}
AUDIO_FRAME = 960
"""Samples of one Opus packet, 20 ms at 48 kHz."""


class Loop(msgspec.Struct, frozen=True):
    """One period of a stream. `frames[i]` is an access unit: Annex B for H.264, a frame for VP8, a temporal unit for
    AV1, a packet for Opus.

    `keyframes[i]` says whether a decoder can start at frame i; `duration` is the time of a frame in units of
    `clock_rate`. Frame 0 is always a keyframe. The code in the picture of frame i is i * `code_step`.
    """

    codec: str
    """H264, VP8, AV1 or opus, as SDP names it"""
    clock_rate: int
    duration: int
    frames: tuple[bytes, ...]
    keyframes: tuple[bool, ...]
    width: int = 0
    height: int = 0
    code_step: int = 1

    @property
    def seconds(self) -> float:
        return len(self.frames) * self.duration / self.clock_rate

    @property
    def bitrate(self) -> float:
        """Bits per second of the frames alone."""
        return sum(map(len, self.frames)) * 8 / self.seconds


def ultrasound(
    codec: str = "H264",
    bitrate: int = 2_500_000,
    beats: int = 6,
    size: tuple[int, int] = (640, 480),
    beats_per_keyframe: int = 1,
    rate: int = phantom.FRAME_RATE,
) -> Loop:
    """The phantom; a keyframe starts each heart beat, or every so many. `rate` divides `phantom.FRAME_RATE`, and the
    frames of a period between keyframes."""
    drawn = phantom.Phantom(*size)
    step = phantom.FRAME_RATE // rate
    count = beats * phantom.FRAMES_PER_BEAT // step
    grey = np.full((size[1] // 2, size[0]), 128, np.uint8)
    pictures = (np.concatenate((luma, grey)) for luma in drawn.frames(count, step=step))
    keyframe_every = beats_per_keyframe * phantom.FRAMES_PER_BEAT // step
    return encode_video(pictures, codec, size, rate, bitrate, keyframe_every, step)


def camera(
    codec: str = "VP8",
    bitrate: int = 700_000,
    seconds: int = scene.LOOP_SECONDS,
    size: tuple[int, int] = (640, 360),
    noise: float = 0.0,
    rate: int = scene.FRAME_RATE,
) -> Loop:
    """The room; a keyframe each second. `rate` divides `scene.FRAME_RATE`."""
    step = scene.FRAME_RATE // rate
    pictures = scene.Scene(*size, noise=noise).frames(seconds * rate, step=step)
    return encode_video(pictures, codec, size, rate, bitrate, rate, step)


def stethoscope(bitrate: int = 128_000, seconds: int = 5) -> Loop:
    return encode_audio(sound.heart(seconds), bitrate)


def microphone(bitrate: int = 32_000, seconds: int = 10) -> Loop:
    return encode_audio(sound.speech(seconds), bitrate)


SOURCES: dict[str, Callable[[], Loop]] = {
    "camera": camera,
    "ultrasound": ultrasound,
    "stethoscope": stethoscope,
    "microphone": microphone,
}
"""What a synthetic cart can publish, by source."""


def encode_video(
    pictures: Iterator[np.ndarray[tuple[int, int], np.dtype[np.uint8]]],
    codec: str,
    size: tuple[int, int],
    rate: int,
    bitrate: int,
    keyframe_every: int,
    code_step: int = 1,
) -> Loop:
    """Encode planar 4:2:0 pictures without delay: no B frames, no look-ahead, a keyframe every so many frames."""
    # SVT-AV1 makes the thread that opens it a real-time one where it may, as root may: the generator would keep the
    # server that it measures from the processor.
    with ThreadPoolExecutor(1) as own:
        return own.submit(_encode_pictures, pictures, codec, size, rate, bitrate, keyframe_every, code_step).result()


def _encode_pictures(
    pictures: Iterator[np.ndarray[tuple[int, int], np.dtype[np.uint8]]],
    codec: str,
    size: tuple[int, int],
    rate: int,
    bitrate: int,
    keyframe_every: int,
    code_step: int,
) -> Loop:
    os.environ.setdefault("SVT_LOG", "1")  # else it tells of itself on the terminal
    encoder = av.CodecContext.create(ENCODERS[codec], "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height = size
    encoder.pix_fmt = "yuv420p"
    encoder.bit_rate = bitrate
    encoder.time_base = Fraction(1, rate)
    encoder.framerate = Fraction(rate, 1)
    encoder.gop_size = keyframe_every
    encoder.thread_count = 1
    kilobits = bitrate // 1000
    encoder.options = {
        "H264": {
            "preset": "superfast",
            "tune": "zerolatency",
            "profile": "baseline",
            "level": "31" if size[0] * size[1] <= 1280 * 720 else "40",
            # A buffer of a third of a second keeps the keyframes from being much larger than the rest.
            "x264-params": f"scenecut=0:keyint={keyframe_every}:min-keyint={keyframe_every}"
            f":vbv-maxrate={kilobits}:vbv-bufsize={kilobits // 3}:repeat-headers=1",
        },
        "VP8": {
            "deadline": "realtime",
            "cpu-used": "8",
            "lag-in-frames": "0",
            "error-resilient": "1",
            "static-thresh": "0",
            "minrate": str(bitrate),
            "maxrate": str(bitrate),
            "bufsize": str(bitrate // 2),
        },
        "AV1": {
            "preset": "11",
            # Constant bit rate without look-ahead; the structure is that of low delay.
            "svtav1-params": f"pred-struct=1:lookahead=0:rc=2:keyint={keyframe_every}:irefresh-type=2:scd=0:lp=1",
        },
    }[codec]
    frames: list[bytes] = []
    keyframes: list[bool] = []
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="yuv420p")
        frame.pts = number
        frame.time_base = encoder.time_base
        if number % keyframe_every == 0:
            frame.pict_type = av.video.frame.PictureType.I
        for packet in encoder.encode(frame):
            frames.append(bytes(packet))
            keyframes.append(bool(packet.is_keyframe))
    for packet in encoder.encode(None):
        frames.append(bytes(packet))
        keyframes.append(bool(packet.is_keyframe))
    return Loop(codec, 90_000, 90_000 // rate, tuple(frames), tuple(keyframes), *size, code_step)


def encode_audio(samples: sound.Samples, bitrate: int) -> Loop:
    """Encode 48 kHz mono as Opus in packets of 20 ms, without DTX."""
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate = sound.SAMPLE_RATE
    encoder.layout = "mono"
    encoder.format = "s16"
    encoder.bit_rate = bitrate
    encoder.time_base = Fraction(1, sound.SAMPLE_RATE)
    encoder.options = {"application": "audio", "frame_duration": "20"}
    whole = len(samples) // AUDIO_FRAME
    pcm = (samples[: whole * AUDIO_FRAME] * 32767).astype(np.int16)
    packets: list[bytes] = []
    # The first packets carry the coder's start from silence: a second turn gives a loop without a seam.
    for turn in range(2):
        packets = []
        for number in range(whole):
            block = pcm[number * AUDIO_FRAME : (number + 1) * AUDIO_FRAME]
            frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate = sound.SAMPLE_RATE
            frame.pts = (turn * whole + number) * AUDIO_FRAME
            frame.time_base = encoder.time_base
            packets += [bytes(packet) for packet in encoder.encode(frame)]
    return Loop("opus", sound.SAMPLE_RATE, AUDIO_FRAME, tuple(packets), (True,) * len(packets))
