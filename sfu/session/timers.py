"""Of many who wait for time, the one who is due first; asking costs no more in a room of a thousand."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Timers:
    """`due` says when somebody has something to do, None for never or when they are gone.

    `note` whoever may have come to be due earlier. Who comes to be due later need not be noted: what stands here is
    looked at again when its time comes.
    """

    def __init__(self, due: Callable[[str], int | None]) -> None:
        self._due = due
        self._heap: list[tuple[int, str]] = []
        self._noted: dict[str, int] = {}

    def note(self, name: str) -> None:
        due = self._due(name)
        noted = self._noted.get(name)
        if due is not None and (noted is None or due < noted):
            self._noted[name] = due
            heapq.heappush(self._heap, (due, name))

    def earliest(self) -> int | None:
        """When the first is due, µs."""
        while self._heap:
            due, name = self._heap[0]
            if self._noted.get(name) == due and self._due(name) == due:
                return due
            self._drop()
        return None

    def take(self, now: int) -> list[str]:
        """Who is due at `now`; they are to be noted again."""
        taken = []
        while self._heap and self._heap[0][0] <= now:
            due, name = self._heap[0]
            if self._noted.get(name) == due and self._due(name) == due:
                heapq.heappop(self._heap)
                del self._noted[name]
                taken.append(name)
            else:
                self._drop()
        return taken

    def _drop(self) -> None:
        """The first entry does not hold any more; what holds in its place goes in."""
        due, name = heapq.heappop(self._heap)
        if self._noted.get(name) == due:
            del self._noted[name]
            self.note(name)
