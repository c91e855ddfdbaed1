"""Who may do what in the archive, and what of it goes on record."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from aiohttp import web

from mediaserver import auth
from mediaserver.audit import Action, Audit
from mediaserver.clock import Clock
from mediaserver.desk.break_glass import BreakGlass
from mediaserver.http.exchange import token_of
from mediaserver.recording.archive import Archive
from mediaserver.recording.catalog import CatalogError, Veil
from mediaserver.recording.openings import Opening
from mediaserver.sfu.session.model import Right, Role

PLAY_SECONDS = 600
PLAYS = 1000

_ACTIONS: Mapping[str, Action] = {
    "list": "archive-list",
    "show": "archive-show",
    "play": "archive-play",
    "verify": "archive-verify",
    "export": "archive-export",
    "identify": "archive-identify",
    "erase": "archive-erase",
    "look": "archive-show",
    "bookmark": "archive-bookmark",
    "unmark": "archive-bookmark-removed",
    "hold": "archive-hold",
    "lift": "archive-hold-lifted",
    "review": "archive-accesses",
    "follow": "archive-export-followed",
    "fetch": "archive-export-fetched",
    "discard": "archive-export-removed",
    "due": "archive-due",
    "broken": "archive-broken-glass",
    "retain": "archive-retention",
    "dispose": "archive-delete",
    "destroy": "archive-erase",
}
_LOOKS = frozenset(("show", "play", "export", "fetch"))
"""What counts as an access in the catalog's summary."""
_REPEATED = frozenset({"play", "look", "follow", "fetch"})
"""What a page or a player does again and again for one look."""
_WITH_REASON = frozenset({"retain", "dispose", "destroy", "break"})
"""What is put on record by its handler, which knows more of it."""
_ARCHIVISTS = frozenset({"erase", "hold", "lift", "review", "due", "retain", "broken"})
"""What only archivists and operators do."""
_OPERATORS = frozenset({"dispose", "destroy"})
"""What takes the right to administer."""


