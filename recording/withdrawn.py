"""What of a recording was erased since consent to it was withdrawn: `withdrawn.json`, beside its manifest.

The manifest is not touched: it still names the files, with their hashes, and the list of what is to be erased. This one
says which are gone, when and why; the signed supplement covers it. It is canonical JSON, never encrypted: it names
nobody, and what is erased must be known without a key.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from mediaserver.recording.manifest import Gap, Manifest, Segment, Track

VERSION = 1
NAME = "withdrawn.json"
CAUSE = "withdrawn"


class Erasure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One media file; `erased_us` is a Unix time in µs."""

    file: str
    sha256: str
    erased_us: int
    reason: str


class Withdrawn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    recording: str
    files: list[Erasure]


def encode(withdrawn: Withdrawn) -> bytes:
    """The one way to write it."""
    return msgspec.json.format(msgspec.json.encode(withdrawn), indent=1) + b"\n"


def decode(data: bytes) -> Withdrawn:
    """Raises ValueError when it is not one of this version."""
    try:
        found = msgspec.json.decode(data, type=Withdrawn)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{NAME} can't be read: {error}") from error
    if found.version != VERSION:
        raise ValueError(f"{NAME} is of version {found.version}, not {VERSION}")
    return found


def load(folder: Path) -> list[Erasure]:
    """What was erased of a recording. Raises OSError and ValueError."""
    try:
        return decode((folder / NAME).read_bytes()).files
    except FileNotFoundError:
        return []


def what_is_left(kept: Manifest, folder: Path) -> Manifest:
    """The manifest without what was erased, and gaps in its place; it is not the one that was signed any more.

    A list that can't be read erases nothing: `verify` says what is wrong with it.
    """
    try:
        gone = {one.file for one in load(folder)}
    except (OSError, ValueError):
        return kept
    return without(kept, gone) if gone else kept


def without(kept: Manifest, gone: Iterable[str]) -> Manifest:
    files = frozenset(gone)
    tracks = [_without(track, files) for track in kept.tracks]
    return msgspec.structs.replace(kept, tracks=tracks)


def to_erase(kept: Manifest) -> list[str]:
    """The files that were to be erased when the manifest was closed."""
    return [] if kept.consent is msgspec.UNSET else kept.consent.erase


def _without(track: Track, files: frozenset[str]) -> Track:
    gone = [segment for segment in track.segments if segment.file in files]
    if not gone:
        return track
    left = [segment for segment in track.segments if segment.file not in files]
    gaps = sorted([*track.gaps, *map(_gap, gone)], key=lambda gap: gap.from_us)
    return msgspec.structs.replace(track, segments=left, gaps=gaps)


def _gap(segment: Segment) -> Gap:
    return Gap(CAUSE, segment.ssrc, 0, 0, 0, segment.units, segment.first_us, segment.last_us)
