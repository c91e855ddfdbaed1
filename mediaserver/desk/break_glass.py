"""Break-glass: somebody opens a recording that his token does not reach, because a patient may come to harm otherwise.

It takes a reason, holds for a while and for that token alone, is in the audit trail, raises an alert (in the log, a
metric and a webhook), and stands in a list until somebody else has looked into it: `break-glass.jsonl` in the data
folder, a line for each opening, alert and review. Only the token's SHA-256 is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from secrets import token_hex

import aiohttp
import structlog

from mediaserver.auth import AuthError, Grant
from mediaserver.clock import Clock
from mediaserver.http.problems import Problem
from mediaserver.recording.openings import NAME, Alerted, Opened, Opening, Reviewed, append, fold
from mediaserver.recording.views import iso
from mediaserver.settings import BreakGlassSettings

log = structlog.get_logger("mediaserver.desk.break_glass")

ACTIONS = frozenset({"show", "play", "look", "follow", "verify"})
"""What an opening lets somebody do: see it. To take it out needs the right to."""
TIMEOUT = aiohttp.ClientTimeout(total=10)
FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 600.0
MOST_AN_HOUR = 20
"""Openings by one token."""


class BreakGlass:
    """The openings of one server. Raises OSError where the file can't be read."""

    def __init__(self, settings: BreakGlassSettings, folder: Path, clock: Clock) -> None:
        self.settings = settings
        self.count = 0
        """Openings of this run."""
        self.failures = 0
        """Alerts that the webhook did not take."""
        self._clock = clock
        self._path = folder / NAME
        self._openings = {one.opened.id: one for one in fold(self._path)}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def unreviewed(self) -> int:
        return sum(one.reviewed is None for one in self._openings.values())

    @property
    def unalerted(self) -> int:
        """Openings of which the webhook does not know yet."""
        return sum(not one.alerted for one in self._openings.values()) if self.settings.webhook else 0

    def start(self) -> None:
        if self.settings.webhook:
            self._wake.set()
            self._task = asyncio.create_task(self._alert(), name="break-glass alerts")

    async def close(self) -> None:
        """What the webhook has not taken yet is told after the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def is_restricted(self, room: str) -> bool:
        """Recordings of this room are closed to those whose token is for all rooms."""
        return any(fnmatchcase(room, pattern) for pattern in self.settings.restricted)

    def check(self, grant: Grant, token: str, reason: str) -> None:
        """Whether this token may open something with this reason. Raises `AuthError` and `Problem`."""
        if str(grant.role) not in self.settings.roles:
            raise AuthError("forbidden", f"a token of the role {grant.role} can't break the glass here")
        if not grant.name:
            raise AuthError("forbidden", "to break the glass takes a token with a name")
        if len(reason.strip()) < self.settings.least_reason:
            raise Problem(422, f"say why in at least {self.settings.least_reason} characters")
        since = self._clock.wall_us() - 3_600_000_000
        mine = _digest(token)
        if sum(one.opened.token == mine and one.opened.at_us > since for one in self._openings.values()) > MOST_AN_HOUR:
            raise Problem(429, "too many recordings were opened by this token in the last hour")

    def open(self, grant: Grant, token: str, recording: str, reason: str, address: str) -> Opening:
        """Raises OSError; then nothing is open."""
        now = self._clock.wall_us()
        until = min(now + round(self.settings.minutes * 60e6), round(grant.expires * 1e6))
        opened = Opened(
            id=token_hex(8),
            recording=recording,
            who=grant.name,
            role=str(grant.role),
            reason=reason.strip(),
            address=address,
            at_us=now,
            until_us=until,
            token=_digest(token),
        )
        append(self._path, opened)
        one = self._openings[opened.id] = Opening(opened)
        self.count += 1
        log.warning(
            "a recording was opened by breaking the glass", recording=recording, name=opened.who, role=opened.role,
            reason=opened.reason, address=address, until=iso(until),
        )  # fmt: skip
        self._wake.set()
        return one

    def allows(self, token: str, action: str, recording: str | None) -> bool:
        """Whether an opening lets the holder of this token do so now."""
        if recording is None or action not in ACTIONS or not self._openings:
            return False
        mine, now = _digest(token), self._clock.wall_us()
        openings = (one.opened for one in self._openings.values())
        return any(one.token == mine and one.recording == recording and now < one.until_us for one in openings)

    def list(self) -> Collection[Opening]:
        """The newest first."""
        return sorted(self._openings.values(), key=lambda one: one.opened.at_us, reverse=True)

    def review(self, opening: str, by: str, note: str) -> Opening:
        """Raises `Problem` and OSError."""
        one = self._openings.get(opening)
        if one is None:
            raise Problem(404, "there is no such opening")
        if refusal := one.refusal(by):
            raise Problem(409, refusal)
        reviewed = Reviewed(id=opening, by=by, note=note, at_us=self._clock.wall_us())
        append(self._path, reviewed)
        one.reviewed = reviewed
        return one

    async def _alert(self) -> None:
        wait = FIRST_RETRY_SECONDS
        async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for one in [one for one in self._openings.values() if not one.alerted]:
                    try:
                        await self._tell(http, one)
                        wait = FIRST_RETRY_SECONDS
                    except (aiohttp.ClientError, TimeoutError, OSError) as error:
                        self.failures += 1
                        reason = str(error) or type(error).__name__
                        log.error("the webhook does not take an alert", reason=reason, again_in_seconds=wait)
                        await asyncio.sleep(wait)
                        wait = min(2 * wait, LAST_RETRY_SECONDS)
                        self._wake.set()
                        break

    async def _tell(self, http: aiohttp.ClientSession, one: Opening) -> None:
        opened = one.opened
        body = {
            "event": "break-glass", "id": opened.id, "recording": opened.recording, "name": opened.who,
            "role": opened.role, "reason": opened.reason, "address": opened.address, "opened": iso(opened.at_us),
            "until": iso(opened.until_us),
        }  # fmt: skip
        async with http.post(self.settings.webhook, json=body, allow_redirects=False) as response:
            if response.status >= 300:
                raise OSError(f"it answers {response.status} {response.reason}")
        alerted = Alerted(id=opened.id, at_us=self._clock.wall_us())
        append(self._path, alerted)
        one.alerted = True


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
