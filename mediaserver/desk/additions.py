"""What people add to recordings over HTTP: identifiers, bookmarks and holds; and who has looked at them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

from aiohttp import web

from mediaserver.desk.operations import (
    AccessList,
    AccessView,
    Action,
    BookmarkList,
    BookmarkRequest,
    HoldList,
    HoldRequest,
    HoldView,
)
from mediaserver.desk.timeline import BookmarkView
from mediaserver.http.exchange import BadRequest, answer, body
from mediaserver.http.problems import Problem
from mediaserver.recording.archive import Archive
from mediaserver.recording.manifest import Manifest
from mediaserver.recording.sidecars import Bookmark, Hold, Identifiers
from mediaserver.recording.views import iso

MOST = 1000
"""Bookmarks of one recording, and holds."""

Allowed = Callable[[web.Request, Action], Awaitable[Manifest]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def bookmark_view(bookmark: Bookmark, started_us: int) -> BookmarkView:
    return BookmarkView(
        id=bookmark.id,
        at_ms=(bookmark.at_us - started_us) / 1000,
        track=bookmark.track,
        text=bookmark.text,
        by=bookmark.by,
        made=iso(bookmark.made_us),
    )


def hold_view(hold: Hold) -> HoldView:
    return HoldView(
        id=hold.id,
        reason=hold.reason,
        by=hold.by,
        placed=iso(hold.placed_us),
        lifted=None if hold.lifted_us is None else iso(hold.lifted_us),
        lifted_by=hold.lifted_by,
    )


class Additions:
    """The handlers. `allowed(request, action)` gives the recording that the caller may see, `who(request)` whose name
    is written down."""

    def __init__(
        self, archive: Archive, allowed: Allowed, *, wall_us: Callable[[], int], who: Callable[[web.Request], str]
    ) -> None:
        self._archive = archive
        self._allowed = allowed
        self._wall_us = wall_us
        self._who = who

    def handlers(self) -> Mapping[str, Handler]:
        """By the name of the operation."""
        return {
            "showIdentifiers": self._identifiers,
            "setIdentifiers": self._identify,
            "eraseIdentifiers": self._erase,
            "listBookmarks": self._bookmarks,
            "addBookmark": self._add_bookmark,
            "removeBookmark": self._remove_bookmark,
            "listHolds": self._holds,
            "placeHold": self._place_hold,
            "liftHold": self._lift_hold,
            "listAccesses": self._accesses,
        }

    async def _identifiers(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "show")
        return answer((await self._archive.added(kept.id)).identifiers or Identifiers())

    async def _identify(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "identify")
        identifiers = await body(request, Identifiers)
        with keeping():
            await self._archive.set_identifiers(kept.id, identifiers)
        return web.Response(status=204)

    async def _erase(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "erase")
        with keeping():
            await self._archive.erase_identifiers(kept.id)
        return web.Response(status=204)

    async def _bookmarks(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "look")
        added = (await self._archive.added(kept.id)).bookmarks
        ordered = sorted(added, key=lambda bookmark: bookmark.at_us)
        return answer(BookmarkList([bookmark_view(one, kept.started_us) for one in ordered]))

    async def _add_bookmark(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "bookmark")
        wanted = await body(request, BookmarkRequest)
        if wanted.track and wanted.track not in {track.id for track in kept.tracks}:
            raise BadRequest(f"there is no track {wanted.track}")
        if kept.state != "recording" and wanted.at_ms * 1000 > kept.ended_us - kept.started_us:
            raise BadRequest("the moment lies behind the recording's end")
        if len((await self._archive.added(kept.id)).bookmarks) >= MOST:
            raise Problem(409, f"a recording has at most {MOST} bookmarks; remove one first")
        with keeping():
            made = await self._archive.add_bookmark(
                kept.id,
                at_us=kept.started_us + wanted.at_ms * 1000,
                by=self._who(request),
                now_us=self._wall_us(),
                text=wanted.text,
                track=wanted.track,
            )
        return answer(bookmark_view(made, kept.started_us), status=201)

    async def _remove_bookmark(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "unmark")
        with keeping():
            await self._archive.remove_bookmark(kept.id, request.match_info["bookmark"])
        return web.Response(status=204)

    async def _holds(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "look")
        return answer(HoldList([hold_view(hold) for hold in (await self._archive.added(kept.id)).holds]))

    async def _place_hold(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "hold")
        wanted = await body(request, HoldRequest)
        if len((await self._archive.added(kept.id)).holds) >= MOST:
            raise Problem(409, f"a recording has at most {MOST} holds")
        with keeping():
            made = await self._archive.place_hold(
                kept.id, reason=wanted.reason, by=self._who(request), at_us=self._wall_us()
            )
        return answer(hold_view(made), status=201)

    async def _lift_hold(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "lift")
        with keeping():
            lifted = await self._archive.lift_hold(
                kept.id, by=self._who(request), at_us=self._wall_us(), hold=request.match_info["hold"]
            )
        if not lifted:
            raise Problem(404, "there is no such hold, or it is lifted")
        return web.Response(status=204)

    async def _accesses(self, request: web.Request) -> web.StreamResponse:
        kept = await self._allowed(request, "review")
        found = await self._archive.accesses(kept.id)
        views = [AccessView(a.who, a.action, iso(a.first_us), iso(a.last_us), a.times) for a in found]
        return answer(AccessList(views))


@contextmanager
def keeping() -> Iterator[None]:
    """What can't be written is said in words."""
    try:
        yield
    except OSError as error:
        raise Problem(503, f"it can't be kept: {error.strerror}") from None
    except ValueError as error:
        raise Problem(503, f"it can't be kept: {error}") from None
