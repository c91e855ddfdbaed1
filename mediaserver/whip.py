"""WHIP (RFC 9725) and WHEP: publishing and viewing with one HTTP request.

    POST   /whip/{room}?source=ultrasound    publish; answers 201 with the resource in Location
    POST   /whep/{room}                      view every track of the room, later ones too
    POST   /whep/{room}/{source}             view one source
    PATCH  {resource}                        trickled candidates, or an ICE restart (application/trickle-ice-sdpfrag)
    DELETE {resource}                        end

A resource is a participant. A publisher says with `Recording-Consent` whether it may be recorded, or its token does;
the answer's `Recording-Rule` says whose tracks may be (docs/consent.md). Viewers by WHEP are hidden observers: the
others don't see them, but they count.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Mapping
from typing import Literal

from aiohttp import web

from mediaserver.active import RecordingRefused
from mediaserver.audit import Audit
from mediaserver.auth import AuthError, Grant, Verifier, bearer, clean_name, valid_room
from mediaserver.clock import Clock
from mediaserver.http.problems import Problem
from mediaserver.live_room import LiveRoom, Member
from mediaserver.protocol import IceServer
from mediaserver.recordings import Recordings
from mediaserver.relays import IceServers
from mediaserver.rooms import Overloaded, Rooms
from mediaserver.settings import HttpSettings
from mediaserver.sfu.session.ice import candidate_lines
from mediaserver.sfu.session.model import (
    AUDIO_SOURCES,
    PublishAll,
    PublishMap,
    Right,
    Source,
    SubscribeAll,
    SubscribeMap,
)
from mediaserver.sfu.session.room import OfferError, RoomError
from mediaserver.stats import ControlStats

Way = Literal["whip", "whep"]
SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
MAX_SDP = 128 * 1024
MAX_FRAGMENT = 16 * 1024
BODY_SECONDS = 10.0
MAX_FRAGMENT_LINES = 256
RETRY_SECONDS = 5
ID_BYTES = 18
MAX_VERSION = 64
"""Of the name of a consent's text."""
EXPOSED = "Location, ETag, Link, Accept-Patch, Accept-Post, Allow, WWW-Authenticate, Retry-After, Recording-Rule"

_RIGHTS: Mapping[Way, Right] = {"whip": Right.PUBLISH, "whep": Right.SUBSCRIBE}
_ROOM_STATUS = {
    "not-allowed": 403,
    "unknown-participant": 404,
    "room-full": 503,
    "overloaded": 503,
    "shutting-down": 503,
}


class Fragment:
    """A trickle fragment (RFC 8840): candidates with their mid, and credentials when ICE restarts."""

    def __init__(self, text: str) -> None:
        """Raises `ValueError`."""
        self.ufrag = ""
        self.pwd = ""
        self.candidates: list[tuple[str, str]] = []
        mid = ""
        lines = text.splitlines()
        if len(lines) > MAX_FRAGMENT_LINES:
            raise ValueError(f"more than {MAX_FRAGMENT_LINES} lines")
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            if line[1:2] != "=":
                raise ValueError(f"line {number} is not of the form x=...")
            name, _, value = line[2:].partition(":")
            if line[0] == "a" and name == "mid":
                mid = value
            elif line[0] == "a" and name == "ice-ufrag":
                self.ufrag = value
            elif line[0] == "a" and name == "ice-pwd":
                self.pwd = value
            elif line[0] == "a" and name == "candidate":
                self.candidates.append((f"candidate:{value}", mid))


