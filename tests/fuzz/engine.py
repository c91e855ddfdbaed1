"""The whole data plane as a fuzz target: two connected viewers and a publisher, whose packets pass authentication."""

from __future__ import annotations

from mediaserver.codecs.payload import Codec
from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.params import LegParams, LegPayload, PayloadParams, TrackParams
from mediaserver.sfu.stream.tap import TapRing
from mediaserver.sfu.wire import packet, rtcp_packets
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.srtp import SrtpError
from tests.sim.peer import ScriptedPeer

from .steps import steps

STRANGER = ("203.0.113.9", 9)
MS = 1_000
PICTURE_US = 33 * MS
VP8_KEY, VP8_DELTA = b"\x10\0\0\0\x9d\x01\x2a\x80\x02\xe0\x01", b"\x10\x01\0\0"
CODECS = (Codec.CODEC_VP8, Codec.CODEC_VP9, Codec.CODEC_H264, Codec.CODEC_H265, Codec.CODEC_AV1)
TWCC = int(ExtKind.EXT_TWCC)
EXTENSIONS = tuple((i, kind) for i, kind in enumerate(ExtKind) if kind not in (ExtKind.EXT_NONE, ExtKind.EXT_COUNT))
VIDEO = TrackParams(
    mid="1",
    video=True,
    payloads=tuple(
        PayloadParams(96 + 2 * i, codec, 90000, 97 + 2 * i, nack=True, pli=True, fir=True, transport_cc=True, remb=True)
        for i, codec in enumerate(CODECS)
    ),
    ssrcs=(1,),
    rtx_ssrcs=(2,),
    extensions=EXTENSIONS,
)
FLOW = 0xF1
"""The command that lets pictures flow: of how many, how many packets each, and how wide the lines are."""
AUDIO = TrackParams(
    mid="0",
    video=False,
    payloads=(
        PayloadParams(111, Codec.CODEC_OPUS, 48000, nack=True),
        PayloadParams(63, Codec.CODEC_RED, 48000, nack=True),
    ),
)


class FuzzPeer(ScriptedPeer):
    """A peer that sends any plaintext there is, and holds the server to what it may send."""

    def __init__(self, engine: Engine, number: int) -> None:
        super().__init__(engine, number, ("192.0.2.1", 5000 + number))
        self.highest: dict[int, int] = {}
        self.told = 0
        self.line_free = 0
        self.feedback = 0
        self.seen: dict[bytes, bytes] = {}

    def media(self, plain: bytes, now: int) -> None:
        """An RTP packet under the roll-over counter that puts it nearest to those before it."""
        ssrc, sequence = int.from_bytes(plain[8:12]), int.from_bytes(plain[2:4])
        highest = self.highest.get(ssrc, sequence)
        index = max(sequence, highest + ((sequence - highest + 0x8000) & 0xFFFF) - 0x8000)
        self.highest[ssrc] = max(highest, index)
        try:
            self.send(plain, now, index >> 16)
        except SrtpError:
            self.engine.receive(plain, self.addr, now)

    def report(self, plain: bytes, now: int) -> None:
        try:
            self.send_rtcp(plain, now)
        except SrtpError:
            self.engine.receive(plain, self.addr, now)

    def take(self, datagram: bytes) -> None:
        # A packet may be repeated as it is (RFC 3711, section 9.1), but nothing else may come under its number.
        if packet.classify(datagram) == packet.DemuxKind.DEMUX_RTP and not packet.looks_like_rtcp(datagram):
            name = datagram[2:4] + datagram[8:12]
            if self.seen.get(name) == datagram:
                return
            self.seen[name] = datagram
        super().take(datagram)

    def tell(self, bps: int, now: int) -> None:
        """Transport-wide feedback, as if what came since the last has waited for a line of that rate, and a request for
        the last packet and those before it."""
        numbers: dict[int, int] = {}
        for plain in self.received[self.told :]:
            wide = packet.read_extensions(plain, {20 + TWCC: ExtKind.EXT_TWCC}).get(ExtKind.EXT_TWCC)
            self.line_free = max(self.line_free, now) + len(plain) * 8_000_000 // bps
            if wide is not None:
                numbers[int.from_bytes(wide)] = self.line_free
        self.told = len(self.received)
        if numbers:
            first = min(numbers)
            arrivals = [numbers.get(number) for number in range(first, min(max(numbers) + 1, first + 500))]
            message, _ = rtcp_packets.write_transport(5, 5, self.feedback & 0xFF, first, arrivals, capacity=1200)
            self.feedback += 1
            if message:
                self.report(message, now)
        if self.received:
            last = packet.parse_rtp(self.received[-1])
            asked = tuple((last.sequence - back) & 0xFFFF for back in range(17))
            self.report(rtcp_packets.write(rtcp_packets.Nack(5, last.ssrc, asked), capacity=1200), now)


