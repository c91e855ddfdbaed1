"""From glass to glass: the pictures of a few viewers are decoded; the code in each says when it was due at the cart.

A picture counts as shown when its last packet has arrived and it has been decoded; what our own thread waits in between
is left out.
"""

from __future__ import annotations

import threading
import time

import av
import msgspec
import numpy as np
from av.error import FFmpegError

from mediaserver.codecs.payload import assembler, codec_from_name
from mediaserver.codecs.unit import AccessUnit
from mediaserver.loadtest.histogram import histogram_of
from mediaserver.loadtest.media import StreamMedia
from mediaserver.loadtest.outcome import GlassFigures
from mediaserver.loadtest.peers import TapedPacket
from mediaserver.loadtest.raster import BLOCK, read_code
from mediaserver.loadtest.swarm import Swarm

TAPE_BYTES = 8 << 20
TURN_SECONDS = 0.05
PATIENCE = 400
"""Packets that wait for a missing one before it is given up: over a second of ultrasound."""
DECODERS = {"H264": "h264", "VP8": "vp8", "AV1": "libdav1d"}


class Taped(msgspec.Struct, frozen=True):
    """A stream at a viewer that is decoded, and where it is published."""

    viewer: int
    position: int
    cart: int
    sent_position: int
    stream: StreamMedia
    line: str = ""
    """what is in the way"""


class _Screen:
    """One stream on its way from packets to pictures."""

    def __init__(self, taped: Taped) -> None:
        self.taped = taped
        self.ages: list[int] = []
        self.decoding: list[int] = []
        self.unread = 0
        self.undecoded = 0
        self._waiting: dict[int, TapedPacket] = {}
        self._next: int | None = None
        self._assembler = assembler(int(codec_from_name(taped.stream.codec)))
        self._arrived: dict[int, int] = {}
        self._started = False
        decoder = av.CodecContext.create(DECODERS[taped.stream.codec], "r")
        assert isinstance(decoder, av.VideoCodecContext)
        decoder.thread_count = 1
        self._decoder = decoder

    def put(self, packet: TapedPacket, swarm: Swarm) -> None:
        """Take a packet; those that were repaired come out of order."""
        if self._next is None:
            self._next = packet.sequence
        if packet.sequence < self._next:
            return
        self._waiting[packet.sequence] = packet
        while self._waiting:
            lost = self._next not in self._waiting
            if lost and len(self._waiting) < PATIENCE:
                return
            self._next = min(self._waiting)
            self._take(self._waiting.pop(self._next), lost, swarm)
            self._next += 1

    def _take(self, packet: TapedPacket, lost: bool, swarm: Swarm) -> None:
        self._arrived[packet.timestamp] = max(packet.arrived, self._arrived.get(packet.timestamp, 0))
        for unit in self._assembler.push(packet.payload, packet.timestamp, packet.marker, lost):
            arrived = self._arrived.pop(unit.timestamp, packet.arrived)
            self._arrived = {stamp: at for stamp, at in self._arrived.items() if stamp == packet.timestamp}
            self._show(unit, arrived, swarm)

    def _show(self, unit: AccessUnit, arrived: int, swarm: Swarm) -> None:
        # As browsers do: what refers to a picture that is not there waits for the next key picture.
        self._started = unit.complete and (self._started or unit.keyframe)
        if not self._started:
            self.undecoded += 1
            return
        began = time.thread_time_ns()
        try:
            pictures = self._decoder.decode(av.Packet(unit.data))
        except FFmpegError:
            self.undecoded += 1
            self._started = False
            return
        took = time.thread_time_ns() - began
        self.undecoded += not pictures
        for picture in pictures:
            self._note(picture, arrived, took, swarm)

    def _note(self, picture: av.VideoFrame, arrived: int, took: int, swarm: Swarm) -> None:
        plane = picture.planes[0]
        luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:BLOCK]
        code, taped = read_code(luma), self.taped
        due = 0
        if code is not None and code % taped.stream.code_step == 0:
            try:
                due = swarm.sent_at(taped.cart, taped.sent_position, code // taped.stream.code_step)
            except (IndexError, KeyError):
                due = 0
        if not due or arrived < due:
            self.unread += 1
            return
        self.ages.append(arrived + took - due)
        self.decoding.append(took)


class Glass:
    """Decodes what is on a swarm's tape in a thread of its own, from `start` to `stop`."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._lock = threading.Lock()
        self._screens: dict[tuple[int, int], _Screen] = {}
        self._past: list[_Screen] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def wanted(self) -> bool:
        """Whether there is anything to decode."""
        return bool(self._screens)

    def follow(self, taped: list[Taped]) -> None:
        with self._lock:
            for one in taped:
                self._screens[one.viewer, one.position] = _Screen(one)

    def forget(self, viewer: int) -> None:
        """What has been seen there stays in the figures."""
        with self._lock:
            for key in [key for key in self._screens if key[0] == viewer]:
                self._past.append(self._screens.pop(key))

    def start(self) -> None:
        self._swarm.open_tape(TAPE_BYTES)
        self._thread = threading.Thread(target=self._run, name="glass", daemon=True)
        self._thread.start()

    def restart(self) -> None:
        """Forget what was seen so far, but for the pictures that others refer to."""
        with self._lock:
            self._past.clear()
            for screen in self._screens.values():
                screen.ages.clear()
                screen.decoding.clear()
                screen.unread = screen.undecoded = 0

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def figures(self) -> list[GlassFigures]:
        """By source and line; ends the decoding."""
        self.stop()
        sources: dict[tuple[str, str], list[_Screen]] = {}
        for screen in (*self._past, *self._screens.values()):
            sources.setdefault((screen.taped.stream.source, screen.taped.line), []).append(screen)
        return [
            GlassFigures(
                source,
                line,
                histogram_of(age for screen in screens for age in screen.ages),
                histogram_of(took for screen in screens for took in screen.decoding),
                sum(screen.unread for screen in screens),
                sum(screen.undecoded for screen in screens),
            )
            for (source, line), screens in sources.items()
        ]

    def _run(self) -> None:
        while not self._stop.wait(TURN_SECONDS):
            for packet in self._swarm.take_tape():
                with self._lock:
                    screen = self._screens.get((packet.peer, packet.stream))
                    if screen is not None:
                        screen.put(packet, self._swarm)
