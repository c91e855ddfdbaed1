"""The state of a recording, folded from its journal; the manifest is drawn from it at any time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from mediaserver.recording import chain, journal
from mediaserver.recording.journal import AnyRecord
from mediaserver.recording.manifest import (
    VERSION,
    ConsentFact,
    ConsentRule,
    Consents,
    Gap,
    Manifest,
    Note,
    Participant,
    Segment,
    Track,
)
from mediaserver.recording.sample import Fragment
from mediaserver.recording.timeline import Arrival, Point, Report, Source, map_sources, wall_at

SPILL = "spill"
"""Why a file was begun that holds what is still in memory too (`spill`)."""


@dataclass(slots=True)
class FileState:
    """One media file: what the journal says of it."""

    opened: journal.Opened
    size: int
    fragments: list[Fragment] = field(default_factory=list)
    units: int = 0
    keyframes: int = 0
    sha256: str = ""
    """Of the file up to the last fragment, before it is completed."""
    closed: bool = False
    sealed: journal.Sealed | None = None
    last: journal.Written | None = None

    @property
    def span(self) -> int:
        """From its start to the end of its last sample, in units of the clock rate."""
        return self.fragments[-1].time + self.fragments[-1].duration if self.fragments else 0


@dataclass(slots=True)
class TrackState:
    """One track: its files in the order in which they were begun, its gaps by number, its time by stream."""

    added: journal.Added
    files: dict[str, FileState] = field(default_factory=dict)
    gaps: dict[int, Gap] = field(default_factory=dict)
    reports: dict[int, list[Report]] = field(default_factory=dict)
    arrivals: dict[int, list[Arrival]] = field(default_factory=dict)
    clock_rates: dict[int, int] = field(default_factory=dict)
    payloads: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Codec and clock rate by payload type."""
    withdrawn: bool = False
    """What comes is still of before a withdrawal that asks for erasure."""
    erase: set[str] = field(default_factory=set)
    """The files that were to be erased."""

    @property
    def kept(self) -> list[FileState]:
        """Its files without those that only a crash would make use of."""
        return [file for file in list(self.files.values()) if file.opened.reason != SPILL]


