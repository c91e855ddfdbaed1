"""Who may still come in: the limits of this server, and when it lets nobody more in. No clock, no I/O.

Use is sampled once a second, and each join in between counts by what a participant has cost so far, so that a rush of
joins does not run past the limit before it is seen. What is closed opens again only after it was under its limit by a
margin for a while.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mediaserver.settings import LimitSettings

SECOND = 1_000_000
MARGIN = 0.05
"""What is closed opens again this share of its limit below it."""
SMOOTH = 0.4
"""Weight of the newest sample of a worker's busy share."""
SETTLE_US = 4 * SECOND
"""After so long the measured share includes what a join costs."""
FIRST_COST = 0.0005
"""Share of a worker that a participant costs before anything was measured."""
LEARNT_FROM = 20
"""Participants of a worker from which on their cost can be told: the share of a few is mostly that of no one."""


class Refusal(NamedTuple):
    """`reason` is a word of a small set: busy, memory, participants, legs or rooms; `text` says it to people."""

    reason: str
    text: str


class Gate:
    """One limit: shut when use has reached it, open when it was below `limit - MARGIN * limit` for `calm_us`."""

    def __init__(self, limit: float, calm_us: int) -> None:
        self.limit = limit
        self.shut = False
        self._calm_us = calm_us
        self._calm_since: int | None = None

    def note(self, use: float, now: int) -> None:
        if use >= self.limit:
            self.shut = True
            self._calm_since = None
        elif self.shut:
            if use > self.limit * (1 - MARGIN):
                self._calm_since = None
            elif self._calm_since is None:
                self._calm_since = now
            elif now - self._calm_since >= self._calm_us:
                self.shut = False


class WorkerUse:
    """How busy a worker is, and will be once those that have just come in are served. Shares are 0 to 1."""

    def __init__(self, settings: LimitSettings) -> None:
        self.share = 0.0
        self.cost = FIRST_COST
        """of one participant"""
        limit, calm_us = settings.busy_percent / 100, round(settings.calm_seconds * SECOND)
        self.rooms = Gate(limit, calm_us)
        """for those that open a room"""
        self.joins = Gate(min(1.0, limit + settings.reserve_percent / 100), calm_us)
        """for those that join a room which is open: a consultation that has begun is not to lack its doctor"""
        self._coming: deque[int] = deque()
        self._unseen = 0.0
        """Of those that have just come, how many the measured share does not show yet."""

    @property
    def expected(self) -> float:
        return self.share + self._unseen * self.cost

    def sample(self, share: float, participants: int, now: int) -> None:
        self.share += SMOOTH * (share - self.share)
        while self._coming and now - self._coming[0] >= SETTLE_US:
            self._coming.popleft()
        self._unseen = sum(1 - (now - came) / SETTLE_US for came in self._coming)
        seen = participants - self._unseen
        if seen >= LEARNT_FROM:
            self.cost += SMOOTH * (self.share / seen - self.cost)
        self._judge(now)

    def joined(self, now: int) -> None:
        """Somebody has been placed here."""
        self._coming.append(now)
        self._unseen += 1
        self._judge(now)

    def _judge(self, now: int) -> None:
        self.rooms.note(self.expected, now)
        self.joins.note(self.expected, now)


class Admission:
    """The limits of one server. Times are µs of one monotonic clock."""

    def __init__(self, settings: LimitSettings, max_rooms: int) -> None:
        self.settings = settings
        self.workers: list[WorkerUse] = []
        self.use: dict[str, float] = {"memory": 0.0, "packets": 0.0, "participants": 0, "legs": 0, "rooms": 0}
        calm_us = round(settings.calm_seconds * SECOND)
        self._gates = {
            "memory": Gate(settings.memory_percent / 100, calm_us),
            "packets": Gate(settings.memory_percent / 100, calm_us),
            "participants": Gate(settings.max_participants, calm_us),
            "legs": Gate(settings.max_legs, calm_us),
            "rooms": Gate(max_rooms, calm_us),
        }

    @property
    def limits(self) -> Mapping[str, float]:
        """What `use` is held against; `busy` of a worker beside it."""
        return {name: gate.limit for name, gate in self._gates.items()}

    def add_worker(self) -> WorkerUse:
        self.workers.append(WorkerUse(self.settings))
        return self.workers[-1]

    def sample(self, busy: Sequence[tuple[float, int]], *, memory: float, packets: float, legs: int, now: int) -> None:
        """`busy` has a busy share and a number of participants for each worker; `memory` and `packets` are shares of
        what the process and the worker that holds the most packets may take."""
        for worker, (share, participants) in zip(self.workers, busy, strict=True):
            worker.sample(share, participants, now)
        self._note("memory", memory, now)
        self._note("packets", packets, now)
        self._note("legs", legs, now)
        for name in ("participants", "rooms"):
            self._note(name, self.use[name], now)

    def count(self, *, participants: int, rooms: int, now: int) -> None:
        """How many are in."""
        self._note("participants", participants, now)
        self._note("rooms", rooms, now)

    def refusal(self, *, opens: bool) -> Refusal | None:
        """Why nobody may come in now, or with `opens` nobody for whom a room would have to be opened."""
        for name in ("memory", "packets", "participants", "legs", *(("rooms",) if opens else ())):
            gate = self._gates[name]
            if gate.shut:
                return Refusal("memory" if name == "packets" else name, _TEXTS[name].format(limit=gate.limit))
        gates = [worker.rooms if opens else worker.joins for worker in self.workers]
        if gates and all(gate.shut for gate in gates):
            return Refusal("busy", f"its workers are busy for {gates[0].limit:.0%} of the time, which is its limit")
        return None

    def _note(self, name: str, use: float, now: int) -> None:
        self.use[name] = use
        self._gates[name].note(use, now)


_TEXTS = {
    "memory": "it takes {limit:.0%} of its memory, which is its limit",
    "packets": "packets take {limit:.0%} of their memory, which is its limit",
    "participants": "it has the {limit:.0f} participants that it may have",
    "legs": "it sends the {limit:.0f} tracks that it may send",
    "rooms": "it has the {limit:.0f} rooms that it may have",
}
