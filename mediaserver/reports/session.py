"""The report of a consultation: who was there, what each viewer got of each track, and every breach of a floor.

A report is one JSON file. It is kept with each recording of the session, as it stood when the recording ended, and
when the room closes in the folder of reports, of which the newest are kept. Other parts put figures of theirs into
`sections`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import structlog

from mediaserver.clock import Clock, iso
from mediaserver.live_room import LiveRoom
from mediaserver.room_events import RecordingChanged, RoomClosed, RoomEvent, RoomOpened
from mediaserver.sfu.session import events as ev
from mediaserver.sfu.session.model import Quality, QualityCause, QualityState, TrackInfo, TransportState

log = structlog.get_logger("mediaserver.reports.session")

VERSION = 1
MAX_ENTRIES = 4096
"""Participants, tracks and views of one report, each; what comes after is counted in `omitted`."""
MAX_BREACHES = 200
"""Of one view that are kept one by one; `seconds` and `times` count all."""
AS_ASKED = Quality()
MAX_ENDED = 256
"""Reports of recordings that have ended and are being completed."""
BREACHES = frozenset({QualityState.BELOW_FLOOR, QualityState.PAUSED})

Section = Callable[[LiveRoom], Any]


class ParticipantEntry(msgspec.Struct):
    """Somebody who was there. Times are RFC 3339 in UTC."""

    id: str
    name: str
    role: str
    joined: str
    left: str | None = None
    reason: str | None = None


class TrackEntry(msgspec.Struct):
    """A track that was published, as it was last."""

    id: str
    participant: str
    source: str
    kind: str
    codec: str
    label: str
    width: int
    height: int
    added: str
    removed: str | None = None


class Breach(msgspec.Struct):
    """A spell below the floor, in one state. `ended` is None while it goes on."""

    state: str
    began: str
    ended: str | None = None


class ViewEntry(msgspec.Struct):
    """What one participant got of one track.

    `seconds` it was in each state, by `state` or `state:cause` (`ok`, `below-floor:line`, `paused:line`,
    `paused:viewer`, `waiting:source`); `times` it went into each; `longest_breach_s` without what its floor asks.
    """

    participant: str
    track: str
    source: str
    began: str
    first_packet_ms: float | None = None
    seconds: dict[str, float] = {}
    times: dict[str, int] = {}
    longest_breach_s: float = 0
    breaches: list[Breach] = []


class SessionReport(msgspec.Struct):
    """The whole report. `closed` is None in one that was written while the session went on."""

    version: int
    room: str
    opened: str
    closed: str | None
    recordings: list[str]
    participants: list[ParticipantEntry]
    tracks: list[TrackEntry]
    views: list[ViewEntry]
    omitted: int
    sections: dict[str, Any]


def state_name(quality: Quality) -> str:
    """`ok`, `below-floor:line` and so on."""
    return f"{quality.state}:{quality.cause}" if quality.cause else str(quality.state)


def is_breach(quality: Quality) -> bool:
    """The viewer gets less than the floor, and has not wished so."""
    return quality.state in BREACHES and quality.cause is not QualityCause.VIEWER


class _View:
    """One view in the making; `since` and `breach_since` are µs of the monotonic clock, `began` of the wall clock."""

    __slots__ = (
        "began",
        "breach_since",
        "breaches",
        "ended",
        "first_packet_ms",
        "longest_breach_s",
        "participant",
        "quality",
        "since",
        "source",
        "spent",
        "times",
        "track",
    )

    def __init__(self, participant: str, track: str, source: str, began: float, now: int) -> None:
        self.participant = participant
        self.track = track
        self.source = source
        self.began = began
        self.first_packet_ms: float | None = None
        self.spent: dict[str, tuple[int, float]] | None = None
        """by state: how often, and for how many seconds; what goes on since `since` is not in it yet"""
        self.times = 0
        """that the present state was come to, and are not in `spent` yet"""
        self.longest_breach_s = 0.0
        self.breaches: list[Breach] | None = None
        self.quality = AS_ASKED
        self.since = now
        self.breach_since: int | None = None
        self.ended = False

    @property
    def entry(self) -> ViewEntry:
        """As it was when it was last settled."""
        spent = self.spent or {}
        return ViewEntry(
            participant=self.participant,
            track=self.track,
            source=self.source,
            began=iso(self.began),
            first_packet_ms=self.first_packet_ms,
            seconds={name: seconds for name, (_, seconds) in spent.items()},
            times={name: times for name, (times, _) in spent.items() if times},
            longest_breach_s=self.longest_breach_s,
            breaches=self.breaches or [],
        )

    def change(self, quality: Quality, now: int, time: str) -> None:
        """`time` is `now` in words."""
        self.settle(now)
        name = state_name(quality)
        if name != state_name(self.quality):
            self._book(0.0)
            self.times = 1
            self.end_breach(time)
            if is_breach(quality):
                self.breaches = self.breaches or []
                if len(self.breaches) < MAX_BREACHES:
                    self.breaches.append(Breach(name, time))
        if not is_breach(quality):
            self.breach_since = None
        elif self.breach_since is None:
            self.breach_since = now
        self.quality = quality

    def end_breach(self, time: str) -> None:
        if self.breaches and self.breaches[-1].ended is None:
            self.breaches[-1].ended = time

    def settle(self, now: int) -> None:
        """Count the time up to now."""
        if now > self.since:
            self._book((now - self.since) / 1e6)
        self.since = now
        if self.breach_since is not None:
            self.longest_breach_s = max(self.longest_breach_s, (now - self.breach_since) / 1e6)

    def _book(self, spent: float) -> None:
        """So long in the present state. One that goes at once, as that of the beginning, leaves nothing to note."""
        if not spent and not self.times:
            return
        name = state_name(self.quality)
        times, seconds = (self.spent or {}).get(name, (0, 0.0))
        self.spent = (self.spent or {}) | {name: (times + self.times, seconds + spent)}
        self.times = 0


class _Session:
    """A room from its opening to its close."""

    def __init__(self, room: str, opened: str) -> None:
        self.room = room
        self.opened = opened
        self.recordings: list[str] = []
        self.participants: dict[str, ParticipantEntry] = {}
        self.tracks: dict[str, TrackEntry] = {}
        self.views: dict[tuple[str, str], _View] = {}
        self.views_of: dict[str, list[_View]] = {}
        """by participant: in a room of a thousand each who goes would else be looked for among all"""
        self.omitted = 0

    def full(self, entries: dict[Any, Any]) -> bool:
        self.omitted += len(entries) >= MAX_ENTRIES
        return len(entries) >= MAX_ENTRIES

    def running(self, participant: str | None = None) -> Iterator[_View]:
        """Those of a participant, or all."""
        views = self.views.values() if participant is None else self.views_of.get(participant, ())
        return (view for view in views if not view.ended)


class SessionReports:
    """Follows the rooms. `folder` takes at most `most` reports, none when that is 0.

    It is an observer: `rooms.observe(reports.on_event)`. `take(recording)` gives the report of a recording that has
    ended, once.
    """

    def __init__(self, folder: Path, most: int, clock: Clock) -> None:
        self.failures = 0
        """Reports that could not be written."""
        self.breaches: Counter[tuple[str, str]] = Counter()
        """How often a view fell under its floor or was paused by its line, by source and state."""
        self._folder = folder
        self._most = most
        self._clock = clock
        self._sessions: dict[str, _Session] = {}
        self._sections: dict[str, Section] = {}
        self._ended: dict[str, bytes] = {}
        self._past: Counter[tuple[str, str]] = Counter()
        self._writer = ThreadPoolExecutor(1, "session reports")

    def add_section(self, name: str, collect: Section) -> None:
        """Put what `collect(room)` gives, a msgspec struct or plain data, under `sections.NAME` of every report that
        is written; nothing when it is None."""
        self._sections[name] = collect

    def breach_seconds(self) -> dict[tuple[str, str], float]:
        """How long views were in breach, those that are now included; by source and state."""
        now = self._clock.monotonic_us()
        total = {key: self._past[key] / 1e6 for key in self.breaches}
        for session in self._sessions.values():
            for view in session.running():
                if is_breach(view.quality):
                    key = (view.source, str(view.quality.state))
                    total[key] = total.get(key, 0.0) + (now - view.since) / 1e6
        return total

    def snapshot(self, live: LiveRoom, *, closed: bool = False) -> SessionReport | None:
        """The report as it stands; None for a room that was not followed."""
        session = self._sessions.get(live.name)
        if session is None:
            return None
        now = self._clock.monotonic_us()
        for view in session.running():
            self._settle(view, now)
        sections = {name: collect(live) for name, collect in self._sections.items()}
        return SessionReport(
            version=VERSION,
            room=session.room,
            opened=session.opened,
            closed=self._time() if closed else None,
            recordings=session.recordings,
            participants=list(session.participants.values()),
            tracks=list(session.tracks.values()),
            views=[view.entry for view in session.views.values()],
            omitted=session.omitted,
            sections={name: section for name, section in sections.items() if section is not None},
        )

    def take(self, recording: str) -> bytes | None:
        """The report of a recording that has ended; None when there is none."""
        return self._ended.pop(recording, None)

    def close(self) -> None:
        """Wait until everything is written."""
        self._writer.shutdown()

    # What happens in the rooms

    def on_event(self, live: LiveRoom, event: RoomEvent) -> None:
        if isinstance(event, RoomOpened):
            self._sessions[live.name] = _Session(live.name, self._time())
            return
        session = self._sessions.get(live.name)
        if session is None:
            return
        now = self._clock.monotonic_us()
        match event:
            case ev.ParticipantJoined(participant=info) if not session.full(session.participants):
                entry = ParticipantEntry(info.id, info.name, str(info.role), self._time())
                session.participants[info.id] = entry
            case ev.ParticipantLeft(participant=participant, reason=reason):
                self._end(session, now, participant=participant)
                if participant in session.participants:
                    session.participants[participant].left = self._time()
                    session.participants[participant].reason = reason
            case ev.TransportChanged(participant=participant, state=TransportState.CLOSED):
                self._end(session, now, participant=participant)
            case ev.TrackAdded(track=info) if not session.full(session.tracks):
                session.tracks[info.id] = _track(info, self._time())
            case ev.TrackChanged(track=info) if info.id in session.tracks:
                session.tracks[info.id] = _track(info, session.tracks[info.id].added)
            case ev.TrackRemoved(track=track):
                self._end(session, now, track=track)
                if track in session.tracks:
                    session.tracks[track].removed = self._time()
            case ev.LegLive(participant=participant, track=track, since_join_us=since):
                view = self._view(session, participant, track, now)
                if view is not None and view.first_packet_ms is None:
                    view.first_packet_ms = since / 1e3
            case ev.LegQuality(participant=participant, track=track, quality=quality):
                view = self._view(session, participant, track, now)
                if view is not None:
                    self._change(view, quality, now)
            case ev.LegEnded(participant=participant, track=track):
                self._end(session, now, participant=participant, track=track)
            case RecordingChanged(state=state, recording=str(recording)):
                self._recording(session, live, recording, over=state == "off")
            case RoomClosed():
                self._write(live)
                self._end(session, now)
                del self._sessions[live.name]
            case _:
                pass

    def _view(self, session: _Session, participant: str, track: str, now: int) -> _View | None:
        view = session.views.get((participant, track))
        if view is None:
            if track not in session.tracks or session.full(session.views):
                return None
            source = session.tracks[track].source
            view = session.views[participant, track] = _View(participant, track, source, self._clock.wall(), now)
            session.views_of.setdefault(participant, []).append(view)
        elif view.ended:  # on another peer connection
            view.ended, view.since, view.quality = False, now, AS_ASKED
        return view

    def _change(self, view: _View, quality: Quality, now: int) -> None:
        self._settle(view, now)
        if is_breach(quality) and view.quality.state is not quality.state:
            self.breaches[view.source, str(quality.state)] += 1
        view.change(quality, now, self._time())

    def _settle(self, view: _View, now: int) -> None:
        if is_breach(view.quality):
            self._past[view.source, str(view.quality.state)] += now - view.since
        view.settle(now)

    def _end(self, session: _Session, now: int, *, participant: str | None = None, track: str | None = None) -> None:
        """End the views of a participant or of a track, or all."""
        for view in list(session.running(participant)):
            if track in (None, view.track):
                self._settle(view, now)
                view.end_breach(self._time())
                view.ended = True

    def _recording(self, session: _Session, live: LiveRoom, recording: str, *, over: bool) -> None:
        if recording not in session.recordings:
            session.recordings.append(recording)
        report = self.snapshot(live) if over else None
        if report is not None:
            while len(self._ended) >= MAX_ENDED:
                del self._ended[next(iter(self._ended))]
            self._ended[recording] = _encode(report)

    # Files

    def _write(self, live: LiveRoom) -> None:
        report = self.snapshot(live, closed=True)
        if report is not None and self._most:
            name = f"{re.sub(r'[^0-9TZ]', '', report.opened)}-{live.name}.json"
            self._writer.submit(self._store, name, _encode(report))

    def _store(self, name: str, data: bytes) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            unfinished = self._folder / f".{name}"
            unfinished.write_bytes(data)
            unfinished.replace(self._folder / name)
            for old in sorted(self._folder.glob("[0-9]*.json"))[: -self._most]:
                old.unlink(missing_ok=True)
        except OSError as error:
            self.failures += 1
            log.error("a session report could not be written", file=name, reason=error.strerror)

    def _time(self) -> str:
        return iso(self._clock.wall())


def _track(info: TrackInfo, added: str) -> TrackEntry:
    return TrackEntry(
        info.id,
        info.participant,
        str(info.source),
        str(info.kind),
        info.codec,
        info.label,
        info.width,
        info.height,
        added,
    )


def _encode(report: SessionReport) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"