class Ledger:
    """Takes the records of one journal in their order."""

    def __init__(self) -> None:
        self.begun: journal.Begun | None = None
        self.ended_us = 0
        self.participants: dict[str, Participant] = {}
        self.tracks: dict[str, TrackState] = {}
        self.notes: list[Note] = []
        self.rules: list[ConsentRule] = []
        self.facts: list[ConsentFact] = []
        self.sealed: list[journal.Sealed] = []
        """The completed files with media, in the order of their completion."""
        self.mislinked: list[str] = []
        """Files whose link in the journal does not follow from the one before."""

    @classmethod
    def fold(cls, records: Iterable[AnyRecord]) -> Ledger:
        """Raises ValueError when a record speaks of what no record before it has begun."""
        ledger = cls()
        for record in records:
            ledger.apply(record)
        return ledger

    def apply(self, record: AnyRecord) -> None:
        """Raises ValueError when it speaks of what no record before it has begun."""
        try:
            self._apply(record)
        except KeyError as error:
            raise ValueError(f"the journal speaks of {error} before it has begun") from error

    def file(self, track: str, name: str) -> FileState:
        return self.tracks[track].files[name]

    @property
    def head(self) -> str:
        """The last link of the chain over the completed files."""
        if self.sealed:
            return self.sealed[-1].link
        return chain.origin(self.begun.id if self.begun else "")

    def linked(self, record: journal.Sealed, head: str) -> journal.Sealed:
        """The record with its link, when `head` is the link before it; a file without media has none."""
        if not record.bytes:
            return record
        return msgspec.structs.replace(record, link=chain.link(head, record.file, record.bytes, record.sha256))

    def unsealed(self) -> list[tuple[str, FileState]]:
        """Track id and state of the files that are not complete."""
        return [(name, file) for name, track in self.tracks.items() for file in track.kept if not file.sealed]

    def spilled(self) -> list[tuple[TrackState, FileState]]:
        """Packets that were waiting for others before them."""
        return [
            (track, file)
            for track in self.tracks.values()
            for file in list(track.files.values())
            if file.opened.reason == SPILL
        ]

    def manifest(self, state: str, now_us: int, *, exact: bool = True) -> Manifest:
        """`now_us` ends a recording whose end is not on record.

        Without `exact` media is placed by its first arrival alone: cheap however long the recording is, and safe
        to call while another thread applies records.
        """
        if self.begun is None:
            raise ValueError("the journal has no beginning")
        mapping = self._mapping() if exact else self._first_arrivals()
        ended_us = self.ended_us or now_us
        tracks = [self._track(name, track, mapping, ended_us) for name, track in list(self.tracks.items())]
        return Manifest(
            version=VERSION,
            software=self.begun.software,
            id=self.begun.id,
            room=self.begun.room,
            state=state,
            started_us=self.begun.started_us,
            ended_us=ended_us,
            participants=list(self.participants.values()),
            tracks=tracks,
            notes=list(self.notes),
            chain=chain.Chain([record.file for record in self.sealed], self.head) if exact else msgspec.UNSET,
            consent=self._consents(tracks),
        )

    def last_media_us(self) -> int:
        """The wall-clock time up to which there is media; the recording's start without any."""
        if self.begun is None:
            raise ValueError("the journal has no beginning")
        ends = [s.last_us for t in self.manifest("", 0).tracks for s in t.segments]
        return max([self.begun.started_us, *ends])

    def _mapping(self) -> dict[str, list[Point]]:
        sources = {}
        for name, track in self.tracks.items():
            for stream, rate in track.clock_rates.items():
                sources[f"{name} {stream}"] = Source(
                    track.added.participant or f" {name}",
                    rate,
                    track.reports.get(stream, []),
                    track.arrivals.get(stream, []),
                )
        return map_sources(sources)

    def _first_arrivals(self) -> dict[str, list[Point]]:
        return {
            f"{name} {stream}": [Point(arrivals[0].rtp, arrivals[0].wall_us)]
            for name, track in list(self.tracks.items())
            for stream, arrivals in list(track.arrivals.items())
        }

    @staticmethod
    def _track(name: str, track: TrackState, mapping: dict[str, list[Point]], ended_us: int) -> Track:
        added = track.added
        segments = [
            _segment(file, mapping[key])
            for file in track.kept
            if file.fragments and (key := f"{name} {file.opened.stream}") in mapping
        ]
        codec = segments[-1].codec if segments else added.codec
        return Track(
            id=added.track,
            source=added.source,
            kind=added.kind,
            codec=codec,
            label=added.label,
            participant=added.participant,
            segments=segments,
            gaps=[_ended(gap, ended_us) for _, gap in sorted(track.gaps.items())],
        )

    def _consents(self, tracks: list[Track]) -> Consents | msgspec.UnsetType:
        if not self.rules and not self.facts:
            return msgspec.UNSET  # a recording of an earlier version
        there = [segment.file for track in tracks for segment in track.segments]
        erase = {file for track in list(self.tracks.values()) for file in list(track.erase)}
        return Consents(list(self.rules), list(self.facts), [file for file in there if file in erase])

    def _apply(self, record: AnyRecord) -> None:
        match record:
            case journal.Begun():
                self.begun = record
            case journal.Joined():
                self.participants[record.id] = Participant(record.id, record.name, record.role, record.at_us)
            case journal.Added():
                self.tracks.setdefault(record.track, TrackState(record))
            case journal.Payloads():
                track = self.tracks[record.track]
                track.payloads |= {kind: (codec, rate) for kind, codec, rate in record.payloads}
            case journal.Opened():
                track = self.tracks[record.track]
                track.files[record.file] = FileState(record, record.header)
                if track.withdrawn:
                    track.erase.add(record.file)
                track.clock_rates[record.stream] = record.clock_rate
            case journal.Written():
                self._written(record)
            case journal.Reported():
                reports = self.tracks[record.track].reports.setdefault(record.stream, [])
                reports.append(Report(record.rtp, record.ntp_us, record.wall_us))
            case journal.Lost():
                self.tracks[record.track].gaps[record.number] = _copy(record, Gap)
            case journal.Noted():
                self.notes.append(Note(record.track, record.at_us, record.text))
            case journal.Ruled():
                self.rules.append(_copy(record, ConsentRule))
            case journal.Consented():
                self._consented(record)
            case journal.Admitted():
                self.tracks[record.track].withdrawn = False
            case journal.Closed():
                self.file(record.track, record.file).closed = True
            case journal.Dropped():
                self.tracks[record.track].files.pop(record.file, None)
            case journal.Sealed():
                self._sealed(record)
            case journal.Ended():
                self.ended_us = record.ended_us

    def _consented(self, record: journal.Consented) -> None:
        fact = _copy(record, ConsentFact)
        self.facts.append(fact)
        for track in self.tracks.values() if record.erase else ():
            if fact.covers(track.added.participant, track.added.source):
                track.withdrawn = True
                track.erase |= set(track.files)

    def _sealed(self, record: journal.Sealed) -> None:
        linked = self.linked(record, self.head)
        if record.link not in ("", linked.link):  # journals of earlier versions have none
            self.mislinked.append(record.file)
        file = self.file(record.track, record.file)
        file.sealed = linked
        # Of what is complete only the end is still asked for.
        file.fragments = file.fragments[-1:]
        if record.bytes:
            self.sealed.append(linked)

    def _written(self, record: journal.Written) -> None:
        track = self.tracks[record.track]
        file = track.files[record.file]
        file.fragments.append(Fragment(file.size, record.size, record.time, record.duration, record.keyframe))
        file.size += record.size
        file.units += record.units
        file.keyframes += record.keyframes
        file.sha256 = record.sha256
        file.last = record
        if file.opened.reason == SPILL:
            return
        track.arrivals.setdefault(file.opened.stream, []).append(Arrival(record.rtp, record.arrived_us))


