"""When tracks were stale or did not change, for the session report: each spell with its begin, end and cause."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from mediaserver.clock import Clock, iso
from mediaserver.rooms import LiveRoom, RoomClosed, RoomEvent, RoomOpened
from mediaserver.sfu.session import events as ev
from mediaserver.sfu.session.model import Freshness

MAX_SPELLS: Final = 1000
"""Of one session; those after are counted in `omitted`."""
TOGETHER_US: Final = 150_000
"""Other tracks of a publisher that were silent for so long have stopped with this one."""

Cause = Literal["publisher", "source", "picture", ""]


class Spell(msgspec.Struct):
    """`ended` is None while it goes on; times are RFC 3339 in UTC.

    `cause`: `publisher`, nothing at all came of who publishes it (its line, its machine); `source`, its other tracks
    went on (the device, its encoder); `picture`, frames went on and showed the same; empty where there was nothing to
    compare with. `removed`: it ended because the track did.
    """

    track: str
    source: str
    state: Freshness
    cause: Cause
    began: str
    ended: str | None = None
    seconds: float = 0
    removed: bool = False


class FreshnessSection(msgspec.Struct):
    """The section `freshness` of a session report."""

    spells: list[Spell]
    omitted: int


class _Session:
    def __init__(self) -> None:
        self.spells: list[Spell] = []
        self.open: dict[str, tuple[Spell, int]] = {}
        self.omitted = 0


class SpellBook:
    """Follows the rooms: `rooms.observe(book.on_event)`, behind whoever calls `collect` at the end of a room."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[str, _Session] = {}

    def on_event(self, live: LiveRoom, event: RoomEvent) -> None:
        if isinstance(event, RoomOpened):
            self._sessions[live.name] = _Session()
            return
        session = self._sessions.get(live.name)
        if session is None:
            return
        match event:
            case ev.FreshnessChanged(track=track, state=state, time=time):
                self._end(session, track, time)
                if state is not Freshness.LIVE:
                    self._begin(live, session, track, state, time)
            case ev.TrackRemoved(track=track):
                self._end(session, track, self._clock.monotonic_us(), removed=True)
            case RoomClosed():
                del self._sessions[live.name]
            case _:
                pass

    def collect(self, live: LiveRoom) -> FreshnessSection | None:
        """The section of a room's report; None when every track was fresh all the time."""
        session = self._sessions.get(live.name)
        if session is None or not session.spells:
            return None
        now = self._clock.monotonic_us()
        for spell, began in session.open.values():
            spell.seconds = _seconds(began, now)
        return FreshnessSection(session.spells, session.omitted)

    def _begin(self, live: LiveRoom, session: _Session, track: str, state: Freshness, time: int) -> None:
        if len(session.spells) >= MAX_SPELLS:
            session.omitted += 1
            return
        cause: Cause = "picture" if state is Freshness.UNCHANGING else _cause(live, track, time)
        spell = Spell(track, str(live.room.tracks[track].source), state, cause, self._wall(time))
        session.spells.append(spell)
        session.open[track] = (spell, time)

    def _end(self, session: _Session, track: str, time: int, *, removed: bool = False) -> None:
        spell, began = session.open.pop(track, (None, 0))
        if spell is not None:
            spell.ended, spell.seconds, spell.removed = self._wall(time), _seconds(began, time), removed

    def _wall(self, time: int) -> str:
        return iso(self._clock.wall() - (self._clock.monotonic_us() - time) / 1e6)


def _seconds(began: int, ended: int) -> float:
    return round(max(0, ended - began) / 1e6, 3)


def _cause(live: LiveRoom, stale: str, time: int) -> Cause:
    track = live.room.tracks[stale]
    others = [
        live.slot.worker.track_stats(other.plane_id).get("last_arrival", 0)
        for other in live.room.participants[track.participant].tracks()
        if other is not track and other.live and not other.muted
    ]
    if not others:
        return ""
    return "source" if max(others) > time - TOGETHER_US else "publisher"
