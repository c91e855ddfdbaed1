"""Time stamps for recordings, got in the background from the configured authority until each has its own.

What is missing is known by the archive alone: a recording that is signed and has no stamp. So nothing is forgotten by a
restart, however it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import aiohttp
import structlog
from cryptography.x509 import Certificate

from mediaserver.recording import timestamp
from mediaserver.recording.archive import Archive, UnknownRecording
from mediaserver.recording.timestamp import TimeStampError

log = structlog.get_logger("mediaserver.timestamps")

TIMEOUT = aiohttp.ClientTimeout(total=30)
LONGEST_WAIT = 3600.0
HEADERS = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}


class TimeStamps:
    """Started by `start` on the event loop; `add` tells it of a recording that was closed."""

    def __init__(self, archive: Archive, url: str, authorities: Sequence[Certificate], retry_seconds: float) -> None:
        """The wait between two tries doubles from `retry_seconds` up to an hour."""
        self.failures = 0
        """Tries that gave no good stamp."""
        self._archive = archive
        self._url = url
        self._authorities = authorities
        self._retry_seconds = retry_seconds
        self._waiting: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """Recordings without their stamp."""
        return len(self._waiting)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="time stamps")

    def add(self, recording: str) -> None:
        self._waiting[recording] = None
        self._wake.set()

    async def close(self) -> None:
        """What is not stamped yet is taken up by the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        wait = self._retry_seconds
        try:
            for recording in await self._archive.unstamped():
                self.add(recording)
        except OSError as error:
            log.error("the archive can't be looked through for recordings without a time stamp", reason=str(error))
        async with aiohttp.ClientSession(timeout=TIMEOUT, headers=HEADERS) as http:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    recording = next(iter(self._waiting))
                    try:
                        await self._stamp(http, recording)
                    except (aiohttp.ClientError, TimeoutError, TimeStampError, OSError, ValueError) as error:
                        self.failures += 1
                        reason = str(error) or type(error).__name__
                        log.warning("no time stamp", recording=recording, reason=reason, again_in_seconds=wait)
                        self._waiting[recording] = self._waiting.pop(recording)  # the others have their turn first
                        await asyncio.sleep(wait)
                        wait = min(2 * wait, LONGEST_WAIT)
                    else:
                        self._waiting.pop(recording)
                        wait = self._retry_seconds

    async def _stamp(self, http: aiohttp.ClientSession, recording: str) -> None:
        try:
            data = await self._archive.manifest_bytes(recording)
        except UnknownRecording:
            return  # nothing was recorded, or it is gone meanwhile
        query, request = timestamp.ask(data)
        async with http.post(self._url, data=query) as response:
            if response.status != 200:
                raise TimeStampError(f"the authority answers {response.status} {response.reason}")
            answer = await response.content.read(timestamp.MAX_BYTES)
            while not response.content.at_eof() and len(answer) < timestamp.MAX_BYTES:
                answer += await response.content.read(timestamp.MAX_BYTES - len(answer))
        timestamp.check(answer, data, self._authorities, request)
        await self._archive.keep_time_stamp(recording, answer)
