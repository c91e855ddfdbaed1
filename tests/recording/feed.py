"""Real media on its way to a recorder, in virtual time.

Pictures carry their number as a code that outlives coding; sound carries a burst at each full second. Both are
encoded by real encoders and packetised by FFmpeg, then sent through a network that delays, loses and repeats.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np

from mediaserver.codecs.payload import Codec
from mediaserver.loadtest.raster import draw_code, read_code
from mediaserver.recording.evidence import NOTHING, Evidence
from mediaserver.recording.manifest import Manifest, Segment
from mediaserver.recording.recorder import Recorder, Recording, RecordingState
from mediaserver.recording.settings import RecordingSettings, TrackMeta
from mediaserver.recording.storage import LocalStorage, StoredFile
from mediaserver.recording.storage.keys import MasterKeys
from mediaserver.recording.timeline import NTP_UNIX_SECONDS, wall_at
from mediaserver.sfu.stream.params import PayloadParams
from tests.codecs import media

WALL_START = 1_790_000_000_000_000
MONOTONIC_START = 5_000_000_000
FRAME_US = 1_000_000 / 30
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where files that nobody keeps go."""

Item = tuple[Any, ...]
Coded = tuple[bytes, ...]


@lru_cache(maxsize=32)
def video(codec: Codec, count: int, first: int = 0, width: int = 320, height: int = 240, gop: int = 30) -> Coded:
    """`count` pictures at 30 frames/s, numbered from `first`, a keyframe every `gop`."""
    with ThreadPoolExecutor(1) as own:  # see `media.encode`
        return own.submit(_video, codec, count, first, width, height, gop).result()


