"""The swarm against itself over loopback, with real checks, handshakes and SRTP, and against aiortc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from itertools import count

import pytest
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription

from mediaserver.codecs.payload import Codec
from mediaserver.loadtest import loops
from mediaserver.loadtest.clip import Clip
from mediaserver.loadtest.connect import ConnectError, connect
from mediaserver.loadtest.dtls import PROFILES, HandshakeError, Identity
from mediaserver.loadtest.media import make_stream
from mediaserver.loadtest.offer import H264, OPUS, Answer, Credentials, Section, read_answer, write_offer
from mediaserver.loadtest.peers import (
    RTX,
    IceParams,
    Keys,
    PeerEnd,
    PeerParams,
    PeerStats,
    ReceiverParams,
    ReceiverStats,
    SenderParams,
)
from mediaserver.loadtest.raster import read_code
from mediaserver.loadtest.swarm import Swarm
from mediaserver.sfu.wire.packet import ExtKind
from tests.loadtest.answerer import Answerer
from tests.loadtest.running import asynchronous

EXTENSIONS = ((1, ExtKind.EXT_MID), (2, ExtKind.EXT_TWCC), (3, ExtKind.EXT_ABS_CAPTURE_TIME))
CODECS = ((102, Codec.CODEC_H264), (103, RTX), (111, Codec.CODEC_OPUS))
SECONDS = 10.0

Address = tuple[str, int]


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity()


@pytest.fixture(scope="module")
def picture() -> Clip:
    return make_stream("ultrasound", loops.ultrasound(beats=1, size=(320, 240), bitrate=1_500_000)).clip


@pytest.fixture(scope="module")
def voice() -> Clip:
    return make_stream("microphone", loops.microphone(seconds=1)).clip


@contextlib.asynccontextmanager
async def running(**options: bool) -> AsyncIterator[Swarm]:
    swarm = Swarm(**options)
    swarm.start()
    try:
        yield swarm
    finally:
        swarm.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 -- what the swarm's thread counts raises no event
            await asyncio.sleep(0.01)


async def link(
    swarm: Swarm,
    client: Identity,
    server: Identity,
    senders: tuple[SenderParams, ...],
    receivers: tuple[ReceiverParams, ...],
    through: Callable[[Address], Address] = lambda address: address,
    numbers: tuple[int, int] = (1, 2),
    open_every: int = 1,
) -> tuple[int, int]:
    """A publisher and a viewer, connected as through a server that does nothing; their numbers."""
    answerer, credentials = Answerer(server), Credentials.make()
    answer = Answer(
        answerer.credentials.ufrag,
        answerer.credentials.password,
        server.fingerprint,
        "passive",
        (through(answerer.address),),
        (),
    )
    connected, (keys, ice) = await asyncio.gather(
        connect(answer, credentials, client), answerer.accept(credentials, client.fingerprint)
    )
    params = PeerParams(keys, ice, CODECS, EXTENSIONS, receivers=receivers, open_every=open_every)
    swarm.add_peer(numbers[1], answerer.socket, params)
    swarm.add_peer(
        numbers[0], connected.socket, PeerParams(connected.keys, connected.ice, CODECS, EXTENSIONS, senders=senders)
    )
    return numbers


def video(clip: Clip, *, rtx: bool = True) -> tuple[tuple[SenderParams, ...], tuple[ReceiverParams, ...]]:
    sender = SenderParams(clip, 0, "v", 11, 102, 12 if rtx else 0, 103 if rtx else 0)
    return (sender,), (ReceiverParams(0, "v", True, 90_000, 11, 12 if rtx else 0),)


def viewer(swarm: Swarm, number: int = 2) -> ReceiverStats:
    return swarm.peer(number).receivers[0]


@pytest.mark.parametrize("profile", list(PROFILES))
@asynchronous
async def test_every_packet_arrives_under_each_profile(profile: str, picture: Clip, voice: Clip) -> None:
    client, server = Identity((profile,)), Identity()
    senders, receivers = video(picture)
    senders += (SenderParams(voice, 1, "a", 21, 111),)
    receivers += (ReceiverParams(1, "a", False, 48_000, 21),)
    async with running() as swarm:
        await link(swarm, client, server, senders, receivers)
        await until(lambda: viewer(swarm).frames > 20)
        swarm.halt()
        await until(lambda: swarm.sent_since(1, 0, viewer(swarm).last_stamp) == 0)
        sent, seen = swarm.peer(1), swarm.peer(2)
        times, untimed = swarm.times(0), swarm.totals().untimed
    for sender, receiver in zip(sent.senders, seen.receivers, strict=True):
        assert receiver.received == sender.packets
        assert (receiver.lost, receiver.missing, receiver.duplicates, receiver.refused) == (0, 0, 0, 0)
        assert receiver.octets == sender.octets
    assert seen.receivers[0].frames == sent.senders[0].frames
    assert seen.receivers[0].first_frame > 0
    # What the sender itself was too late with tells nothing of the way.
    assert sum(one.stamped for one in seen.receivers) + untimed == sum(one.received for one in seen.receivers)
    assert times.latency.total == seen.receivers[0].stamped
    assert times.latency.negative == 0
    assert 0 < times.latency.percentile(50) < 50_000_000


@asynchronous
async def test_closed_packets_are_counted_and_timed_as_opened_ones(identity: Identity, picture: Clip) -> None:
    async with running() as swarm:
        await link(swarm, identity, identity, *video(picture), open_every=16)
        await until(lambda: viewer(swarm).frames > 60)
        swarm.halt()
        await until(lambda: swarm.sent_since(1, 0, viewer(swarm).last_stamp) == 0)
        sent, seen, totals = swarm.peer(1).senders[0], viewer(swarm), swarm.totals()
    assert (seen.received, seen.frames, seen.octets) == (sent.packets, sent.frames, sent.octets)
    assert (seen.lost, seen.missing, seen.missed, seen.duplicates, seen.refused) == (0, 0, 0, 0, 0)
    assert seen.stamped + totals.untimed == seen.received
    assert seen.keyframe_requests <= 1
    # One in sixteen, and those before the first key picture.
    assert seen.received / 17 < totals.opened < seen.received / 2


@asynchronous
async def test_a_closed_packet_that_comes_twice_counts_once(identity: Identity, picture: Clip) -> None:
    relay = LossyRelay(lambda: False, copies=2)
    async with running() as swarm:
        await link(swarm, identity, identity, *video(picture), through=relay.through, open_every=16)
        await until(lambda: viewer(swarm).frames > 30)
        swarm.halt()
        await until(lambda: swarm.sent_since(1, 0, viewer(swarm).last_stamp) == 0)
        sent, seen = swarm.peer(1).senders[0], viewer(swarm)
    await relay.close()
    assert seen.received == sent.packets
    assert seen.refused > sent.packets / 2
    assert (seen.lost, seen.missed, seen.duplicates) == (0, 0, 0)


@asynchronous
async def test_a_server_with_wrong_keys_is_found_by_the_samples(identity: Identity, voice: Clip) -> None:
    wrong = Keys(1, *(bytes([n]) * size for n, size in enumerate((16, 14, 16, 14), 1)))
    right = Keys(1, *(bytes([n]) * size for n, size in enumerate((16, 14, 16, 14), 7)))
    sending, receiving = bound_socket(), bound_socket()
    sending.connect(receiving.getsockname())
    receiving.connect(sending.getsockname())
    ice = IceParams("a:b", "c" * 22, "d" * 22)
    async with running() as swarm:
        receivers = (ReceiverParams(1, "a", False, 48_000, 21),)
        swarm.add_peer(2, receiving, PeerParams(right, ice, CODECS, EXTENSIONS, receivers=receivers, open_every=16))
        senders = (SenderParams(voice, 1, "a", 21, 111),)
        swarm.add_peer(1, sending, PeerParams(wrong, ice, CODECS, EXTENSIONS, senders=senders))
        await until(lambda: viewer(swarm).refused > 5)
        assert viewer(swarm).received == 0  # nothing is believed before a first packet was opened


@asynchronous
async def test_spinning_changes_nothing_but_the_waiting(identity: Identity, picture: Clip) -> None:
    async with running(spin=True) as swarm:
        await link(swarm, identity, identity, *video(picture))
        await until(lambda: viewer(swarm).frames > 5)
        assert swarm.totals().dropped == 0


class LossyRelay:
    """Stands between one client and an answerer: of the media on the way there it loses what `lose` says, and sends
    each packet so often."""

    def __init__(self, lose: Callable[[], bool], copies: int = 1) -> None:
        self._lose = lose
        self._copies = copies
        self._socket = bound_socket()
        self._task: asyncio.Task[None] | None = None
        self.lost = 0

    def through(self, there: Address) -> Address:
        """Start; the address at which to find `there`."""
        self._task = asyncio.create_task(self._run(there))
        address: Address = self._socket.getsockname()
        return address

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._socket.close()

    async def _run(self, there: Address) -> None:
        loop = asyncio.get_running_loop()
        back: Address | None = None
        while True:
            data, sender = await loop.sock_recvfrom(self._socket, 2048)
            if sender == there:
                if back is not None:
                    self._socket.sendto(data, back)
                continue
            back = sender
            is_media = 128 <= data[0] <= 191 and not 192 <= data[1] <= 223
            if is_media and self._lose():
                self.lost += 1
            else:
                for _ in range(self._copies if is_media else 1):
                    self._socket.sendto(data, there)


def bound_socket() -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setblocking(False)
    bound.bind(("127.0.0.1", 0))
    return bound


@pytest.mark.parametrize("rtx", [True, False])
@asynchronous
async def test_what_is_lost_is_asked_for_and_sent_again(identity: Identity, picture: Clip, rtx: bool) -> None:
    dice = random.Random(1)
    relay = LossyRelay(lambda: dice.random() < 0.1)
    async with running() as swarm:
        await link(swarm, identity, identity, *video(picture, rtx=rtx), through=relay.through)
        await until(lambda: relay.lost > 20)
        swarm.halt()
        sent = swarm.peer(1).senders[0]
        # What was lost at the very end leaves no gap behind which it could be noticed.
        await until(lambda: viewer(swarm).missing == 0 and viewer(swarm).received >= sent.packets - 60)
        sent, seen = swarm.peer(1).senders[0], viewer(swarm)
    await relay.close()
    assert seen.repaired > 10
    assert seen.lost == 0
    assert sent.retransmitted >= seen.repaired
    assert seen.received <= sent.packets
    assert seen.refused == 0


@asynchronous
async def test_what_cannot_be_repaired_is_lost_and_asks_for_a_keyframe(identity: Identity, picture: Clip) -> None:
    senders, _ = video(picture)
    receivers = (ReceiverParams(0, "v", True, 90_000, 11, 12, nack=False),)
    counter = count()
    relay = LossyRelay(lambda: next(counter) == 40)
    async with running() as swarm:
        await link(swarm, identity, identity, senders, receivers, through=relay.through)
        await until(lambda: swarm.peer(1).senders[0].keyframe_requests > 0 and viewer(swarm).frames > 30)
        assert viewer(swarm).lost == 1
        assert viewer(swarm).keyframe_requests >= 1
    await relay.close()


@asynchronous
async def test_unannounced_ssrcs_are_learnt(identity: Identity, picture: Clip, voice: Clip) -> None:
    senders = (SenderParams(picture, 0, "v", 31, 102, 32, 103), SenderParams(voice, 1, "a", 33, 111))
    receivers = (ReceiverParams(1, "a", False, 48_000), ReceiverParams(0, "v", True, 90_000))
    async with running() as swarm:
        await link(swarm, identity, identity, senders, receivers)
        await until(lambda: all(stats.frames > 5 for stats in swarm.peer(2).receivers))
        assert swarm.totals().unknown == 0


@asynchronous
async def test_a_wrong_fingerprint_is_refused(identity: Identity) -> None:
    answerer, credentials = Answerer(identity), Credentials.make()
    answer = Answer(
        answerer.credentials.ufrag,
        answerer.credentials.password,
        ":".join(["00"] * 32),
        "passive",
        (answerer.address,),
        (),
    )
    accepting = asyncio.create_task(answerer.accept(credentials, identity.fingerprint))
    try:
        with pytest.raises(ConnectError, match="certificate"):
            await connect(answer, credentials, identity)
    finally:
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
        answerer.socket.close()


@asynchronous
async def test_no_profile_in_common_is_told() -> None:
    ours, theirs = Identity(("SRTP_AEAD_AES_256_GCM",)), Identity(("SRTP_AES128_CM_SHA1_80",))
    answerer, credentials = Answerer(theirs), Credentials.make()
    answer = Answer(
        answerer.credentials.ufrag,
        answerer.credentials.password,
        theirs.fingerprint,
        "passive",
        (answerer.address,),
        (),
    )
    accepting = asyncio.create_task(answerer.accept(credentials, ours.fingerprint))
    try:
        with pytest.raises(ConnectError, match="SRTP profile"):
            await connect(answer, credentials, ours)
    finally:
        accepting.cancel()
        results = await asyncio.gather(accepting, return_exceptions=True)
        assert isinstance(results[0], (HandshakeError, asyncio.CancelledError))
        answerer.socket.close()


@asynchronous
async def test_a_dead_candidate_does_not_hinder_a_live_one(identity: Identity, voice: Clip) -> None:
    dead = bound_socket()
    answerer, credentials = Answerer(identity), Credentials.make()
    answer = Answer(
        answerer.credentials.ufrag,
        answerer.credentials.password,
        identity.fingerprint,
        "passive",
        (dead.getsockname(), answerer.address),
        (),
    )
    connected, _ = await asyncio.gather(
        connect(answer, credentials, identity), answerer.accept(credentials, identity.fingerprint)
    )
    assert connected.socket.getpeername() == answerer.address
    for opened in (dead, answerer.socket, connected.socket):
        opened.close()


@asynchronous
async def test_a_closed_port_ends_a_peer(identity: Identity, voice: Clip) -> None:
    async with running() as swarm:
        senders = (SenderParams(voice, 1, "a", 21, 111),)
        await link(swarm, identity, identity, senders, (ReceiverParams(1, "a", False, 48_000, 21),))
        await until(lambda: viewer(swarm).received > 0)
        swarm.remove_peer(2)
        await until(lambda: swarm.peer(1).end == PeerEnd.REFUSED)


@asynchronous
async def test_peers_come_and_go_without_a_trace(identity: Identity, picture: Clip) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with running() as swarm:
        before = open_files()
        for turn in range(5):
            for number in range(4):
                pair = (100 * turn + 2 * number + 1, 100 * turn + 2 * number + 2)
                await link(swarm, identity, identity, *video(picture), numbers=pair)
            await until(lambda: swarm.totals().received > 0)
            for number in range(4):
                swarm.remove_peer(100 * turn + 2 * number + 1)
                swarm.remove_peer(100 * turn + 2 * number + 2)
        assert open_files() == before
    with pytest.raises(KeyError):
        swarm.peer(1)


def test_unusable_parameters_are_refused(identity: Identity, picture: Clip) -> None:
    swarm = Swarm()
    bound = bound_socket()
    bound.connect(bound.getsockname())
    ice = IceParams("a:b", "p", "q")
    with pytest.raises(ValueError, match="keys"):
        swarm.add_peer(1, bound, PeerParams(Keys(7, b"short", b"x", b"", b""), ice))
    good = Keys(7, bytes(16), bytes(12), bytes(16), bytes(12))
    with pytest.raises(ValueError, match="source"):
        swarm.add_peer(1, bound, PeerParams(good, ice, senders=(SenderParams(picture, 99, "v", 1, 102),)))
    with pytest.raises(ValueError, match="longer"):
        swarm.add_peer(1, bound, PeerParams(good, ice, senders=(SenderParams(picture, 0, "m" * 40, 1, 102),)))
    swarm.add_peer(1, bound, PeerParams(good, ice))
    with pytest.raises(ValueError, match="already"):
        swarm.add_peer(1, bound, PeerParams(good, ice))
    swarm.remove_peer(1)
    with pytest.raises(KeyError):
        swarm.remove_peer(1)
    swarm.close()


@pytest.mark.parametrize(
    ("frames", "keyframes"), [([], []), ([[b"x"]], []), ([[]], [True]), ([[b""]], [True]), ([[b"x"]], [False])]
)
def test_an_unusable_clip_is_refused(frames: list[list[bytes]], keyframes: list[bool]) -> None:
    with pytest.raises(ValueError, match="frame"):
        Clip(frames, keyframes, 3000, 90_000, True)


async def codes_of(track: MediaStreamTrack, wanted: int) -> list[int | None]:
    codes = []
    while len(codes) < wanted:
        frame = await track.recv()
        codes.append(read_code(frame.to_ndarray(format="yuv420p")[: frame.height]))
    return codes


@asynchronous
async def test_another_implementation_receives_and_decodes_what_the_swarm_sends(
    identity: Identity, picture: Clip, voice: Clip
) -> None:
    peer = RTCPeerConnection()
    tracks: dict[str, MediaStreamTrack] = {}
    peer.on("track", lambda track: tracks.__setitem__(track.kind, track))
    sections = [
        Section("0", "video", "sendonly", (H264,), ssrc=41, rtx_ssrc=42),
        Section("1", "audio", "sendonly", (OPUS,), ssrc=43),
    ]
    credentials = Credentials.make()
    await peer.setRemoteDescription(
        RTCSessionDescription(write_offer(sections, credentials, identity.fingerprint), "offer")
    )
    await peer.setLocalDescription(await peer.createAnswer())
    answer = read_answer(peer.localDescription.sdp)
    connected = await connect(answer, credentials, identity)
    params = PeerParams(
        connected.keys,
        connected.ice,
        CODECS,
        EXTENSIONS[:1],
        (SenderParams(picture, 0, "0", 41, 102, 42, 103), SenderParams(voice, 1, "1", 43, 111)),
    )
    async with running() as swarm:
        swarm.add_peer(1, connected.socket, params)
        async with asyncio.timeout(SECONDS):
            codes = await codes_of(tracks["video"], 30)
            sound = await tracks["audio"].recv()
        stats: PeerStats = swarm.peer(1)
    await peer.close()
    number = codes[0]
    assert number is not None
    assert codes == [(number + step) % 25 for step in range(30)]
    assert sound.sample_rate == 48_000
    assert stats.end == PeerEnd.HERE


def test_a_frame_takes_its_time(picture: Clip) -> None:
    assert picture.seconds == pytest.approx(25 / 30)
    assert time.get_clock_info("monotonic").resolution < 1e-6
