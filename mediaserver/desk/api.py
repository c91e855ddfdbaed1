"""The archive over HTTP: search, watch, verify, export. `operations` lists what can be asked.

The server mounts it with::

    api = ArchiveApi(archive, authorize, wall_us=clock.wall_us, who=name_of)
    app.router.add_routes(api.routes())
    ...
    await api.close()

`archive` is a `mediaserver.recording.archive.Archive`. `authorize(request, action, recording)` is awaited before
anything is read; it raises `aiohttp.web.HTTPUnauthorized` or `HTTPForbidden`, and is the place to write the audit
log. `action` is one of `Action`; `recording` is the identifier, None for a list. It returns the set of rooms the
caller is limited to, or None for all. `confirm(request, action, recording, room)`
may refuse once the room is known, and `veil(request)` says of which rooms a list tells nobody's name. `who(request)` is
whose name is written beside bookmarks and holds. `tell` puts on record what is done with a reason, and `glass` opens
recordings in an emergency (`keeping`).

Errors are problem details (RFC 9457).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial

import msgspec
from aiohttp import web
from msgspec.structs import replace

from mediaserver.desk.additions import Additions, bookmark_view
from mediaserver.desk.keeping import Glass, Keeping, NoGlass, Tell
from mediaserver.desk.keeping_operations import KEEPING
from mediaserver.desk.operations import (
    ARCHIVE,
    Action,
    ExportList,
    ExportQuery,
    ExportRequest,
    MediaQuery,
    SearchQuery,
    ThumbnailQuery,
)
from mediaserver.desk.timeline import timeline
from mediaserver.http import ranged
from mediaserver.http.exchange import BadRequest, answer, asked, body
from mediaserver.http.problems import Problem, problem_response
from mediaserver.recording import manifest, views
from mediaserver.recording.archive import Archive, Disposed, StillRecording, UnknownRecording
from mediaserver.recording.catalog import CatalogError, Query, Veil
from mediaserver.recording.export import kinds
from mediaserver.recording.export.jobs import DiskFull, Exports, TooManyExports, UnknownExport
from mediaserver.recording.export.progress import ExportError
from mediaserver.recording.manifest import Manifest, Segment
from mediaserver.recording.placing import media_ms, places
from mediaserver.recording.stills import NoStill, Stills, StillsBusy
from mediaserver.recording.storage import LocalReader
from mediaserver.recording.storage.face import Erased
from mediaserver.reports.session import SessionReport

Authorize = Callable[[web.Request, Action, str | None], Awaitable[Collection[str] | None]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BUSY_SECONDS = 2
EXPORTS_BUSY_SECONDS = 60
CATALOG_SECONDS = 5
CATALOG_AWAY = "the archive's database does not answer; recordings go on, and can be opened by their ids"
STORE_SECONDS = 30
STILL_AGE = "private, max-age=3600"

_REFUSALS: Mapping[type[Exception], tuple[int, Mapping[str, str]]] = {
    BadRequest: (400, {}),
    Disposed: (410, {}),
    UnknownRecording: (404, {}),
    UnknownExport: (404, {}),
    NoStill: (404, {}),
    StillRecording: (409, {}),
    ExportError: (422, {}),
    TooManyExports: (429, {"Retry-After": str(EXPORTS_BUSY_SECONDS)}),
    StillsBusy: (503, {"Retry-After": str(BUSY_SECONDS)}),
    DiskFull: (507, {}),
}


def _telling(handler: Handler) -> Handler:
    """Errors of the archive as answers."""

    async def told(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Problem as problem:
            return problem.response()
        except CatalogError:
            return problem_response(503, CATALOG_AWAY, {"Retry-After": str(CATALOG_SECONDS)})
        except tuple(_REFUSALS) as error:
            status, headers = next(_REFUSALS[kind] for kind in _REFUSALS if isinstance(error, kind))
            return problem_response(status, str(error.args[0]), headers)
        except Erased as error:
            return problem_response(410, str(error))
        except ConnectionError:
            raise
        except OSError as error:  # a key that is not at hand, a store that does not answer
            return problem_response(503, str(error), {"Retry-After": str(STORE_SECONDS)})

    return told


class ArchiveApi:
    """The handlers, and what they keep while the server runs: pictures and exports."""

    def __init__(
        self,
        archive: Archive,
        authorize: Authorize,
        *,
        wall_us: Callable[[], int],
        who: Callable[[web.Request], str] = lambda request: "",
        confirm: Callable[[web.Request, Action, str, str], None] = lambda request, action, recording, room: None,
        veil: Callable[[web.Request], Veil] = lambda request: Veil(),
        tell: Tell = lambda request, action, recording, facts: None,
        glass: Glass | None = None,
    ) -> None:
        self._archive = archive
        self._authorize = authorize
        self._confirm = confirm
        self._veil = veil
        self._additions = Additions(archive, self._allowed, wall_us=wall_us, who=who)
        self._keeping = Keeping(
            archive, authorize, self._allowed, wall_us=wall_us, who=who, tell=tell, glass=glass or NoGlass()
        )
        self.exports = Exports(archive.folder / ".exports", wall_us)
        archive.disposals.users.append(self.exports.use_of)
        self.stills = Stills()

    def routes(self) -> list[web.RouteDef]:
        """The routes below /api/archive."""
        handlers: dict[str, Handler] = {
            "listRecordings": self._list,
            "showRecording": self._show,
            "showManifest": self._manifest,
            "showTimeline": self._timeline,
            "showReport": self._report,
            "showReportPage": self._report_page,
            "getMedia": self._media,
            "getThumbnail": self._thumbnail,
            "verify": self._verify,
            "verifyNow": self._verify,
            "export": self._export,
            "beginExport": self._begin_export,
            "listExports": self._list_exports,
            "showExport": self._show_export,
            "getExport": self._get_export,
            "removeExport": self._remove_export,
            **self._additions.handlers(),
            **self._keeping.handlers(),
        }
        # GET answers HEAD too.
        return [web.route(one.method, one.path, _telling(handlers[one.name])) for one in (*ARCHIVE, *KEEPING)]

    async def close(self) -> None:
        await self.exports.close()
        await self.stills.close()

    # To find

    async def _list(self, request: web.Request) -> web.StreamResponse:
        rooms = await self._authorize(request, "list", None)
        wanted = asked(request, SearchQuery)
        veil = self._veil(request)
        query = Query(
            room=wanted.room,
            source=wanted.source,
            from_us=_time("from", wanted.from_),
            to_us=_time("to", wanted.to),
            text=wanted.text,
            state=wanted.state,
            patient_id=wanted.patient,
            patient_name=wanted.name,
            encounter=wanted.encounter,
            accession=wanted.accession,
            participant=wanted.participant,
            has_gaps=wanted.gaps,
            on_hold=wanted.held,
            retention=wanted.retention,
            rooms=rooms,
            veil=veil,
            limit=wanted.limit,
            offset=wanted.offset,
            cursor=wanted.cursor,
        )
        try:
            found = await self._archive.find(query)
        except ValueError as error:
            raise BadRequest(str(error)) from None
        shown = [replace(one, identifiers=None) if veil.covers(one.room) else one for one in found.recordings]
        return answer(replace(found, recordings=shown))

    async def _show(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "show")
        return answer(views.detail(kept, await self._archive.added(kept.id)))

    async def _manifest(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "show")
        # As it was signed, whatever has been erased since.
        signed = kept.state != "recording"
        data = await self._archive.manifest_bytes(kept.id) if signed else manifest.encode(kept)
        response = web.Response(body=data, content_type="application/json")
        if kept.digest:
            response.etag = kept.digest
        return response

    async def _timeline(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "show")
        added = await self._archive.added(kept.id)
        bookmarks = [bookmark_view(one, kept.started_us) for one in added.bookmarks]
        return answer(timeline(kept, await self._session_report(kept.id), bookmarks, views.consents(kept, added)))

    async def _report(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "show")
        return web.Response(body=await self._archive.report(kept.id), content_type="application/json")

    async def _report_page(self, request: web.Request) -> web.StreamResponse:
        from mediaserver.reports.page import read_report, session_page  # its templates: for those who ask for them

        kept = await self._allowed(request, "show")
        page = session_page(read_report(await self._archive.report(kept.id)))
        return web.Response(text=page, content_type="text/html")

    # To watch

    async def _media(self, request: web.Request) -> web.StreamResponse:
        number = asked(request, MediaQuery).segment
        kept = await self._allowed(request, "play")
        segment = await self._archive.segment(kept.id, request.match_info["track"], number)
        kind = "audio" if segment.codec == "opus" else "video"
        # The bytes that are stored name the content for good as well, encrypted or not.
        return await ranged.send(
            request, lambda: self._archive.media(kept.id, segment), segment.sha256, f"{kind}/{segment.container}"
        )

    async def _thumbnail(self, request: web.Request) -> web.StreamResponse:
        wanted = asked(request, ThumbnailQuery)
        kept = await self._allowed(request, "play")
        name = request.match_info["track"]
        number, media = _moment(kept, name, wanted.at)
        segment = await self._archive.segment(kept.id, name, number)
        opener = partial(self._archive.opening, kept.id, segment)
        picture = await self.stills.picture(opener, segment.sha256, int(media // 1000), wanted.width)
        tag = hashlib.sha256(picture).hexdigest()
        headers = {"Cache-Control": STILL_AGE, "ETag": f'"{tag}"'}
        if any(one.value in (tag, "*") for one in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=picture, content_type="image/jpeg", headers=headers)

    # To trust

    async def _verify(self, request: web.Request) -> web.StreamResponse:
        recording = request.match_info["recording"]
        rooms = await self._authorize(request, "verify", recording)
        if rooms is not None:
            # An altered manifest can't say whose it is, so only the catalog's word counts here.
            _check_room(rooms, await self._archive.room(recording), recording)
        return answer(await self._archive.verify(recording))

    # To take along

    async def _export(self, request: web.Request) -> web.StreamResponse:
        container = asked(request, ExportQuery).format
        kept = await self._allowed(request, "export")
        async with self._archive.export(kept.id, container) as path:
            response = web.StreamResponse()
            response.content_type = kinds.find(container).content_type
            response.content_length = path.stat().st_size
            response.headers["Content-Disposition"] = f'attachment; filename="{path.name}"'
            await response.prepare(request)
            await ranged.copy_file(path, response)
            return response

    async def _begin_export(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "export")
        wanted = await body(request, ExportRequest)
        kind = kinds.find(wanted.kind)
        if wanted.transcode and kind.options is not kinds.Mp4Options:
            raise BadRequest(f"{kind.name} takes everything as it is: `transcode` is for mp4")
        options = kinds.Mp4Options(transcode=wanted.transcode) if kind.options is kinds.Mp4Options else kind.options()
        if kept.state == "recording":
            raise StillRecording(f"recording {kept.id} goes on; it can be exported when it is closed")
        kinds.check(kind, kept, options)
        size = sum(segment.bytes for track in kept.tracks for segment in track.segments)
        view = await self.exports.begin(
            kept.id, lambda: self._archive.order(kept, kind.name, options), wanted.kind, size
        )
        response = answer(view, status=202)
        response.headers["Location"] = f"{request.path}/{view.id}"
        return response

    async def _list_exports(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "follow")
        return answer(ExportList(self.exports.of(kept.id)))

    async def _show_export(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "follow")
        return answer(self.exports.get(kept.id, request.match_info["export"]))

    async def _get_export(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "fetch")
        name = request.match_info["export"]
        view, path = self.exports.get(kept.id, name), self.exports.result(kept.id, name)
        if path is None:
            return problem_response(409, f"the export is {view.state}; it has no result")
        headers = {"Content-Disposition": f'attachment; filename="{path.name}"'}
        return await ranged.send(
            request, lambda: LocalReader(path), view.sha256, kinds.find(view.kind).content_type, headers
        )

    async def _remove_export(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "discard")
        await self.exports.remove(kept.id, request.match_info["export"])
        return web.Response(status=204)

    async def _allowed(self, request: web.Request, action: Action) -> Manifest:
        """The recording, when the caller may see it. One in another room looks as if it were not there."""
        recording = request.match_info["recording"]
        rooms = await self._authorize(request, action, recording)
        try:
            kept = await self._archive.get(recording)
        except Disposed:
            if rooms is None:
                raise
            raise UnknownRecording(f"there is no recording {recording}") from None
        _check_room(rooms, kept.room, recording)
        self._confirm(request, action, recording, kept.room)
        return kept

    async def _session_report(self, recording: str) -> SessionReport | None:
        """None where there is none, or one of another version."""
        try:
            return msgspec.json.decode(await self._archive.report(recording), type=SessionReport)
        except (UnknownRecording, msgspec.MsgspecError):
            return None


def _check_room(rooms: Collection[str] | None, room: str | None, recording: str) -> None:
    if rooms is not None and room not in rooms:
        raise UnknownRecording(f"there is no recording {recording}")


def _moment(kept: Manifest, name: str, at: float) -> tuple[int, float]:
    """The file of a track of pictures that holds a moment, or the nearest before or after it, and the media time in
    ms. Raises `NoStill`."""
    found: tuple[int, Segment] | None = None
    for track in kept.tracks:
        for number, segment in enumerate(track.segments if track.id == name else ()):
            if segment.width and segment.mapping and (found is None or segment.first_us <= kept.started_us + at * 1000):
                found = number, segment
    if found is None:
        raise NoStill(f"recording {kept.id} has no pictures of a track {name}")
    number, segment = found
    points = places(segment, kept.started_us)
    return number, min(max(0.0, media_ms(points, at)), points[-1][0])


def _time(name: str, text: str) -> int | None:
    try:
        return views.from_iso(text) if text else None
    except (ValueError, OverflowError):
        raise BadRequest(f'"{name}" is a date or a time after RFC 3339, not {text!r}') from None
