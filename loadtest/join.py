"""How carts and viewers get in: by the WebSocket or by WHIP and WHEP, then ICE and DTLS, then into the swarm."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urljoin

import aiohttp
import msgspec

from mediaserver.budgets import DEFAULT_BUDGETS, SourceBudget
from mediaserver.codecs.payload import codec_from_name
from mediaserver.loadtest.connect import Connected, Holds, connect
from mediaserver.loadtest.dtls import Identity
from mediaserver.loadtest.media import StreamMedia
from mediaserver.loadtest.offer import CODECS, Answer, Credentials, Direction, Section, read_answer, write_offer
from mediaserver.loadtest.peers import RTX, PeerParams, ReceiverParams, SenderParams
from mediaserver.loadtest.scenario import SOURCES
from mediaserver.loadtest.signalling import Message, Signalling
from mediaserver.loadtest.swarm import Swarm
from mediaserver.sfu.wire.packet import EXT_URIS

TRACKS_SECONDS = 10.0
GOLDEN = 0.618034

Address = tuple[str, int]
Leave = Callable[[], Coroutine[Any, Any, None]]


class JoinError(Exception):
    """A participant could not come in; says which and why."""


class Place(msgspec.Struct, frozen=True):
    """Where a participant is: behind which line (`through` finds a server's address on its far side), and whether its
    latency is the server's alone. What a viewer plays is judged by the budgets, and taped where it is to be decoded."""

    line: str = ""
    through: Callable[[Address], Awaitable[Address]] | None = None
    direct: bool = True
    taped: bool = False
    budgets: Mapping[str, SourceBudget] = MappingProxyType(DEFAULT_BUDGETS)

    async def find(self, answer: Answer) -> Answer:
        """The answer with the addresses at which the server is found from here."""
        if self.through is None:
            return answer
        found = [await self.through(address) for address in answer.candidates]
        return msgspec.structs.replace(answer, candidates=tuple(found))


HERE = Place()


class WhipUrls(msgspec.Struct, frozen=True):
    """How a server's WHIP and WHEP endpoints are addressed. `{room}` and `{sources}` are filled in; without the latter
    a session carries a picture and a sound at most, and each pair of a cart is a room of its own there."""

    publish: str
    view: str
    header: str = "Authorization: Bearer {token}"

    @property
    def named(self) -> bool:
        """Whether the address names the sources, as this product's does."""
        return "{sources}" in self.publish

    def headers(self, token: str) -> dict[str, str]:
        name, _, value = self.header.format(token=token).partition(":")
        return (
            {name.strip(): value.strip(), "Content-Type": "application/sdp"}
            if token
            else {"Content-Type": "application/sdp"}
        )


def our_urls(url: str) -> WhipUrls:
    return WhipUrls(f"{url}/whip/{{room}}?source={{sources}}", f"{url}/whep/{{room}}")


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
    line: str = ""
    cart: int = 0
    """the number of the cart whose sources a viewer views"""


class Gate:
    """The way in to one server for everyone of a load test."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        swarm: Swarm,
        *,
        verify: bool = True,
        urls: WhipUrls | None = None,
        open_every: int = 1,
    ) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._swarm = swarm
        self._verify = verify
        self._urls = urls or our_urls(self._url)
        self._identity = Identity()
        self._open_every = open_every
        self._numbers = itertools.count(1)
        self._viewers = itertools.count()

    # By the WebSocket

    async def cart(self, room: str, token: str, streams: list[StreamMedia], place: Place = HERE) -> list[Joined]:
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
            answer = await place.find(read_answer(reply["sdp"]))
            connected = await connect(answer, credentials, self._identity)
            number = self._play(connected, answer, senders=_senders(sections, streams, answer, next(self._numbers)))
        except BaseException:
            await signalling.close()
            raise
        sources = tuple(stream.source for stream in streams)
        return [_joined(number, "cart", room, began, connected, sources, lambda: self._leave_socket(signalling), place)]

    async def viewer(
        self, room: str, token: str, streams: list[StreamMedia], holds: Holds | None = None, place: Place = HERE
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
            answer = await place.find(read_answer(reply["sdp"]))
            connected = await connect(answer, credentials, self._identity, holds)
            sources = tuple(track["source"] for track in tracks)
            number = self._play(connected, answer, receivers=_receivers(answer, sources, streams, place))
        except BaseException:
            await signalling.close()
            raise
        return [
            _joined(number, "viewer", room, began, connected, sources, lambda: self._leave_socket(signalling), place)
        ]

    async def _leave_socket(self, signalling: Signalling) -> None:
        try:
            await signalling.request("leave")
        finally:
            await signalling.close()

    # By WHIP and WHEP

    async def whip_cart(self, room: str, token: str, streams: list[StreamMedia], place: Place = HERE) -> list[Joined]:
        """Publish with as many WHIP sessions as it takes: each carries a picture and a sound at most."""
        joined = []
        for position, pair in enumerate(_pairs(streams)):
            began = time.monotonic_ns()
            sections, credentials = _sending(pair), Credentials.make()
            names = ",".join(stream.source for stream in pair)
            url = self._urls.publish.format(room=self._part(room, position), sources=names)
            answer, leave = await self._post(url, token, sections, credentials)
            answer = await place.find(answer)
            connected = await connect(answer, credentials, self._identity)
            number = self._play(connected, answer, senders=_senders(sections, pair, answer, next(self._numbers)))
            sources = tuple(stream.source for stream in pair)
            joined.append(_joined(number, "cart", room, began, connected, sources, leave, place))
        return joined

    async def whep_viewer(
        self, room: str, token: str, streams: list[StreamMedia], holds: Holds | None = None, place: Place = HERE
    ) -> list[Joined]:
        """View with one WHEP session, or with one for each that the cart needed where those are rooms of their own. The
        m-lines of a session are filled in the order of `SOURCES`."""
        parts = [streams] if self._urls.named else _pairs(streams)
        return [
            await self._view(self._part(room, at), room, token, part, holds, place) for at, part in enumerate(parts)
        ]

    async def _view(
        self, part: str, room: str, token: str, streams: list[StreamMedia], holds: Holds | None, place: Place
    ) -> Joined:
        began = time.monotonic_ns()
        ordered = sorted(streams, key=lambda stream: SOURCES.index(stream.source))
        sections = [
            _section(str(number), "recvonly", "video" if stream.video else "audio")
            for number, stream in enumerate(ordered)
        ]
        credentials = Credentials.make()
        answer, leave = await self._post(self._urls.view.format(room=part), token, sections, credentials)
        answer = await place.find(answer)
        connected = await connect(answer, credentials, self._identity, holds)
        sources = tuple(stream.source for stream in ordered)
        number = self._play(connected, answer, receivers=_receivers(answer, sources, streams, place))
        return _joined(number, "viewer", room, began, connected, sources, leave, place)

    def _part(self, room: str, position: int) -> str:
        return room if self._urls.named or not position else f"{room}-{position}"

    async def _post(
        self, url: str, token: str, sections: list[Section], credentials: Credentials
    ) -> tuple[Answer, Leave]:
        headers = self._urls.headers(token)
        offer = self._offer(sections, credentials)
        async with self._http.post(url, data=offer, headers=headers, ssl=self._verify) as response:
            text = await response.text()
            if response.status != 201:
                raise JoinError(f"{url} answered {response.status}: {text[:200]}")
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
        # Of the viewers, too, one in so many opens everything, the first among them.
        whole = bool(receivers) and next(self._viewers) % self._open_every == 0
        params = PeerParams(
            keys=connected.keys,
            ice=connected.ice,
            codecs=_codecs(answer),
            extensions=_extensions(answer),
            senders=senders,
            receivers=receivers,
            open_every=1 if whole else self._open_every,
        )
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
    place: Place,
) -> Joined:
    seconds = (time.monotonic_ns() - began) / 1e9
    return Joined(number, role, room, began, connected.up_ns, seconds, sources, leave, place.line)


def _pairs(streams: list[StreamMedia]) -> list[list[StreamMedia]]:
    """A picture and a sound each, as long as there are both."""
    videos = [stream for stream in streams if stream.video]
    sounds = [stream for stream in streams if not stream.video]
    return [[stream for stream in pair if stream] for pair in itertools.zip_longest(videos, sounds)]


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


def _receivers(
    answer: Answer, sources: tuple[str, ...], streams: Iterable[StreamMedia] = (), place: Place = HERE
) -> tuple[ReceiverParams, ...]:
    """Judged by the budgets as far as the streams that are published meet them. Raises `JoinError` when the server
    would not send something."""
    made = []
    published = {stream.source: stream for stream in streams}
    for section, source in zip(answer.sections, sources, strict=True):
        if not section.accepted or section.direction not in ("sendonly", "sendrecv"):
            raise JoinError(f"the server declined to send the {source}")
        ssrc = section.ssrcs[0] if section.ssrcs else 0
        video = section.kind == "video"
        stream, budget = published.get(source), place.budgets.get(source, SourceBudget())
        made.append(
            ReceiverParams(
                source=SOURCES.index(source),
                mid=section.mid,
                video=video,
                clock_rate=90_000 if video else 48_000,
                ssrc=ssrc,
                rtx_ssrc=section.repairs.get(ssrc, 0),
                nack=video,
                direct=place.direct,
                taped=place.taped and video,
                stale_ns=_stale_ns(stream, budget) if stream else 0,
                floor_frames=_floor(budget.frames_per_second.floor, stream.frame_rate) if stream and video else 0,
                floor_bits=_floor(budget.kbit_per_second.floor * 1000, stream.bitrate) if stream else 0,
            )
        )
    return tuple(made)


def _stale_ns(stream: StreamMedia, budget: SourceBudget) -> int:
    """The freeze rule of the budgets."""
    return round(max(budget.stale_frames * 1e9 / stream.frame_rate, budget.stale_ms * 1e6))


def _floor(floor: float, published: float) -> int:
    """A cart that sends less than the floor breaks it by itself, so that nothing is to be said of the server."""
    return round(floor) if published >= floor else 0


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
