"""How late a session was: from capture to the server, through it, and to what each viewer saw and heard.

What the data plane counts is read when a track or a view ends and when the report is written; what viewers report is
added as it comes. Everything is kept as counts in the buckets of `sfu.stream.spread`, whatever the session's length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import msgspec

from mediaserver.live_room import LiveRoom
from mediaserver.room_events import RoomClosed, RoomEvent, RoomOpened
from mediaserver.sfu.session import events as ev
from mediaserver.sfu.session.model import TransportState
from mediaserver.sfu.stream.spread import spread_index, spread_limits
from mediaserver.stats import Histogram

MAX_ENTRIES: Final = 4096
"""Tracks and views of one session, each; what comes after is not followed."""
AGE_BOUNDS: Final = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 5.0)
_LIMITS: Final = spread_limits()


class Percentiles(msgspec.Struct, frozen=True):
    """Milliseconds, those of percentiles rounded up by a fifth at most."""

    count: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class TrackLatency(msgspec.Struct, frozen=True):
    """`capture_to_server`: where the publisher tells when it captured, and by its clock as far as that is known.
    `server`: from the kernel's receive stamp to the return of the send, of packets that came by UDP."""

    track: str
    source: str
    capture_to_server: Percentiles | None
    server: Percentiles | None


class ViewLatency(msgspec.Struct, frozen=True):
    """`paced`: packets that had to wait for their turn on the viewer's line. `shown`: the age of what the viewer saw or
    heard, from capture on, as it reports itself; `budget_ms` is what the source's p95 is to stay under, 0: nothing."""

    participant: str
    track: str
    source: str
    paced: Percentiles | None
    shown: Percentiles | None
    budget_ms: float


class LatencySection(msgspec.Struct, frozen=True):
    """The section `latency` of a session report."""

    tracks: list[TrackLatency]
    views: list[ViewLatency]


class Spread:
    """Counts of times; `sfu.stream.spread.Spread` on this side."""

    __slots__ = ("counts", "most", "total")

    def __init__(self) -> None:
        self.counts = [0] * len(_LIMITS)
        self.total = 0
        self.most = 0

    def add(self, us: int) -> None:
        self.counts[spread_index(us)] += 1
        self.total += us
        self.most = max(self.most, us)

    def merge(self, counted: Mapping[str, Any]) -> Spread:
        """With what the data plane has counted."""
        self.counts = [one + other for one, other in zip(self.counts, counted["counts"], strict=True)]
        self.total += counted["sum"]
        self.most = max(self.most, counted["most"])
        return self

    def plus(self, counted: Mapping[str, Any] | None) -> Spread:
        """A new one, with what the data plane has counted since."""
        made = Spread()
        made.counts, made.total, made.most = list(self.counts), self.total, self.most
        return made.merge(counted) if counted else made

    def percentiles(self) -> Percentiles | None:
        """None where nothing was counted."""
        count = sum(self.counts)
        if not count:
            return None
        p50, p95, p99 = (self._percentile(share * count) for share in (0.5, 0.95, 0.99))
        return Percentiles(count, round(self.total / count / 1e3, 1), p50, p95, p99, round(self.most / 1e3, 1))

    def _percentile(self, wanted: float) -> float:
        reached = next(at for at, below in enumerate(accumulate(self.counts)) if below >= wanted)
        last = reached == len(_LIMITS) - 1
        return round((self.most if last else min(_LIMITS[reached], self.most)) / 1e3, 1)


class _Track:
    def __init__(self, plane_id: int, source: str) -> None:
        self.plane_id: int | None = plane_id
        self.source = source
        self.captured = Spread()
        self.served = Spread()


class _View:
    def __init__(self, source: str) -> None:
        self.plane_id: int | None = None
        self.source = source
        self.paced = Spread()
        self.shown = Spread()


class _Session:
    def __init__(self) -> None:
        self.tracks: dict[str, _Track] = {}
        self.views: dict[tuple[str, str], _View] = {}

    def view(self, participant: str, track: str) -> _View | None:
        found = self.views.get((participant, track))
        if found is None and track in self.tracks and len(self.views) < MAX_ENTRIES:
            found = self.views[participant, track] = _View(self.tracks[track].source)
        return found


