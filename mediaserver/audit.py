"""The audit trail: who came in, who was refused, what was recorded and taken out. One JSON object a line.

Lines are chained and their head is signed (`recording.trail`). They are written by a thread of its own, so a slow disk
never holds up the event loop; while it refuses, lines are held, and `trouble` says so.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import structlog

from mediaserver.clock import Clock, iso
from mediaserver.recording.chained import Head
from mediaserver.recording.keys import SigningKey
from mediaserver.recording.trail import Facts, Limits, Trail

log = structlog.get_logger("mediaserver.audit")

Action = Literal[
    "join",
    "leave",
    "denied",
    "recording-started",
    "recording-stopped",
    "recording-alarm",
    "consent-asked",
    "consent-given",
    "consent-refused",
    "consent-withdrawn",
    "consent-erased",
    "archive-list",
    "archive-show",
    "archive-play",
    "archive-verify",
    "archive-export",
    "archive-identify",
    "archive-erase",
    "archive-bookmark",
    "archive-bookmark-removed",
    "archive-hold",
    "archive-hold-lifted",
    "archive-accesses",
    "archive-export-followed",
    "archive-export-fetched",
    "archive-export-removed",
    "archive-delete",
    "archive-release",
    "archive-audit",
    "archive-retention",
    "archive-due",
    "identifiers-refused",
    "break-glass",
    "break-glass-reviewed",
    "archive-broken-glass",
    "removed",
    "room-closed",
    "server-started",
    "server-stopped",
]

DENIALS_PER_SECOND = 20
"""Further denials are counted, not written: strangers must not fill the disk."""
HELD_LINES = 100_000
"""What waits for a disk that refuses; further lines are counted, and their number is written when it is back."""
RETRY_SECONDS = 1.0


class _Writer:
    """The thread. What it is given it writes, holds, or counts as lost."""

    def __init__(self, trail: Trail, clock: Clock) -> None:
        self.trouble = ""
        self.lost = 0
        self._untold = 0
        self._trail = trail
        self._clock = clock
        self._queue: queue.SimpleQueue[Facts | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def put(self, facts: Facts) -> None:
        self._queue.put(facts)

    @property
    def held(self) -> int:
        """Lines that wait."""
        return self._queue.qsize() + len(self._trail.held)

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            closing = self._take(self._wait())
            self._write(closing)
        self._trail.close()
        self.lost += len(self._trail.held)

    def _wait(self) -> float | None:
        """Seconds until something is to be done whether lines come or not; None: for ever."""
        if self._trail.held or self.trouble:
            return RETRY_SECONDS
        left = self._trail.wait_us(self._clock.monotonic_us())
        return None if left is None else left / 1e6

    def _take(self, seconds: float | None) -> bool:
        """What has come, the first of it waited for. True when it is the last."""
        try:
            facts = self._queue.get(timeout=seconds)
            while facts is not None:
                self._hold(facts)
                facts = self._queue.get_nowait()
        except queue.Empty:
            return False
        return True

    def _hold(self, facts: Facts) -> None:
        if len(self._trail.held) >= HELD_LINES:
            self.lost += 1
            self._untold += 1
            return
        if self._untold and len(self._trail.held) < HELD_LINES // 2:
            self._trail.held.append({"time": facts["time"], "event": "trail-lost", "lines": self._untold})
            self._untold = 0
        self._trail.held.append(facts)

    def _write(self, closing: bool) -> None:
        try:
            self._trail.write(self._clock.monotonic_us(), closing=closing)
            if self.trouble:
                log.info("the audit trail is written again", file=str(self._trail.path))
            self.trouble = ""
        except OSError as error:
            if not self.trouble:
                log.error("the audit trail can't be written", file=str(self._trail.path), reason=str(error))
            self.trouble = error.strerror or str(error)


class Audit:
    """Writes the trail to `path`; with a `signer` it is sealed. Raises OSError."""

    def __init__(
        self, path: Path, clock: Clock, signer: SigningKey | None = None, limits: Limits | None = None
    ) -> None:
        self.path = path
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._trail = Trail(path, signer, limits or Limits(), lambda: iso(clock.wall()))
        for found in self._trail.open():
            log.warning("the audit trail does not end as it was left", file=str(path), found=found)
        path.open("ab").close()  # that it can't be written should be known now
        self._writer = _Writer(self._trail, clock)
        self._second = 0
        self._denials = 0
        self._unwritten = 0

    @property
    def failures(self) -> int:
        """Lines that could not be written."""
        return self._writer.lost

    @property
    def held(self) -> int:
        """Lines that wait for the disk."""
        return self._writer.held

    @property
    def trouble(self) -> str:
        """Why it can't be written now, in words; empty when it can."""
        return self._writer.trouble

    @property
    def head(self) -> Head:
        """The last line that was written."""
        return self._trail.head

    def witness(self, anchor: Callable[[], Head]) -> None:
        """`anchor` gives the head of another chained log; sealed lines hold it from now on."""
        self._trail.anchor = anchor

    def write(self, action: Action, **facts: object) -> None:
        """One line: the time, the action, and the facts."""
        if action == "denied" and not self._may_write_denial():
            return
        self._put(action, {key: value for key, value in facts.items() if value is not None})

    def close(self) -> None:
        """Write what waits, seal it and close the file."""
        self._tell_unwritten()
        self._writer.close()

    def _put(self, action: Action, facts: dict[str, Any]) -> None:
        self._writer.put({"time": iso(self._clock.wall()), "event": action} | facts)

    def _may_write_denial(self) -> bool:
        second = int(self._clock.wall())
        if second != self._second:
            self._tell_unwritten()
            self._second, self._denials = second, 0
        self._denials += 1
        if self._denials > DENIALS_PER_SECOND:
            self._unwritten += 1
            return False
        return True

    def _tell_unwritten(self) -> None:
        if self._unwritten:
            self._put("denied", {"unwritten": self._unwritten})
            self._unwritten = 0
