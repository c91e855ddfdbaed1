"""How long recordings are kept, what goes, and who opened one in an emergency: over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

from aiohttp import web

from mediaserver.desk.additions import keeping
from mediaserver.desk.keeping_operations import (
    DisposalRequest,
    DueQuery,
    ErasureRequest,
    GlassList,
    GlassRequest,
    GlassView,
    KeptView,
    RetainRequest,
    RetentionView,
    ReviewRequest,
)
from mediaserver.desk.operations import Action
from mediaserver.http.exchange import answer, asked, body
from mediaserver.http.problems import Problem
from mediaserver.recording.archive import Archive, Held
from mediaserver.recording.manifest import Manifest
from mediaserver.recording.openings import Opening
from mediaserver.recording.retention import DAY_US
from mediaserver.recording.storage.face import Unreadable
from mediaserver.recording.views import iso

Allowed = Callable[[web.Request, Action], Awaitable[Manifest]]
Authorize = Callable[[web.Request, Action, str | None], Awaitable[Collection[str] | None]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Tell = Callable[[web.Request, Action, str, Mapping[str, str]], None]
"""Puts on record what is about to be done to a recording."""


class Glass(Protocol):
    """What opens recordings in an emergency: the server's `BreakGlass` behind its tokens."""

    def open(self, request: web.Request, recording: str, reason: str) -> Opening:
        """Raises `AuthError`, `Problem` and OSError."""

    def list(self) -> Collection[Opening]: ...

    def review(self, request: web.Request, opening: str, note: str) -> Opening:
        """Raises `Problem` and OSError."""


class NoGlass:
    """Where nothing can be opened so."""

    def open(self, request: web.Request, recording: str, reason: str) -> Opening:
        raise Problem(403, "no glass can be broken here")

    def list(self) -> Collection[Opening]:
        return ()

    def review(self, request: web.Request, opening: str, note: str) -> Opening:
        raise Problem(404, "there is no such opening")


class Keeping:
    """The handlers. Who may do what is `authorize`'s and `allowed`'s to say."""

    def __init__(
        self,
        archive: Archive,
        authorize: Authorize,
        allowed: Allowed,
        *,
        wall_us: Callable[[], int],
        who: Callable[[web.Request], str],
        tell: Tell,
        glass: Glass,
    ) -> None:
        self._archive = archive
        self._authorize = authorize
        self._allowed = allowed
        self._wall_us = wall_us
        self._who = who
        self._tell = tell
        self._glass = glass

    def handlers(self) -> Mapping[str, Handler]:
        """By the name of the operation."""
        return {
            "showDue": self._due,
            "dispose": self._dispose,
            "showRetention": self._retention,
            "retain": self._retain,
            "eraseRecording": self._erase,
            "breakGlass": self._break,
            "listBroken": self._broken,
            "reviewBroken": self._review,
        }

    async def _due(self, request: web.Request) -> web.StreamResponse:
        await self._of_all(request, "due")
        at_us = self._wall_us() + round(asked(request, DueQuery).within * DAY_US)
        disposals = self._archive.disposals
        return answer(RetentionView(classes=await disposals.classes(), due=await disposals.due(at_us)))

    async def _dispose(self, request: web.Request) -> web.StreamResponse:
        await self._of_all(request, "dispose")
        wanted = await body(request, DisposalRequest)
        report = await self._archive.disposals.run(
            by=self._who(request),
            reason=wanted.reason,
            now_us=self._wall_us(),
            only=wanted.recordings,
            dry_run=wanted.dry_run,
            tell=lambda recording, facts: self._tell(request, "dispose", recording, facts),
        )
        return answer(report)

    async def _retention(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._kept((await self._allowed(request, "look")).id))

    async def _retain(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "retain")
        wanted = await body(request, RetainRequest)
        try:
            self._archive.disposals.policy.need(wanted.into)
        except ValueError as error:
            raise Problem(422, str(error)) from None
        self._tell(request, "retain", kept.id, {"class": wanted.into, "reason": wanted.reason})
        with keeping():
            await self._archive.set_retention(
                kept.id, into=wanted.into, by=self._who(request), reason=wanted.reason, at_us=self._wall_us()
            )
        return answer(await self._kept(kept.id))

    async def _erase(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "destroy")
        reason = (await body(request, ErasureRequest)).reason
        self._tell(request, "destroy", kept.id, {"reason": reason})
        try:
            await self._archive.erase(kept.id, reason, self._wall_us())
        except (Held, OSError) as error:
            self._tell(request, "destroy", kept.id, {"reason": reason, "failed": str(error)})
            if isinstance(error, Held):
                raise Problem(409, str(error)) from None
            if isinstance(error, Unreadable):
                raise Problem(422, str(error)) from None
            raise
        return web.Response(status=204)

    async def _break(self, request: web.Request) -> web.StreamResponse:
        recording = request.match_info["recording"]
        await self._authorize(request, "break", recording)
        wanted = await body(request, GlassRequest)
        kept = await self._archive.get(recording)
        return answer(_view(self._glass.open(request, kept.id, wanted.reason)), status=201)

    async def _broken(self, request: web.Request) -> web.StreamResponse:
        await self._of_all(request, "broken")
        return answer(GlassList([_view(one) for one in self._glass.list()]))

    async def _review(self, request: web.Request) -> web.StreamResponse:
        await self._of_all(request, "broken")
        note = (await body(request, ReviewRequest)).note
        return answer(_view(self._glass.review(request, request.match_info["opening"], note)))

    async def _of_all(self, request: web.Request, action: Action) -> None:
        if await self._authorize(request, action, None) is not None:
            raise Problem(403, "this is for those whose token is for all rooms")

    async def _kept(self, recording: str) -> KeptView:
        found = (await self._archive.added(recording)).retention
        if found is None:
            return KeptView()
        return KeptView(into=found.into, by=found.by, reason=found.reason, since=iso(found.set_us))


def _view(opening: Opening) -> GlassView:
    one, reviewed = opening.opened, opening.reviewed
    return GlassView(
        id=one.id,
        recording=one.recording,
        who=one.who,
        role=one.role,
        reason=one.reason,
        address=one.address,
        opened=iso(one.at_us),
        until=iso(one.until_us),
        reviewed=iso(reviewed.at_us) if reviewed else None,
        reviewed_by=reviewed.by if reviewed else "",
        note=reviewed.note if reviewed else "",
    )
