"""Real media for the tests: encoders, FFmpeg's RTP muxer, and decoders, all through PyAV."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt

from mediaserver.codecs.payload import AccessUnit, Assembler, Codec, assembler

FRAME_TIME = Fraction(1, 30)
# FFmpeg's names of the codecs, its decoders for them, and the encoders that the tests use.
FFMPEG_NAMES = {
    Codec.CODEC_OPUS: "opus",
    Codec.CODEC_VP8: "vp8",
    Codec.CODEC_VP9: "vp9",
    Codec.CODEC_H264: "h264",
    Codec.CODEC_H265: "hevc",
    Codec.CODEC_AV1: "av1",
}
DECODERS = FFMPEG_NAMES | {Codec.CODEC_AV1: "libdav1d"}
ENCODERS = {
    Codec.CODEC_OPUS: ("libopus", {}),
    Codec.CODEC_VP8: ("libvpx", {"deadline": "realtime", "cpu-used": "8", "b": "1M"}),
    Codec.CODEC_VP9: ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "b": "1M"}),
    Codec.CODEC_H264: ("libx264", {"preset": "ultrafast", "tune": "zerolatency"}),
    Codec.CODEC_H265: ("libx265", {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none"}),
    Codec.CODEC_AV1: ("libsvtav1", {"preset": "10", "crf": "40", "svtav1-params": "pred-struct=1:lookahead=0"}),
}


class Packet(NamedTuple):
    """An RTP packet, as far as an assembler is told of it."""

    payload: bytes
    timestamp: int
    marker: bool


def pictures(width: int, height: int, count: int) -> Iterator[av.VideoFrame]:
    """A moving gradient with some noise, so that keyframes take several packets and the others move."""
    noise = np.random.default_rng(7).integers(0, 48, (height, width, 3), dtype=np.uint8)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    for i in range(count):
        waves = np.stack([(x * 2 + i * 5) % 200, (y * 3 + i * 7) % 200, (x + y + i * 3) % 200], axis=-1)
        pixels = (waves + np.roll(noise, i, axis=1)).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
        frame.pts = i
        yield frame


@lru_cache(maxsize=64)
def encode(
    codec: Codec, width: int = 320, height: int = 240, count: int = 8, options: tuple[tuple[str, str], ...] = ()
) -> tuple[bytes, ...]:
    """`count` pictures through the real encoder of this codec, one byte string a picture."""
    # SVT-AV1 makes the thread that opens it a real-time one where it may, as root may: it would keep everybody else
    # from the processor until the process ends, and so would all that the process starts from there.
    with ThreadPoolExecutor(1) as own:
        return own.submit(_encode, codec, width, height, count, options).result()


def _encode(
    codec: Codec, width: int, height: int, count: int, options: tuple[tuple[str, str], ...]
) -> tuple[bytes, ...]:
    name, defaults = ENCODERS[codec]
    context = av.CodecContext.create(name, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width = width
    context.height = height
    context.pix_fmt = "yuv420p"
    context.framerate = Fraction(30)
    context.time_base = FRAME_TIME
    context.options = {**defaults, **dict(options)}
    coded = [bytes(packet) for frame in pictures(width, height, count) for packet in context.encode(frame)]
    return tuple(coded + [bytes(packet) for packet in context.encode(None)])


@lru_cache(maxsize=8)
def encode_sound(count: int, options: tuple[tuple[str, str], ...] = (), channels: int = 2) -> tuple[bytes, ...]:
    """`count` frames of 20 ms of a chord, as Opus packets."""
    context = av.CodecContext.create("libopus", "w")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate = 48000
    context.format = av.AudioFormat("flt")
    context.layout = "stereo" if channels == 2 else "mono"
    context.options = dict(options)
    coded: list[bytes] = []
    time = np.arange(960 * count) / 48000
    chord = sum(np.sin(time * 2 * np.pi * pitch) for pitch in (220, 277, 330)) / 4
    for i in range(count):
        samples = np.repeat(chord[960 * i : 960 * (i + 1)], channels).astype(np.float32)[np.newaxis]
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=context.layout.name)
        frame.sample_rate = 48000
        frame.pts = 960 * i
        coded += [bytes(packet) for packet in context.encode(frame)]
    return tuple(coded + [bytes(packet) for packet in context.encode(None)])


class Sink:
    """A file object that keeps each write: one RTP or RTCP packet."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.written.append(bytes(data))
        return len(data)


