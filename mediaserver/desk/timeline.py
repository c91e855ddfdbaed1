"""Everything of a recording on one time, which begins with it: files, gaps, and what the viewers missed.

Made from the manifest and from the report of the session. Offsets and durations are in ms.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from mediaserver.recording import views
from mediaserver.recording.manifest import Manifest, Segment, Track
from mediaserver.recording.placing import Place, places
from mediaserver.recording.views import ConsentView
from mediaserver.reports.session import SessionReport
from mediaserver.reports.spells import Spell, SpellsSection

MARKS = 10_000
"""Of one recording; what comes after is counted in `omitted`."""

MarkKind = Literal["gap", "floor", "stale", "sound"]


class TimelineSegment(msgspec.Struct, frozen=True, kw_only=True):
    """A file: `n` as in the address of its media. `type` is its media type with its codec (RFC 6381), as
    `canPlayType` takes it. `places` are pairs of media time and offset, straight between two of them."""

    n: int
    type: str
    width: int
    height: int
    offset_ms: float
    duration_ms: float
    frame_ms: float
    """The mean time between two pictures; 0 for sound."""
    reason: str
    places: list[Place]


class TimelineTrack(msgspec.Struct, frozen=True, kw_only=True):
    """`name` is that of the participant who published it."""

    id: str
    source: str
    kind: str
    codec: str
    label: str
    participant: str
    name: str
    width: int
    height: int
    bytes: int
    segments: list[TimelineSegment]


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A span of a track that an archivist should know of.

    gap: not recorded; floor: a viewer got less than the source's floor (`participant` says who); stale: nothing new
    came, or the same picture again and again; sound: a clinical sound was altered on its way. `cause` is the
    manifest's or the report's word for it.
    """

    kind: MarkKind
    track: str
    offset_ms: float
    duration_ms: float
    cause: str
    participant: str = ""


class BookmarkView(msgspec.Struct, frozen=True, kw_only=True):
    """A bookmark; `made` is RFC 3339 in UTC."""

    id: str
    at_ms: float
    track: str
    text: str
    by: str
    made: str


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """`started` is RFC 3339 in UTC. `report` tells whether there is a session report: without one only gaps are
    known."""

    recording: str
    room: str
    state: str
    started: str
    duration_ms: float
    tracks: list[TimelineTrack]
    marks: list[Mark]
    omitted: int
    bookmarks: list[BookmarkView]
    consents: list[ConsentView]
    report: bool


def timeline(
    kept: Manifest,
    report: SessionReport | None,
    bookmarks: list[BookmarkView],
    consents: list[ConsentView] | None = None,
) -> Timeline:
    """The timeline of a recording; without a report of its session only gaps are marked."""
    names = {participant.id: participant.name for participant in kept.participants}
    marks = [*_gaps(kept), *(_reported(kept, report) if report is not None else ())]
    marks.sort(key=lambda mark: (mark.offset_ms, mark.track))
    return Timeline(
        recording=kept.id,
        room=kept.room,
        state=kept.state,
        started=views.iso(kept.started_us),
        duration_ms=(kept.ended_us - kept.started_us) / 1000,
        tracks=[_track(track, names.get(track.participant, ""), kept.started_us) for track in kept.tracks],
        marks=marks[:MARKS],
        omitted=max(0, len(marks) - MARKS),
        bookmarks=sorted(bookmarks, key=lambda bookmark: bookmark.at_ms),
        consents=consents or [],
        report=report is not None,
    )


def _track(track: Track, name: str, started_us: int) -> TimelineTrack:
    last = track.segments[-1] if track.segments else None
    return TimelineTrack(
        id=track.id,
        source=track.source,
        kind=track.kind,
        codec=track.codec,
        label=track.label,
        participant=track.participant,
        name=name,
        width=last.width if last else 0,
        height=last.height if last else 0,
        bytes=sum(segment.bytes for segment in track.segments),
        segments=[_segment(n, segment, started_us) for n, segment in enumerate(track.segments) if segment.mapping],
    )


def _segment(n: int, segment: Segment, started_us: int) -> TimelineSegment:
    points = places(segment, started_us)
    length = points[-1][0]
    return TimelineSegment(
        n=n,
        type=media_type(segment),
        width=segment.width,
        height=segment.height,
        offset_ms=points[0][1],
        duration_ms=points[-1][1] - points[0][1],
        frame_ms=round(length / segment.units, 3) if segment.width and segment.units else 0.0,
        reason=segment.reason,
        places=points,
    )


_CODECS = {
    "H264": "avc1.64001f",
    "H265": "hvc1.1.6.L93.B0",
    "AV1": "av01.0.08M.08",
    "VP8": "vp8",
    "VP9": "vp09.00.31.08",
    "opus": "opus",
}
"""What a decoder must know of each codec at the sizes that are met here, as RFC 6381 and its like write it."""


def media_type(segment: Segment) -> str:
    """The media type of a file with the codec that it holds."""
    kind = "audio" if segment.codec == "opus" else "video"
    return f'{kind}/{segment.container}; codecs="{_CODECS.get(segment.codec, segment.codec.lower())}"'


def _gaps(kept: Manifest) -> Iterator[Mark]:
    for track in kept.tracks:
        for gap in track.gaps:
            mark = _mark(kept, "gap", track.id, gap.from_us, gap.to_us, gap.cause)
            if mark is not None:
                yield mark


def _reported(kept: Manifest, report: SessionReport) -> Iterator[Mark]:
    known = {track.id for track in kept.tracks}
    for view in report.views:
        for breach in view.breaches if view.track in known else ():
            span = _span(kept, breach.began, breach.ended)
            mark = _mark(kept, "floor", view.track, *span, breach.state, view.participant)
            if mark is not None:
                yield mark
    kinds: tuple[tuple[str, MarkKind], ...] = (("freshness", "stale"), ("sound", "sound"))
    for name, kind in kinds:
        for spell in _spells(report.sections.get(name)):
            if spell.track in known:
                cause = f"{spell.state}:{spell.cause}" if spell.cause else spell.state
                mark = _mark(kept, kind, spell.track, *_span(kept, spell.began, spell.ended), cause)
                if mark is not None:
                    yield mark


def _spells(section: Any) -> list[Spell]:
    try:
        return msgspec.convert(section, SpellsSection).spells
    except msgspec.ValidationError:
        return []  # none, or written by another version


def _span(kept: Manifest, began: str, ended: str | None) -> tuple[int, int]:
    return views.from_iso(began), views.from_iso(ended) if ended is not None else kept.ended_us


def _mark(
    kept: Manifest, kind: MarkKind, track: str, from_us: int, to_us: int, cause: str, participant: str = ""
) -> Mark | None:
    """None where it lies outside of the recording."""
    begin, end = max(from_us, kept.started_us), min(to_us, kept.ended_us)
    if end < begin:
        return None
    return Mark(
        kind=kind,
        track=track,
        offset_ms=(begin - kept.started_us) / 1000,
        duration_ms=(end - begin) / 1000,
        cause=cause,
        participant=participant,
    )
