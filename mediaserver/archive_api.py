"""The archive over HTTP: list, search, watch, verify, export.

The server mounts it with::

    app.router.add_routes(archive_api.routes(archive, authorize))

`archive` is a `mediaserver.recording.archive.Archive`. `authorize(request, action, recording)` is awaited before
anything is read; it raises `aiohttp.web.HTTPUnauthorized` or `HTTPForbidden`, and is the place to write the audit
log. `action` is "list", "show", "play", "verify" or "export"; `recording` is the identifier, None for a list. It
returns the set of rooms the caller is limited to, or None for all.

    GET /api/archive/recordings?room=&source=&from=&to=&text=&limit=&offset=   `views.RecordingList`
    GET /api/archive/recordings/{id}                                           `views.RecordingDetail`
    GET /api/archive/recordings/{id}/manifest                                  the manifest as it is on the disk
    GET /api/archive/recordings/{id}/tracks/{track}/media?segment=N            the file: ranges, strong ETag
    GET /api/archive/recordings/{id}/report                                    the report of its session
    GET, POST /api/archive/recordings/{id}/verify                              `verify.Report`
    GET /api/archive/recordings/{id}/export?format=mkv|mp4                     one file with all tracks

Errors are problem details (RFC 9457).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import cast

import msgspec
from aiohttp import web

from mediaserver import ranged
from mediaserver.recording import manifest, views
from mediaserver.recording.archive import Archive, StillRecording, UnknownRecording
from mediaserver.recording.catalog import Query
from mediaserver.recording.export.join import ExportError, Format
from mediaserver.recording.manifest import Manifest

Authorize = Callable[[web.Request, str, str | None], Awaitable[Collection[str] | None]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_LIMIT = 500
EXPORT_TYPES = {"mkv": "video/x-matroska", "mp4": "video/mp4"}


def routes(archive: Archive, authorize: Authorize) -> list[web.RouteDef]:
    """The routes below /api/archive."""
    api = _Api(archive, authorize)
    one = "/api/archive/recordings/{recording}"
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/api/archive/recordings", api.list),
        ("GET", one, api.show),
        ("GET", f"{one}/manifest", api.manifest),
        ("GET", f"{one}/tracks/{{track}}/media", api.media),
        ("GET", f"{one}/report", api.report),
        ("GET", f"{one}/verify", api.verify),
        ("POST", f"{one}/verify", api.verify),
        ("GET", f"{one}/export", api.export),
    ]
    return [web.route(method, path, _telling(handler)) for method, path, handler in table] + [
        web.route("HEAD", f"{one}/tracks/{{track}}/media", _telling(api.media))
    ]


def _telling(handler: Handler) -> Handler:
    """Errors of the archive as answers."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except UnknownRecording as error:
            return _problem(404, "There is no such recording", str(error.args[0]))
        except StillRecording as error:
            return _problem(409, "The recording goes on", str(error))
        except ExportError as error:
            return _problem(422, "The recording can't be exported so", str(error))
        except _BadRequest as error:
            return _problem(400, "The request can't be understood", str(error))

    return answer


def _problem(status: int, title: str, detail: str) -> web.Response:
    body = msgspec.json.encode({"title": title, "status": status, "detail": detail})
    return web.Response(status=status, body=body, content_type="application/problem+json")


class _BadRequest(Exception):
    pass


class _Api:
    def __init__(self, archive: Archive, authorize: Authorize) -> None:
        self._archive = archive
        self._authorize = authorize

    async def list(self, request: web.Request) -> web.StreamResponse:
        rooms = await self._authorize(request, "list", None)
        return _json(await self._archive.find(_query(request, rooms)))

    async def show(self, request: web.Request) -> web.StreamResponse:
        return _json(views.detail(await self._allowed(request, "show")))

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "show")
        response = web.Response(body=manifest.encode(kept), content_type="application/json")
        if kept.digest:
            response.etag = kept.digest
        return response

    async def report(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "show")
        return web.Response(body=await self._archive.report(kept.id), content_type="application/json")

    async def media(self, request: web.Request) -> web.StreamResponse:
        await self._allowed(request, "play")
        number = _integer(request, "segment", 0, 1 << 31)
        recording, track = request.match_info["recording"], request.match_info["track"]
        path, segment = await self._archive.media(recording, track, number)
        kind = "audio" if segment.codec == "opus" else "video"
        return await ranged.send(request, path, segment.sha256, f"{kind}/{segment.container}")

    async def verify(self, request: web.Request) -> web.StreamResponse:
        recording = request.match_info["recording"]
        rooms = await self._authorize(request, "verify", recording)
        if rooms is not None:
            # An altered manifest can't say whose it is, so only the catalog's word counts here.
            _check_room(rooms, await self._archive.room(recording), recording)
        return _json(await self._archive.verify(recording))

    async def export(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "export")
        container = request.query.get("format", "mkv")
        if container not in ("mkv", "mp4"):
            raise _BadRequest(f'"format" is mkv or mp4, not {container}')
        async with self._archive.export(kept.id, cast(Format, container)) as path:
            response = web.StreamResponse()
            response.content_type = EXPORT_TYPES[container]
            response.content_length = path.stat().st_size
            response.headers["Content-Disposition"] = f'attachment; filename="{path.name}"'
            await response.prepare(request)
            await ranged.copy_file(path, response)
            return response

    async def _allowed(self, request: web.Request, action: str) -> Manifest:
        """The recording, when the caller may see it. One in another room looks as if it were not there."""
        recording = request.match_info["recording"]
        rooms = await self._authorize(request, action, recording)
        kept = await self._archive.get(recording)
        _check_room(rooms, kept.room, recording)
        return kept


def _check_room(rooms: Collection[str] | None, room: str | None, recording: str) -> None:
    if rooms is not None and room not in rooms:
        raise UnknownRecording(f"there is no recording {recording}")


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _query(request: web.Request, rooms: Collection[str] | None) -> Query:
    return Query(
        room=request.query.get("room", ""),
        source=request.query.get("source", ""),
        from_us=_time(request, "from"),
        to_us=_time(request, "to"),
        text=request.query.get("text", ""),
        rooms=rooms,
        limit=_integer(request, "limit", 50, MAX_LIMIT),
        offset=_integer(request, "offset", 0, 1 << 31),
    )


def _integer(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or int(text) > most:
        raise _BadRequest(f'"{name}" is a number from 0 to {most}')
    return int(text)


def _time(request: web.Request, name: str) -> int | None:
    text = request.query.get(name, "")
    try:
        return views.from_iso(text) if text else None
    except ValueError:
        raise _BadRequest(f'"{name}" is a date or a time after RFC 3339, not {text!r}') from None
