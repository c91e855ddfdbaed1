"""The rooms of this server: who is in them, how they are reached, and who else hears of it.

`sfu.session.Room` decides; this module gives it the time, a worker and randomness, carries what it says to the
members, and reports it to observers (the recorder, the metrics, the audit trail, an embedding application).
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
import structlog

from mediaserver import protocol
from mediaserver.admission import Admission, Refusal
from mediaserver.auth import Grant
from mediaserver.clock import Clock
from mediaserver.connection import frame
from mediaserver.consent import Consents, Said, named
from mediaserver.handshakes import Finished, Handshakes
from mediaserver.memory import memory_limit, resident_bytes
from mediaserver.settings import LimitSettings
from mediaserver.sfu.session import events as ev
from mediaserver.sfu.session.ids import Ids
from mediaserver.sfu.session.model import (
    ParticipantInfo,
    PublishMap,
    Quality,
    Right,
    Role,
    SubscribeMap,
    TrackInfo,
    Wish,
)
from mediaserver.sfu.session.room import Negotiated, Room, RoomError
from mediaserver.sfu.session.settings import RoomPolicy
from mediaserver.sfu.stream.params import EventKind, PlaneEvent
from mediaserver.workers import Workers, WorkerSlot

Via = Literal["websocket", "whip", "whep"]
PACKET_BYTES = 2048
"""What a packet takes at the most, with what is known of it."""
log = structlog.get_logger("mediaserver.rooms")

CROWD = 50
"""In a room with more members coming and going is told together, and so late at most:"""
TELL_SECONDS = 0.05


class RoomOpened(msgspec.Struct, frozen=True):
    """The first participant is about to come in."""


class RoomClosed(msgspec.Struct, frozen=True):
    """The last participant has gone."""


class RecordingChanged(msgspec.Struct, frozen=True):
    """A recording has begun, ended, or is in trouble."""

    state: protocol.RecordingState
    recording: str | None = None
    detail: str = ""
    tracks: tuple[str, ...] = ()
    """Those that go into it."""


class Overloaded(RoomError):
    """This server is at a limit and lets nobody more in. After `retry_seconds` it is worth another try."""

    def __init__(self, refusal: Refusal, retry_seconds: float) -> None:
        super().__init__("overloaded", f"the server is at its limit and lets nobody more in: {refusal.text}")
        self.reason = refusal.reason
        self.retry_seconds = retry_seconds


class ConsentChanged(msgspec.Struct, frozen=True):
    """A participant has agreed to be recorded, has refused, or has withdrawn."""

    said: Said


RoomEvent = ev.Event | RoomOpened | RoomClosed | RecordingChanged | ConsentChanged
Observer = Callable[["LiveRoom", RoomEvent], None]


class Member:
    """A participant and the way to it. `send` takes encoded messages as frames; `gone` is told why it is no longer in.
    What the room had to say before number `first` is not for it: it has come since."""

    __slots__ = ("first", "gone", "grant", "id", "info", "joined_us", "send", "slot", "via", "view")

    def __init__(
        self,
        info: ParticipantInfo,
        grant: Grant,
        via: Via,
        joined_us: int,
        send: Callable[[bytes], None],
        gone: Callable[[str], None],
        slot: WorkerSlot,
    ) -> None:
        self.id = info.id
        self.slot = slot
        self.info = info
        self.grant = grant
        self.via = via
        self.joined_us = joined_us
        self.send = send
        self.gone = gone
        self.first = 0
        self.view = protocol.ParticipantView(id=info.id, name=info.name, role=Role(info.role))


class LiveRoom:
    """A room that is open. Its commands raise `RoomError` or `OfferError`, as those of `Room` do."""

    def __init__(self, name: str, slot: WorkerSlot, rooms: Rooms) -> None:
        self.name = name
        self.slot = slot
        self.opened = rooms.clock.wall()
        self.members: dict[str, Member] = {}
        self._served: Counter[WorkerSlot] = Counter()
        """members by worker"""
        self.consents = rooms.make_consents()
        self.recording = protocol.RecordingView(whose=self.consents.whose)
        self.held = False
        """Stays open though nobody is in it: a recording waits for its cart to come back."""
        self.room = Room(name, slot, rooms.ids, rooms.policy, self._place)
        self._rooms = rooms
        self._clock = rooms.clock
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[bytes] = []
        """who came and went, not told yet,"""
        self._told = 0
        """after so many that were"""
        self._wakes = 0
        """when the timer comes, µs"""
        self.closed = False

    # What an application sees

    @property
    def participants(self) -> list[ParticipantInfo]:
        """Those in the room, hidden ones included."""
        return [member.info for member in self.members.values()]

    @property
    def legs(self) -> int:
        """Tracks that are sent, each viewer's counted by itself."""
        return self.room.legs

    @property
    def tracks(self) -> list[TrackInfo]:
        return [track.info for track in self.room.tracks.values()]

    def visible(self) -> list[protocol.ParticipantView]:
        """Those in the room as the others see them."""
        return [self._seen(member) for member in self.members.values() if not member.info.hidden]

    # Commands

    def join(
        self,
        grant: Grant,
        *,
        name: str,
        via: Via,
        send: Callable[[bytes], None],
        gone: Callable[[str], None],
        hidden: bool = False,
    ) -> Member:
        now = self._clock.monotonic_us()
        source = grant.role is Role.CART or via == "whip"
        participant = self._rooms.ids.name("p")
        info = ParticipantInfo(participant, name, grant.role, hidden)
        done = self.room.join(
            participant,
            role=grant.role,
            rights=grant.rights,
            name=name,
            now=now,
            hidden=hidden,
            media_only=via != "websocket",
        )
        self.consents.claim(grant.recording)
        self.consents.join(participant, Right.PUBLISH in grant.rights and not hidden)
        slot = self._rooms.workers.place(self.slot, self._served, source)
        member = self.members[participant] = Member(info, grant, via, now, send, gone, slot)
        slot.join(now)
        self._served[slot] += 1
        if slot is not self.slot:
            busy = round(self.slot.use.expected, 3)
            log.info("served by another worker", room=self.name, participant=participant, worker=slot.number, busy=busy)
        self._rooms.count()
        member.first = self._told + len(self._waiting) + 1  # not its own coming, when an observer has it told at once
        self._publish(done)
        member.first = self._told + len(self._waiting)
        return member

    def offer(self, member: Member, sdp: str, publish: PublishMap, subscribe: SubscribeMap) -> Negotiated:
        now = self._clock.monotonic_us()
        negotiated = self.room.offer(member.id, sdp, publish=publish, subscribe=subscribe, now=now)
        self._publish(negotiated.events)
        return negotiated

    def restart(self, member: Member, ufrag: str, pwd: str) -> tuple[str, str]:
        credentials = self.room.restart(member.id, ufrag, pwd, self._clock.monotonic_us())
        self._publish(())
        return credentials

    def candidate(self, member: Member, candidate: str, mid: str) -> None:
        self.room.candidate(member.id, candidate, mid, self._clock.monotonic_us())

    def mute(self, member: Member, track: str, muted: bool) -> None:
        self._publish(self.room.mute(member.id, track, muted, self._clock.monotonic_us()))

    def subscribe(self, member: Member, track: str) -> None:
        self._publish(self.room.subscribe(member.id, track, self._clock.monotonic_us()))

    def unsubscribe(self, member: Member, track: str) -> None:
        self._publish(self.room.unsubscribe(member.id, track, self._clock.monotonic_us()))

    def wish(self, member: Member, track: str, wish: Wish) -> Wish:
        return self.room.wish(member.id, track, wish, self._clock.monotonic_us())

    def qualities(self, member: Member) -> list[protocol.TrackQuality]:
        """What the member gets of its tracks."""
        return [_track_quality(track, quality) for track, quality in self.room.qualities(member.id).items()]

    def keyframe(self, member: Member, track: str) -> None:
        self.room.keyframe(member.id, track, self._clock.monotonic_us())

    def leave(self, participant: str, reason: str) -> None:
        """Remove a participant; not an error when it has gone already."""
        if participant in self.members:
            self._publish(self.room.leave(participant, reason, self._clock.monotonic_us()))

    def close(self) -> None:
        """Remove all participants and close the room."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._publish(self.room.close(self._clock.monotonic_us()))
        self._rooms._drop(self)

    def hold(self, held: bool) -> None:
        """Keep the room open without participants, or no longer."""
        self.held = held
        self._publish(())

    def set_recording(
        self, state: protocol.RecordingState, recording: str | None, detail: str = "", tracks: Sequence[str] = ()
    ) -> None:
        """Tell everybody how the recording stands, and which tracks go into it."""
        whose = self.consents.whose
        self.recording = protocol.RecordingView(
            state=state, recording=recording, detail=detail, whose=whose, tracks=list(tracks)
        )
        self.broadcast(protocol.RecordingChanged(**msgspec.structs.asdict(self.recording)))
        self._rooms._observe(self, RecordingChanged(state, recording, detail, tuple(tracks)))

    def tell_consent(self, participant: str, said: Sequence[Said] = ()) -> None:
        """Tell everybody what a participant has said to being recorded, or, without `said`, that it was asked."""
        member = self.members.get(participant)
        if member is not None and not member.info.hidden:
            seen = self._seen(member)
            changed = protocol.ConsentChanged(
                participant=participant, consent=seen.consent, sources=seen.consent_sources
            )
            self.broadcast(changed)
        for one in said:
            self._rooms._observe(self, ConsentChanged(one))

    def plane_events(self, events: Iterable[PlaneEvent]) -> None:
        """Reports of the data plane about this room's objects."""
        now = self._clock.monotonic_us()
        for event in events:
            self._publish(self.room.plane_event(event, now))

    def handshake(self, step: Finished) -> None:
        """A step of a peer's DTLS handshake has been carried out."""
        self._publish(self.room.handshake(*step, self._clock.monotonic_us()))

    def broadcast(self, message: protocol.ServerMessage, but: str | None = None) -> None:
        """Tell all members, after what is still to be told; one message is encoded once."""
        self.tell_waiting()
        self._send_all(frame(protocol.encode(message)), but)

    def tell_waiting(self) -> None:
        """Tell the members who has come and gone."""
        waiting, first = self._waiting, self._told
        if not waiting:
            return
        self._waiting = []
        self._told += len(waiting)
        everything = b"".join(waiting)
        for member in list(self.members.values()):
            frames = everything if member.first <= first else b"".join(waiting[member.first - first :])
            if frames:
                member.send(frames)

    def _send_all(self, frames: bytes, but: str | None) -> None:
        for member in list(self.members.values()):
            if member.id != but:
                member.send(frames)

    def _tell_presence(self, message: protocol.ServerMessage, but: str | None = None) -> None:
        """Of a thousand who come within a second each would cost a message to all the others."""
        if len(self.members) <= CROWD and not self._waiting:
            self._send_all(frame(protocol.encode(message)), but)
            return
        if not self._waiting:
            asyncio.get_running_loop().call_later(TELL_SECONDS, self.tell_waiting)
        self._waiting.append(frame(protocol.encode(message)))

    # Inside

    def _place(self, participant: str) -> WorkerSlot:
        return self.members[participant].slot

    def _publish(self, events: Sequence[ev.Event]) -> None:
        for event in events:
            _TELL[type(event)](self, event)
            self._rooms._observe(self, event)
        if self.closed:
            return
        if not self.members and not self.held:
            self.close()
        else:
            self._schedule()

    def _schedule(self) -> None:
        deadline = self.room.deadline()
        if self._timer is not None:
            # A timer that comes too early does no harm, and nearly every report would make another one.
            if deadline is None or self._wakes <= deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None and not self.closed:
            self._wakes = deadline
            delay = max(0, deadline - self._clock.monotonic_us()) / 1e6
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._publish(self.room.tick(self._clock.monotonic_us()))

    def _seen(self, member: Member) -> protocol.ParticipantView:
        """As the others see it now."""
        consent = self.consents.state(member.id)
        sources = named(self.consents.agreed(member.id)) if consent == "given" else None
        if (member.view.consent, member.view.consent_sources) != (consent, sources):
            member.view = msgspec.structs.replace(member.view, consent=consent, consent_sources=sources)
        return member.view

    def _tell_joined(self, event: ev.ParticipantJoined) -> None:
        if not event.participant.hidden:
            joined = protocol.ParticipantJoined(participant=self._seen(self.members[event.participant.id]))
            self._tell_presence(joined, event.participant.id)

    def _tell_left(self, event: ev.ParticipantLeft) -> None:
        member = self.members.pop(event.participant, None)
        if member is None:
            return
        member.slot.participants -= 1
        self._served[member.slot] -= 1
        self._rooms.count()
        self.consents.leave(event.participant)
        if not member.info.hidden:
            self._tell_presence(protocol.ParticipantLeft(participant=event.participant, reason=event.reason))
        member.gone(event.reason)

    def _tell_track_added(self, event: ev.TrackAdded) -> None:
        self.broadcast(protocol.TrackAdded(track=event.track))

    def _tell_track_changed(self, event: ev.TrackChanged) -> None:
        self.broadcast(protocol.TrackChanged(track=event.track))

    def _tell_track_removed(self, event: ev.TrackRemoved) -> None:
        self.broadcast(protocol.TrackRemoved(track=event.track))

    def _tell_freshness(self, event: ev.FreshnessChanged) -> None:
        self.broadcast(protocol.TrackFreshness(track=event.track, state=event.state))

    def _tell_transport(self, event: ev.TransportChanged) -> None:
        member = self.members.get(event.participant)
        if member is not None:
            member.send(frame(protocol.encode(protocol.TransportChanged(state=event.state))))

    def _tell_quality(self, event: ev.LegQuality) -> None:
        member = self.members.get(event.participant)
        if member is not None:
            quality = _track_quality(event.track, event.quality)
            member.send(frame(protocol.encode(protocol.QualityChanged(quality=quality))))

    def _tell_encodings(self, event: ev.EncodingsWanted) -> None:
        member = self.members.get(event.participant)
        if member is not None:
            wanted = protocol.EncodingsWanted(track=event.track, wanted=list(event.rids))
            member.send(frame(protocol.encode(wanted)))

    def _tell_speaker(self, event: ev.SpeakerChanged) -> None:
        self.broadcast(protocol.Speaker(participant=event.participant, track=event.track))

    def _tell_nobody(self, event: ev.Event) -> None:
        """For the observers alone."""