def _video(codec: Codec, count: int, first: int, width: int, height: int, gop: int) -> Coded:
    name, options = media.ENCODERS[codec]
    context = av.CodecContext.create(name, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = width, height
    context.pix_fmt = "yuv420p"
    context.framerate = Fraction(30)
    context.time_base = Fraction(1, 30)
    context.gop_size = gop
    context.thread_count = 1  # threads of libvpx wait for each other by spinning, for ages on a busy machine
    context.options = dict(options) | {"g": str(gop), "keyint_min": str(gop)}
    if codec == Codec.CODEC_H265:
        context.options |= {"x265-params": f"log-level=none:keyint={gop}:min-keyint={gop}:repeat-headers=1"}
    coded = []
    for number in range(first, first + count):
        picture = np.full((height * 3 // 2, width), 128, np.uint8)
        picture[:height] = (np.arange(width)[np.newaxis] * 2 + number * 5) % 180
        draw_code(picture[:height], number)
        frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
        frame.pts = number - first
        coded += [bytes(packet) for packet in context.encode(frame)]
    coded += [bytes(packet) for packet in context.encode(None)]
    assert len(coded) == count
    return tuple(coded)


@lru_cache(maxsize=8)
def sound(seconds: int) -> Coded:
    """20 ms Opus packets: silence, and a burst of 1 kHz in the first 20 ms of each second."""
    context = av.CodecContext.create("libopus", "w")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate = 48_000
    context.format = av.AudioFormat("flt")
    context.layout = "stereo"
    context.options = {"application": "lowdelay"}
    burst = np.sin(np.arange(960) * 2 * np.pi / 48).astype(np.float32).repeat(2)[np.newaxis] * 0.7
    coded: list[bytes] = []
    for index in range(seconds * 50):
        frame = av.AudioFrame.from_ndarray(burst * (index % 50 == 0), format="flt", layout="stereo")
        frame.sample_rate = 48_000
        frame.pts = 960 * index
        coded += [bytes(packet) for packet in context.encode(frame)]
    return tuple(coded)


@lru_cache(maxsize=32)
def packets(
    codec: Codec, coded: Coded, width: int = 320, height: int = 240
) -> tuple[tuple[tuple[bytes, bool], ...], ...]:
    """The packets of each unit: payload and marker."""
    units: list[list[tuple[bytes, bool]]] = []
    timestamp = None
    for packet in media.packetise(codec, coded, width, height, 1000):
        if packet.timestamp != timestamp:
            units.append([])
            timestamp = packet.timestamp
        units[-1].append((packet.payload, packet.marker))
    assert len(units) == len(coded)
    return tuple(tuple(unit) for unit in units)


@dataclass
class Ring:
    """What a tap is for the recorder: a list that others fill."""

    items: list[Item] = field(default_factory=list)
    dropped: int = 0
    gone: bool = False
    awaited: int = 0

    @property
    def backlog(self) -> int:
        return len(self.items)

    @property
    def closed(self) -> bool:
        return self.gone and not self.items

    def read(self, limit: int) -> list[Any]:
        taken, self.items[:limit] = self.items[:limit], []
        return taken


@dataclass
class Source:
    """One SSRC: units from `coded`, captured `unit_us` apart from `start_us` on (virtual time since the start)."""

    codec: Codec
    coded: Coded
    ssrc: int = 1111
    rtp_start: int = 0xFFFFF000
    sequence: int = 65_500
    start_us: float = 0
    unit_us: float = FRAME_US
    size: tuple[int, int] = (320, 240)
    clock_us: int = 0
    """The publisher's clock is this much ahead of ours."""
    reports: bool = True

    @property
    def rate(self) -> int:
        return 48_000 if self.codec == Codec.CODEC_OPUS else 90_000

    @property
    def payload_type(self) -> int:
        return 96 + int(self.codec)

    def sent(self) -> list[tuple[float, Item]]:
        """Capture time and packet, with arrival 0."""
        out: list[tuple[float, Item]] = []
        sequence = self.sequence
        for index, unit in enumerate(packets(self.codec, self.coded, *self.size)):
            time = self.start_us + index * self.unit_us
            timestamp = (self.rtp_start + round(index * self.unit_us * self.rate / 1e6)) & 0xFFFFFFFF
            for payload, marker in unit:
                out.append((time, (0, 0, sequence, timestamp, self.ssrc, self.payload_type, int(marker), payload)))
                sequence += 1
        if self.reports:
            out += [self.report(second) for second in range(1, int(len(self.coded) * self.unit_us / 1e6) + 1)]
        return sorted(out, key=lambda item: item[0])

    def report(self, second: float) -> tuple[float, Item]:
        """A sender report `second` s after the first unit."""
        theirs = WALL_START + round(self.start_us + second * 1e6) + self.clock_us
        ntp = (theirs // 1_000_000 + NTP_UNIX_SECONDS) << 32 | (theirs % 1_000_000 << 32) // 1_000_000
        rtp = (self.rtp_start + round(second * self.rate)) & 0xFFFFFFFF
        return self.start_us + second * 1e6, (1, 0, self.ssrc, ntp, rtp)


Network = Callable[[float, Item], Sequence[float]]
"""Capture time (µs) and packet to the times of its arrival: none when it is lost, two when it is repeated."""


def jitter(seed: int, least_us: int = 10_000, most_us: int = 40_000) -> Network:
    chance = random.Random(seed)
    return lambda time, item: [time + chance.uniform(least_us, most_us)]


def deliver(sources: Iterable[Source], network: Network | None = None) -> list[tuple[float, Item]]:
    """What a ring gets: arrival (virtual µs) and item with its arrival filled in, in order of arrival."""
    network = network or (lambda time, item: [time + 20_000])
    out = []
    for source in sources:
        for time, item in source.sent():
            for arrival in network(time, item):
                out.append((arrival, (item[0], MONOTONIC_START + round(arrival), *item[2:])))
    return sorted(out, key=lambda pair: pair[0])


def payloads() -> tuple[PayloadParams, ...]:
    """How the sources' payload types are to be read."""
    return tuple(
        PayloadParams(96 + int(codec), int(codec), 48_000 if codec == Codec.CODEC_OPUS else 90_000)
        for codec in Codec
        if codec not in (Codec.CODEC_NONE, Codec.CODEC_RED)
    )


class Inline(Executor):
    """Does the work at once, on the caller's thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Unsynced(LocalStorage):
    """Hours in virtual time need not wait for a disk."""

    def sync_folder(self, folder: Path) -> None:
        pass

    def open(self, path: Path) -> StoredFile:
        file = StoredFile(path)
        file.sync = lambda: None  # type: ignore[method-assign]
        return file


MASTERS = MasterKeys("test", {"test": bytes(range(32)), "other": bytes(32)})
encrypted = False
"""Whether the archives of these tests are: the fixture `kept` switches it."""


def storage_at(root: Path) -> LocalStorage:
    return LocalStorage(root, MASTERS if encrypted else None)


class Studio:
    """A recorder in virtual time with one recording."""

    def __init__(
        self,
        folder: Path,
        storage: LocalStorage | None = None,
        executor: Executor | None = None,
        evidence: Evidence = NOTHING,
        room: str = "room-1",
        **settings: Any,
    ) -> None:
        self.now = 0.0
        self.states: list[tuple[RecordingState, str]] = []
        self.keyframes: list[str] = []
        self.folder = folder
        self.storage = storage or storage_at(folder)
        self.recorder = Recorder(
            RecordingSettings(folder, **settings),
            monotonic=lambda: MONOTONIC_START + round(self.now),
            wall=lambda: WALL_START + round(self.now),
            on_state=lambda recording, state, detail: self.states.append((state, detail)),
            request_keyframe=lambda recording, track: self.keyframes.append(track),
            storage=self.storage,
            executor=executor or Inline(),
            evidence=evidence,
        )
        self.recording: Recording = self.recorder.start(room)
        self.rings: dict[str, Ring] = {}
        self.coming: list[tuple[float, str, Item]] = []

    def track(self, name: str, kind: str = "video", source: str = "", participant: str = "cart") -> Ring:
        meta = TrackMeta(name, source or name, kind, payloads(), label=name, participant=participant)
        ring = self.rings[name] = Ring()
        self.recording.add_track(meta, ring)
        return ring

    def feed(self, track: str, items: Iterable[tuple[float, Item]]) -> None:
        self.coming += [(arrival, track, item) for arrival, item in items]
        self.coming.sort(key=lambda entry: entry[0])

    def run(self, until: float | None = None) -> None:
        """Until `until` (virtual µs), or until all that was fed has arrived, in steps of 50 ms."""
        end = until if until is not None else (self.coming[-1][0] if self.coming else self.now)
        while self.now < end:
            self.now = min(self.now + 50_000, end)
            while self.coming and self.coming[0][0] <= self.now:
                _, track, item = self.coming.pop(0)
                self.rings[track].items.append(item)
            while self.recorder.step():
                pass

    def stop(self) -> Manifest:
        """Stop, and give the disk at most 60 s of virtual time."""
        future = self.recording.stop()
        end = self.now + 60_000_000
        while not future.done() and self.now < end:
            self.recorder.step()
            self.now += 50_000
        return future.result(timeout=0)

    @property
    def path(self) -> Path:
        found = LocalStorage(self.folder).find(self.recording.id)
        assert found is not None
        return found


def opened(folder: Path, segment: Segment) -> Path | BinaryIO:
    """A segment's file in the clear."""
    return cast("Path | BinaryIO", LocalStorage(folder.parent, MASTERS).fetch(folder, segment))


@dataclass
class Shown:
    """A decoded picture: its number, its place in the file (ticks), its wall-clock time by the manifest."""

    code: int | None
    rtp: int
    wall_us: int
    size: tuple[int, int]


def watch(folder: Path, segment: Segment) -> list[Shown]:
    """Decode a segment of video from its first to its last frame; any error of the decoder is one of the test."""
    shown = []
    with av.open(opened(folder, segment)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}
        for frame in container.decode(stream):
            assert isinstance(frame, av.VideoFrame)
            assert frame.pts is not None
            assert frame.time_base is not None
            rtp = segment.first_rtp + round(frame.pts * frame.time_base * segment.clock_rate)
            luma = media.planes(frame)[0]
            wall = wall_at(segment.mapping, segment.clock_rate, rtp)
            shown.append(Shown(read_code(luma), rtp, wall, (frame.width, frame.height)))
    return shown


def listen(folder: Path, segment: Segment) -> tuple[list[int], int]:
    """The wall-clock times (µs) at which bursts begin, and how many samples were decoded."""
    beginnings: list[int] = []
    total = 0
    quiet = True
    with av.open(opened(folder, segment)) as container:
        for frame in container.decode(audio=0):
            assert isinstance(frame, av.AudioFrame)
            assert frame.pts is not None
            assert frame.time_base is not None
            samples = np.abs(frame.to_ndarray()).max(axis=0)
            total += frame.samples
            loud = np.flatnonzero(samples > 0.2)
            if quiet and len(loud):
                rtp = segment.first_rtp + round(frame.pts * frame.time_base * 48_000) + int(loud[0])
                beginnings.append(wall_at(segment.mapping, 48_000, rtp))
            quiet = not len(loud)
    return beginnings, total