CopyT = TypeVar("CopyT", bound=msgspec.Struct)


def _copy(record: msgspec.Struct, kind: type[CopyT]) -> CopyT:
    """A part of the manifest that has the fields of a record."""
    return kind(**{name: getattr(record, name) for name in kind.__struct_fields__})


def _ended(gap: Gap, ended_us: int) -> Gap:
    """One that goes on ends with the recording."""
    return gap if gap.to_us else msgspec.structs.replace(gap, to_us=max(gap.from_us, ended_us))


def _segment(file: FileState, mapping: list[Point]) -> Segment:
    opened = file.opened
    last_rtp = opened.first_rtp + file.span
    return Segment(
        file=opened.file,
        container=opened.container,
        codec=opened.codec,
        clock_rate=opened.clock_rate,
        ssrc=opened.ssrc,
        width=opened.width,
        height=opened.height,
        reason=opened.reason,
        bytes=file.sealed.bytes if file.sealed else file.size,
        sha256=file.sealed.sha256 if file.sealed else "",
        first_rtp=opened.first_rtp,
        last_rtp=last_rtp,
        first_us=wall_at(mapping, opened.clock_rate, opened.first_rtp),
        last_us=wall_at(mapping, opened.clock_rate, last_rtp),
        units=file.units,
        keyframes=file.keyframes,
        mapping=_around(mapping, opened.first_rtp, last_rtp),
        content=file.sealed.content if file.sealed else msgspec.UNSET,
    )


def _around(mapping: list[Point], first: int, last: int) -> list[Point]:
    """The points from the last one at or before `first` to the first one at or after `last`."""
    start = max((i for i, point in enumerate(mapping) if point.rtp <= first), default=0)
    end = min((i for i, point in enumerate(mapping) if point.rtp >= last), default=len(mapping) - 1)
    return mapping[start : end + 1]
