"""A consultation whose every picture and every second of sound can be told, and what of it stands in the archive.

Pictures carry their number; each second of the sound begins with a burst, at the moment of a picture whose number is
a multiple of the frame rate. Camera, ultrasound and voice leave on one clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import aiohttp
import av
import msgspec
import numpy as np

from mediaserver.codecs.payload import Codec
from mediaserver.loadtest.connect import Connected
from mediaserver.loadtest.join import Gate
from mediaserver.loadtest.loops import AUDIO_FRAME, Loop
from mediaserver.loadtest.media import StreamMedia, make_stream
from mediaserver.loadtest.offer import Answer
from mediaserver.loadtest.peers import ReceiverParams, SenderParams
from mediaserver.loadtest.raster import read_code
from mediaserver.loadtest.signalling import Signalling
from mediaserver.loadtest.swarm import Swarm
from mediaserver.recording import manifest
from mediaserver.recording.manifest import Manifest, Segment, Track
from mediaserver.recording.timeline import wall_at
from tests.browser.conftest import Server
from tests.codecs.media import planes
from tests.recording import feed

RATE = 30
TURN_SECONDS = 10
TURN = TURN_SECONDS * RATE
"""Pictures in one turn of the loop that is sent; their numbers begin anew after it."""
PATIENCE = 90.0
"""Seconds within which anything must have happened, however busy the machine is."""


@lru_cache
def streams() -> list[StreamMedia]:
    """Camera, ultrasound and voice, a keyframe each second."""
    # A publisher that skips to its next keyframe when asked for one would lose the relation of number and time, so
    # it is told that it may go on from anywhere; the next keyframe is never more than a second away.
    pictures = {
        source: Loop(name, 90_000, 3000, feed.video(codec, TURN, gop=RATE), (True,) * TURN, 320, 240)
        for source, name, codec in (("camera", "VP8", Codec.CODEC_VP8), ("ultrasound", "H264", Codec.CODEC_H264))
    }
    voice = feed.sound(TURN_SECONDS)
    loops = pictures | {"microphone": Loop("opus", 48_000, AUDIO_FRAME, voice, (True,) * len(voice))}
    return [make_stream(source, loop) for source, loop in loops.items()]


class Studio(Gate):
    """Lets carts in whose sources all leave at the same moments."""

    def _play(
        self,
        connected: Connected,
        answer: Answer,
        senders: tuple[SenderParams, ...] = (),
        receivers: tuple[ReceiverParams, ...] = (),
    ) -> int:
        together = tuple(msgspec.structs.replace(sender, phase=0.0) for sender in senders)
        return super()._play(connected, answer, together, receivers)


class Cart:
    """A cart in the room; it knows what it has sent."""

    def __init__(self, swarm: Swarm, number: int) -> None:
        self._swarm = swarm
        self._number = number

    def sent(self) -> dict[str, int]:
        """Frames of each source that have left so far; those of sound are 20 ms."""
        frames = [sender.frames for sender in self._swarm.peer(self._number).senders]
        return dict(zip((stream.source for stream in streams()), frames, strict=True))

    async def until(self, seconds: float) -> None:
        """Wait until it has sent that many seconds of everything."""
        await until(lambda: self.sent()["ultrasound"] >= seconds * RATE)


@contextlib.asynccontextmanager
async def publishing(server: Server, room: str) -> AsyncIterator[Cart]:
    """A cart that sends until the end of the block, and leaves if the server is still there."""
    swarm = Swarm()
    swarm.start()
    try:
        async with aiohttp.ClientSession() as http:
            (joined,) = await Studio(http, server.base, swarm).cart(room, server.token(room, "cart"), streams())
            yield Cart(swarm, joined.number)
            with contextlib.suppress(Exception):
                await joined.leave()
    finally:
        swarm.close()


@contextlib.asynccontextmanager
async def doctor(server: Server, room: str) -> AsyncIterator[Signalling]:
    """A doctor's signalling, without media."""
    async with aiohttp.ClientSession() as http:
        signalling = await Signalling.connect(http, server.base)
        await signalling.join(room, server.token(room, "doctor"))
        try:
            yield signalling
        finally:
            await signalling.close()


async def heard(signalling: Signalling, kind: str, **fields: Any) -> dict[str, Any]:
    """The next message of that type with those fields; those before it are passed over."""
    while (message := await signalling.news.get()) is not None:
        if message["type"] == kind and fields.items() <= message.items():
            return message
    raise ConnectionError(f"the socket was closed before {kind}")


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that tells nobody when it happens."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


# The archive as its user sees it


