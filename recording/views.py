"""What the archive says of a recording to those who look for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from mediaserver.recording.manifest import Gap, Manifest, Note, Participant, Segment, Track
from mediaserver.recording.sidecars import Identifiers, Sidecars

CONSENT_SCOPE = "recording"
"""What consents in the catalog are for, beside others that people write down."""


class _Track(msgspec.Struct, frozen=True, kw_only=True):
    """`duration_ms` is from its first to its last media, `bytes` that of all its files."""

    id: str
    source: str
    kind: str
    codec: str
    label: str
    participant: str
    duration_ms: int
    bytes: int
    width: int
    height: int


class TrackView(_Track, frozen=True, kw_only=True):
    """A track in a list; `gaps` and `segments` are how many there are."""

    gaps: int
    segments: int


class SegmentView(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a track; `n` counts from 0. `offset_ms` is from the recording's start to its first media."""

    n: int
    file: str
    container: str
    codec: str
    offset_ms: int
    duration_ms: int
    bytes: int
    sha256: str
    width: int
    height: int
    units: int
    reason: str


class GapView(msgspec.Struct, frozen=True, kw_only=True):
    """What is missing from a track, from `offset_ms` after the recording's start on; see `manifest.Gap`."""

    cause: str
    offset_ms: int
    duration_ms: int
    packets: int
    skipped: int


class TrackDetail(_Track, frozen=True, kw_only=True):
    """A track with its files and gaps. `offset_ms` is from the recording's start to its first media."""

    offset_ms: int
    gaps: list[GapView]
    segments: list[SegmentView]


class _Recording(msgspec.Struct, frozen=True, kw_only=True):
    """`started` and `ended` are RFC 3339 in UTC; `ended` is None while it goes on.

    `state` is recording, complete or recovered (closed after a crash).
    """

    id: str
    room: str
    started: str
    ended: str | None
    duration_ms: int
    state: str


class RecordingView(_Recording, frozen=True, kw_only=True):
    """A recording in a list; `held`: it must not be disposed of. `retention` is the class that it was given."""

    tracks: list[TrackView]
    identifiers: Identifiers | None = None
    held: bool = False
    retention: str = ""


class ConsentRuleView(msgspec.Struct, frozen=True, kw_only=True):
    """Whose tracks went in from `offset_ms` on, and the text that participants were shown; see
    `manifest.ConsentRule`."""

    whose: str
    withdrawal: str
    version: str
    text: str
    offset_ms: int


class ConsentView(msgspec.Struct, frozen=True, kw_only=True):
    """What a participant said; see `manifest.ConsentFact`. `at` is RFC 3339; `offset_ms` is negative for what was said
    before the recording began. `participant` is empty where it was written down later, by `witness`. `sources`: all
    that is agreed to, or what the no is about; empty: everything."""

    participant: str
    name: str
    state: str
    by: str
    witness: str
    version: str
    at: str
    offset_ms: int
    note: str = ""
    sources: list[str] = []


class RecordingDetail(_Recording, frozen=True, kw_only=True):
    """A recording with all that its manifest says, and what was said to it later."""

    tracks: list[TrackDetail]
    participants: list[Participant]
    notes: list[Note]
    consent_rules: list[ConsentRuleView]
    consents: list[ConsentView]
    software: str
    digest: str


class RecordingList(msgspec.Struct, frozen=True):
    """A page of a list, newest first. `total` counts all that match, or with `at_least` so many and more; `cursor` is
    where the next page begins, empty for the last one."""

    total: int
    recordings: list[RecordingView]
    at_least: bool = False
    cursor: str = ""


def iso(time_us: int) -> str:
    """A Unix time in µs as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(time_us // 1000 / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_iso(text: str) -> int:
    """RFC 3339 (or a date alone; without a zone it is UTC) as a Unix time in µs. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1_000_000)


def view(manifest: Manifest, sidecars: Sidecars | None = None) -> RecordingView:
    """As it stands in a list."""
    return RecordingView(
        **_recording(manifest),
        tracks=[
            TrackView(**_track(track), gaps=len(track.gaps), segments=len(track.segments)) for track in manifest.tracks
        ],
        identifiers=sidecars.identifiers if sidecars else None,
        held=sidecars is not None and sidecars.held,
        retention=sidecars.retention.into if sidecars and sidecars.retention else "",
    )


