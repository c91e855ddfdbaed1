"""How carts and viewers get in: by the WebSocket or by WHIP and WHEP, then ICE and DTLS, then into the swarm."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Literal
from urllib.parse import urljoin

import aiohttp
import msgspec

from mediaserver.codecs.payload import codec_from_name
from mediaserver.loadtest.connect import Connected, Holds, connect
from mediaserver.loadtest.dtls import Identity
from mediaserver.loadtest.offer import CODECS, Answer, Credentials, Direction, Section, read_answer, write_offer
from mediaserver.loadtest.peers import RTX, PeerParams, ReceiverParams, SenderParams
from mediaserver.loadtest.scenario import SOURCES, StreamMedia
from mediaserver.loadtest.signalling import Message, Signalling
from mediaserver.loadtest.swarm import Swarm
from mediaserver.sfu.wire.packet import EXT_URIS

TRACKS_SECONDS = 10.0
GOLDEN = 0.618034

Leave = Callable[[], Coroutine[Any, Any, None]]


class JoinError(Exception):
    """A participant could not come in; says which and why."""


class Joined(msgspec.Struct):
    """A participant that plays. `began_ns` is when it started to join and `up_ns` when its transport was up, on the
    monotonic clock."""

    number: int
    role: Literal["cart", "viewer"]
    room: str
    began_ns: int
    up_ns: int
    seconds: float
    sources: tuple[str, ...]
    leave: Leave


class Gate:
    """The way in to one server for everyone of a load test."""

    def __init__(self, http: aiohttp.ClientSession, url: str, swarm: Swarm, *, verify: bool = True) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._swarm = swarm
        self._verify = verify
        self._identity = Identity()
        self._numbers = itertools.count(1)

    # By the WebSocket

    async def cart(self, room: str, token: str, streams: list[StreamMedia]) -> list[Joined]:
        """Publish all streams over one connection."""
        began = time.monotonic_ns()
        signalling = await Signalling.connect(self._http, self._url, verify=self._verify)
        try:
            await signalling.join(room, token, "load cart")
            sections, credentials = _sending(streams), Credentials.make()
            publish = [
                {"mid": section.mid, "source": stream.source} for section, stream in zip(sections, streams, strict=True)
            ]
            reply = await signalling.request(
                "offer", sdp=self._offer(sections, credentials), publish=publish, subscribe=[]
            )
            answer = read_answer(reply["sdp"])
            connected = await connect(answer, credentials, self._identity)
            number = self._play(connected, answer, senders=_senders(sections, streams, answer, next(self._numbers)))
        except BaseException:
            await signalling.close()
            raise
        sources = tuple(stream.source for stream in streams)
        return [_joined(number, "cart", room, began, connected, sources, lambda: self._leave_socket(signalling))]

    async def viewer(
        self, room: str, token: str, streams: list[StreamMedia], holds: Holds | None = None
    ) -> list[Joined]:
        """View all tracks of the room over one connection."""
        began = time.monotonic_ns()
        signalling = await Signalling.connect(self._http, self._url, verify=self._verify)
        try:
            joined = await signalling.join(room, token, "load viewer")
            tracks = await _await_tracks(signalling, joined["tracks"], len(streams))
            sections = [
                _section(str(number), "recvonly", "audio" if track["kind"] == "audio" else "video")
                for number, track in enumerate(tracks)
            ]
            credentials = Credentials.make()
            subscribe = [
                {"mid": section.mid, "track": track["id"]} for section, track in zip(sections, tracks, strict=True)
            ]
            reply = await signalling.request(
                "offer", sdp=self._offer(sections, credentials), publish=[], subscribe=subscribe
            )
            answer = read_answer(reply["sdp"])
            connected = await connect(answer, credentials, self._identity, holds)
            sources = tuple(track["source"] for track in tracks)
            number = self._play(connected, answer, receivers=_receivers(answer, sources))
        except BaseException:
            await signalling.close()
            raise
        return [_joined(number, "viewer", room, began, connected, sources, lambda: self._leave_socket(signalling))]

    async def _leave_socket(self, signalling: Signalling) -> None:
        try:
            await signalling.request("leave")
        finally:
            await signalling.close()

    # By WHIP and WHEP

    async def whip_cart(self, room: str, token: str, streams: list[StreamMedia]) -> list[Joined]:
        """Publish with as many WHIP sessions as it takes: each carries a picture and a sound at most."""
        videos = [stream for stream in streams if stream.video]
        sounds = [stream for stream in streams if not stream.video]
        pairs = [[stream for stream in pair if stream] for pair in itertools.zip_longest(videos, sounds)]
        joined = []
        for pair in pairs:
            began = time.monotonic_ns()
            sections, credentials = _sending(pair), Credentials.make()
            query = ",".join(stream.source for stream in pair)
            answer, leave = await self._post(f"/whip/{room}?source={query}", token, sections, credentials)
            connected = await connect(answer, credentials, self._identity)
            number = self._play(connected, answer, senders=_senders(sections, pair, answer, next(self._numbers)))
            sources = tuple(stream.source for stream in pair)
            joined.append(_joined(number, "cart", room, began, connected, sources, leave))
        return joined

    async def whep_viewer(
        self, room: str, token: str, streams: list[StreamMedia], holds: Holds | None = None
    ) -> list[Joined]:
        """View with one WHEP session. Its m-lines are filled in the order of `SOURCES`."""
        began = time.monotonic_ns()
        ordered = sorted(streams, key=lambda stream: SOURCES.index(stream.source))
        sections = [
            _section(str(number), "recvonly", "video" if stream.video else "audio")
            for number, stream in enumerate(ordered)
        ]
        credentials = Credentials.make()
        answer, leave = await self._post(f"/whep/{room}", token, sections, credentials)
        connected = await connect(answer, credentials, self._identity, holds)
        sources = tuple(stream.source for stream in ordered)
        number = self._play(connected, answer, receivers=_receivers(answer, sources))
        return [_joined(number, "viewer", room, began, connected, sources, leave)]

    async def _post(
        self, path: str, token: str, sections: list[Section], credentials: Credentials
    ) -> tuple[Answer, Leave]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/sdp"}
        offer = self._offer(sections, credentials)
        url = self._url + path
        async with self._http.post(url, data=offer, headers=headers, ssl=self._verify) as response:
            text = await response.text()
            if response.status != 201:
                raise JoinError(f"{path} answered {response.status}: {text[:200]}")
            resource = urljoin(url, response.headers.get("Location", ""))

        async def leave() -> None:
            async with self._http.delete(resource, headers=headers, ssl=self._verify):
                return

        return read_answer(text), leave

    # Both

    def _offer(self, sections: list[Section], credentials: Credentials) -> str:
        return write_offer(sections, credentials, self._identity.fingerprint)

    def _play(
        self,
        connected: Connected,
        answer: Answer,
        senders: tuple[SenderParams, ...] = (),
        receivers: tuple[ReceiverParams, ...] = (),
    ) -> int:
        number = next(self._numbers)
        params = PeerParams(connected.keys, connected.ice, _codecs(answer), _extensions(answer), senders, receivers)
        try:
            self._swarm.add_peer(number, connected.socket, params)
        except BaseException:
            connected.socket.close()
            raise
        return number


def _joined(
    number: int,
    role: Literal["cart", "viewer"],
    room: str,
    began: int,
    connected: Connected,
    sources: tuple[str, ...],
    leave: Leave,
) -> Joined:
    return Joined(number, role, room, began, connected.up_ns, (time.monotonic_ns() - began) / 1e9, sources, leave)


async def _await_tracks(signalling: Signalling, tracks: list[Message], count: int) -> list[Message]:
    """The room's tracks, once there are `count`. Raises `JoinError`."""
    found = {track["id"]: track for track in tracks}
    try:
        async with asyncio.timeout(TRACKS_SECONDS):
            while len(found) < count:
                message = await signalling.news.get()
                if message is None:
                    raise JoinError("the server closed the connection of a viewer")
                if message["type"] == "track-added":
                    found[message["track"]["id"]] = message["track"]
    except TimeoutError:
        raise JoinError(f"a viewer found {len(found)} of {count} tracks within {TRACKS_SECONDS:g} s") from None
    return list(found.values())


