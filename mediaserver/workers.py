"""The worker threads of the data plane: started, watched, and chosen for rooms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from mediaserver.admission import WorkerUse
from mediaserver.settings import LimitSettings
from mediaserver.sfu.session.settings import SessionSettings
from mediaserver.sfu.stream.params import Plane, PlaneEvent

SAMPLE_SECONDS = 1.0
NEAR = 0.05
"""A worker that is less busy by less than that is not worth a copy of the room's tracks."""


class WorkerThread(Plane, Protocol):
    """A worker as the control plane uses it: `mediaserver.sfu.stream.worker.Worker`."""

    @property
    def port(self) -> int: ...

    @property
    def host(self) -> str: ...

    @property
    def tcp_port(self) -> int | None: ...

    @property
    def event_fd(self) -> int: ...

    @property
    def busy_us(self) -> int: ...

    def latency_histogram(self) -> tuple[Sequence[tuple[int, int]], int]: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class WorkerSlot:
    """A worker and what the control plane knows of it."""

    def __init__(self, number: int, worker: WorkerThread, settings: SessionSettings, use: WorkerUse) -> None:
        self.number = number
        self.use = use
        self.worker = worker
        self.settings = settings
        self.rooms = 0
        self.participants = 0
        self.busy_share = 0.0
        """Share of the last second that its thread was at work."""
        self._busy_us = 0

    @property
    def plane(self) -> Plane:
        return self.worker

    def join(self, now: int) -> None:
        """Somebody is served here from now on (µs)."""
        self.participants += 1
        self.use.joined(now)

    def sample(self, elapsed_us: int) -> None:
        busy = self.worker.busy_us
        self.busy_share = min(1.0, (busy - self._busy_us) / max(elapsed_us, 1))
        self._busy_us = busy


class Workers:
    """All workers of a server. `deliver(slot, events)` gets what they report, on the event loop."""

    def __init__(
        self,
        deliver: Callable[[WorkerSlot, Sequence[PlaneEvent]], None],
        monotonic: Callable[[], int],
        count_in: Callable[[], WorkerUse],
        limits: LimitSettings,
    ) -> None:
        self._limits = limits
        self.on_sample: Callable[[], None] = lambda: None
        """Called after each sample of the busy shares."""
        self._count_in = count_in
        self._deliver = deliver
        self._monotonic = monotonic
        self._slots: list[WorkerSlot] = []
        self._sampled = 0
        self._sampler: asyncio.TimerHandle | None = None

    def add(self, worker: WorkerThread, settings: SessionSettings) -> None:
        """Take over a worker that runs."""
        slot = WorkerSlot(len(self._slots), worker, settings, self._count_in())
        self._slots.append(slot)
        asyncio.get_running_loop().add_reader(worker.event_fd, self._on_events, slot)
        if self._sampler is None:
            self._sampled = self._monotonic()
            self._sample_later()

    def pick(self) -> WorkerSlot:
        """The worker for a new room: the one that will be the least busy when all that have come are served, to a
        twentieth; of those the one with the fewest participants."""
        return min(self._slots, key=lambda slot: (round(slot.use.expected * 20), slot.participants, slot.rooms))

    def place(self, home: WorkerSlot, served: Mapping[WorkerSlot, int], source: bool) -> WorkerSlot:
        """The worker for somebody who joins a room of which each worker serves so many (`served`): its own, until that
        has `spread_participants` of it or is so busy that people go elsewhere (`spread_percent`). A cart (`source`)
        stays there as long as anybody may. A worker that has the room's tracks already is preferred."""
        full = served.get(home, 0) >= self._limits.spread_participants
        busy = home.use.expected >= self._limits.spread_percent / 100
        if not home.use.joins.shut and (source or not (full or busy)):
            return home

        def order(slot: WorkerSlot) -> tuple[int, int, int]:
            many = served.get(slot, 0)
            new = slot is not home and not many
            return many // self._limits.spread_participants, round((slot.use.expected + new * NEAR) * 20), slot.number

        return min([slot for slot in self._slots if not slot.use.joins.shut] or self._slots, key=order)

    def __iter__(self) -> Iterator[WorkerSlot]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    async def stop(self) -> None:
        """End all threads and wait for them."""
        loop = asyncio.get_running_loop()
        if self._sampler is not None:
            self._sampler.cancel()
            self._sampler = None
        for slot in self._slots:
            loop.remove_reader(slot.worker.event_fd)
        stopped = await asyncio.gather(
            *(asyncio.to_thread(slot.worker.stop) for slot in self._slots), return_exceptions=True
        )
        self._slots.clear()
        for result in stopped:
            if isinstance(result, BaseException):
                raise result

    def counters(self) -> list[tuple[WorkerSlot, Mapping[str, int]]]:
        return [(slot, slot.worker.counters()) for slot in self._slots]

    def _on_events(self, slot: WorkerSlot) -> None:
        if events := slot.worker.poll_events():
            self._deliver(slot, events)

    def _sample(self) -> None:
        now = self._monotonic()
        for slot in self._slots:
            slot.sample(now - self._sampled)
        self._sampled = now
        self.on_sample()
        self._sample_later()

    def _sample_later(self) -> None:
        self._sampler = asyncio.get_running_loop().call_later(SAMPLE_SECONDS, self._sample)