def leg(number: int, rtx: bool) -> LegParams:
    payloads = [LegPayload(96 + 2 * i, 96 + 2 * i, 97 + 2 * i if rtx else 0, nack=True) for i in range(len(CODECS))]
    return LegParams(
        mid="7",
        ssrc=7000 + number,
        rtx_ssrc=8000 + number if rtx else 0,
        cname="cart",
        payloads=(
            *payloads,
            LegPayload(111, 111, nack=True),
            LegPayload(63, 63 if rtx else 111, nack=True, unwrap=not rtx),
        ),
        extensions=tuple((20 + i, kind) for i, kind in EXTENSIONS),
        playout_delay=(0, 0) if rtx else None,
    )


class Scene:
    """Peer 1 publishes track 100 (video) and 101 (sound), peers 2 and 3 view both, a tap listens."""

    def __init__(self) -> None:
        self.engine = Engine(memory=1 << 20, seed=bytes(16))
        self.now = 10_000_000
        self.engine.advance(self.now)
        self.peers = [FuzzPeer(self.engine, number) for number in (1, 2, 3)]
        for peer in self.peers:
            peer.join(self.now)
            self.engine.set_remote(peer.number, "theirs", "their-own-password-000000")
        self.rings = [TapRing(64), TapRing(64)]
        for i, params in enumerate((VIDEO, AUDIO)):
            self.engine.add_track(100 + i, 1, params)
            self.engine.add_tap(300 + i, 100 + i, self.rings[i])
            for viewer in (2, 3):
                number = 10 * viewer + i
                self.engine.add_leg(200 + number, 100 + i, viewer, leg(number, rtx=viewer == 2))
        self.settle()

    def settle(self) -> None:
        peers = {peer.addr: peer for peer in self.peers}
        for datagram, addr in self.engine.transmits():
            if addr in peers:
                peers[addr].take(datagram)
        for ring in self.rings:
            ring.read(100)
        self.engine.poll_events()

    def step(self, what: int, data: bytes) -> None:
        """The publisher's datagram as it is, its RTP or RTCP protected; a viewer's RTP or RTCP; a stranger's
        datagram; time in µs; a command."""
        cart, viewer = self.peers[0], self.peers[1 + (what >> 3) % 2]
        match what % 8:
            case 0:
                self.engine.receive(data, cart.addr, self.now)
            case 1:
                cart.media(data, self.now)
            case 2:
                cart.report(data, self.now)
            case 3:
                viewer.media(data, self.now)
            case 4:
                viewer.report(data, self.now)
            case 5:
                self.engine.receive(data, STRANGER, self.now)
            case 6:
                self.wait(int.from_bytes(data[:3]))
            case _:
                self.command(data)
        self.settle()

    def wait(self, us: int) -> None:
        end = self.now + us
        for _ in range(50):
            self.now = min(end, max(self.now + 1, self.engine.deadline()))
            self.engine.advance(self.now)
            if self.now == end:
                break

    def flow(self, pictures: int, packets: int, bps: int) -> None:
        """So many pictures at 30 a second, of so many packets each; the viewers' lines carry `bps`, and they say so."""
        cart = self.peers[0]
        for _ in range(pictures):
            for part in range(packets):
                number = cart.highest.get(1, -1) + 1
                head = (VP8_DELTA if number else VP8_KEY) if part == 0 else b"\0" + VP8_DELTA[1:]
                stamp = self.now * 9 // 100 & 0xFFFFFFFF
                plain = packet.write_rtp(
                    payload_type=96,
                    marker=part == packets - 1,
                    sequence=number & 0xFFFF,
                    timestamp=stamp,
                    ssrc=1,
                    payload=head + bytes(1000),
                )
                cart.media(plain, self.now)
            self.settle()
            self.wait(PICTURE_US)
            self.settle()
            for viewer in self.peers[1:]:
                viewer.tell(bps, self.now)

    def command(self, data: bytes) -> None:
        """A command of the control plane by the first byte, on the object that the second names."""
        what, which = (*data[:2], 0, 0)[:2]
        if what == FLOW:
            size, line = (*data[2:4], 0, 0)[:2]
            self.flow(which % 32, size % 20, 500_000 * (1 + line))
            return
        track, number = 100 + which % 2, 10 * (2 + which % 2) + (which >> 1) % 2
        match what % 9:
            case 0 | 1:
                self.engine.mute_track(track, what % 9 == 0)
            case 2 | 3:
                self.engine.pause_leg(200 + number, what % 9 == 2)
            case 4:
                self.engine.request_keyframe(track)
            case 5:
                self.engine.remove_leg(200 + number)
            case 6:
                self.engine.remove_track(track)
            case 7:
                self.engine.remove_peer(1 + which % 3)
            case _:
                self.engine.remove_tap(300 + which % 2)


def engine(data: bytes) -> None:
    scene = Scene()
    for what, part in steps(data):
        scene.step(what, part)
    scene.wait(1_000_000)
    scene.settle()
    for number in (1, 2, 3):
        scene.engine.remove_peer(number)
    scene.wait(1_000_000)
