"""Does a recording still say what it said when it was made?"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from mediaserver.recording import journal, manifest, sidecars
from mediaserver.recording.manifest import Manifest, Segment

REPORT = "report.json"
"""The session report in a recording's folder. It comes after the manifest, so no digest covers it."""


class Problem(msgspec.Struct, frozen=True):
    """`name` is the file's, relative to the recording's folder."""

    kind: Literal["altered", "missing", "added", "open"]
    name: str
    detail: str


class Report(msgspec.Struct, frozen=True):
    """`files` and `bytes` are what was read and found genuine."""

    recording: str
    ok: bool
    files: int
    bytes: int
    problems: list[Problem]


def verify(folder: Path) -> Report:
    """Reads every byte of the recording: seconds for each gigabyte."""
    problems: list[Problem] = []
    kept = _manifest(folder, problems)
    good: list[Segment] = []
    known = {manifest.NAME, REPORT, *sidecars.NAMES}
    for segment in [s for t in kept.tracks for s in t.segments] if kept else []:
        known.add(segment.file)
        problem = _segment(folder, segment)
        if problem:
            problems.append(problem)
        else:
            good.append(segment)
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name == journal.NAME:
            problems.append(Problem("open", path.name, "the recording was not closed; it is when a server starts"))
        elif kept and path.name not in known:
            problems.append(Problem("added", path.name, "the manifest does not know it"))
    return Report(folder.name, not problems, len(good), sum(segment.bytes for segment in good), problems)


def _manifest(folder: Path, problems: list[Problem]) -> Manifest | None:
    try:
        data = (folder / manifest.NAME).read_bytes()
    except OSError as error:
        problems.append(Problem("missing", manifest.NAME, error.strerror or str(error)))
        return None
    try:
        kept = manifest.decode(data)
    except ValueError as error:
        problems.append(Problem("altered", manifest.NAME, str(error)))
        return None
    if not manifest.is_genuine(data, kept):
        problems.append(Problem("altered", manifest.NAME, "its digest is not that of its content"))
    if kept.id != folder.name:
        problems.append(Problem("altered", manifest.NAME, f"it is the manifest of {kept.id}"))
    return kept


def _segment(folder: Path, segment: Segment) -> Problem | None:
    path = folder / segment.file
    if path.parent != folder or path.is_symlink():
        return Problem("altered", segment.file, "not a file of this folder")
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return Problem("missing", segment.file, error.strerror or str(error))
    if size != segment.bytes:
        return Problem("altered", segment.file, f"{size} bytes, not {segment.bytes}")
    if digest != segment.sha256:
        return Problem("altered", segment.file, "its SHA-256 is not that of the manifest")
    return None
