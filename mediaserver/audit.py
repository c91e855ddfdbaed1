"""The audit trail: who came in, who was refused, what was recorded and taken out. One JSON object a line.

Lines are written by a thread of their own, so a slow disk never holds up the event loop.
"""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any, Literal

import structlog

from mediaserver.clock import Clock, iso

Action = Literal[
    "join",
    "leave",
    "denied",
    "recording-started",
    "recording-stopped",
    "recording-alarm",
    "archive-list",
    "archive-show",
    "archive-play",
    "archive-verify",
    "archive-export",
    "archive-export-followed",
    "archive-export-fetched",
    "archive-export-removed",
    "removed",
    "room-closed",
    "server-started",
    "server-stopped",
]

DENIALS_PER_SECOND = 20
"""Further denials are counted, not written: strangers must not fill the disk."""


class _Lines:
    """What structlog writes to: a queue with a thread behind it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", errors="backslashreplace")  # a lone surrogate is no reason to end
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()
        self.failures = 0

    def info(self, line: str) -> None:
        self._queue.put(line)

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        self._file.close()

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                self._file.write(line + "\n")
                if self._queue.empty():
                    self._file.flush()
            except OSError:
                self.failures += 1


class Audit:
    """Writes the trail to `path`."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self._lines = _Lines(path)
        self._log: Any = structlog.wrap_logger(
            self._lines,
            processors=[structlog.processors.JSONRenderer(ensure_ascii=False)],
            cache_logger_on_first_use=True,
        )
        self._second = 0
        self._denials = 0
        self._unwritten = 0

    @property
    def failures(self) -> int:
        """Lines that could not be written."""
        return self._lines.failures

    def write(self, action: Action, **facts: object) -> None:
        """One line: the time, the action, and the facts."""
        if action == "denied" and not self._may_write_denial():
            return
        kept = {key: value for key, value in facts.items() if value is not None}
        self._log.info(action, time=iso(self._clock.wall()), **kept)

    def close(self) -> None:
        """Write what waits and close the file."""
        self._lines.close()

    def _may_write_denial(self) -> bool:
        second = int(self._clock.wall())
        if second != self._second:
            if self._unwritten:
                self._log.info("denied", time=iso(self._clock.wall()), unwritten=self._unwritten)
            self._second, self._denials, self._unwritten = second, 0, 0
        self._denials += 1
        if self._denials > DENIALS_PER_SECOND:
            self._unwritten += 1
            return False
        return True
