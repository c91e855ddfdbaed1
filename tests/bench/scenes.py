"""What the kernels play to the engine: a publisher and its viewers in virtual time, recorded once.

The engine does the same each time with one seed, so that what its peers send can be found out by a first run and played
to further engines without them: commands first, then datagrams by the batch.
"""

from __future__ import annotations

import random

import msgspec

from mediaserver.codecs.payload import Codec
from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.params import Address, LegParams, LegPayload, LegPolicy, PayloadParams, TrackParams
from mediaserver.sfu.wire import packet, rtcp_packets
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.rtcp_packets import Nack, ReceiverReport, SenderReport
from tests.sim.peer import ScriptedPeer

MS, SECOND = 1_000, 1_000_000
START = 10 * SECOND
FEEDBACK_US = 50 * MS
MID, TWCC, CAPTURE = 1, 2, 3
EXTENSIONS = ((MID, ExtKind.EXT_MID), (TWCC, ExtKind.EXT_TWCC), (CAPTURE, ExtKind.EXT_ABS_CAPTURE_TIME))
_IDS = dict(EXTENSIONS)
SSRC = 1234
SEED = bytes(16)


class Scene(msgspec.Struct, frozen=True):
    """A publisher with one track and its viewers. `frames` of the measured part; `lose`: each viewer asks again for one
    packet of so many."""

    viewers: int
    video: bool = True
    frames: int = 60
    warm: int = 60
    lose: int = 0

    @property
    def interval(self) -> int:
        return 33_333 if self.video else 20 * MS

    @property
    def packets(self) -> int:
        """Of a frame."""
        return 9 if self.video else 1


class Batch(msgspec.Struct, frozen=True):
    """What is found in the socket at one moment, µs."""

    now: int
    datagrams: list[tuple[bytes, Address]]


def track(scene: Scene) -> TrackParams:
    if scene.video:
        payload = PayloadParams(102, Codec.CODEC_H264, 90000, rtx_type=103, nack=True, pli=True, transport_cc=True)
    else:
        payload = PayloadParams(102, Codec.CODEC_OPUS, 48000, transport_cc=True)
    return TrackParams(mid="0", video=scene.video, payloads=(payload,), extensions=EXTENSIONS)


def leg(scene: Scene, number: int) -> LegParams:
    rtx = 103 if scene.video else 0
    return LegParams(
        mid="0",
        ssrc=7000 + number,
        rtx_ssrc=8000 + number if scene.video else 0,
        cname="cart",
        payloads=(LegPayload(102, 102, rtx, nack=scene.video),),
        extensions=EXTENSIONS,
        policy=LegPolicy(rank=2 if scene.video else 1),
    )


def build(scene: Scene) -> tuple[Engine, list[ScriptedPeer]]:
    """A fresh engine with everyone in it; the publisher comes first."""
    engine = Engine(seed=SEED, memory=1 << 28)
    peers = [ScriptedPeer(engine, 1, ("192.0.2.1", 5000))]
    peers += [ScriptedPeer(engine, 2 + i, ("192.0.2.2", 6000 + i)) for i in range(scene.viewers)]
    engine.advance(START)
    for peer in peers:
        peer.join(START)
    engine.add_track(1000, 1, track(scene))
    for i, peer in enumerate(peers[1:]):
        engine.add_leg(2000 + i, 1000, peer.number, leg(scene, i))
    engine.transmits()
    return engine, peers