def detail(manifest: Manifest, sidecars: Sidecars | None = None) -> RecordingDetail:
    """With its files, gaps and consents."""
    return RecordingDetail(
        **_recording(manifest),
        tracks=[_track_detail(track, manifest.started_us) for track in manifest.tracks],
        participants=manifest.participants,
        notes=manifest.notes,
        consent_rules=consent_rules(manifest),
        consents=consents(manifest, sidecars or Sidecars()),
        software=manifest.software,
        digest=manifest.digest,
    )


def consent_rules(manifest: Manifest) -> list[ConsentRuleView]:
    """None for a recording of an earlier version."""
    rules = [] if manifest.consent is msgspec.UNSET else manifest.consent.rules
    return [
        ConsentRuleView(
            whose=rule.whose,
            withdrawal=rule.withdrawal,
            version=rule.version,
            text=rule.text,
            offset_ms=(rule.from_us - manifest.started_us) // 1000,
        )
        for rule in rules
    ]


def consents(manifest: Manifest, sidecars: Sidecars) -> list[ConsentView]:
    """By the participants while it was made, and those written down later, in the order of their time."""
    names = {participant.id: participant.name for participant in manifest.participants}
    facts = [] if manifest.consent is msgspec.UNSET else manifest.consent.facts
    started_us = manifest.started_us
    said = [
        ConsentView(
            participant=fact.participant,
            name=names.get(fact.participant, ""),
            state=fact.state,
            by=fact.by,
            witness=fact.witness,
            version=fact.version,
            at=iso(fact.at_us),
            offset_ms=(fact.at_us - started_us) // 1000,
            sources=[] if fact.sources is msgspec.UNSET else fact.sources,
        )
        for fact in facts
    ] + [
        ConsentView(
            participant="",
            name=one.subject,
            state="given" if one.given else "withdrawn",
            by="archive",
            witness=one.by,
            version="",
            at=iso(one.at_us),
            offset_ms=(one.at_us - started_us) // 1000,
            note=one.note,
            sources=one.sources,
        )
        for one in sidecars.consents
        if one.scope == CONSENT_SCOPE
    ]
    return sorted(said, key=lambda one: one.offset_ms)


def _recording(manifest: Manifest) -> dict[str, Any]:
    return {
        "id": manifest.id,
        "room": manifest.room,
        "started": iso(manifest.started_us),
        "ended": None if manifest.state == "recording" else iso(manifest.ended_us),
        "duration_ms": (manifest.ended_us - manifest.started_us) // 1000,
        "state": manifest.state,
    }


def _track(track: Track) -> dict[str, Any]:
    last = track.segments[-1] if track.segments else None
    return {
        "id": track.id,
        "source": track.source,
        "kind": track.kind,
        "codec": track.codec,
        "label": track.label,
        "participant": track.participant,
        "duration_ms": (last.last_us - track.segments[0].first_us) // 1000 if last else 0,
        "bytes": sum(segment.bytes for segment in track.segments),
        "width": last.width if last else 0,
        "height": last.height if last else 0,
    }


def _track_detail(track: Track, started_us: int) -> TrackDetail:
    return TrackDetail(
        **_track(track),
        offset_ms=(track.segments[0].first_us - started_us) // 1000 if track.segments else 0,
        gaps=[_gap(gap, started_us) for gap in track.gaps],
        segments=[_segment(n, segment, started_us) for n, segment in enumerate(track.segments)],
    )


def _gap(gap: Gap, started_us: int) -> GapView:
    return GapView(
        cause=gap.cause,
        offset_ms=(gap.from_us - started_us) // 1000,
        duration_ms=(gap.to_us - gap.from_us) // 1000,
        packets=gap.packets,
        skipped=gap.skipped,
    )


def _segment(n: int, segment: Segment, started_us: int) -> SegmentView:
    return SegmentView(
        n=n,
        file=segment.file,
        container=segment.container,
        codec=segment.codec,
        offset_ms=(segment.first_us - started_us) // 1000,
        duration_ms=(segment.last_us - segment.first_us) // 1000,
        bytes=segment.bytes,
        sha256=segment.sha256,
        width=segment.width,
        height=segment.height,
        units=segment.units,
        reason=segment.reason,
    )