class Resource:
    """A participant that came by WHIP or WHEP. `etag` names its ICE session (RFC 9725, section 4.3.1). `id` is in its
    address: unlike the participant's it is told to nobody else, as who knows the address can end or restart it."""

    def __init__(self, way: Way, live: LiveRoom) -> None:
        self.id = secrets.token_urlsafe(ID_BYTES)
        self.way = way
        self.live = live
        self.member: Member
        self._session = 1

    @property
    def etag(self) -> str:
        return f'"{self.member.id}.{self._session}"'

    @property
    def remote_ufrag(self) -> str:
        participant = self.live.room.participants.get(self.member.id)
        transport = participant.transport if participant is not None else None
        return transport.remote.ufrag if transport is not None else ""

    def restart(self, ufrag: str, pwd: str) -> str:
        """The answer's fragment for new credentials of the client."""
        local = self.live.restart(self.member, ufrag, pwd)
        self._session += 1
        lines = [f"a=ice-ufrag:{local[0]}", f"a=ice-pwd:{local[1]}"]
        settings = self.member.slot.settings
        lines += [f"a={line}" for line in candidate_lines(settings.candidates, settings.tcp_candidates)]
        return "\r\n".join([*lines, "a=end-of-candidates", ""])


class Whip:
    """The handlers of /whip and /whep."""

    def __init__(
        self,
        settings: HttpSettings,
        rooms: Rooms,
        verifier: Verifier,
        audit: Audit,
        stats: ControlStats,
        clock: Clock,
        ice_servers: IceServers,
        recordings: Recordings,
    ) -> None:
        self._origins = settings.cors_origins
        self._rooms = rooms
        self._verifier = verifier
        self._audit = audit
        self._stats = stats
        self._clock = clock
        self._ice_servers = ice_servers
        self._recordings = recordings
        self._resources: dict[tuple[str, str], Resource] = {}

    def routes(self) -> list[web.RouteDef]:
        made = [web.post("/whip/{room}", self._publish), web.options("/whip/{room}", self._options_endpoint)]
        for path in ("/whep/{room}", "/whep/{room}/{source}"):
            made += [web.post(path, self._view), web.options(path, self._options_endpoint)]
        for path in ("/whip/{room}/resources/{id}", "/whep/{room}/resources/{id}"):
            made += [
                web.patch(path, self._patch),
                web.delete(path, self._delete),
                web.options(path, self._options_resource),
            ]
        return made

    def cors_headers(self, origin: str | None) -> dict[str, str]:
        """What a page of that origin needs to read the response (Fetch standard)."""
        if "*" in self._origins:
            allowed = "*"
        elif origin is not None and origin in self._origins:
            allowed = origin
        else:
            return {}
        return {
            "Access-Control-Allow-Origin": allowed,
            "Access-Control-Allow-Methods": "POST, PATCH, DELETE, OPTIONS",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match, Recording-Consent",
            "Access-Control-Expose-Headers": EXPOSED,
            "Access-Control-Max-Age": "600",
            "Vary": "Origin",
        }

    @property
    def count(self) -> dict[str, int]:
        """Resources by way."""
        counts = {"whip": 0, "whep": 0}
        for way, _ in self._resources:
            counts[way] += 1
        return counts

    # Endpoints

    async def _publish(self, request: web.Request) -> web.Response:
        return await self._create(request, "whip", _publish_all(request), {})

    async def _view(self, request: web.Request) -> web.Response:
        name = request.match_info.get("source")
        return await self._create(request, "whep", {}, SubscribeAll(frozenset({_source(name)}) if name else None))

    async def _options_endpoint(self, request: web.Request) -> web.Response:
        return web.Response(status=204, headers={"Accept-Post": SDP, "Allow": "POST, OPTIONS"})

    async def _options_resource(self, request: web.Request) -> web.Response:
        return web.Response(status=204, headers={"Accept-Patch": FRAGMENT, "Allow": "PATCH, DELETE, OPTIONS"})

    async def _create(
        self, request: web.Request, way: Way, publish: PublishMap, subscribe: SubscribeMap
    ) -> web.Response:
        grant = self._authorize(request, way)
        said = _consent(request) if way == "whip" else None
        sdp = await _body(request, SDP, MAX_SDP, {"Accept-Post": SDP})
        try:
            resource, answer = self._enter(request, way, grant, sdp, publish, subscribe, said)
        except RecordingRefused as error:
            raise Problem(403, str(error), code="recording-refused") from None
        except OfferError as error:
            self._stats.offers["refused"] += 1
            status = {"bad-sdp": 400, "too-large": 413, "not-allowed": 403}.get(error.code, 422)
            raise Problem(status, error.message, code=error.code, line=error.line) from None
        except RoomError as error:
            status = _ROOM_STATUS.get(error.code, 409)
            seconds = math.ceil(error.retry_seconds) if isinstance(error, Overloaded) else RETRY_SECONDS
            headers = {"Retry-After": str(seconds)} if status == 503 else {}
            raise Problem(status, error.message, headers=headers, code=error.code) from None
        self._stats.offers["ok"] += 1
        room = request.match_info["room"]
        response = web.Response(status=201, text=answer, content_type=SDP)
        response.headers["Location"] = f"/{way}/{room}/resources/{resource.id}"
        response.headers["ETag"] = resource.etag
        response.headers["Accept-Patch"] = FRAGMENT
        if way == "whip":
            response.headers["Recording-Rule"] = resource.live.consents.whose
        for server in self._ice_servers.for_client(resource.member.id):
            for link in _links(server):
                response.headers.add("Link", link)
        return response

    def _enter(
        self,
        request: web.Request,
        way: Way,
        grant: Grant,
        sdp: str,
        publish: PublishMap,
        subscribe: SubscribeMap,
        said: tuple[bool, str, list[Source] | None] | None,
    ) -> tuple[Resource, str]:
        live = self._rooms.enter(request.match_info["room"])
        resource = Resource(way, live)
        try:
            member = resource.member = live.join(
                grant,
                name=grant.name or clean_name(request.query.get("name", "")),
                via=way,
                send=_nobody_listens,
                gone=lambda reason: self._forget(resource),
                hidden=way == "whep",
            )
        finally:
            self._rooms.leave_if_empty(live)
        self._resources[way, resource.id] = resource
        try:
            if said is not None:
                word, version, sources = said
                self._recordings.consent.say(live, member.id, word, by="participant", version=version, sources=sources)
            if isinstance(publish, PublishAll):
                kinds = {"video": publish.video, "audio": publish.audio}
                asked = [source for kind, source in kinds.items() if source is not None and f"\nm={kind} " in sdp]
                self._recordings.consent.check_publish(live, member.id, asked)
            negotiated = live.offer(member, sdp, publish, subscribe)
        except Exception:
            live.leave(member.id, "offer-refused")
            raise
        return resource, negotiated.answer

    # Resources

    async def _patch(self, request: web.Request) -> web.Response:
        resource = self._find(request)
        text = await _body(request, FRAGMENT, MAX_FRAGMENT, {"Accept-Patch": FRAGMENT})
        match = request.headers.get("If-Match")
        if match is None:
            raise Problem(428, "If-Match is needed: the ETag of the resource, or * to restart ICE")
        if match.strip() != "*" and resource.etag not in (tag.strip() for tag in match.split(",")):
            raise Problem(412, "the ICE session that If-Match names is over")
        try:
            fragment = Fragment(text)
            return self._apply(resource, fragment, match.strip() == "*")
        except (ValueError, OfferError) as error:
            raise Problem(400, f"the fragment is not usable: {error}") from None
        except RoomError as error:
            raise Problem(_ROOM_STATUS.get(error.code, 409), error.message, code=error.code) from None

    def _apply(self, resource: Resource, fragment: Fragment, any_session: bool) -> web.Response:
        renewed = fragment.ufrag and fragment.ufrag != resource.remote_ufrag
        if renewed and not any_session:
            raise ValueError("new ICE credentials need If-Match: *")
        if renewed:
            answer = resource.restart(fragment.ufrag, fragment.pwd)
            return web.Response(status=200, text=answer, content_type=FRAGMENT, headers={"ETag": resource.etag})
        for candidate, mid in fragment.candidates:
            resource.live.candidate(resource.member, candidate, mid)
        return web.Response(status=204, headers={"ETag": resource.etag})

    async def _delete(self, request: web.Request) -> web.Response:
        resource = self._find(request)
        resource.live.leave(resource.member.id, "left")
        return web.Response(status=200)

    def _find(self, request: web.Request) -> Resource:
        way: Way = "whip" if request.path.startswith("/whip/") else "whep"
        self._authorize(request, way)
        resource = self._resources.get((way, request.match_info["id"]))
        if resource is None or resource.live.name != request.match_info["room"]:
            raise Problem(404, "there is no such resource, or it has ended")
        return resource

    def _forget(self, resource: Resource) -> None:
        self._resources.pop((resource.way, resource.id), None)

    def _authorize(self, request: web.Request, way: Way) -> Grant:
        """The grant of the request's Bearer token. Raises `Problem`."""
        room = request.match_info["room"]
        try:
            if not valid_room(room):
                raise AuthError("forbidden", "this is no valid name of a room")
            grant = self._verifier.verify(bearer(request.headers.get("Authorization", "")), self._clock.wall())
            if not grant.allows_room(room):
                raise AuthError("forbidden", "this token is for another room")
            grant.require(_RIGHTS[way])
        except AuthError as error:
            self._stats.denials[way] += 1
            self._audit.write("denied", room=room[:64], via=way, address=request.remote, reason=error.message)
            raise
        return grant