_TELL: Mapping[type, Callable[[LiveRoom, Any], None]] = {
    ev.ParticipantJoined: LiveRoom._tell_joined,
    ev.ParticipantLeft: LiveRoom._tell_left,
    ev.TrackAdded: LiveRoom._tell_track_added,
    ev.TrackChanged: LiveRoom._tell_track_changed,
    ev.TrackRemoved: LiveRoom._tell_track_removed,
    ev.PayloadsChanged: LiveRoom._tell_nobody,
    ev.TransportChanged: LiveRoom._tell_transport,
    ev.TrackLive: LiveRoom._tell_nobody,
    ev.PictureChanged: LiveRoom._tell_nobody,
    ev.FreshnessChanged: LiveRoom._tell_freshness,
    ev.SoundChanged: LiveRoom._tell_nobody,  # the track's info says it
    ev.SpeakerChanged: LiveRoom._tell_speaker,
    ev.LegLive: LiveRoom._tell_nobody,
    ev.LegQuality: LiveRoom._tell_quality,
    ev.LegEnded: LiveRoom._tell_nobody,
    ev.EncodingsWanted: LiveRoom._tell_encodings,
}


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
            self._observe(live, RoomOpened())
        return live

    def count(self) -> None:
        """Somebody has come or gone."""
        participants = sum(slot.participants for slot in self.workers)
        self.admission.count(participants=participants, rooms=len(self._rooms), now=self.clock.monotonic_us())

    def leave_if_empty(self, live: LiveRoom) -> None:
        """After a join that failed: do not keep a room that nobody came into."""
        live._publish(())

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

    def _drop(self, live: LiveRoom) -> None:
        if self._rooms.get(live.name) is live:
            del self._rooms[live.name]
            live.slot.rooms -= 1
            self.count()
            self._observe(live, RoomClosed())

    def _observe(self, live: LiveRoom, event: RoomEvent) -> None:
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


def _track_quality(track: str, quality: Quality) -> protocol.TrackQuality:
    return protocol.TrackQuality(track=track, **msgspec.structs.asdict(quality))
