"""What the carts of a scenario send: drawn and encoded once, kept in the user's cache folder, cut into packets."""

from __future__ import annotations

from math import gcd

import msgspec

from mediaserver.loadtest import loops, phantom
from mediaserver.loadtest.cache import cached
from mediaserver.loadtest.clip import Clip
from mediaserver.loadtest.loops import Loop
from mediaserver.loadtest.packetise import packetise
from mediaserver.loadtest.scenario import Group, Scenario, SourceSpec, complete

BEATS = 6
BEATS_ON_REQUEST = 12
"""Of an ultrasound whose keyframes come when asked for, and every 10 s, as the loop begins anew."""


class StreamMedia(msgspec.Struct, frozen=True):
    """One source of a cart, ready to be sent. The code in the picture of frame i of the clip is i * `code_step`."""

    source: str
    codec: str
    video: bool
    clock_rate: int
    frame_rate: float
    bitrate: float
    clip: Clip
    code_step: int = 1


class Library:
    """The streams of a scenario; equal ones are made once and shared."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, SourceSpec], StreamMedia] = {}

    def prepare(self, scenario: Scenario) -> None:
        """Make everything that the scenario needs: seconds of work, or none when it is in the cache."""
        for group in scenario.groups:
            self.streams(group)

    def streams(self, group: Group) -> list[StreamMedia]:
        """Those of a cart, in the order of its table."""
        return [self._stream(source, complete(source, spec)) for source, spec in group.sources.items()]

    def _stream(self, source: str, spec: SourceSpec) -> StreamMedia:
        made = self._made.get((source, spec))
        if made is None:
            words = f"{source} {msgspec.json.encode(spec).decode()}"
            made = self._made[source, spec] = make_stream(source, cached(words, lambda: make_loop(source, spec)))
        return made


def make_loop(source: str, spec: SourceSpec) -> Loop:
    """Draw and encode. `spec` is complete."""
    bitrate, size = round(spec.kbit * 1000), (spec.width, spec.height)
    match source:
        case "ultrasound":
            step = phantom.FRAME_RATE // spec.fps
            least = step // gcd(step, phantom.FRAMES_PER_BEAT)  # beats that are whole frames
            on_request = spec.keyframes == "on-request"
            beats = -(-(BEATS_ON_REQUEST if on_request else BEATS) // least) * least
            return loops.ultrasound(spec.codec, bitrate, beats, size, beats if on_request else least, spec.fps)
        case "camera":
            return loops.camera(spec.codec, bitrate, size=size, noise=3.0, rate=spec.fps)
        case "microphone":
            return loops.microphone(bitrate)
        case "stethoscope":
            return loops.stethoscope(bitrate)
    raise ValueError(f"no way to draw {source}")


def make_stream(source: str, loop: Loop) -> StreamMedia:
    video = loop.codec != "opus"
    payloads = [packetise(loop.codec, frame) for frame in loop.frames]
    clip = Clip(payloads, loop.keyframes, loop.duration, loop.clock_rate, video)
    rate = loop.clock_rate / loop.duration
    return StreamMedia(source, loop.codec, video, loop.clock_rate, rate, loop.bitrate, clip, loop.code_step)
