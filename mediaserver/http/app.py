"""The HTTP application: pages, health, metrics, the document of the messages, and what every response carries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from mediaserver import protocol
from mediaserver.auth import AuthError, Grant
from mediaserver.http.openapi import Operation, by_route, document, served
from mediaserver.http.problems import Problem, problem_response
from mediaserver.live_room import LiveRoom
from mediaserver.sfu.session.model import ParticipantInfo, Right, TrackInfo

if TYPE_CHECKING:
    from mediaserver.server import MediaServer

log = structlog.get_logger("mediaserver.http")

WEB = Path(__file__).parent.parent / "web"
PAGES = {"/": "index.html", "/cart": "cart.html", "/viewer": "viewer.html", "/archive": "archive.html"}
MAX_BODY = 256 * 1024
HEADERS = {
    "Server": "mediaserver",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # tokens may stand in a page's address
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self), geolocation=()",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob: mediastream:; connect-src 'self' ws: "
        "wss:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; frame-ancestors 'self'"
    ),
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RoomView(msgspec.Struct, frozen=True):
    """An open room. `opened` is Unix time in seconds."""

    name: str
    worker: int
    opened: float
    participants: list[ParticipantInfo]
    tracks: list[TrackInfo]
    recording: protocol.RecordingView


class RoomList(msgspec.Struct, frozen=True):
    """The open rooms that the token reaches."""

    rooms: list[RoomView]


class WebApp:
    """Makes the aiohttp application of a server. `first` is its outermost middleware."""

    def __init__(self, server: MediaServer, operations: Iterable[Operation], first: Middleware) -> None:
        self._server = server
        self._described = by_route(operations)
        self._openapi_document = b""
        """Making it takes the event loop longer than anything else that strangers may ask for."""
        self.app = web.Application(middlewares=[first, _errors], client_max_size=MAX_BODY)
        self.app.on_response_prepare.append(self._on_prepare)
        add = self.app.router
        for path, page in PAGES.items():
            add.add_get(path, _page(page))
        add.add_get("/favicon.ico", _page("icon.svg"))
        add.add_static("/static", WEB, append_version=False)
        add.add_get("/ws", server.signalling.handle)
        add.add_get("/healthz", self._healthz)
        add.add_get("/readyz", self._readyz)
        add.add_get("/asyncapi.json", self._asyncapi)
        add.add_get("/openapi.json", self._openapi)
        if server.config.http.metrics:
            add.add_get("/metrics", self._metrics)
        add.add_get("/api/rooms", self._rooms)
        add.add_delete("/api/rooms/{room}", self._close_room)
        add.add_delete("/api/rooms/{room}/participants/{participant}", self._remove)
        add.add_routes(server.whip.routes())

    async def _on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        for name, value in HEADERS.items():
            response.headers[name] = value
        if request.path.startswith(("/whip/", "/whep/")):
            response.headers.update(self._server.whip.cors_headers(request.headers.get("Origin")))
            response.headers.setdefault("Cache-Control", "no-store")
        elif request.path.startswith("/api/"):
            response.headers.setdefault("Cache-Control", "no-store")
        elif request.path in PAGES or request.path.startswith("/static/"):
            # Pages of applications import the client module from here.
            response.headers.update(self._server.whip.cors_headers(request.headers.get("Origin")))
            response.headers.setdefault("Cache-Control", "no-cache")  # asks each time; unchanged files cost a 304

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        reasons = self._server.unready()
        return web.json_response(
            {"status": "not ready" if reasons else "ready", "reasons": reasons}, status=503 if reasons else 200
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._server.metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _asyncapi(self, request: web.Request) -> web.Response:
        from mediaserver.asyncapi import document

        return web.Response(body=msgspec.json.encode(document()), content_type="application/json")

    async def _openapi(self, request: web.Request) -> web.Response:
        """The document of the routes that this server has."""
        if not self._openapi_document:
            here = (self._described[route] for route in served(request.app) if route in self._described)
            self._openapi_document = msgspec.json.encode(document(here))
        return web.Response(body=self._openapi_document, content_type="application/json")

    # For operators

    async def _rooms(self, request: web.Request) -> web.Response:
        grant = self._operator(request)
        rooms = [_room_view(live) for live in self._server.rooms.values() if grant.allows_room(live.name)]
        return web.Response(body=msgspec.json.encode(RoomList(rooms)), content_type="application/json")

    async def _close_room(self, request: web.Request) -> web.Response:
        live = self._room(request)
        self._server.audit.write("room-closed", room=live.name, by="operator", address=request.remote)
        live.close()
        return web.Response(status=204)

    async def _remove(self, request: web.Request) -> web.Response:
        live = self._room(request)
        participant = request.match_info["participant"]
        if participant not in live.members:
            raise Problem(404, "there is no such participant in the room")
        self._server.audit.write(
            "removed", room=live.name, participant=participant, by="operator", address=request.remote
        )
        live.leave(participant, "removed")
        return web.Response(status=204)

    def _operator(self, request: web.Request) -> Grant:
        try:
            grant = self._server.grant(request)
            grant.require(Right.ADMIN)
        except AuthError as error:
            self._server.audit.write("denied", via="api", address=request.remote, reason=error.message)
            raise
        return grant

    def _room(self, request: web.Request) -> LiveRoom:
        grant = self._operator(request)
        live = self._server.rooms.get(request.match_info["room"])
        if live is None or not grant.allows_room(live.name):
            raise Problem(404, "there is no such room")
        return live


def _page(name: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(WEB / name)

    return handler


def _room_view(live: LiveRoom) -> RoomView:
    return RoomView(live.name, live.slot.number, live.opened, live.participants, live.tracks, live.recording)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refusals and mistakes as problem documents."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except AuthError as error:
        if error.code == "forbidden":
            return problem_response(403, error.message)
        return problem_response(401, error.message, {"WWW-Authenticate": 'Bearer realm="mediaserver"'})
    except web.HTTPException as error:
        if error.status < 400 or error.content_type == "application/problem+json":
            raise
        kept = {
            name: value
            for name, value in error.headers.items()
            if name.title() in ("Allow", "Retry-After", "Www-Authenticate")
        }
        return problem_response(error.status, error.text or error.reason, kept)
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception:
        log.exception("a request could not be handled", method=request.method, path=request.path)
        return problem_response(500, "the server made a mistake")