def _section(mid: str, direction: Direction, kind: Literal["audio", "video"]) -> Section:
    wanted = [codec for name, codec in CODECS.items() if (name == "opus") == (kind == "audio")]
    return Section(mid, kind, direction, tuple(wanted))


def _sending(streams: Iterable[StreamMedia]) -> list[Section]:
    """An m-line for each stream, with the one codec that it has."""
    return [
        Section(
            str(number),
            "video" if stream.video else "audio",
            "sendonly",
            (CODECS[stream.codec],),
            ssrc=secrets.randbelow(1 << 32) or 1,
            rtx_ssrc=(secrets.randbelow(1 << 32) or 1) if stream.video else 0,
        )
        for number, stream in enumerate(streams)
    ]


def _senders(
    sections: list[Section], streams: list[StreamMedia], answer: Answer, cart: int
) -> tuple[SenderParams, ...]:
    """What the answer lets us send. Raises `JoinError` when an m-line was declined."""
    accepted = {section.mid: section for section in answer.sections if section.accepted}
    made = []
    for position, (section, stream) in enumerate(zip(sections, streams, strict=True)):
        answered = accepted.get(section.mid)
        codec = section.codecs[0]
        if answered is None or codec.payload_type not in answered.payload_types:
            raise JoinError(f"the server declined the {stream.source}")
        repaired = codec.rtx_type in answered.payload_types
        made.append(
            SenderParams(
                clip=stream.clip,
                source=SOURCES.index(stream.source),
                mid=section.mid,
                ssrc=section.ssrc,
                payload_type=codec.payload_type,
                rtx_ssrc=section.rtx_ssrc if repaired else 0,
                rtx_type=codec.rtx_type if repaired else 0,
                # Spread over a frame, each source of each cart at a moment of its own.
                phase=(cart * GOLDEN + position / len(streams)) % 1.0,
            )
        )
    return tuple(made)


