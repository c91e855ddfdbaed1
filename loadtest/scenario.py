"""What a load test plays: which streams a cart publishes, at which rates, and how many carts and viewers there are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from mediaserver.loadtest import loops
from mediaserver.loadtest.clip import Clip
from mediaserver.loadtest.loops import Loop
from mediaserver.loadtest.packetise import packetise

SOURCES = ("ultrasound", "camera", "microphone", "stethoscope")
"""The streams that can be played; the position of a source is its number in the swarm. The order is that in which
`/whep` fills m-lines of one kind."""

Maker = Callable[[int], Loop]

MAKERS: dict[str, Maker] = {
    "ultrasound": partial(loops.ultrasound, "H264"),
    "ultrasound on request": lambda bitrate: loops.ultrasound("H264", bitrate, 12, beats_per_keyframe=12),
    "camera": partial(loops.camera, "VP8", noise=3.0),
    "microphone": loops.microphone,
    "stethoscope": loops.stethoscope,
}

STORM_BITRATE = 300_000
"""Of a storm's ultrasound: a packet or two a frame, so that one machine carries a thousand viewers and the server."""

PROFILES: dict[str, dict[str, int]] = {
    "ultrasound": {"ultrasound": 5_000_000, "camera": 2_000_000, "microphone": 32_000, "stethoscope": 128_000},
    "plain": {"camera": 2_000_000, "microphone": 32_000},
    "video": {"ultrasound": 2_500_000},
    "audio": {"microphone": 32_000},
}
"""Sources of a cart with their bits per second: targets of the budgets; `video` is what servers are compared by."""


class LoadSettings(msgspec.Struct, frozen=True):
    carts: int
    viewers: int
    """of each cart"""
    seconds: float
    profile: str = "ultrasound"
    join: str = "ws"
    """ws or whip (which means WHIP and WHEP)"""
    room: str = ""
    """a room for all, where the token is for that room alone; else each cart has its own"""
    spin: bool = False
    settle_seconds: float = 1.0
    """between the last join and the start of the measured part"""
    at_once: int = 8
    """joins that are under way at a time"""
    max_loss: float = 0.0
    """of the packets, after repair; the line of a load test is a clean one"""
    storm: bool = False
    """all viewers' transports come up within `storm_seconds`"""
    storm_seconds: float = 1.0
    verify: bool = True


class StreamMedia(msgspec.Struct, frozen=True):
    """One source of a cart, ready to be sent."""

    source: str
    codec: str
    video: bool
    clock_rate: int
    frame_rate: float
    bitrate: float
    clip: Clip


def make_streams(profile: str) -> list[StreamMedia]:
    """Draw, encode and cut the streams of a profile; a few seconds of work."""
    return [make_stream(source, MAKERS[source](bitrate)) for source, bitrate in PROFILES[profile].items()]


def make_storm_streams() -> list[StreamMedia]:
    """One ultrasound whose keyframes cost what they cost, and come only when asked for (and every 10 s, as the loop
    begins anew): as a browser sends."""
    return [make_stream("ultrasound", MAKERS["ultrasound on request"](STORM_BITRATE))]


def make_stream(source: str, loop: Loop) -> StreamMedia:
    video = loop.codec != "opus"
    payloads = [packetise(loop.codec, frame) for frame in loop.frames]
    clip = Clip(payloads, loop.keyframes, loop.duration, loop.clock_rate, video)
    return StreamMedia(source, loop.codec, video, loop.clock_rate, loop.clock_rate / loop.duration, loop.bitrate, clip)
