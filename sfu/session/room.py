"""A room: participants, what they publish, and who gets it. Commands in, events out; no clock, no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mediaserver.sfu.session.agreement import Negotiated, carry_out
from mediaserver.sfu.session.books import Books, RoomError
from mediaserver.sfu.session.events import (
    EncodingsWanted,
    Event,
    FreshnessChanged,
    LegEnded,
    LegLive,
    LegQuality,
    ParticipantJoined,
    ParticipantLeft,
    PictureChanged,
    SoundChanged,
    SpeakerChanged,
    TrackChanged,
    TrackLive,
    TransportChanged,
)
from mediaserver.sfu.session.handshake import Handshake, Outcome
from mediaserver.sfu.session.ice import Credentials
from mediaserver.sfu.session.ids import Ids
from mediaserver.sfu.session.model import (
    Freshness,
    Kind,
    PublishMap,
    Quality,
    QualityCause,
    QualityState,
    Right,
    Role,
    SoundFault,
    SubscribeMap,
    TransportState,
    Wish,
)
from mediaserver.sfu.session.negotiate import CODEC_NAMES, shared
from mediaserver.sfu.session.peer import Participant
from mediaserver.sfu.session.plan import make_plan
from mediaserver.sfu.session.planes import Places, Site
from mediaserver.sfu.session.settings import RoomPolicy
from mediaserver.sfu.session.speaker import ActiveSpeaker
from mediaserver.sfu.session.timers import Timers
from mediaserver.sfu.session.track import Leg, Track
from mediaserver.sfu.stream.params import EventKind, PlaneEvent, QualityReason
from mediaserver.sfu.stream.params import LegQuality as PlaneQuality
from mediaserver.sfu.wire.sdp import OfferError, parse, parse_candidate

__all__ = ["Negotiated", "OfferError", "Room", "RoomError"]

_QUALITY: Final = {
    QualityReason.OK: (QualityState.OK, QualityCause.NONE),
    QualityReason.BELOW_FLOOR: (QualityState.BELOW_FLOOR, QualityCause.LINE),
    QualityReason.PAUSED_BY_LINE: (QualityState.PAUSED, QualityCause.LINE),
    QualityReason.NO_SOURCE: (QualityState.WAITING, QualityCause.SOURCE),
}
FRESHNESS: Final = (Freshness.LIVE, Freshness.STALE, Freshness.UNCHANGING)
"""By the value of TRACK_FRESHNESS."""
SOUND_FAULTS: Final = tuple(SoundFault)
"""By the bits of SOUND, the lowest first; see `sfu.policy.untouched.SoundFault`."""
PARTICIPANT_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Room:
    """Times are µs of one monotonic clock. Every method that names a participant or a track raises `RoomError`
    when there is none.

    A participant has `SessionSettings.connect_timeout_us` from its first offer to get its transport up; before
    its first offer it is the business of whoever called `join`.
    """

    participants: Mapping[str, Participant]
    tracks: Mapping[str, Track]

    def __init__(self, name: str, home: Site, ids: Ids[Any], policy: RoomPolicy, places: Places | None = None) -> None:
        """`home` is the room's own worker; `places` tells where each participant is served, without it there too."""
        self.name = name
        self.closed = False
        self._books = Books(self, home, ids, policy, places)
        self.planes = self._books.plane
        self.participants = self._books.participants
        self.tracks = self._books.tracks
        self._timers = Timers(self._due)
        self._speaker = ActiveSpeaker()

    # Coming and going

    def join(
        self,
        participant: str,
        *,
        role: Role,
        rights: frozenset[Right],
        name: str,
        now: int,
        hidden: bool = False,
        media_only: bool = False,
    ) -> list[Event]:
        """Somebody enters. Media comes with an offer.

        With `media_only` there is no other way to it: when its peer connection closes, it has left. Without it the
        participant stays, and may offer another peer connection.
        """
        if self.closed:
            raise RoomError("closed", "the room is closed")
        if not PARTICIPANT_ID.fullmatch(participant):
            raise RoomError("bad-name", "a participant's id has 1 to 64 letters, digits, '.', '_' and '-'")
        if participant in self._books.participants:
            raise RoomError("already-joined", f"{participant} is in the room already")
        if len(self._books.participants) >= self._books.policy.max_participants:
            raise RoomError("room-full", f"the room holds {self._books.policy.max_participants} participants")
        session = self._books.ids.session_id()
        joined = Participant(participant, name, role, rights, hidden, now, session_id=session, media_only=media_only)
        self._books.participants[participant] = joined
        return [ParticipantJoined(joined.info)]

    def leave(self, participant: str, reason: str, now: int) -> list[Event]:
        """Somebody goes, with everything that is theirs."""
        leaving = self._books.participant(participant)
        tracks = len(self._books.tracks)
        events = self._books.end_media(leaving)
        del self._books.participants[participant]
        if len(self._books.tracks) != tracks:
            self._books.fill_slots()
        return [*events, ParticipantLeft(participant, reason, leaving.hidden)]

    def close(self, now: int) -> list[Event]:
        """Everybody goes; nobody comes any more."""
        self.closed = True
        return [event for one in list(self._books.participants) for event in self.leave(one, "room-closed", now)]

    # Offers

    def offer(
        self, participant: str, sdp: str, *, publish: PublishMap, subscribe: SubscribeMap, now: int
    ) -> Negotiated:
        """Answer an offer, the first or a later one. `OfferError` leaves everything as it was.

        What `publish` and `subscribe` do not name goes on as it was agreed, as long as the m-line's direction lets it.
        """
        offering = self._books.participant(participant)
        settings = self._books.settings
        offer = parse(sdp, max_bytes=settings.max_sdp_bytes, max_media=settings.max_media_lines)
        plan = make_plan(offer, offering, self._books.tracks, self._books.policy, publish, subscribe)
        if len(self._books.tracks) + sum(p.publication is not None and p.keeps is None for p in plan.lines) > (
            self._books.policy.max_tracks + len(plan.gone)
        ):
            raise OfferError("not-allowed", f"the room holds {self._books.policy.max_tracks} tracks")
        if plan.remote is None and offering.transport is None:
            raise OfferError("unsupported", "every m-line is rejected", str(offer.media[0].line))
        before = {leg.track.id for leg in offering.legs()}
        negotiated = carry_out(self._books, plan, offering, subscribe, now)
        before -= {leg.track.id for leg in offering.legs()}
        negotiated.events.extend(LegEnded(participant, track) for track in sorted(before & self._books.tracks.keys()))
        self._timers.note(participant)
        return negotiated

    def candidate(self, participant: str, candidate: str, mid: str, now: int) -> None:
        """A trickled candidate. An ICE-lite server learns addresses from the checks, so it is only looked at:
        `OfferError` when it is none. "" is the end of candidates (RFC 8838, section 13)."""
        self._books.participant(participant)
        if candidate:
            parse_candidate(candidate)

    def restart(self, participant: str, ufrag: str, pwd: str, now: int) -> tuple[str, str]:
        """ICE restart without an offer (RFC 9725, section 4.3.3): the server's new ufrag and pwd."""
        transport = self._books.participant(participant).transport
        if transport is None:
            raise RoomError("not-negotiated", "there is no transport to restart")
        transport.restart(Credentials.fresh(self._books.ids), Credentials(ufrag, pwd))
        return transport.local

    # Commands on tracks

    def mute(self, participant: str, track: str, muted: bool, now: int) -> list[Event]:
        """The publisher, or who has the right `admin`, stops or resumes the forwarding of a track."""
        muting, muted_track = self._books.participant(participant), self._books.track(track)
        if muted_track.participant != participant and Right.ADMIN not in muting.rights:
            raise RoomError("not-allowed", "only its publisher mutes a track")
        if muted_track.muted == muted:
            return []
        muted_track.muted = muted
        self._books.plane.mute_track(muted_track.plane_id, muted)
        return [TrackChanged(muted_track.info)]

    def subscribe(self, participant: str, track: str, now: int) -> list[Event]:
        """Resume a track that the participant's m-lines carry."""
        return self._pause(self._books.leg(participant, track), False)

    def unsubscribe(self, participant: str, track: str, now: int) -> list[Event]:
        """Pause a track: no bytes, until `subscribe`."""
        return self._pause(self._books.leg(participant, track), True)

    def wish(self, participant: str, track: str, wish: Wish, now: int) -> Wish:
        """What the participant wishes of a track, got already or not yet; gives what it comes to in this room."""
        viewer, wished = self._books.participant(participant), self._books.track(track)
        viewer.wishes[track] = wish
        policy = self._books.leg_policy(viewer, wished)
        leg = viewer.leg_of(wished)
        if leg is not None and leg.params.policy != policy:
            self._books.update_leg(leg, msgspec.structs.replace(leg.params, policy=policy))
        return Wish(policy.rank, policy.desired_height)

    def qualities(self, participant: str) -> dict[str, Quality]:
        """What the participant gets of the tracks that its m-lines carry."""
        return {leg.track.id: _quality(leg) for leg in self._books.participant(participant).legs()}

    @property
    def legs(self) -> int:
        """Tracks that are sent, each viewer's counted by itself."""
        return len(self._books.by_leg)

    @property
    def speaker(self) -> str | None:
        """The participant who speaks."""
        return self._speaks().participant

    def keyframe(self, participant: str, track: str, now: int) -> None:
        """Ask the publisher for a keyframe, for one who gets the track."""
        self._books.plane.request_keyframe(self._books.leg(participant, track).track.plane_id)

    # The data plane and time

    def plane_event(self, event: PlaneEvent, now: int) -> list[Event]:
        """A report of the data plane about something of this room. What it concerns may have gone already."""
        if event.kind is EventKind.REMOVED:
            self._books.ids.release(event.id)
            self.planes.forget(event.id)
            return []
        if event.id in self._books.by_peer:
            participant = self._books.by_peer[event.id]
            events = self._peer_event(event, participant, now)
            self._timers.note(participant.id)
            return events
        if event.id in self._books.by_track:
            return self._track_event(event, self._books.by_track[event.id], now)
        if event.id in self._books.by_leg:
            return self._leg_event(event, self._books.by_leg[event.id], now)
        return []

    def handshake(self, peer: int, engine: Handshake, outcome: Outcome, now: int) -> list[Event]:
        """`SessionSettings.desk` has carried out a step of a handshake. The peer may have gone already."""
        participant = self._books.by_peer.get(peer)
        if participant is None or participant.transport is None:
            return []
        news = participant.transport.finish(engine, outcome, now)
        events = self._transport_changed(participant, now) if news else []
        self._timers.note(participant.id)
        return events

    def tick(self, now: int) -> list[Event]:
        """Do what is due: handshake timers, participants that never connect. Call at `deadline`."""
        events: list[Event] = []
        for name in self._timers.take(now):
            participant = self._books.participants.get(name)
            if participant is None:
                continue  # gone with one before it
            transport = participant.transport
            if transport is not None and transport.tick(now):
                events += self._transport_changed(participant, now)
            if name in self._books.participants and self._expired(participant, now):
                events += self.leave(name, "never-connected", now)
            self._timers.note(name)
        return events

    def deadline(self) -> int | None:
        """When `tick` has something to do, µs; None when nothing waits for time."""
        return self._timers.earliest()

    def _speaks(self) -> SpeakerChanged:
        track = self._books.tracks.get(self._speaker.current or "")
        return SpeakerChanged(track.participant, track.id) if track is not None else SpeakerChanged(None, None)

    def _pause(self, leg: Leg, paused: bool) -> list[Event]:
        if leg.paused == paused:
            return []
        leg.paused = paused
        self._books.plane.pause_leg(leg.plane_id, paused)
        return [LegQuality(leg.participant, leg.track.id, _quality(leg))]

    # Reports of the data plane

    def _peer_event(self, event: PlaneEvent, participant: Participant, now: int) -> list[Event]:
        transport = participant.transport
        assert transport is not None
        match event.kind:
            case EventKind.CONNECTED:
                if transport.connected(now):
                    return [TransportChanged(participant.id, transport.state)]
            case EventKind.DTLS:
                if transport.receive(event.data, now):
                    return self._transport_changed(participant, now)
            case EventKind.SILENT:
                return self.leave(participant.id, "silent", now)
            case EventKind.REFUSED:
                self._books.ids.release(event.id)
                return self.leave(participant.id, "refused", now)
        return []

    def _transport_changed(self, participant: Participant, now: int) -> list[Event]:
        if participant.state is TransportState.CLOSED:
            if participant.media_only:
                return self.leave(participant.id, "transport-closed", now)
            events = self._books.end_media(participant)
            self._books.fill_slots()
            return events
        return [TransportChanged(participant.id, participant.state)]

    def _track_event(self, event: PlaneEvent, track: Track, now: int) -> list[Event]:
        match event.kind:
            case EventKind.TRACK_LIVE:
                payload_type = event.data[0] if event.data else 0
                params = next((p for p in track.params.payloads if p.payload_type == payload_type), None)
                if params is None:
                    return []
                track.live, track.codec = True, CODEC_NAMES[params.codec]
                live = TrackLive(track.id, params.codec, event.value, payload_type, params.clock_rate, event.time)
                return [live, TrackChanged(track.info)]
            case EventKind.PICTURE:
                track.width, track.height = event.value >> 16 & 0xFFFF, event.value & 0xFFFF
                return [PictureChanged(track.id, track.width, track.height), TrackChanged(track.info)]
            case EventKind.TRACK_FRESHNESS:
                track.freshness = FRESHNESS[event.value]
                events: list[Event] = [FreshnessChanged(track.id, track.freshness, event.time)]
                if track.freshness is Freshness.STALE and self._speaker.remove(track.id, now):
                    events.append(self._speaks())
                return events
            case EventKind.VOICE:
                self._speaker.keep(self._books.tracks)
                speaking, loudness = bool(event.value >> 8), event.value & 0xFF
                changed = self._speaker.note(track.id, speaking=speaking, loudness=loudness, now=now)
                return [self._speaks()] if changed else []
            case EventKind.SOUND:
                track.faults = tuple(fault for bit, fault in enumerate(SOUND_FAULTS) if event.value >> bit & 1)
                return [SoundChanged(track.id, track.faults, event.time), TrackChanged(track.info)]
            case EventKind.LAYERS_WANTED if track.params.rids:
                wanted = tuple(rid for at, rid in enumerate(track.params.rids) if event.value >> at & 1)
                return [EncodingsWanted(track.id, track.participant, wanted)]
            case EventKind.TRACK_BYE:
                track.live = False
                return [TrackChanged(track.info)]
            case EventKind.REFUSED:
                events = self._books.remove_track(track)
                self._books.fill_slots()
                return events
        return []

    def _leg_event(self, event: PlaneEvent, leg: Leg, now: int) -> list[Event]:
        if event.kind is EventKind.LEG_LIVE:
            viewer = self._books.participants[leg.participant]
            since = max(viewer.began, leg.track.added)
            return [LegLive(leg.participant, leg.track.id, max(0, event.time - since))]
        if event.kind is EventKind.LEG_QUALITY:
            return self._quality_changed(leg, PlaneQuality.of(event.value))
        if event.kind is EventKind.REFUSED:
            line = self._books.participants[leg.participant].lines.get(leg.mid)
            if line is not None and line.leg is leg:
                line.leg = None
            self._books.remove_leg(leg)
        return []

    def _quality_changed(self, leg: Leg, told: PlaneQuality) -> list[Event]:
        state, cause = _QUALITY[told.reason]
        sends = state in (QualityState.OK, QualityState.BELOW_FLOOR)
        stats = self._books.plane.leg_stats(leg.plane_id) if sends else {}
        picture = leg.track.kind is Kind.VIDEO and sends
        leg.quality = shared(
            Quality(
                state,
                cause,
                told.spatial,
                told.temporal,
                frames=stats.get("frames", 0),
                # Without layers of its own the picture is the publisher's.
                width=(stats.get("width", 0) or (leg.track.width if told.spatial < 0 else 0)) if picture else 0,
                height=(stats.get("height", 0) or (leg.track.height if told.spatial < 0 else 0)) if picture else 0,
            )
        )
        return [] if leg.paused else [LegQuality(leg.participant, leg.track.id, leg.quality)]

    # What is due

    def _due(self, name: str) -> int | None:
        participant = self._books.participants.get(name)
        transport = participant.transport if participant is not None else None
        if participant is None or transport is None:
            return None
        due = transport.dtls.deadline
        if transport.dtls.keys is None and participant.offered is not None:
            end = participant.offered + self._books.settings.connect_timeout_us
            return end if due is None else min(due, end)
        return due

    def _expired(self, participant: Participant, now: int) -> bool:
        transport, offered = participant.transport, participant.offered
        if transport is None or offered is None or transport.dtls.keys is not None:
            return False
        return now >= offered + self._books.settings.connect_timeout_us


def _quality(leg: Leg) -> Quality:
    return Quality(QualityState.PAUSED, QualityCause.VIEWER) if leg.paused else leg.quality