def packetise(
    codec: Codec, coded: Iterable[bytes], width: int = 320, height: int = 240, packet_size: int = 1200
) -> list[Packet]:
    """Through FFmpeg's RTP muxer."""
    sink = Sink()
    options = {"packetsize": str(packet_size), "payload_type": "96", "strict": "-2"}
    output = av.open(sink, "w", format="rtp", options=options)
    if codec == Codec.CODEC_OPUS:
        stream = output.add_mux_stream("opus", rate=48000)
        time_base = Fraction(960, 48000)
    else:
        stream = output.add_mux_stream(FFMPEG_NAMES[codec], rate=30, width=width, height=height)
        time_base = FRAME_TIME
    for i, data in enumerate(coded):
        packet = av.Packet(data)
        packet.stream = stream
        packet.pts = packet.dts = i
        packet.time_base = time_base
        output.mux(packet)
    output.close()
    return [
        Packet(data[12:], int.from_bytes(data[4:8]), bool(data[1] & 0x80))
        for data in sink.written
        if not 192 <= data[1] <= 223
    ]


def push_all(machine: Assembler, packets: Iterable[Packet]) -> list[AccessUnit]:
    """Every packet in order, nothing lost."""
    units = [unit for packet in packets for unit in machine.push(*packet)]
    return units + machine.flush()


def assemble(codec: Codec, packets: Iterable[Packet]) -> list[AccessUnit]:
    return push_all(assembler(codec), packets)


def decode_frames(codec: Codec, coded: Iterable[bytes], decoder: str = "") -> list[av.VideoFrame]:
    context = av.CodecContext.create(decoder or DECODERS[codec], "r")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count = 1
    frames = [frame for data in coded for frame in context.decode(av.Packet(data))]
    return frames + context.decode(None)


def planes(frame: av.VideoFrame) -> list[npt.NDArray[np.uint8]]:
    """The samples of each plane, without the padding at the ends of lines."""
    return [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    ]


def decode(codec: Codec, coded: Iterable[bytes], decoder: str = "") -> list[bytes]:
    """The decoded pictures, each as the bytes of its planes."""
    frames = decode_frames(codec, coded, decoder)
    return [b"".join(plane.tobytes() for plane in planes(frame)) for frame in frames]


def without_parameter_sets(codec: Codec, coded: bytes) -> bytes:
    """An access unit in Annex B without its parameter sets."""
    kept = []
    for nal in re.split(b"\x00\x00\x00?\x01", coded)[1:]:
        kind = nal[0] & 0x1F if codec == Codec.CODEC_H264 else nal[0] >> 1 & 0x3F
        if kind not in ((7, 8) if codec == Codec.CODEC_H264 else (32, 33, 34)):
            kept.append(b"\x00\x00\x00\x01" + nal)
    return b"".join(kept)


def parameter_sets(encoder: str, size: tuple[int, int], pixel_format: str, options: dict[str, str]) -> list[bytes]:
    """The NAL units of an encoder's extradata."""
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = size
    context.pix_fmt = pixel_format
    context.framerate = Fraction(30)
    context.time_base = FRAME_TIME
    context.options = {"x265-params": "log-level=none", **options} if encoder == "libx265" else options
    context.flags |= int(av.codec.context.Flags.global_header)
    context.open()
    assert context.extradata
    return [nal for nal in re.split(b"\x00\x00\x00?\x01", context.extradata) if nal]
