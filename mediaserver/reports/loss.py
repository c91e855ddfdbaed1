"""What a session lost and what was repaired, towards the server and from it, as the data plane counts it.

It is read when a track or a view ends and when the report is written, like the times of `mediaserver.reports.latency`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mediaserver.live_room import LiveRoom
from mediaserver.room_events import RoomClosed, RoomEvent, RoomOpened
from mediaserver.sfu.session import events as ev
from mediaserver.sfu.session.model import TransportState

MAX_ENTRIES: Final = 4096
"""Tracks and views of one session, each; what comes after is not followed."""
TRACK_COUNTS: Final = ("packets", "lost", "recovered", "given_up")
VIEW_COUNTS: Final = ("packets", "nacked", "retransmitted", "plis")


class TrackLoss(msgspec.Struct, frozen=True):
    """Packets of a track that came, that were lost on the way to the server, and what became of those."""

    track: str
    source: str
    packets: int
    lost: int
    recovered: int
    given_up: int


class ViewLoss(msgspec.Struct, frozen=True):
    """Packets of a track that left for a viewer, that it reported missing and that were sent to it again; `plis` are
    its keyframe requests."""

    participant: str
    track: str
    source: str
    packets: int
    nacked: int
    retransmitted: int
    plis: int


class LossSection(msgspec.Struct, frozen=True):
    """The section `loss` of a session report."""

    tracks: list[TrackLoss]
    views: list[ViewLoss]


class _Counted:
    """A track, or a view of one: what is counted under its number in the data plane, and under earlier ones."""

    def __init__(self, source: str, names: tuple[str, ...], *, track: bool) -> None:
        self.source = source
        self.plane_id: int | None = None
        self._names = names
        self._track = track
        self._past: Counter[str] = Counter()

    def counts(self, live: LiveRoom) -> dict[str, int]:
        stats = self._stats(live)
        return {name: self._past[name] + stats.get(name, 0) for name in self._names}

    def follow(self, live: LiveRoom, plane_id: int | None) -> None:
        """It goes on under this number, or ends: the data plane forgets what it counted under the one before."""
        if plane_id != self.plane_id:
            self._past = Counter(self.counts(live))
            self.plane_id = plane_id

    def _stats(self, live: LiveRoom) -> Mapping[str, Any]:
        if self.plane_id is None:
            return {}
        planes = live.room.planes
        return (planes.track_stats if self._track else planes.leg_stats)(self.plane_id)


class _Session:
    def __init__(self) -> None:
        self.tracks: dict[str, _Counted] = {}
        self.views: dict[tuple[str, str], _Counted] = {}


class LossBook:
    """Follows the rooms: `rooms.observe(book.on_event)`, behind whoever calls `collect` at the end of a room."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}

    def on_event(self, live: LiveRoom, event: RoomEvent) -> None:
        if isinstance(event, RoomOpened):
            self._sessions[live.name] = _Session()
            return
        session = self._sessions.get(live.name)
        if session is None:
            return
        match event:
            case ev.TrackAdded(track=info) if len(session.tracks) < MAX_ENTRIES and info.id in live.room.tracks:
                track = session.tracks[info.id] = _Counted(str(info.source), TRACK_COUNTS, track=True)
                track.follow(live, live.room.tracks[info.id].plane_id)
            case ev.TrackRemoved(track=name):
                self._end(live, session, track=name)
                if name in session.tracks:
                    session.tracks[name].follow(live, None)
            case ev.LegLive(participant=participant, track=name):
                self._begin(live, session, participant, name)
            case ev.LegEnded(participant=participant, track=name):
                self._end(live, session, participant=participant, track=name)
            case ev.ParticipantLeft(participant=participant):
                self._end(live, session, participant=participant)
            case ev.TransportChanged(participant=participant, state=TransportState.CLOSED):
                self._end(live, session, participant=participant)
            case RoomClosed():
                del self._sessions[live.name]
            case _:
                pass

    def collect(self, live: LiveRoom) -> LossSection | None:
        """The section of a room's report; None for a room that is not followed."""
        session = self._sessions.get(live.name)
        if session is None:
            return None
        return LossSection(
            [TrackLoss(name, track.source, **track.counts(live)) for name, track in session.tracks.items()],
            [ViewLoss(who, name, view.source, **view.counts(live)) for (who, name), view in session.views.items()],
        )

    def _begin(self, live: LiveRoom, session: _Session, participant: str, name: str) -> None:
        viewer, track = live.room.participants.get(participant), live.room.tracks.get(name)
        leg = viewer.leg_of(track) if viewer is not None and track is not None else None
        if leg is None or name not in session.tracks:
            return
        view = session.views.get((participant, name))
        if view is None:
            if len(session.views) >= MAX_ENTRIES:
                return
            source = session.tracks[name].source
            view = session.views[participant, name] = _Counted(source, VIEW_COUNTS, track=False)
        view.follow(live, leg.plane_id)

    @staticmethod
    def _end(live: LiveRoom, session: _Session, *, participant: str | None = None, track: str | None = None) -> None:
        for (viewer, name), view in session.views.items():
            if participant in (None, viewer) and track in (None, name):
                view.follow(live, None)
