"""When tracks were stale, did not change or sounded wrong: spells with begin, end and cause, for the session report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Literal, TypeVar

import msgspec

from mediaserver.clock import Clock, iso
from mediaserver.live_room import LiveRoom
from mediaserver.room_events import RoomClosed, RoomEvent, RoomOpened
from mediaserver.sfu.session import events as ev
from mediaserver.sfu.session.model import Freshness, SoundFault

MAX_SPELLS: Final = 1000
"""Of one session; those after are counted in `omitted`."""
TOGETHER_US: Final = 150_000
"""Other tracks of a publisher that were silent for so long have stopped with this one."""

Cause = Literal["publisher", "source", "picture", ""]
T = TypeVar("T", bound="Freshness | SoundFault")
_CAUSES: Final[Mapping[str, Cause]] = {Freshness.UNCHANGING: "picture", **dict.fromkeys(SoundFault, "")}
"""Of a stale track it has to be found."""


class Spell(msgspec.Struct):
    """`ended` is None while it goes on; times are RFC 3339 in UTC.

    `cause`: `publisher`, nothing at all came of who publishes it (its line, its machine); `source`, its other tracks
    went on (the device, its encoder); `picture`, frames went on and showed the same; empty where there was nothing to
    compare with, and for sounds. `removed`: it ended because the track did.
    """

    track: str
    source: str
    state: str
    cause: Cause
    began: str
    ended: str | None = None
    seconds: float = 0
    removed: bool = False


class SpellsSection(msgspec.Struct):
    """The sections `freshness` and `sound` of a session report."""

    spells: list[Spell]
    omitted: int


class _Spells:
    """Those of one section. `time` is µs of the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spells: list[Spell] = []
        self._open: dict[str, list[tuple[Spell, int]]] = {}
        self._omitted = 0

    def change(self, live: LiveRoom, track: str, states: Collection[Freshness | SoundFault], time: int) -> None:
        """A track is in these states from now on."""
        self.end(track, time, but=states)
        for state in self.new(track, states):
            self._begin(live, track, state, time)

    def new(self, track: str, states: Iterable[T]) -> list[T]:
        """Those of the states in which the track is not yet."""
        going = {spell.state for spell, _ in self._open.get(track, ())}
        return [state for state in states if state not in going]

    def end(
        self, track: str, time: int, *, but: Collection[Freshness | SoundFault] = (), removed: bool = False
    ) -> None:
        kept = []
        for spell, began in self._open.pop(track, ()):
            if spell.state in but:
                kept.append((spell, began))
            else:
                spell.ended, spell.seconds, spell.removed = self._wall(time), _seconds(began, time), removed
        if kept:
            self._open[track] = kept

    def section(self) -> SpellsSection | None:
        """None when there was no spell."""
        now = self._clock.monotonic_us()
        for spells in self._open.values():
            for spell, began in spells:
                spell.seconds = _seconds(began, now)
        return SpellsSection(self._spells, self._omitted) if self._spells else None

    def _begin(self, live: LiveRoom, track: str, state: Freshness | SoundFault, time: int) -> None:
        if len(self._spells) >= MAX_SPELLS:
            self._omitted += 1
            return
        cause = _CAUSES.get(state)
        if cause is None:
            cause = _cause(live, track, time)
        spell = Spell(track, str(live.room.tracks[track].source), state, cause, self._wall(time))
        self._spells.append(spell)
        self._open.setdefault(track, []).append((spell, time))

    def _wall(self, time: int) -> str:
        return iso(self._clock.wall() - (self._clock.monotonic_us() - time) / 1e6)


class SpellBook:
    """Follows the rooms: `rooms.observe(book.on_event)`, behind whoever calls `freshness` and `sound` at the end of a
    room, which give the sections of its report; None where all was well."""

    def __init__(self, clock: Clock) -> None:
        self.sound_faults: Counter[str] = Counter()
        """How often a sound went wrong, by fault."""
        self._clock = clock
        self._rooms: dict[str, tuple[_Spells, _Spells]] = {}

    def on_event(self, live: LiveRoom, event: RoomEvent) -> None:
        if isinstance(event, RoomOpened):
            self._rooms[live.name] = _Spells(self._clock), _Spells(self._clock)
            return
        if live.name not in self._rooms:
            return
        freshness, sound = self._rooms[live.name]
        match event:
            case ev.FreshnessChanged(track=track, state=state, time=time):
                freshness.change(live, track, () if state is Freshness.LIVE else (state,), time)
            case ev.SoundChanged(track=track, faults=faults, time=time):
                self.sound_faults.update(str(fault) for fault in sound.new(track, faults))
                sound.change(live, track, faults, time)
            case ev.TrackRemoved(track=track):
                now = self._clock.monotonic_us()
                freshness.end(track, now, removed=True)
                sound.end(track, now, removed=True)
            case RoomClosed():
                del self._rooms[live.name]
            case _:
                pass

    def freshness(self, live: LiveRoom) -> SpellsSection | None:
        return self._rooms[live.name][0].section() if live.name in self._rooms else None

    def sound(self, live: LiveRoom) -> SpellsSection | None:
        return self._rooms[live.name][1].section() if live.name in self._rooms else None


def _seconds(began: int, ended: int) -> float:
    return round(max(0, ended - began) / 1e6, 3)


def _cause(live: LiveRoom, stale: str, time: int) -> Cause:
    track = live.room.tracks[stale]
    others = [
        live.room.planes.track_stats(other.plane_id).get("last_arrival", 0)
        for other in live.room.participants[track.participant].tracks()
        if other is not track and other.live and not other.muted
    ]
    if not others:
        return ""
    return "source" if max(others) > time - TOGETHER_US else "publisher"
