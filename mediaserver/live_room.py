"""A room that is open: who is in it, how they are reached, and what they are told.

`sfu.session.Room` decides; this gives it the time and workers, and carries what it says to the members and to those who
watch the room.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec
import structlog

from mediaserver import protocol
from mediaserver.auth import Grant
from mediaserver.clock import Clock
from mediaserver.connection import frame
from mediaserver.consent import Consents, Said, named
from mediaserver.handshakes import Finished
from mediaserver.room_events import ConsentChanged, RecordingChanged, RoomEvent
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
from mediaserver.sfu.session.room import Negotiated, Room
from mediaserver.sfu.session.settings import RoomPolicy
from mediaserver.sfu.stream.params import PlaneEvent
from mediaserver.workers import Workers, WorkerSlot

Via = Literal["websocket", "whip", "whep"]
log = structlog.get_logger("mediaserver.rooms")

CROWD = 50
"""In a room with more members coming and going is told together, and so late at most:"""
TELL_SECONDS = 0.05


class Holder(Protocol):
    """What a room has from where it is among others."""

    clock: Clock
    policy: RoomPolicy
    ids: Ids[Room]
    workers: Workers
    make_consents: Callable[[], Consents]

    def count(self) -> None:
        """Somebody has come or gone."""

    def report(self, live: LiveRoom, event: RoomEvent) -> None:
        """Tell those who watch."""

    def drop(self, live: LiveRoom) -> None:
        """It has closed."""


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

    def __init__(self, name: str, slot: WorkerSlot, holder: Holder) -> None:
        self.name = name
        self.slot = slot
        self.opened = holder.clock.wall()
        self.members: dict[str, Member] = {}
        self._served: Counter[WorkerSlot] = Counter()
        """members by worker"""
        self.consents = holder.make_consents()
        self.recording = protocol.RecordingView(whose=self.consents.whose)
        self.held = False
        """Stays open though nobody is in it: a recording waits for its cart to come back."""
        self.room = Room(name, slot, holder.ids, holder.policy, self._place)
        self._holder = holder
        self._clock = holder.clock
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
        participant = self._holder.ids.name("p")
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
        slot = self._holder.workers.place(self.slot, self._served, source)
        member = self.members[participant] = Member(info, grant, via, now, send, gone, slot)
        slot.join(now)
        self._served[slot] += 1
        if slot is not self.slot:
            busy = round(self.slot.use.expected, 3)
            log.info("served by another worker", room=self.name, participant=participant, worker=slot.number, busy=busy)
        self._holder.count()
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
        self._holder.drop(self)

    def close_if_empty(self) -> None:
        """Do not stay open when nobody is in it and it is not held."""
        self._publish(())

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
        self._holder.report(self, RecordingChanged(state, recording, detail, tuple(tracks)))

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
            self._holder.report(self, ConsentChanged(one))

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
            self._holder.report(self, event)
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
        self._holder.count()
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


def _track_quality(track: str, quality: Quality) -> protocol.TrackQuality:
    return protocol.TrackQuality(track=track, **msgspec.structs.asdict(quality))