def command(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`mediaserver archive --data DIR WORDS` as a process."""
    line = [sys.executable, "-m", "mediaserver", "archive", "--data", str(data), *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, check=False)


def listed(data: Path) -> list[dict[str, Any]]:
    """The recordings, newest first."""
    done = command(data, "list", "--json")
    assert done.returncode == 0, done.stderr
    recordings: list[dict[str, Any]] = json.loads(done.stdout)["recordings"]
    return recordings


def folder_of(data: Path, recording: str) -> Path:
    (found,) = (data / "archive").glob(f"*/*/*/{recording}")
    return found


def kept(data: Path, recording: str) -> Manifest:
    return manifest.decode((folder_of(data, recording) / manifest.NAME).read_bytes())


@dataclass
class Shown:
    """A decoded track: number of each picture counted on through the loop's turns, with its time; or bursts."""

    numbers: list[int]
    times_us: list[int]

    def at(self, number: int) -> int:
        return self.times_us[self.numbers.index(number)]


def watch(folder: Path, track: Track) -> Shown:
    """Decode a track of pictures from its first to its last frame. Fails at an unreadable number."""
    shown = [picture for segment in track.segments for picture in decoded(folder, segment, read_code)]
    codes = [code for code, _ in shown]
    assert None not in codes, f"{track.source}: an unreadable picture at {codes.index(None)} of {len(codes)}"
    return Shown(unrolled([code for code in codes if code is not None]), [time for _, time in shown])


def decoded(folder: Path, segment: Segment, read: Callable[[Any], int | None]) -> list[tuple[int | None, int]]:
    """What `read` says of each picture's luma, and its time, µs. The decoder must have nothing to say."""
    found = []
    with av.open(folder / segment.file) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}
        for frame in container.decode(stream):
            assert isinstance(frame, av.VideoFrame)
            assert frame.pts is not None
            assert frame.time_base is not None
            rtp = segment.first_rtp + round(frame.pts * frame.time_base * segment.clock_rate)
            found.append((read(planes(frame)[0]), wall_at(segment.mapping, segment.clock_rate, rtp)))
    return found


def listen(folder: Path, track: Track) -> list[int]:
    """The times at which bursts begin, µs."""
    return [time for segment in track.segments for time in feed.listen(folder, segment)[0]]


def unrolled(codes: list[int]) -> list[int]:
    """Numbers that go on where the loop has begun anew."""
    numbers: list[int] = []
    for code in codes:
        numbers.append(code if not numbers else numbers[-1] + (code - numbers[-1]) % TURN)
    return numbers


def skews_ms(one: Shown, other: Shown) -> list[float]:
    """How much later pictures of the same number stand in the other track."""
    theirs = dict(zip(other.numbers, other.times_us, strict=True))
    both = zip(one.numbers, one.times_us, strict=True)
    return [(theirs[number] - time) / 1000 for number, time in both if number in theirs]


def sound_skews_ms(pictures: Shown, bursts: list[int]) -> list[float]:
    """How much later than its picture each burst begins. A picture that an encoder left out is placed between its
    neighbours."""
    marked = range(-(-pictures.numbers[0] // RATE) * RATE, pictures.numbers[-1] + 1, RATE)
    seconds = np.interp(list(marked), pictures.numbers, pictures.times_us)
    nearest = [min((burst - time for burst in bursts), key=abs) for time in seconds]
    return [skew / 1000 for skew in nearest if abs(skew) < 500_000]


def exported(path: Path) -> tuple[dict[str, Shown], dict[str, list[int]]]:
    """What a player finds in an exported file: pictures and bursts by the streams' titles, µs from its start."""
    pictures: dict[str, Shown] = {}
    sounds: dict[str, list[int]] = {}
    quiet: dict[str, bool] = {}
    with av.open(path) as container:
        names = {stream.index: stream.metadata.get("title", str(stream.index)) for stream in container.streams}
        for packet in container.demux():
            name = names[packet.stream.index]
            for frame in packet.decode():
                assert frame.pts is not None
                assert frame.time_base is not None
                time = round(frame.pts * frame.time_base * 1_000_000)
                if isinstance(frame, av.VideoFrame):
                    code = read_code(planes(frame)[0])
                    assert code is not None
                    shown = pictures.setdefault(name, Shown([], []))
                    shown.numbers.append(code)
                    shown.times_us.append(time)
                elif isinstance(frame, av.AudioFrame):
                    loud = np.flatnonzero(np.abs(frame.to_ndarray()).max(axis=0) > 0.2)
                    if quiet.get(name, True) and len(loud):
                        at = time + int(loud[0]) * 1_000_000 // frame.sample_rate
                        sounds.setdefault(name, []).append(at)
                    quiet[name] = not len(loud)
    for shown in pictures.values():
        shown.numbers = unrolled(shown.numbers)
    return pictures, sounds
