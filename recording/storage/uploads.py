"""What waits to go up: a queue in memory, made anew at each start from what lies in the archive.

Nothing of it has to survive: a recording that has no mark of being stored is looked at again, and what the bucket
holds already, byte by byte, is not sent a second time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

FIRST_RETRY_US = 1_000_000
LAST_RETRY_US = 60_000_000
IDLE_SECONDS = 1.0

END = ""
"""The name that stands for a recording's end: its small files, its manifest, and the mark."""


@dataclass(slots=True)
class Item:
    """A file of a recording, or its end. Times are monotonic, in µs."""

    recording: str
    name: str
    bytes: int
    sha256: str
    since: int
    attempts: int = 0
    not_before: int = 0
    again: bool = False
    """It was asked for once more while it was under way."""


@dataclass(slots=True)
class Backlog:
    """What waits. `age_us` is that of what waits longest."""

    files: int
    bytes: int
    age_us: int


@dataclass(slots=True)
class UploadQueue:
    """Pure: the time comes in with the call."""

    _waiting: dict[tuple[str, str], Item] = field(default_factory=dict)
    _flying: dict[tuple[str, str], Item] = field(default_factory=dict)

    def put(self, recording: str, name: str, now: int, size: int = 0, sha256: str = "") -> None:
        """Once, however often it is asked for."""
        key = recording, name
        if key in self._flying:
            self._flying[key].again = True
        elif key not in self._waiting:
            self._waiting[key] = Item(recording, name, size, sha256, now)

    def take(self, now: int) -> Item | None:
        """The next that is due; it is under way until it is `done`, `failed` or sent `back`."""
        for key, item in self._waiting.items():
            if item.not_before <= now:
                del self._waiting[key]
                self._flying[key] = item
                return item
        return None

    def done(self, item: Item, now: int) -> None:
        self._land(item)
        if item.again:
            self.put(item.recording, item.name, now, item.bytes, item.sha256)

    def failed(self, item: Item, now: int) -> None:
        """It is tried again, later each time."""
        self._land(item)
        item.not_before = now + min(FIRST_RETRY_US << min(item.attempts, 10), LAST_RETRY_US)
        item.attempts += 1
        self._waiting[item.recording, item.name] = item

    def back(self, item: Item, now: int) -> None:
        """Its turn has not come: other files of the recording go first."""
        self._land(item)
        item.not_before = now + FIRST_RETRY_US
        self._waiting[item.recording, item.name] = item

    def forget(self, recording: str) -> bool:
        """Nothing of the recording waits any more; whether nothing is under way either."""
        for key in [key for key in self._waiting if key[0] == recording]:
            del self._waiting[key]
        for key, item in self._flying.items():
            if key[0] == recording:
                item.again = False
        return not any(key[0] == recording for key in self._flying)

    def has_files(self, recording: str) -> bool:
        """Files of the recording wait or are under way, its end apart."""
        return any(
            owner == recording and name != END for queue in (self._waiting, self._flying) for owner, name in queue
        )

    def next_due(self) -> int | None:
        return min((item.not_before for item in self._waiting.values()), default=None)

    def backlog(self, now: int) -> Backlog:
        items = [*self._waiting.values(), *self._flying.values()]
        oldest = min((item.since for item in items), default=now)
        return Backlog(len(items), sum(item.bytes for item in items), now - oldest)

    def _land(self, item: Item) -> None:
        del self._flying[item.recording, item.name]


class Uploader:
    """Threads that carry out what the queue holds."""

    def __init__(
        self,
        work: Callable[[Item], bool],
        monotonic: Callable[[], int],
        on_trouble: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`work` sends an item and raises OSError when it can't; False says that its turn has not come.

        `monotonic` is in µs. `on_trouble` is called on a thread with words when uploads begin to fail, and with an
        empty string when they succeed again.
        """
        self.failing = False
        self.failures = 0
        self.files = 0
        self.bytes = 0
        self._work = work
        self._monotonic = monotonic
        self._on_trouble = on_trouble
        self._queue = UploadQueue()
        self._ready = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._closing = False

    def open(self, threads: int) -> None:
        for number in range(threads):
            thread = threading.Thread(target=self._run, name=f"upload-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self, timeout: float) -> None:
        """Begin nothing more, and wait for what is under way for at most `timeout` seconds. The rest goes on at the
        next start."""
        with self._ready:
            self._closing = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join(timeout / len(self._threads))
        self._threads.clear()

    def put(self, recording: str, name: str, size: int = 0, sha256: str = "") -> None:
        with self._ready:
            self._queue.put(recording, name, self._monotonic(), size, sha256)
            self._ready.notify()

    def forget(self, recording: str, timeout: float) -> bool:
        """Send nothing of a recording any more; False when something still was under way after `timeout` seconds."""
        with self._ready:
            return self._ready.wait_for(lambda: self._queue.forget(recording), timeout)

    def has_files(self, recording: str) -> bool:
        with self._ready:
            return self._queue.has_files(recording)

    def backlog(self) -> Backlog:
        with self._ready:
            return self._queue.backlog(self._monotonic())

    def step(self) -> bool:
        """Carry out one item that is due; False when there is none."""
        with self._ready:
            item = self._queue.take(self._monotonic())
        if item is None:
            return False
        try:
            done = self._work(item)
        except Exception as error:  # whatever it was: nothing may be lost because a thread has ended
            self._fail(item, str(error) or type(error).__name__)
        else:
            self._succeed(item, done)
        return True

    def _succeed(self, item: Item, done: bool) -> None:
        with self._ready:
            self._ready.notify_all()
            now = self._monotonic()
            if not done:
                self._queue.back(item, now)
                return
            self._queue.done(item, now)
            self.files += item.name != END
            self.bytes += item.bytes
            recovered, self.failing = self.failing, False
        if recovered:
            self._on_trouble("")

    def _fail(self, item: Item, text: str) -> None:
        with self._ready:
            self._ready.notify_all()
            self.failures += 1
            self._queue.failed(item, self._monotonic())
            first, self.failing = not self.failing, True
        if first:
            what = item.name or "the end"
            self._on_trouble(f"{what} of recording {item.recording}: {text}")

    def _run(self) -> None:
        while True:
            if not self._closing and self.step():
                continue
            with self._ready:
                if self._closing:
                    return
                due = self._queue.next_due()
                wait = IDLE_SECONDS if due is None else max(0.0, (due - self._monotonic()) / 1e6)
                self._ready.wait(min(wait, IDLE_SECONDS))
