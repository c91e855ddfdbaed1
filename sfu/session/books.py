"""The books of a room: who and what is in it, under every id, in step with what the data plane is told."""

from __future__ import annotations

from typing import Any

from mediaserver.sfu.session.events import Event, TrackRemoved, TransportChanged
from mediaserver.sfu.session.ids import Ids
from mediaserver.sfu.session.model import Kind, TransportState, Wish
from mediaserver.sfu.session.negotiate import match_payloads, outgoing_extensions, shared
from mediaserver.sfu.session.peer import Line, Participant
from mediaserver.sfu.session.plan import in_order
from mediaserver.sfu.session.planes import Places, RoomPlanes, Site
from mediaserver.sfu.session.settings import RoomPolicy, SessionSettings
from mediaserver.sfu.session.track import Leg, Track
from mediaserver.sfu.stream.params import LegParams, LegPayload, LegPolicy


class RoomError(Exception):
    """A command that cannot be carried out. `code`: unknown-participant, unknown-track, not-allowed, room-full,
    already-joined, not-negotiated, bad-name, closed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Books:
    """Whatever begins or ends here begins or ends in the data plane too. `owner` is whose the plane ids are.

    `by_peer`, `by_track` and `by_leg` go from plane ids to what the data plane's reports are about.
    """

    def __init__(
        self, owner: object, home: Site, ids: Ids[Any], policy: RoomPolicy, places: Places | None = None
    ) -> None:
        self.plane = RoomPlanes(ids, owner)
        self.home = home
        self.ids = ids
        self.policy = policy
        self.participants: dict[str, Participant] = {}
        self.tracks: dict[str, Track] = {}
        self.by_peer: dict[int, Participant] = {}
        self.by_track: dict[int, Track] = {}
        self.by_leg: dict[int, Leg] = {}
        self._owner = owner
        self._places = places

    @property
    def settings(self) -> SessionSettings:
        """Of the room's own worker."""
        return self.home.settings

    def place(self, participant: Participant, peer: int) -> None:
        """Choose the worker of a participant's peer connection."""
        participant.site = self._places(participant.id) if self._places is not None else self.home
        self.plane.place(peer, participant.site.plane)

    def claim(self) -> int:
        """A fresh plane id."""
        return self.ids.claim(self._owner)

    # Looking things up

    def participant(self, participant: str) -> Participant:
        try:
            return self.participants[participant]
        except KeyError:
            raise RoomError("unknown-participant", f"there is no {participant} in the room") from None

    def track(self, track: str) -> Track:
        try:
            return self.tracks[track]
        except KeyError:
            raise RoomError("unknown-track", f"there is no track {track} in the room") from None

    def leg(self, participant: str, track: str) -> Leg:
        leg = self.participant(participant).leg_of(self.track(track))
        if leg is None:
            raise RoomError("not-negotiated", "no m-line of this participant carries the track")
        return leg

    # Beginning and ending

    def end_transport(self, participant: Participant) -> list[Event]:
        """Close the peer connection, with what it received."""
        transport = participant.transport
        if transport is None:
            return []
        for line in participant.lines.values():
            if line.leg is not None:
                self.remove_leg(line.leg)
                line.leg = None
        transport.close()
        del self.by_peer[transport.plane_id]
        participant.transport = None
        return [TransportChanged(participant.id, TransportState.CLOSED)]

    def end_media(self, participant: Participant) -> list[Event]:
        """End all that a participant sends and gets, and its peer connection."""
        events = [event for track in participant.tracks() for event in self.remove_track(track)]
        events += self.end_transport(participant)
        participant.lines.clear()
        participant.subscribe_all = None
        return events

    def add_track(self, track: Track, peer: int) -> None:
        """A publisher begins a track."""
        self.tracks[track.id] = self.by_track[track.plane_id] = track
        self.plane.add_track(track.plane_id, peer, track.params)

    def remove_track(self, track: Track) -> list[Event]:
        """End a track and its legs."""
        for leg in list(track.legs.values()):
            self.remove_leg(leg)
            line = self.participants[leg.participant].lines.get(leg.mid)
            if line is not None and line.leg is leg:
                line.leg = None
        self.plane.remove_track(track.plane_id)
        del self.tracks[track.id]
        del self.by_track[track.plane_id]
        for viewer in self.participants.values():
            viewer.wishes.pop(track.id, None)
        owner = self.participants[track.participant]
        for line in owner.lines.values():
            if line.track is track:
                line.track = None
        return [TrackRemoved(track.id, track.participant)]

    def add_leg(self, line: Line, viewer: Participant, track: Track, payloads: tuple[LegPayload, ...]) -> None:
        """Begin a copy of a track on a viewer's m-line."""
        # Sources are never used again: a second run of one SSRC under the same key would repeat packet indices.
        assert viewer.transport is not None
        params = LegParams(
            mid=line.mid,
            ssrc=self.ids.ssrc(),
            rtx_ssrc=self.ids.ssrc() if any(payload.rtx_type for payload in payloads) else 0,
            cname=track.participant,
            payloads=payloads,
            extensions=outgoing_extensions(line.extensions),
            playout_delay=self.policy.source(track.source).playout_delay if track.kind is Kind.VIDEO else None,
            policy=self.leg_policy(viewer, track),
            named=line.named,
        )
        leg = Leg(self.claim(), track, viewer.id, line.mid, params)
        line.leg = track.legs[leg.plane_id] = self.by_leg[leg.plane_id] = leg
        self.plane.add_leg(leg.plane_id, track.plane_id, viewer.transport.plane_id, params)

    def leg_policy(self, viewer: Participant, track: Track) -> LegPolicy:
        """What the track is worth to this viewer: its wish within the room's policy."""
        priority = self.policy.source(track.source).priority
        wish = viewer.wishes.get(track.id, Wish())
        return shared(
            LegPolicy(
                rank=priority.bounded(wish.rank),
                floor_bps=priority.floor_bps,
                floor_frames=priority.floor_frames,
                least_height=priority.least_height,
                desired_height=wish.height if priority.sized and track.kind is Kind.VIDEO else 0,
                frames_first=priority.frames_first,
            )
        )

    def update_leg(self, leg: Leg, params: LegParams) -> None:
        leg.params = params
        self.plane.update_leg(leg.plane_id, params)

    def remove_leg(self, leg: Leg) -> None:
        self.plane.remove_leg(leg.plane_id)
        del leg.track.legs[leg.plane_id]
        del self.by_leg[leg.plane_id]

    def fill_slots(self, only: Participant | None = None) -> None:
        """Give tracks that a subscriber to everything (or this one) does not get yet to its free m-lines."""
        for viewer in self.participants.values() if only is None else (only,):
            if viewer.subscribe_all is None:
                continue
            got = {leg.track.id for leg in viewer.legs()}
            left = [t for t in in_order(self.tracks.values(), viewer, viewer.subscribe_all) if t.id not in got]
            for track in left:
                for line in viewer.lines.values():
                    if line.slot and line.leg is None and line.kind is track.kind:
                        payloads = match_payloads(track.published, line.agreed)
                        if payloads:
                            self.add_leg(line, viewer, track, payloads)
                            break