class LatencyBook:
    """Follows the rooms: `rooms.observe(book.on_event)`, behind whoever calls `collect` at the end of a room.
    `budgets` is the greatest age that a p95 may have, in ms by source."""

    def __init__(self, budgets: Mapping[str, float]) -> None:
        self.ages: dict[str, Histogram] = {}
        """Reported ages in seconds, by source."""
        self._budgets = budgets
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
                session.tracks[info.id] = _Track(live.room.tracks[info.id].plane_id, str(info.source))
            case ev.TrackRemoved(track=track):
                self._end(live, session, track=track)
            case ev.LegLive(participant=participant, track=track):
                self._begin(live, session, participant, track)
            case ev.LegEnded(participant=participant, track=track):
                self._end(live, session, participant=participant, track=track)
            case ev.ParticipantLeft(participant=participant):
                self._end(live, session, participant=participant)
            case ev.TransportChanged(participant=participant, state=TransportState.CLOSED):
                self._end(live, session, participant=participant)
            case RoomClosed():
                del self._sessions[live.name]
            case _:
                pass

    def note_ages(self, live: LiveRoom, participant: str, track: str, ages_ms: Sequence[int]) -> None:
        """A viewer says how old what it shows of a track is. Of a track that it does not get it has nothing to say."""
        session = self._sessions.get(live.name)
        viewer, shown = live.room.participants.get(participant), live.room.tracks.get(track)
        if session is None or viewer is None or shown is None or viewer.leg_of(shown) is None:
            return
        view = session.view(participant, track)
        histogram = self.ages.setdefault(str(shown.source), Histogram(AGE_BOUNDS))
        for age in ages_ms:
            histogram.add(age / 1e3)
            if view is not None:
                view.shown.add(age * 1000)

    def collect(self, live: LiveRoom) -> LatencySection | None:
        """The section of a room's report; None for a room that is not followed."""
        session = self._sessions.get(live.name)
        if session is None:
            return None
        tracks, views = [], []
        for name, track in session.tracks.items():
            stats = _stats(live, track)
            captured, served = track.captured.plus(stats.get("captured")), track.served.plus(stats.get("served"))
            tracks.append(TrackLatency(name, track.source, captured.percentiles(), served.percentiles()))
        for (participant, name), view in session.views.items():
            paced = view.paced.plus(_stats(live, view).get("paced"))
            budget = self._budgets.get(view.source, 0)
            views.append(
                ViewLatency(participant, name, view.source, paced.percentiles(), view.shown.percentiles(), budget)
            )
        return LatencySection(tracks, views)

    def _begin(self, live: LiveRoom, session: _Session, participant: str, track: str) -> None:
        viewer, shown = live.room.participants.get(participant), live.room.tracks.get(track)
        leg = viewer.leg_of(shown) if viewer is not None and shown is not None else None
        view = session.view(participant, track)
        if view is None or leg is None or view.plane_id == leg.plane_id:
            return
        self._fold(live, view)
        view.plane_id = leg.plane_id

    def _end(
        self, live: LiveRoom, session: _Session, *, participant: str | None = None, track: str | None = None
    ) -> None:
        """Take over what was counted: the data plane forgets it once it has said so, which nobody has heard yet."""
        for (viewer, name), view in session.views.items():
            if participant in (None, viewer) and track in (None, name):
                self._fold(live, view)
        if participant is None and track in session.tracks:
            ended = session.tracks[track]
            stats = _stats(live, ended)
            if stats:
                ended.captured.merge(stats["captured"])
                ended.served.merge(stats["served"])
            ended.plane_id = None

    @staticmethod
    def _fold(live: LiveRoom, view: _View) -> None:
        stats = _stats(live, view)
        if stats:
            view.paced.merge(stats["paced"])
        view.plane_id = None


def _stats(live: LiveRoom, followed: _Track | _View) -> Mapping[str, Any]:
    if followed.plane_id is None:
        return {}
    planes = live.room.planes
    read = planes.track_stats if isinstance(followed, _Track) else planes.leg_stats
    return read(followed.plane_id)