class ArchiveAccess:
    """Decides by the token, and writes the audit trail."""

    def __init__(
        self,
        grant: Callable[[web.Request], auth.Grant],
        archive: Archive,
        audit: Audit,
        clock: Clock,
        glass: BreakGlass,
        denials: Counter[str],
    ) -> None:
        """`grant` gives the grant of a request's token, and raises `AuthError`."""
        self._grant = grant
        self._archive = archive
        self._audit = audit
        self._clock = clock
        self._glass = glass
        self._denials = denials
        self._plays: dict[tuple[object, ...], int] = {}

    def who(self, request: web.Request) -> str:
        """The name that stands beside what the caller adds to a recording."""
        grant = self._grant(request)
        return grant.name or str(grant.role)

    async def authorize(self, request: web.Request, action: str, recording: str | None) -> Collection[str] | None:
        """The rooms whose recordings the caller reaches, None for all. Raises `AuthError`."""
        try:
            grant = self._grant(request)
            broken = self._glass.allows(token_of(request), action, recording)
            rooms = self._rooms(grant, action, broken)
        except auth.AuthError as error:
            self._deny(request, recording, error)
            raise
        facts = self._facts(request, grant) | ({"via": "break-glass"} if broken else {})
        key = (action, recording, *facts.values())
        if action not in _WITH_REASON and (action not in _REPEATED or self._first_play(key)):
            self._audit.write(_ACTIONS[action], recording=recording, **facts)
            if recording is not None and action in _LOOKS:
                await self._count_access(recording, action, grant.name or str(grant.role), rooms)
        return rooms

    def confirm(self, request: web.Request, action: str, recording: str, room: str) -> None:
        """What a room's own restriction says. Raises `AuthError`."""
        if not self._glass.is_restricted(room) or action == "break":
            return
        grant = self._grant(request)
        if grant.room == room or self._glass.allows(token_of(request), action, recording):
            return
        error = auth.AuthError("forbidden", "this recording is restricted to those of its room: break the glass")
        self._deny(request, recording, error)
        raise error

    def veil(self, request: web.Request) -> Veil:
        """The rooms of which a list keeps to itself whom their recordings are about."""
        return Veil(self._glass.settings.restricted, self._grant(request).room)

    def tell(self, request: web.Request, action: str, recording: str, facts: Mapping[str, str]) -> None:
        """Put on record what is about to be done, with its reason."""
        own = self._facts(request, self._grant(request))
        self._audit.write(_ACTIONS[action], recording=recording, **(dict(facts) | own))

    # Break-glass (`keeping.Glass`)

    def open(self, request: web.Request, recording: str, reason: str) -> Opening:
        """On record first: what can't be told is not opened."""
        grant, token = self._grant(request), token_of(request)
        try:
            self._glass.check(grant, token, reason)
        except auth.AuthError as error:
            self._deny(request, recording, error)
            raise
        minutes = f"{self._glass.settings.minutes:g}"
        self._audit.write(
            "break-glass", recording=recording, reason=reason, minutes=minutes, **self._facts(request, grant)
        )
        return self._glass.open(grant, token, recording, reason, request.remote or "")

    def list(self) -> Collection[Opening]:
        return self._glass.list()

    def review(self, request: web.Request, opening: str, note: str) -> Opening:
        reviewed = self._glass.review(opening, self.who(request), note)
        facts = self._facts(request, self._grant(request))
        self._audit.write(
            "break-glass-reviewed", recording=reviewed.opened.recording, opening=opening, note=note or None, **facts
        )
        return reviewed

    def _rooms(self, grant: auth.Grant, action: str, broken: bool) -> Collection[str] | None:
        if action == "break":
            return None  # whether it may be broken is `check`'s to say
        if broken:
            return None
        rooms = _rooms_of(grant)
        if action in _ARCHIVISTS and grant.role not in auth.ROOMLESS_ROLES:
            raise auth.AuthError("forbidden", "this is for archivists and operators")
        if action in _OPERATORS and (grant.role is not Role.OPERATOR or Right.ADMIN not in grant.rights):
            raise auth.AuthError("forbidden", "this is for operators")
        return rooms

    def _deny(self, request: web.Request, recording: str | None, error: auth.AuthError) -> None:
        self._denials["archive"] += 1
        self._audit.write("denied", via="archive", recording=recording, address=request.remote, reason=error.message)

    def _facts(self, request: web.Request, grant: auth.Grant) -> dict[str, str | None]:
        return {"address": request.remote, "by": str(grant.role), "name": grant.name or None, "room": grant.room}

    async def _count_access(self, recording: str, action: str, who: str, rooms: Collection[str] | None) -> None:
        with contextlib.suppress(CatalogError):
            room = await self._archive.room(recording)
            if room is not None and (rooms is None or room in rooms):
                await self._archive.record_access(recording, who=who, action=action, at_us=self._clock.wall_us())

    def _first_play(self, play: tuple[object, ...]) -> bool:
        """A player asks for many ranges; the audit trail has one line of it in `PLAY_SECONDS`."""
        now = self._clock.monotonic_us()
        last = self._plays.pop(play, None)
        while len(self._plays) >= PLAYS:
            del self._plays[next(iter(self._plays))]
        fresh = last is None or now - last > PLAY_SECONDS * 1e6
        self._plays[play] = now if last is None or fresh else last
        return fresh


def _rooms_of(grant: auth.Grant) -> frozenset[str] | None:
    """The rooms whose recordings the grant reaches; None for all."""
    if not grant.sees_archive:
        raise auth.AuthError("forbidden", "the archive is for archivists, operators and those who may record")
    return (
        None
        if grant.room == auth.ANY_ROOM and grant.role in (Role.ARCHIVIST, Role.OPERATOR)
        else frozenset({grant.room})
    )
