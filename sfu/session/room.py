"""A room: participants, what they publish, and who gets it. Commands in, events out; no clock, no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mediaserver.sfu.session.answer import Answer, Sender
from mediaserver.sfu.session.dtls import DtlsSession
from mediaserver.sfu.session.events import (
    Event,
    LegLive,
    ParticipantJoined,
    ParticipantLeft,
    PictureChanged,
    TrackAdded,
    TrackChanged,
    TrackLive,
    TrackRemoved,
    TransportChanged,
)
from mediaserver.sfu.session.ice import Credentials
from mediaserver.sfu.session.ids import Ids
from mediaserver.sfu.session.model import Kind, PublishMap, Right, Role, SubscribeAll, SubscribeMap, TransportState
from mediaserver.sfu.session.negotiate import (
    CODEC_NAMES,
    incoming_extensions,
    match_payloads,
    outgoing_extensions,
    payload_params,
)
from mediaserver.sfu.session.peer import Line, Participant, Transport
from mediaserver.sfu.session.plan import LinePlan, Plan, in_order, make_plan
from mediaserver.sfu.session.settings import RoomPolicy, SessionSettings
from mediaserver.sfu.session.track import Leg, Track
from mediaserver.sfu.stream.params import EventKind, LegParams, LegPayload, Plane, PlaneEvent, TrackParams
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.sdp import OfferError, parse, parse_candidate

__all__ = ["Negotiated", "OfferError", "Room", "RoomError"]

SLOTS: Final = "room"
"""The stream id (msid) of m-lines that the server fills: one for all, so that sound and picture stay in sync."""
PARTICIPANT_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RoomError(Exception):
    """A command that cannot be carried out. `code`: unknown-participant, unknown-track, not-allowed, room-full,
    already-joined, not-negotiated, bad-name, closed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Negotiated(msgspec.Struct, frozen=True):
    """The answer to an offer. `bound`: mid -> track id, of published and of received tracks alike.
    `refused`: mid -> a sentence, for each m-line that was asked for and is not carried."""

    answer: str
    bound: Mapping[str, str]
    events: list[Event]
    refused: Mapping[str, str] = {}


