"""The rooms of this server: which are open, on which worker each is, and who else hears of them.

It gives the rooms the time, workers and randomness, hands them what the data plane reports, and tells observers (the
recorder, the metrics, the audit trail, an embedding application) what happens in them.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import structlog

from mediaserver.admission import Admission, Refusal
from mediaserver.clock import Clock
from mediaserver.consent import Consents
from mediaserver.handshakes import Handshakes
from mediaserver.live_room import LiveRoom
from mediaserver.memory import memory_limit, resident_bytes
from mediaserver.room_events import Observer, RoomClosed, RoomEvent, RoomOpened
from mediaserver.settings import LimitSettings
from mediaserver.sfu.session.ids import Ids
from mediaserver.sfu.session.room import Room, RoomError
from mediaserver.sfu.session.settings import RoomPolicy
from mediaserver.sfu.stream.params import EventKind, PlaneEvent
from mediaserver.workers import Workers, WorkerSlot

PACKET_BYTES = 2048
"""What a packet takes at the most, with what is known of it."""
log = structlog.get_logger("mediaserver.rooms")


class Overloaded(RoomError):
    """This server is at a limit and lets nobody more in. After `retry_seconds` it is worth another try."""

    def __init__(self, refusal: Refusal, retry_seconds: float) -> None:
        super().__init__("overloaded", f"the server is at its limit and lets nobody more in: {refusal.text}")
        self.reason = refusal.reason
        self.retry_seconds = retry_seconds


class Rooms(Mapping[str, LiveRoom]):
    """All open rooms by name. A room opens with its first participant and closes after its last."""

    def __init__(
        self,
        clock: Clock,
        policy: RoomPolicy,
        max_rooms: int,
        limits: LimitSettings,
        packet_bytes: int,
        make_consents: Callable[[], Consents] = lambda: Consents("required"),
    ) -> None:
        """`packet_bytes`: what the packets that one worker holds may take. `make_consents` gives what a new room begins
        with."""
        self.make_consents = make_consents
        self.clock = clock
        self.policy = policy
        self.ids: Ids[Room] = Ids(os.urandom)
        self.admission = Admission(limits, max_rooms)
        self.workers = Workers(self._on_plane_events, clock.monotonic_us, self.admission.add_worker, limits)
        self.workers.on_sample = self._sample
        self.handshakes = Handshakes()
        self.accepting = True
        self.refusals: Counter[str] = Counter()
        """Joins over a limit, by the limit."""
        self._packet_bytes = packet_bytes
        self._memory_limit = memory_limit()
        self._rooms: dict[str, LiveRoom] = {}
        self._taps: set[int] = set()
        self._drained = asyncio.Event()
        self._observers: list[Observer] = []

    def __getitem__(self, name: str) -> LiveRoom:
        return self._rooms[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rooms)

    def __len__(self) -> int:
        return len(self._rooms)

    def observe(self, observer: Observer) -> None:
        """Call `observer(room, event)` for everything that happens, in order, on the event loop."""
        self._observers.append(observer)

    def unobserve(self, observer: Observer) -> None:
        self._observers.remove(observer)

    def enter(self, name: str) -> LiveRoom:
        """The open room of that name, opened when it is not, for somebody to join. Raises `RoomError`, `Overloaded`."""
        if not self.accepting:
            raise RoomError("shutting-down", "the server is shutting down")
        live = self._rooms.get(name)
        refusal = self.admission.refusal(opens=live is None)
        if refusal is not None:
            self.refusals[refusal.reason] += 1
            raise Overloaded(refusal, self.admission.settings.retry_seconds)
        if live is None:
            slot = self.workers.pick()
            live = self._rooms[name] = LiveRoom(name, slot, self)
            slot.rooms += 1
            self.count()
            log.info("a room was opened", room=name, worker=slot.number, busy=round(slot.use.expected, 3))
            self.report(live, RoomOpened())
        return live

    def count(self) -> None:
        """Somebody has come or gone."""
        participants = sum(slot.participants for slot in self.workers)
        self.admission.count(participants=participants, rooms=len(self._rooms), now=self.clock.monotonic_us())

    def leave_if_empty(self, live: LiveRoom) -> None:
        """After a join that failed: do not keep a room that nobody came into."""
        live.close_if_empty()

    def close_all(self) -> None:
        """Let nobody in any more and close every room."""
        self.accepting = False
        for live in list(self._rooms.values()):
            live.close()

    def open(self) -> None:
        """Start to take part in handshakes."""
        self.handshakes.start()
        asyncio.get_running_loop().add_reader(self.handshakes.event_fd, self._on_handshakes)

    def close(self) -> None:
        """The last thing, when all rooms are closed."""
        asyncio.get_running_loop().remove_reader(self.handshakes.event_fd)
        self.handshakes.stop()

    async def drained(self) -> None:
        """Wait until the data plane has let go of everything; of use after `close_all`."""
        while len(self.ids):
            self._drained.clear()
            await self._drained.wait()

    def drop(self, live: LiveRoom) -> None:
        """A room has closed."""
        if self._rooms.get(live.name) is live:
            del self._rooms[live.name]
            live.slot.rooms -= 1
            self.count()
            self.report(live, RoomClosed())

    def report(self, live: LiveRoom, event: RoomEvent) -> None:
        """Tell the observers."""
        for observer in tuple(self._observers):
            try:
                observer(live, event)
            except Exception:  # one observer's mistake must not end the consultation
                log.exception("an observer failed", room=live.name, event_type=type(event).__name__)

    def _sample(self) -> None:
        before = self.admission.refusal(opens=True)
        held = max((values.get("packets_held", 0) for _, values in self.workers.counters()), default=0)
        self.admission.sample(
            [(slot.busy_share, slot.participants) for slot in self.workers],
            memory=resident_bytes() / self._memory_limit,
            packets=held * PACKET_BYTES / self._packet_bytes,
            legs=sum(live.legs for live in self._rooms.values()),
            now=self.clock.monotonic_us(),
        )
        after = self.admission.refusal(opens=True)
        if after is not None and before is None:
            log.warning("no room is opened any more", reason=after.text)
        elif before is not None and after is None:
            log.info("rooms are opened again")

    def _on_plane_events(self, slot: WorkerSlot, events: Sequence[PlaneEvent]) -> None:
        for event in events:
            if event.id in self._taps:
                self._tap_event(event)
            elif (room := self.ids.owner(event.id)) is not None:
                self._room_event(room, event)
        if not len(self.ids):
            self._drained.set()

    def _on_handshakes(self) -> None:
        for step in self.handshakes.take():
            room = self.ids.owner(step.session)
            live = self._rooms.get(room.name) if room is not None else None
            if live is not None and live.room is room:
                try:
                    live.handshake(step)
                except Exception:
                    log.exception("a step of a handshake could not be handled", room=live.name)

    def claim_tap(self, live: LiveRoom) -> int:
        """A plane id for a tap on one of the room's tracks; it is released when the plane has removed the tap."""
        tap = self.ids.claim(live.room)
        self._taps.add(tap)
        return tap

    def _tap_event(self, event: PlaneEvent) -> None:
        if event.kind in (EventKind.REMOVED, EventKind.REFUSED):
            self._taps.discard(event.id)
            if (room := self.ids.owner(event.id)) is not None:
                room.planes.forget(event.id)
            self.ids.release(event.id)

    def _room_event(self, room: Room, event: PlaneEvent) -> None:
        live = self._rooms.get(room.name)
        try:
            if live is not None and live.room is room:
                live.plane_events((event,))
            else:
                room.plane_event(event, self.clock.monotonic_us())  # the last objects of a room that has closed
        except Exception:
            log.exception("a report of the data plane could not be handled", room=room.name, kind=event.kind)
