"""People who come and go over real sockets: by the WebSocket, by WHIP and WHEP, politely, rudely, and with nonsense.

Each visit is a coroutine that comes in, stays for a moment and goes. What a server may refuse it may refuse; what must
not be is an error of the server's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp

from mediaserver.auth import mint
from mediaserver.codecs.payload import Codec
from mediaserver.loadtest import connect as ice
from mediaserver.loadtest.connect import Connected, ConnectError
from mediaserver.loadtest.dtls import Handshake, Identity
from mediaserver.loadtest.join import Gate, _receivers, _section, _senders, _sending
from mediaserver.loadtest.loops import AUDIO_FRAME, Loop
from mediaserver.loadtest.media import StreamMedia, make_stream
from mediaserver.loadtest.offer import Answer, AnswerError, Credentials, Section, read_answer, write_offer
from mediaserver.loadtest.peers import IceParams
from mediaserver.loadtest.signalling import Signalling, SignallingError
from mediaserver.loadtest.swarm import Swarm
from mediaserver.sfu.session.model import Role
from tests.recording import feed
from tests.soak.served import SECRET

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
OFFERS = [path.read_text() for path in sorted((Path(__file__).parents[1] / "sfu/wire/fixtures").glob("*.sdp"))]
ROOMS = 8
FAILURES = (ConnectError, SignallingError, AnswerError, aiohttp.ClientError, OSError, TimeoutError)
"""What may happen to a visitor on a machine that is too busy, or in a room that has just closed."""


def streams() -> list[StreamMedia]:
    """A small camera and a voice."""
    pictures = feed.video(Codec.CODEC_VP8, 60, width=160, height=120)
    voice = feed.sound(2)
    camera = Loop("VP8", 90_000, 3000, pictures, (True, *(False,) * 29) * 2, 160, 120)
    return [
        make_stream("camera", camera),
        make_stream("microphone", Loop("opus", 48_000, AUDIO_FRAME, voice, (True,) * len(voice))),
    ]


class Crowd(Gate):
    """`visits` counts what was done, by kind; `failures` what did not come about, with the last reason of each."""

    def __init__(self, url: str, media: tuple[int, ...], swarm: Swarm, made: list[StreamMedia], seed: int) -> None:
        super().__init__(aiohttp.ClientSession(), url, swarm)
        self.url = url
        self.swarm = swarm
        self.identity = Identity()
        self.streams = made
        self.chance = random.Random(seed)
        self.ports = media
        self.visits: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self.statuses: Counter[int] = Counter()
        self._over = asyncio.Event()

    async def close(self) -> None:
        await self._http.close()

    async def churn(self, seconds: float, people: int) -> None:
        """So many people at once come and go for so long."""
        self._over.clear()
        timer = asyncio.get_running_loop().call_later(seconds, self._over.set)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(people):
                    group.create_task(self._keep_coming())
        finally:
            timer.cancel()

    async def stay(self) -> None:
        """For a moment, or until the end if that is sooner."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.chance.uniform(0.05, 2.0)):
                await self._over.wait()

    async def _keep_coming(self) -> None:
        while not self._over.is_set():
            (visit,) = self.chance.choices([visit for visit, _ in VISITS], [weight for _, weight in VISITS])
            name = visit.__name__
            try:
                async with asyncio.timeout(30):
                    await visit(self)
                self.visits[name] += 1
            except FAILURES as error:
                self.failures[name] += 1
                self.reasons[name] = f"{type(error).__name__}: {error}"

    # What visitors need

    def room(self) -> str:
        """Mostly one of a few, sometimes one that nobody has ever been in."""
        return f"ward-{self.chance.randrange(ROOMS)}" if self.chance.random() < 0.9 else f"once-{secrets.token_hex(4)}"

    def token(self, room: str, role: str) -> str:
        return mint(SECRET, room=room, role=Role(role), now=time.time())

    def viewing(self) -> list[Section]:
        return [_section("0", "recvonly", "video"), _section("1", "recvonly", "audio")]

    def play(self, peer: Peer) -> None:
        """Send or receive over a peer that is connected, unless what it came for has gone meanwhile."""
        assert peer.connected is not None
        assert peer.answer is not None
        wanted = "recvonly" if peer.sends else "sendonly"
        if any(not section.accepted or section.direction != wanted for section in peer.answer.sections):
            return
        number = next(self._numbers)
        senders = _senders(peer.sections, self.streams, peer.answer, number) if peer.sends else ()
        receivers = () if peer.sends else _receivers(peer.answer, ("camera", "microphone"))
        peer.number = self._play(peer.connected, peer.answer, senders, receivers)

    @contextlib.asynccontextmanager
    async def browser(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A client with connections of its own; at the end they are cut, without a word."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
            yield http

    async def post(
        self, http: aiohttp.ClientSession, path: str, room: str, role: str, offer: str | bytes
    ) -> tuple[str, str]:
        """The answer and the resource; both empty when the offer was refused."""
        headers = {"Authorization": f"Bearer {self.token(room, role)}", "Content-Type": SDP}
        async with http.post(self.url + path, data=offer, headers=headers) as response:
            text = await response.text()
            self.statuses[response.status] += 1
            assert response.status < 500, text
            if response.status != 201:
                return "", ""
            return text, urljoin(self.url, response.headers["Location"])

    async def delete(self, http: aiohttp.ClientSession, resource: str, room: str, role: str) -> None:
        headers = {"Authorization": f"Bearer {self.token(room, role)}"}
        async with http.delete(resource, headers=headers) as response:
            self.statuses[response.status] += 1
            assert response.status in (200, 404)


class Peer:
    """A visitor's peer connection."""

    def __init__(self, crowd: Crowd, sends: bool) -> None:
        self._crowd = crowd
        self.sends = sends
        self.sections = _sending(crowd.streams) if sends else crowd.viewing()
        self.credentials = Credentials.make()
        self.sdp = write_offer(self.sections, self.credentials, crowd.identity.fingerprint)
        self.answer: Answer | None = None
        self.connected: Connected | None = None
        self.number = 0

    async def connect(self, answer: str) -> None:
        self.answer = read_answer(answer)
        self.connected = await ice.connect(self.answer, self.credentials, self._crowd.identity)

    def stop(self, *, silently: bool = False) -> None:
        """Say BYE, or nothing at all."""
        if self.connected is not None and silently:
            # Of a socket that is shut down nothing can leave any more.
            with contextlib.suppress(OSError):
                self.connected.socket.shutdown(socket.SHUT_RDWR)
        if self.number:
            self._crowd.swarm.remove_peer(self.number)
        elif self.connected is not None:
            self.connected.socket.close()


# By the WebSocket


async def _enter(crowd: Crowd, signalling: Signalling, room: str, *, sends: bool) -> tuple[Peer, dict[str, Any]]:
    """Join, negotiate, connect and play."""
    joined = await signalling.join(room, crowd.token(room, "cart" if sends else "doctor"), "somebody")
    peer = Peer(crowd, sends)
    try:
        if sends:
            publish = [{"mid": s.mid, "source": m.source} for s, m in zip(peer.sections, crowd.streams, strict=True)]
            reply = await signalling.request("offer", sdp=peer.sdp, publish=publish, subscribe=[])
        else:
            tracks = {track["kind"]: track["id"] for track in joined["tracks"]}
            wanted = [{"mid": s.mid, "track": tracks[s.kind]} for s in peer.sections if s.kind in tracks]
            reply = await signalling.request("offer", sdp=peer.sdp, publish=[], subscribe=wanted)
            if len(wanted) < len(peer.sections):
                return peer, joined  # nobody sends yet; it was worth a look
        await peer.connect(reply["sdp"])
        crowd.play(peer)
    except BaseException:
        peer.stop(silently=True)
        raise
    return peer, joined


async def _by_socket(crowd: Crowd, *, sends: bool, polite: bool) -> None:
    async with crowd.browser() as http:
        signalling = await Signalling.connect(http, crowd.url)
        try:
            peer, _ = await _enter(crowd, signalling, crowd.room(), sends=sends)
            try:
                await crowd.stay()
                if polite:
                    await signalling.request("leave")
            finally:
                peer.stop(silently=not polite)
        finally:
            if not polite:
                cut(signalling)
            await signalling.close()


def cut(signalling: Signalling) -> None:
    """Reset its connection: the server hears no goodbye."""
    connection = signalling._socket._response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


async def cart(crowd: Crowd) -> None:
    await _by_socket(crowd, sends=True, polite=True)


async def doctor(crowd: Crowd) -> None:
    await _by_socket(crowd, sends=False, polite=True)


async def cart_that_vanishes(crowd: Crowd) -> None:
    await _by_socket(crowd, sends=True, polite=False)


async def doctor_that_vanishes(crowd: Crowd) -> None:
    await _by_socket(crowd, sends=False, polite=False)


async def cart_that_resumes(crowd: Crowd) -> None:
    """Its socket drops, its media goes on, and it mutes and unmutes over the next one."""
    room = crowd.room()
    async with crowd.browser() as http:
        signalling = await Signalling.connect(http, crowd.url)
        try:
            peer, joined = await _enter(crowd, signalling, room, sends=True)
        finally:
            await signalling.close()
        try:
            signalling = await Signalling.connect(http, crowd.url)
            try:
                again = await signalling.join(room, crowd.token(room, "cart"), "somebody", joined["resume"])
                mine = [track["id"] for track in again["tracks"] if track["participant"] == again["participant"]]
                for track in mine:
                    await signalling.request("mute", track=track, muted=True)
                    await signalling.send("keyframe", track=track)
                    await signalling.request("mute", track=track, muted=False)
                await crowd.stay()
                await signalling.request("leave")
            finally:
                await signalling.close()
        finally:
            peer.stop()


async def chatterbox(crowd: Crowd) -> None:
    """Messages that are none, offers that are none, tracks that are none."""
    room = crowd.room()
    async with crowd.browser() as http, http.ws_connect(crowd.url.replace("http", "ws") + "/ws") as socket:
        for message in (
            {"type": "join", "id": 1, "version": 1, "room": room, "token": crowd.token(room, "cart")},
            {"type": "offer", "id": 2, "sdp": spoiled(crowd.chance), "publish": [], "subscribe": []},
            {
                "type": "offer",
                "id": 3,
                "sdp": crowd.chance.choice(OFFERS),
                "publish": [{"mid": "9", "source": "camera"}],
            },
            {"type": "subscribe", "id": 4, "track": "t-none"},
            {"type": "mute", "id": 5, "track": "t-none", "muted": True},
            {"type": "candidate", "candidate": "candidate:nonsense", "mid": "0"},
            {"type": "record", "id": 6, "on": False},
            {"type": "no-such-thing", "id": 7},
        ):
            await socket.send_json(message)
        await socket.send_str(secrets.token_hex(200))
        await socket.send_json({"type": "leave", "id": 8})
        while (frame := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            if frame.json().get("id") == 8:
                break


# By WHIP and WHEP


async def _by_http(crowd: Crowd, *, sends: bool, polite: bool) -> None:
    room = crowd.room()
    role = "cart" if sends else "observer"
    peer = Peer(crowd, sends)
    async with crowd.browser() as http:
        try:
            path = f"/whip/{room}?source=camera" if sends else f"/whep/{room}"
            answer, resource = await crowd.post(http, path, room, role, peer.sdp)
            if not answer:
                return
            await peer.connect(answer)
            crowd.play(peer)
            await crowd.stay()
            if polite:
                await crowd.delete(http, resource, room, role)
        finally:
            peer.stop(silently=not polite)


async def publisher(crowd: Crowd) -> None:
    await _by_http(crowd, sends=True, polite=True)


async def viewer(crowd: Crowd) -> None:
    await _by_http(crowd, sends=False, polite=True)


async def publisher_that_vanishes(crowd: Crowd) -> None:
    await _by_http(crowd, sends=True, polite=False)


async def viewer_that_vanishes(crowd: Crowd) -> None:
    await _by_http(crowd, sends=False, polite=False)


async def publisher_that_moves(crowd: Crowd) -> None:
    """An ICE restart by PATCH, and the first checks of the new session come from another address."""
    room = crowd.room()
    peer = Peer(crowd, True)
    async with crowd.browser() as http:
        answer, resource = await crowd.post(http, f"/whip/{room}?source=camera", room, "cart", peer.sdp)
        try:
            await peer.connect(answer)
            assert peer.answer is not None
            fresh = Credentials.make()
            headers = {
                "Authorization": f"Bearer {crowd.token(room, 'cart')}",
                "Content-Type": FRAGMENT,
                "If-Match": "*",
            }
            body = f"a=ice-ufrag:{fresh.ufrag}\r\na=ice-pwd:{fresh.password}\r\n"
            async with http.patch(resource, data=body, headers=headers) as response:
                self_made = dict(line[2:].split(":", 1) for line in (await response.text()).split() if ":" in line)
                crowd.statuses[response.status] += 1
                assert response.status == 200
            params = IceParams(f"{self_made['ice-ufrag']}:{fresh.ufrag}", self_made["ice-pwd"], fresh.password)
            moved = await ice._check_all(peer.answer.candidates, params)
            assert await ice._check(moved, params, nominate=True)
            assert peer.connected is not None
            peer.connected.socket.close()
            peer.connected = Connected(moved, peer.connected.keys, params, peer.connected.up_ns)
            crowd.play(peer)
            await crowd.stay()
            await crowd.delete(http, resource, room, "cart")
        finally:
            peer.stop()


async def nobody(crowd: Crowd) -> None:
    """An offer that nothing follows, or a check and the first words of a handshake."""
    room = crowd.room()
    peer = Peer(crowd, True)
    async with crowd.browser() as http:
        answer, _ = await crowd.post(http, f"/whip/{room}", room, "cart", peer.sdp)
    if not answer or crowd.chance.random() < 0.5:
        return
    read = read_answer(answer)
    params = IceParams(f"{read.ufrag}:{peer.credentials.ufrag}", read.password, peer.credentials.password)
    checked = await ice._check_all(read.candidates, params)
    for datagram in Handshake(crowd.identity).flights():
        checked.send(datagram)
    checked.close()


async def bad_offers(crowd: Crowd) -> None:
    """Offers of real browsers with a few bytes changed; what is taken after all is never connected."""
    room = crowd.room()
    async with crowd.browser() as http:
        for way, role in (("whip", "cart"), ("whep", "observer"), ("whip", "observer")):
            await crowd.post(http, f"/{way}/{room}", room, role, spoiled(crowd.chance).encode("utf-8", "replace"))


def spoiled(chance: random.Random) -> str:
    text = list(chance.choice(OFFERS))
    for _ in range(chance.randrange(1, 8)):
        place = chance.randrange(len(text))
        text[place : place + chance.choice((0, 1, 1, 40))] = chance.choice(("", "x", "\r\n", "0", "\x00", "é"))
    return "".join(text)


async def noise(crowd: Crowd) -> None:
    """Datagrams of no peer."""
    host = urlsplit(crowd.url).hostname
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for _ in range(50):
            first = crowd.chance.choice((0, 1, 20, 22, 63, 64, 128, 144, 255))
            datagram = bytes([first]) + crowd.chance.randbytes(crowd.chance.randrange(0, 1400))
            out.sendto(datagram, (host, crowd.chance.choice(crowd.ports)))


Visit = Callable[[Crowd], Awaitable[None]]
VISITS: list[tuple[Visit, int]] = [
    (cart, 4),
    (doctor, 6),
    (publisher, 3),
    (viewer, 5),
    (publisher_that_moves, 2),
    (cart_that_resumes, 2),
    (cart_that_vanishes, 2),
    (doctor_that_vanishes, 2),
    (publisher_that_vanishes, 1),
    (viewer_that_vanishes, 2),
    (chatterbox, 2),
    (nobody, 2),
    (bad_offers, 2),
    (noise, 1),
]
"""Each kind with how often it comes in proportion to the others."""
