"""What the archive says of a recording to those who look for it."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from mediaserver.recording.manifest import Manifest, Track


class TrackView(msgspec.Struct, frozen=True):
    """A track in a list. `duration_ms` is from its first to its last media, `bytes` that of all its segments."""

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
    gaps: int
    segments: int


class RecordingView(msgspec.Struct, frozen=True):
    """A recording in a list. `started` and `ended` are RFC 3339 in UTC; `ended` is None while it goes on.

    `state` is recording, complete or recovered (closed after a crash).
    """

    id: str
    room: str
    started: str
    ended: str | None
    duration_ms: int
    state: str
    tracks: list[TrackView]


class RecordingList(msgspec.Struct, frozen=True):
    """A page of a list, newest first; `total` counts all that match."""

    total: int
    recordings: list[RecordingView]


def iso(time_us: int) -> str:
    """A Unix time in µs as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(time_us // 1000 / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_iso(text: str) -> int:
    """RFC 3339 (or a date alone; without a zone it is UTC) as a Unix time in µs. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1_000_000)


def view(manifest: Manifest) -> RecordingView:
    return RecordingView(
        id=manifest.id,
        room=manifest.room,
        started=iso(manifest.started_us),
        ended=None if manifest.state == "recording" else iso(manifest.ended_us),
        duration_ms=(manifest.ended_us - manifest.started_us) // 1000,
        state=manifest.state,
        tracks=[_track(track) for track in manifest.tracks],
    )


def _track(track: Track) -> TrackView:
    last = track.segments[-1] if track.segments else None
    return TrackView(
        id=track.id,
        source=track.source,
        kind=track.kind,
        codec=track.codec,
        label=track.label,
        participant=track.participant,
        duration_ms=(last.last_us - track.segments[0].first_us) // 1000 if last else 0,
        bytes=sum(segment.bytes for segment in track.segments),
        width=last.width if last else 0,
        height=last.height if last else 0,
        gaps=len(track.gaps),
        segments=len(track.segments),
    )