class _Watcher:
    """A viewer as far as the engine depends on it: transport-wide feedback, and requests for what is to be missing."""

    def __init__(self, peer: ScriptedPeer, scene: Scene, number: int) -> None:
        self.peer, self.scene, self.number = peer, scene, number
        self.ssrc = 7000 + number
        self.arrived: list[tuple[int, int]] = []
        self.count = 0
        self.next = START + number * FEEDBACK_US // scene.viewers
        self.seen = 0
        self.missing: list[int] = []

    def take(self, datagram: bytes, now: int) -> None:
        if packet.classify(datagram) != packet.DemuxKind.DEMUX_RTP or packet.looks_like_rtcp(datagram):
            return
        values = packet.read_extensions(datagram, _IDS)
        if ExtKind.EXT_TWCC in values:
            self.arrived.append((int.from_bytes(values[ExtKind.EXT_TWCC]), now))
        header = packet.parse_rtp(datagram)
        self.seen += header.ssrc == self.ssrc
        if self.scene.lose and header.ssrc == self.ssrc and self.seen % self.scene.lose == 0:
            self.missing.append(header.sequence)

    def due(self, now: int) -> list[bytes]:
        found = []
        if self.missing:
            found.append(self.peer._to_server.protect_rtcp(rtcp_packets.write(Nack(1, self.ssrc, tuple(self.missing)))))
            self.missing.clear()
        if now >= self.next and self.arrived:
            self.next += FEEDBACK_US
            base = self.arrived[0][0]
            times: list[int | None] = [None] * (((self.arrived[-1][0] - base) & 0xFFFF) + 1)
            for number, at in self.arrived:
                times[(number - base) & 0xFFFF] = at + 20 * MS
            message, _ = rtcp_packets.write_transport(1, 1, self.count & 0xFF, base, times)
            found.append(self.peer._to_server.protect_rtcp(message))
            self.count += 1
            self.arrived.clear()
        return found


def _media(scene: Scene, number: int, draw: random.Random) -> list[bytes]:
    """The packets of a frame of H.264, as browsers cut them, or one of Opus; plain."""
    sequence = number * scene.packets
    if scene.video:
        key = number % 30 == 0
        sizes = [1140 + (i >= scene.packets // 2) for i in range(scene.packets)]
        kind = 5 if key else 1
        payloads = [
            bytes((0x7C, kind | (0x80 if i == 0 else 0) | (0x40 if i == len(sizes) - 1 else 0))) + draw.randbytes(size)
            for i, size in enumerate(sizes)
        ]
    else:
        payloads = [bytes([0x78]) + draw.randbytes(99)]
    frames = []
    for i, payload in enumerate(payloads):
        values = {
            ExtKind.EXT_MID: b"0",
            ExtKind.EXT_TWCC: (sequence + i & 0xFFFF).to_bytes(2),
            ExtKind.EXT_ABS_CAPTURE_TIME: (number << 32).to_bytes(8),
        }
        frames.append(
            packet.write_rtp(
                payload_type=102,
                marker=i == len(payloads) - 1,
                sequence=sequence + i & 0xFFFF,
                timestamp=number * (3000 if scene.video else 960),
                ssrc=SSRC,
                extensions=packet.write_extensions(values, dict(EXTENSIONS)),
                payload=payload,
            )
        )
    return frames


def record(scene: Scene) -> tuple[list[Batch], list[Batch]]:
    """What the engine gets: to warm it up, and to be measured."""
    engine, peers = build(scene)
    draw = random.Random(1)
    watchers = {peer.addr: _Watcher(peer, scene, number) for number, peer in enumerate(peers[1:])}
    warm: list[Batch] = []
    measured: list[Batch] = []
    for number in range(scene.warm + scene.frames):
        now = START + number * scene.interval
        batches = warm if number < scene.warm else measured
        frame = [(peers[0].protect(plain), peers[0].addr) for plain in _media(scene, number, draw)]
        # The first packet of a burst is found alone, and the others when it has gone to everyone.
        parts = [frame[:1], frame[1:]] if scene.video else [frame]
        if number % 30 == 0:
            report = SenderReport(SSRC, number << 32, number * 3000, number, number * 1000, ())
            parts.append([(peers[0]._to_server.protect_rtcp(rtcp_packets.write(report)), peers[0].addr)])
        told = [(data, addr) for addr, watcher in watchers.items() for data in watcher.due(now)]
        parts += [[one] for one in told]
        if number % 30 == 15:
            parts += [
                [(peer._to_server.protect_rtcp(rtcp_packets.write(ReceiverReport(1, ()))), peer.addr)]
                for peer in peers[1:]
            ]
        for part in parts:
            if not part:
                continue
            now += 10
            batches.append(Batch(now, part))
            engine.receive_batch(part, now)
            for datagram, address in engine.transmits():
                if address in watchers:
                    watchers[address].take(datagram, now)
        # What is due by the engine's own clock until the next frame.
        until = START + (number + 1) * scene.interval
        while engine.deadline() < until:
            now = max(now + 1, engine.deadline())
            batches.append(Batch(now, []))
            engine.advance(now)
            for datagram, address in engine.transmits():
                if address in watchers:
                    watchers[address].take(datagram, now)
    return warm, measured
