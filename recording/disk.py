"""What waits for the disk: batches go there one after the other on a thread of their own, and are tried again.

The writer that fills this never waits for the disk itself; so one that hangs is noticed, and costs the rings nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future

from mediaserver.recording import journal
from mediaserver.recording.entry import Entry

MAX_BATCH_BYTES = 16 << 20
STALL_US = 1_000_000
"""A batch that is on its way for longer means that the disk does not answer; where what is to be written has waited for
longer, the disk is too slow for what is recorded."""

TOO_SLOW = "the disk is too slow"


class DiskQueue:
    """Entries of one recording on their way to its files. Used by the writer's thread; times are in µs."""

    def __init__(self, commit: Callable[[Sequence[Entry]], None], executor: Executor, retry_us: int) -> None:
        """`commit` is called on the executor, never twice at once; it raises OSError when nothing counts as written."""
        self.trouble = ""
        """Why writing fails, in words; empty when it does not."""
        self.trouble_since = 0
        """When that began, or when the disk last took something."""
        self.held_bytes = 0
        self.errors = 0
        self._commit = commit
        self._executor = executor
        self._retry_us = retry_us
        self._waiting: deque[Entry] = deque()
        self._batch: list[Entry] = []
        self._flight: Future[None] | None = None
        self._sent_at = 0
        self._batch_since = 0
        self._waiting_since: int | None = None
        self._not_before = 0

    @property
    def is_idle(self) -> bool:
        """Everything is on the disk."""
        return not self._waiting and not self._batch

    def put(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._waiting.append(entry)
            self.held_bytes += len(entry.data)

    def drop_media(self, now: int) -> int:
        """Let go of the fragments that wait; what is known about them stays. Since when they have waited."""
        kept_back = self._waiting_since if self._waiting_since is not None else now
        since = self._batch_since if self._batch and self._flight is None else kept_back
        kept = [entry for entry in self._waiting if not isinstance(entry.record, journal.Written)]
        if self._flight is None:
            self._batch = [entry for entry in self._batch if not isinstance(entry.record, journal.Written)]
        self._waiting = deque(kept)
        self.held_bytes = sum(len(entry.data) for entry in (*self._batch, *kept))
        return since

    def fail(self, now: int, error: BaseException) -> None:
        """Something else of this recording could not be written."""
        self.errors += 1
        self._trouble(now, getattr(error, "strerror", None) or str(error) or type(error).__name__)

    def end(self, close: Callable[[], None]) -> None:
        """Nothing more will be sent: close the files, as soon as what is on its way no longer uses them."""
        if self._flight is None:
            close()
        else:
            self._flight.add_done_callback(lambda flight: close())

    def step(self, now: int) -> list[Entry]:
        """Send what waits; gives what has reached the disk since the last call."""
        if self._waiting and self._waiting_since is None:
            self._waiting_since = now
        written = self._land(now)
        while self._flight is None and now >= self._not_before and (self._batch or self._waiting):
            self._send(now)
            written += self._land(now)
        return written

    def _send(self, now: int) -> None:
        if not self._batch and self._waiting_since is not None:
            self._batch_since = self._waiting_since
        size = sum(len(entry.data) for entry in self._batch)
        while self._waiting and (not self._batch or size + len(self._waiting[0].data) <= MAX_BATCH_BYTES):
            entry = self._waiting.popleft()
            self._batch.append(entry)
            size += len(entry.data)
        if not self._waiting:
            self._waiting_since = None
        self._sent_at = now
        self._flight = self._executor.submit(self._commit, tuple(self._batch))

    def _land(self, now: int) -> list[Entry]:
        flight = self._flight
        if flight is None:
            return []
        if not flight.done():
            if not self.trouble and now - self._sent_at > STALL_US:
                self._trouble(self._sent_at, "the disk does not answer")
            elif not self.trouble and now - self._batch_since > STALL_US:
                self._trouble(now, TOO_SLOW)
            return []
        self._flight = None
        error = flight.exception()
        if error is not None:
            self._not_before = now + self._retry_us
            self.fail(now, error)
            return []
        written, self._batch = self._batch, []
        self.held_bytes -= sum(len(entry.data) for entry in written)
        if now - self._batch_since > STALL_US and self._waiting:
            self.trouble, self.trouble_since = TOO_SLOW, now
        else:
            self.trouble, self.trouble_since = "", 0
        return written

    def _trouble(self, since: int, text: str) -> None:
        self.trouble = text
        self.trouble_since = self.trouble_since or since