def _consent(request: web.Request) -> tuple[bool, str, list[Source] | None] | None:
    """What the publisher says to being recorded, to which text, and for which sources (None: all):
    `Recording-Consent: given; version=1; sources="ultrasound stethoscope"`, or `refused`. None where it says
    nothing."""
    text = request.headers.get("Recording-Consent", "").strip()
    if not text:
        return None
    word, *more = (part.strip() for part in text.split(";"))
    said = {name.strip(): value.strip().strip('"') for name, _, value in (part.partition("=") for part in more if part)}
    version = said.pop("version", "")
    names = said.pop("sources").split() if "sources" in said else None
    known = names is None or (names and set(names) <= set(Source))
    if word not in ("given", "refused") or said or len(version) > MAX_VERSION or not known:
        raise Problem(
            400,
            "Recording-Consent is `given` or `refused`, and may go on with `; version=NAME` and "
            '`; sources="ultrasound stethoscope"`',
        )
    return word == "given", clean_name(version), None if names is None else list(map(Source, names))


def _publish_all(request: web.Request) -> PublishAll:
    """`?source=` may be given for a picture and for a sound. A sound alone is published without a picture."""
    named = [_source(name) for text in request.query.getall("source", []) for name in text.split(",") if name]
    sounds = [source for source in named if source in AUDIO_SOURCES]
    pictures = [source for source in named if source not in AUDIO_SOURCES]
    if len(sounds) > 1 or len(pictures) > 1:
        raise Problem(400, "one source for the picture and one for the sound, no more")
    if not named:
        return PublishAll(label=clean_name(request.query.get("label", "")))
    return PublishAll(
        video=pictures[0] if pictures else None,
        audio=sounds[0] if sounds else Source.MICROPHONE,
        label=clean_name(request.query.get("label", "")),
    )


def _source(name: str) -> Source:
    try:
        return Source(name)
    except ValueError:
        raise Problem(404, f'there is no source "{name[:40]}"; known are {", ".join(Source)}') from None


async def _body(request: web.Request, wanted: str, limit: int, accept: Mapping[str, str]) -> str:
    if request.content_type != wanted:
        raise Problem(415, f"the body must be {wanted}", headers=accept)
    data = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while len(data) <= limit and (more := await request.content.read(limit + 1 - len(data))):
                data += more
    except TimeoutError:
        raise Problem(408, f"the body took longer than {BODY_SECONDS:g} s") from None
    if len(data) > limit:
        raise Problem(413, f"the body is longer than {limit} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Problem(400, "the body is not UTF-8") from None


def _links(server: IceServer) -> list[str]:
    """Link headers of an ICE server (RFC 9725, section 4.6)."""
    tail = '; rel="ice-server"'
    if server.username:
        tail += f'; username="{server.username}"; credential="{server.credential}"; credential-type="password"'
    return [f"<{url}>{tail}" for url in server.urls]


def _nobody_listens(frames: bytes) -> None:
    """HTTP clients are told nothing between their requests."""