def _receivers(answer: Answer, sources: tuple[str, ...]) -> tuple[ReceiverParams, ...]:
    """Raises `JoinError` when the server would not send something."""
    made = []
    for section, source in zip(answer.sections, sources, strict=True):
        if not section.accepted or section.direction not in ("sendonly", "sendrecv"):
            raise JoinError(f"the server declined to send the {source}")
        ssrc = section.ssrcs[0] if section.ssrcs else 0
        video = section.kind == "video"
        made.append(
            ReceiverParams(
                source=SOURCES.index(source),
                mid=section.mid,
                video=video,
                clock_rate=90_000 if video else 48_000,
                ssrc=ssrc,
                rtx_ssrc=section.repairs.get(ssrc, 0),
                nack=video,
            )
        )
    return tuple(made)


def _codecs(answer: Answer) -> tuple[tuple[int, int], ...]:
    """By payload type, over the whole bundle (RFC 9143, section 8.1: the same everywhere)."""
    codecs = {}
    for section in answer.sections:
        for payload_type, name in section.codecs.items():
            codecs[payload_type] = RTX if name == "RTX" else int(codec_from_name(name))
    return tuple(codecs.items())


def _extensions(answer: Answer) -> tuple[tuple[int, int], ...]:
    extensions = {ext_id: uri for section in answer.sections for ext_id, uri in section.extensions.items()}
    return tuple((ext_id, int(EXT_URIS[uri])) for ext_id, uri in extensions.items() if uri in EXT_URIS)
