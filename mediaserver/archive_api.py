"""The archive over HTTP: list, search, watch, verify, export.

The server mounts it with::

    app.router.add_routes(archive_api.routes(archive, authorize))

`archive` is a `mediaserver.recording.archive.Archive`. `authorize(request, action, recording)` is awaited before
anything is read; it raises `aiohttp.web.HTTPUnauthorized` or `HTTPForbidden`, and is the place to write the audit
log. `action` is "list", "show", "play", "verify" or "export"; `recording` is the identifier, None for a list. It
returns the set of rooms the caller is limited to, or None for all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from mediaserver.recording.archive import Archive

Authorize = Callable[[web.Request, str, str | None], Awaitable[Collection[str] | None]]


def routes(archive: Archive, authorize: Authorize) -> list[web.RouteDef]:
    """The routes below /api/archive."""
    return []