class Room:
    """Times are µs of one monotonic clock. Every method that names a participant or a track raises `RoomError`
    when there is none.

    A participant has `SessionSettings.connect_timeout_us` from its first offer to get its transport up; before
    its first offer it is the business of whoever called `join`.
    """

    participants: Mapping[str, Participant]
    tracks: Mapping[str, Track]

    def __init__(self, name: str, plane: Plane, settings: SessionSettings, ids: Ids[Any], policy: RoomPolicy) -> None:
        self.name = name
        self.closed = False
        self._plane = plane
        self._settings = settings
        self._ids = ids
        self._policy = policy
        self._participants: dict[str, Participant] = {}
        self._tracks: dict[str, Track] = {}
        self.participants = self._participants
        self.tracks = self._tracks
        # What the data plane's reports are about.
        self._by_peer: dict[int, Participant] = {}
        self._by_track: dict[int, Track] = {}
        self._by_leg: dict[int, Leg] = {}

    # Coming and going

    def join(
        self, participant: str, *, role: Role, rights: frozenset[Right], name: str, now: int, hidden: bool = False
    ) -> list[Event]:
        """Somebody enters. Media comes with an offer."""
        if self.closed:
            raise RoomError("closed", "the room is closed")
        if not PARTICIPANT_ID.fullmatch(participant):
            raise RoomError("bad-name", "a participant's id has 1 to 64 letters, digits, '.', '_' and '-'")
        if participant in self._participants:
            raise RoomError("already-joined", f"{participant} is in the room already")
        if len(self._participants) >= self._policy.max_participants:
            raise RoomError("room-full", f"the room holds {self._policy.max_participants} participants")
        joined = Participant(participant, name, role, rights, hidden, now, session_id=self._ids.session_id())
        self._participants[participant] = joined
        return [ParticipantJoined(joined.info)]

    def leave(self, participant: str, reason: str, now: int) -> list[Event]:
        """Somebody goes, with everything that is theirs."""
        leaving = self._participant(participant)
        events = [event for track in leaving.tracks() for event in self._remove_track(track)]
        events += self._end_transport(leaving)
        leaving.lines.clear()
        del self._participants[participant]
        self._fill_slots()
        return [*events, ParticipantLeft(participant, reason, leaving.hidden)]

    def close(self, now: int) -> list[Event]:
        """Everybody goes; nobody comes any more."""
        self.closed = True
        return [event for one in list(self._participants) for event in self.leave(one, "room-closed", now)]

    # Offers

    def offer(
        self, participant: str, sdp: str, *, publish: PublishMap, subscribe: SubscribeMap, now: int
    ) -> Negotiated:
        """Answer an offer, the first or a later one. `OfferError` leaves everything as it was.

        What `publish` and `subscribe` do not name goes on as it was agreed, as long as the m-line's direction lets it.
        """
        offering = self._participant(participant)
        settings = self._settings
        offer = parse(sdp, max_bytes=settings.max_sdp_bytes, max_media=settings.max_media_lines)
        plan = make_plan(offer, offering, self._tracks, self._policy, publish, subscribe)
        if len(self._tracks) + sum(p.publication is not None and p.keeps is None for p in plan.lines) > (
            self._policy.max_tracks + len(plan.gone)
        ):
            raise OfferError("not-allowed", f"the room holds {self._policy.max_tracks} tracks")
        if plan.remote is None and offering.transport is None:
            raise OfferError("unsupported", "every m-line is rejected", str(offer.media[0].line))
        return self._carry_out(plan, offering, subscribe, now)

    def candidate(self, participant: str, candidate: str, mid: str, now: int) -> None:
        """A trickled candidate. An ICE-lite server learns addresses from the checks, so it is only looked at:
        `OfferError` when it is none. "" is the end of candidates (RFC 8838, section 13)."""
        self._participant(participant)
        if candidate:
            parse_candidate(candidate)

    def restart(self, participant: str, ufrag: str, pwd: str, now: int) -> tuple[str, str]:
        """ICE restart without an offer (RFC 9725, section 4.3.3): the server's new ufrag and pwd."""
        transport = self._participant(participant).transport
        if transport is None:
            raise RoomError("not-negotiated", "there is no transport to restart")
        transport.restart(Credentials.fresh(self._ids), Credentials(ufrag, pwd))
        return transport.local

    # Commands on tracks

    def mute(self, participant: str, track: str, muted: bool, now: int) -> list[Event]:
        """The publisher, or who has the right `admin`, stops or resumes the forwarding of a track."""
        muting, muted_track = self._participant(participant), self._track(track)
        if muted_track.participant != participant and Right.ADMIN not in muting.rights:
            raise RoomError("not-allowed", "only its publisher mutes a track")
        if muted_track.muted == muted:
            return []
        muted_track.muted = muted
        self._plane.mute_track(muted_track.plane_id, muted)
        return [TrackChanged(muted_track.info)]

    def subscribe(self, participant: str, track: str, now: int) -> list[Event]:
        """Resume a track that the participant's m-lines carry."""
        self._pause(self._leg(participant, track), False)
        return []

    def unsubscribe(self, participant: str, track: str, now: int) -> list[Event]:
        """Pause a track: no bytes, until `subscribe`."""
        self._pause(self._leg(participant, track), True)
        return []

    def keyframe(self, participant: str, track: str, now: int) -> None:
        """Ask the publisher for a keyframe, for one who gets the track."""
        self._plane.request_keyframe(self._leg(participant, track).track.plane_id)

    # The data plane and time

    def plane_event(self, event: PlaneEvent, now: int) -> list[Event]:
        """A report of the data plane about something of this room. What it concerns may have gone already."""
        if event.kind is EventKind.REMOVED:
            self._ids.release(event.id)
            return []
        if event.id in self._by_peer:
            return self._peer_event(event, self._by_peer[event.id], now)
        if event.id in self._by_track:
            return self._track_event(event, self._by_track[event.id], now)
        if event.id in self._by_leg:
            return self._leg_event(event, self._by_leg[event.id], now)
        return []

    def tick(self, now: int) -> list[Event]:
        """Do what is due: handshake timers, participants that never connect. Call at `deadline`."""
        events: list[Event] = []
        for participant in list(self._participants.values()):
            due = self._due(participant)
            if due is None or due > now:
                continue
            transport = participant.transport
            if transport is not None and transport.tick(now):
                events += self._transport_changed(participant, now)
            if participant.id in self._participants and self._expired(participant, now):
                events += self.leave(participant.id, "never-connected", now)
        return events

    def deadline(self) -> int | None:
        """When `tick` has something to do, µs; None when nothing waits for time."""
        return min((due for one in self._participants.values() if (due := self._due(one)) is not None), default=None)

    # Carrying out an offer

    def _carry_out(self, plan: Plan, offering: Participant, subscribe: SubscribeMap, now: int) -> Negotiated:
        events: list[Event] = []
        for track in plan.gone:
            events += self._remove_track(track)
        events += self._agree_transport(plan, offering, now)
        offering.subscribe_all = subscribe if isinstance(subscribe, SubscribeAll) else None
        before, offering.lines = offering.lines, {one.line.mid: one.line for one in plan.lines}
        for one in plan.lines:
            if one.publication is not None:
                events += self._publish(one, offering)
        self._agree_legs(plan, offering, before)
        bound = {}
        for line in offering.lines.values():
            if line.leg is not None:
                bound[line.mid] = line.leg.track.id
            if line.track is not None:
                bound[line.mid] = line.track.id
        answer = self._answer(plan, offering)
        self._fill_slots()
        return Negotiated(answer, bound, events, plan.refused)

    def _agree_transport(self, plan: Plan, offering: Participant, now: int) -> list[Event]:
        """The transport of this offer: as it was, restarted, another one, or none when every m-line is rejected."""
        events: list[Event] = []
        transport, remote = offering.transport, plan.remote
        if transport is not None and (plan.fresh or remote is None):
            events = self._end_transport(offering)
        if remote is None:
            return events
        if transport is None or plan.fresh:
            peer = self._ids.claim(self)
            dtls = DtlsSession(self._settings.identity, remote.fingerprints, client=remote.passive)
            offering.transport = Transport(peer, self._plane, Credentials.fresh(self._ids), remote, dtls)
            offering.offered = now
            self._by_peer[peer] = offering
        elif transport.remote != remote.credentials:
            transport.restart(Credentials.fresh(self._ids), remote.credentials)
        return events

    def _end_transport(self, participant: Participant) -> list[Event]:
        """Close the peer connection, with what it received."""
        transport = participant.transport
        if transport is None:
            return []
        for line in participant.lines.values():
            if line.leg is not None:
                self._remove_leg(line.leg)
                line.leg = None
        transport.close()
        del self._by_peer[transport.plane_id]
        participant.transport = None
        return [TransportChanged(participant.id, TransportState.CLOSED)]

    def _publish(self, one: LinePlan, offering: Participant) -> list[Event]:
        """Begin, or go on with, the track of an m-line."""
        publication, line = one.publication, one.line
        assert publication is not None
        ssrcs = [ssrc for ssrc in one.media.primary_ssrcs()[:1] if ssrc]
        params = TrackParams(
            mid=line.mid,
            video=line.kind is Kind.VIDEO,
            payloads=tuple(payload_params(agreed) for agreed in one.published),
            ssrcs=tuple(ssrcs),
            rtx_ssrcs=tuple(one.media.rtx_ssrc(ssrc) for ssrc in ssrcs),
            extensions=incoming_extensions(line.extensions),
            keyframe_interval_us=self._policy.source(publication.source).keyframe_interval_us,
        )
        if one.keeps is not None:
            line.track = one.keeps
            return self._update_track(one.keeps, one, params)
        assert offering.transport is not None
        track = Track(
            id=self._ids.name("t"),
            plane_id=self._ids.claim(self),
            participant=offering.id,
            kind=line.kind,
            publication=publication,
            mid=line.mid,
            published=one.published,
            params=params,
            codec=one.published[0].format.name.upper(),
        )
        line.track = self._tracks[track.id] = self._by_track[track.plane_id] = track
        self._plane.add_track(track.plane_id, offering.transport.plane_id, params)
        return [TrackAdded(track.info)]

    def _update_track(self, track: Track, one: LinePlan, params: TrackParams) -> list[Event]:
        before = track.info
        assert one.publication is not None
        track.publication, track.mid, track.published = one.publication, one.line.mid, one.published
        track.codec = one.published[0].format.name.upper()
        if params != track.params:
            track.params = params
            self._plane.update_track(track.plane_id, params)
            for leg in list(track.legs.values()):
                self._rematch(leg)
        return [TrackChanged(track.info)] if track.info != before else []

    def _rematch(self, leg: Leg) -> None:
        """The publisher's payload types have changed: map them anew, or give the leg up where nothing fits."""
        line = self._participants[leg.participant].lines.get(leg.mid)
        if line is None or line.leg is not leg:
            return  # the viewer is the one whose offer is being carried out
        payloads = match_payloads(leg.track.published, line.agreed)
        if not payloads:
            self._remove_leg(leg)
            line.leg = None
        elif payloads != leg.params.payloads:
            self._update_leg(leg, msgspec.structs.replace(leg.params, payloads=payloads))

    def _agree_legs(self, plan: Plan, offering: Participant, before: Mapping[str, Line]) -> None:
        """Legs that stay are moved over to the new m-lines, the others end; then those that are new begin."""
        wanted = {one.line.mid: one.wants for one in plan.lines}
        for mid, line in before.items():
            if line.leg is None or line.leg.plane_id not in self._by_leg:
                continue
            if wanted.get(mid) is line.leg.track:
                offering.lines[mid].leg = line.leg
            else:
                self._remove_leg(line.leg)
        for one in plan.lines:
            if one.wants is None or one.wants.id not in self._tracks:
                continue
            line = one.line
            if line.leg is None:
                self._add_leg(line, offering, one.wants, one.payloads)
                continue
            params = msgspec.structs.replace(
                line.leg.params, payloads=one.payloads, extensions=outgoing_extensions(line.extensions)
            )
            if params != line.leg.params:
                self._update_leg(line.leg, params)

    def _answer(self, plan: Plan, offering: Participant) -> str:
        transport = offering.transport
        answer = Answer(
            offer=plan.offer,
            session_id=offering.session_id,
            version=offering.version,
            credentials=transport.local if transport is not None else Credentials("", ""),
            fingerprint=self._settings.identity.fingerprint,
            setup="active" if transport is not None and transport.dtls.client else "passive",
            candidates=self._settings.candidates,
            sections=[one.section for one in plan.lines],
        )
        offering.version += 1
        for one in plan.lines:
            leg = one.line.leg
            # What a slot carries changes without an offer: by its mid alone a browser follows to another source.
            by_mid = one.line.slot and any(e.kind == ExtKind.EXT_MID for e in one.line.extensions)
            if leg is not None and not by_mid:
                one.section.sender = Sender(
                    leg.track.participant, leg.track.id, leg.params.cname, leg.params.ssrc, leg.params.rtx_ssrc
                )
            elif one.line.slot:
                one.section.sender = Sender(SLOTS, one.line.mid, "", 0, 0)
        return answer.text()

    # Tracks and legs

    def _remove_track(self, track: Track) -> list[Event]:
        for leg in list(track.legs.values()):
            self._remove_leg(leg)
            line = self._participants[leg.participant].lines.get(leg.mid)
            if line is not None and line.leg is leg:
                line.leg = None
        self._plane.remove_track(track.plane_id)
        del self._tracks[track.id]
        del self._by_track[track.plane_id]
        owner = self._participants[track.participant]
        for line in owner.lines.values():
            if line.track is track:
                line.track = None
        return [TrackRemoved(track.id, track.participant)]

    def _add_leg(self, line: Line, viewer: Participant, track: Track, payloads: tuple[LegPayload, ...]) -> None:
        # Sources are never used again: a second run of one SSRC under the same key would repeat packet indices.
        assert viewer.transport is not None
        params = LegParams(
            mid=line.mid,
            ssrc=self._ids.ssrc(),
            rtx_ssrc=self._ids.ssrc() if any(payload.rtx_type for payload in payloads) else 0,
            cname=track.participant,
            payloads=payloads,
            extensions=outgoing_extensions(line.extensions),
            playout_delay=self._policy.source(track.source).playout_delay if track.kind is Kind.VIDEO else None,
        )
        leg = Leg(self._ids.claim(self), track, viewer.id, line.mid, params)
        line.leg = track.legs[leg.plane_id] = self._by_leg[leg.plane_id] = leg
        self._plane.add_leg(leg.plane_id, track.plane_id, viewer.transport.plane_id, params)

    def _update_leg(self, leg: Leg, params: LegParams) -> None:
        leg.params = params
        self._plane.update_leg(leg.plane_id, params)

    def _remove_leg(self, leg: Leg) -> None:
        self._plane.remove_leg(leg.plane_id)
        del leg.track.legs[leg.plane_id]
        del self._by_leg[leg.plane_id]

    def _pause(self, leg: Leg, paused: bool) -> None:
        if leg.paused != paused:
            leg.paused = paused
            self._plane.pause_leg(leg.plane_id, paused)

    def _fill_slots(self) -> None:
        """Give tracks that a subscriber to everything does not get yet to its free m-lines."""
        for viewer in self._participants.values():
            if viewer.subscribe_all is None:
                continue
            got = {leg.track.id for leg in viewer.legs()}
            left = [t for t in in_order(self._tracks.values(), viewer, viewer.subscribe_all) if t.id not in got]
            for track in left:
                for line in viewer.lines.values():
                    if line.slot and line.leg is None and line.kind is track.kind:
                        payloads = match_payloads(track.published, line.agreed)
                        if payloads:
                            self._add_leg(line, viewer, track, payloads)
                            break

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
                self._ids.release(event.id)
                return self.leave(participant.id, "refused", now)
        return []

    def _transport_changed(self, participant: Participant, now: int) -> list[Event]:
        if participant.state is TransportState.CLOSED:
            return self.leave(participant.id, "transport-closed", now)
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
            case EventKind.TRACK_BYE:
                track.live = False
                return [TrackChanged(track.info)]
            case EventKind.REFUSED:
                events = self._remove_track(track)
                self._fill_slots()
                return events
        return []

    def _leg_event(self, event: PlaneEvent, leg: Leg, now: int) -> list[Event]:
        if event.kind is EventKind.LEG_LIVE:
            viewer = self._participants[leg.participant]
            return [LegLive(leg.participant, leg.track.id, max(0, event.time - viewer.joined))]
        if event.kind is EventKind.REFUSED:
            line = self._participants[leg.participant].lines.get(leg.mid)
            if line is not None and line.leg is leg:
                line.leg = None
            self._remove_leg(leg)
        return []

    # Looking things up

    def _due(self, participant: Participant) -> int | None:
        transport = participant.transport
        if transport is None:
            return None
        due = transport.dtls.deadline
        if transport.dtls.keys is None and participant.offered is not None:
            end = participant.offered + self._settings.connect_timeout_us
            return end if due is None else min(due, end)
        return due

    def _expired(self, participant: Participant, now: int) -> bool:
        transport, offered = participant.transport, participant.offered
        if transport is None or offered is None or transport.dtls.keys is not None:
            return False
        return now >= offered + self._settings.connect_timeout_us

    def _participant(self, participant: str) -> Participant:
        try:
            return self._participants[participant]
        except KeyError:
            raise RoomError("unknown-participant", f"there is no {participant} in the room") from None

    def _track(self, track: str) -> Track:
        try:
            return self._tracks[track]
        except KeyError:
            raise RoomError("unknown-track", f"there is no track {track} in the room") from None

    def _leg(self, participant: str, track: str) -> Leg:
        leg = self._participant(participant).leg_of(self._track(track))
        if leg is None:
            raise RoomError("not-negotiated", "no m-line of this participant carries the track")
        return leg
