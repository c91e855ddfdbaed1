"""Disposal by the clock, where it is configured: what is due goes every so many hours."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from mediaserver.audit import Audit
from mediaserver.clock import Clock
from mediaserver.recording.archive import Archive
from mediaserver.recording.catalog import CatalogError

log = structlog.get_logger("mediaserver.retention")

BY = "schedule"
REASON = "its time by the class of retention is over"


class DisposalSchedule:
    """Runs beside the server; the first time `hours` after its start."""

    def __init__(self, archive: Archive, audit: Audit, clock: Clock, hours: float) -> None:
        self._archive = archive
        self._audit = audit
        self._clock = clock
        self._hours = hours
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="disposal")

    async def close(self) -> None:
        """What is under way comes to its end, or goes on at the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._hours * 3600)
            await self.dispose()

    async def dispose(self) -> None:
        """Once. What fails is told, and tried again the next time."""
        try:
            report = await self._archive.disposals.run(
                by=BY,
                reason=REASON,
                now_us=self._clock.wall_us(),
                tell=lambda recording, facts: self._audit.write("archive-delete", recording=recording, **facts),
            )
        except (CatalogError, OSError) as error:
            log.error("what is due could not be disposed of", reason=str(error))
            return
        if report.cases:
            log.info("recordings that were over their time", freed_bytes=report.bytes, **report.counts)
        for case in report.cases:
            if case.state == "failed":
                log.error("a recording could not be disposed of", recording=case.recording, reason=case.reason)
