"""Does a recording still say what it said when it was made?"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from mediaserver.recording import (
    additions,
    chain,
    journal,
    manifest,
    sidecars,
    signed,
    supplement,
    timestamp,
    views,
    withdrawn,
)
from mediaserver.recording import decision as decisions
from mediaserver.recording.evidence import SIGNATURE, TIME_STAMP
from mediaserver.recording.keys import Trust, TrustedKeys
from mediaserver.recording.manifest import Content, Manifest, Segment
from mediaserver.recording.problem import Kind, Problem
from mediaserver.recording.register import Entry
from mediaserver.recording.storage import LocalStorage, Reader, Storage
from mediaserver.recording.storage import keys as wrapped
from mediaserver.recording.storage.face import MARK, MissingKey, Unreadable

__all__ = ["REPORT", "Checks", "Problem", "Report", "verify"]

_CHUNK = 4 << 20
_BESIDE = (manifest.NAME, SIGNATURE, supplement.NAME, wrapped.NAME, wrapped.TOMBSTONE, wrapped.CLAIMED, MARK)

REPORT = "report.json"
"""The session report in a recording's folder. It comes after the manifest: the supplement covers it."""


class Report(msgspec.Struct, frozen=True):
    """`files` and `bytes` are the media that was read and found genuine. `opened` of the files are encrypted and were
    decrypted as well, with the content that was recorded; without their key it is the stored bytes alone that are
    genuine."""

    recording: str
    ok: bool
    files: int
    bytes: int
    problems: list[Problem]
    signed_by: str = ""
    """The id of the trusted key that has signed the manifest."""
    time_stamp: str = ""
    """When a time-stamping authority had seen the manifest (RFC 3339)."""
    notes: list[str] = []
    """What is no fault of the recording but should be known."""
    opened: int = 0


@dataclass(frozen=True, slots=True)
class Checks:
    """What a recording is held against: `entry` is what the archive's register has of it, where there is one."""

    trusted: TrustedKeys = field(default_factory=TrustedKeys)
    signed: bool = False
    """What is not signed at all is a fault."""
    entry: Entry | None = None
    registered: bool = False
    """The archive has a register, so that there should be an entry."""


@dataclass(slots=True)
class _Findings:
    folder: Path
    checks: Checks
    storage: Storage
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=lambda: {*_BESIDE, *sidecars.NAMES, sidecars.ADDITIONS})
    signed_by: str = ""
    time_stamp: str = ""
    opened: int = 0

    def add(self, kind: Kind, name: str, detail: str) -> None:
        self.problems.append(Problem(kind, name, detail))

    def is_registered(self, data: bytes) -> bool:
        """The register has exactly this manifest."""
        return self.checks.entry is not None and self.checks.entry.manifest == hashlib.sha256(data).hexdigest()

    def read(self, name: str) -> bytes | None:
        """A file of the folder, None where there is none."""
        path = self.folder / name
        try:
            if path.is_symlink():
                self.add("altered", name, "a link, not a file of this folder")
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.add("missing", name, error.strerror or str(error))
            return None


def verify(folder: Path, checks: Checks = Checks(), storage: Storage | None = None) -> Report:
    """Reads every byte of the recording: seconds for each gigabyte.

    `storage` is where its media lie and what may know their keys; without one they are files of `folder`. Raises
    OSError when the store can't be asked.
    """
    found = _Findings(folder, checks, storage or LocalStorage(folder.parent))
    if (folder / wrapped.DISPOSED).exists():
        return _disposed(found)
    kept = _manifest(found)
    segments = [segment for track in kept.tracks for segment in track.segments] if kept else []
    good = list(_segments(found, segments, _withdrawn(found)))
    if kept:
        _chain(found, kept, segments)
        found.problems += [
            Problem("altered", journal.NAME, note.text) for note in kept.notes if note.text.startswith(journal.ALTERED)
        ]
    _supplement(found, kept)
    _additions(found)
    _time_stamp(found)
    _strays(found, kept)
    _register(found)
    return Report(
        folder.name,
        not found.problems,
        len(good),
        sum(segment.bytes for segment in good),
        found.problems,
        found.signed_by,
        found.time_stamp,
        found.notes,
        found.opened,
    )


def _disposed(found: _Findings) -> Report:
    """Nothing but the decision should be there."""
    name, entry = wrapped.DISPOSED, found.checks.entry
    data = found.read(name) or b""
    try:
        decision = decisions.decode(data)
    except ValueError as error:
        found.add("altered", name, str(error))
    else:
        if decision.recording != found.folder.name:
            found.add("swapped", name, f"it is the disposal of {decision.recording}")
        match signed.check(decision, found.checks.trusted):
            case Trust.UNKNOWN if found.checks.signed and not decision.key:
                found.add("unsigned", name, "no key has signed it")
            case Trust.UNKNOWN if decision.key:
                found.add("unknown-key", name, f"it names the key {decision.key}, which is not trusted here")
            case Trust.BAD:
                found.add("altered", name, f"{decision.key} has not signed it")
            case _:
                found.signed_by = decision.key
        found.notes.append(decision.words)
    others = sorted(path.name for path in found.folder.iterdir() if path.name != name)
    if manifest.NAME in others:
        found.add("open", name, "its disposal was interrupted; it goes on when a server starts")
    else:
        if found.checks.registered and not (entry and entry.disposed):
            found.add("missing", manifest.NAME, "the register of the archive has no disposal of it")
        elif entry and entry.disposed != hashlib.sha256(data).hexdigest():
            found.add("altered", name, "it is not the one that the register has")
        for other in others:
            found.add("added", other, "the recording was disposed of")
    problems = found.problems
    return Report(found.folder.name, not problems, 0, 0, problems, found.signed_by, notes=found.notes)


def _manifest(found: _Findings) -> Manifest | None:
    name = manifest.NAME
    data = found.read(name)
    if data is None:
        found.add("missing", name, "there is no manifest")
        return None
    try:
        kept = manifest.decode(data)
    except ValueError as error:
        found.add("altered", name, str(error))
        kept = None
    if kept and not manifest.is_genuine(data, kept):
        found.add("altered", name, "its digest is not that of its content")
    if kept and kept.id != found.folder.name:
        found.add("swapped", name, f"it is the manifest of {kept.id}")
    if kept:
        _signature(found, kept, data)
    entry = found.checks.entry
    if entry and entry.manifest and not found.is_registered(data):
        found.add("altered", name, "it is not the one that the register has")
    return kept


def _signature(found: _Findings, kept: Manifest, data: bytes) -> None:
    signature, key = found.read(SIGNATURE), kept.key
    if key is msgspec.UNSET:
        _unsigned(found, signature)
        return
    if signature is None:
        found.add("unsigned", manifest.NAME, f"{SIGNATURE}, by which {key} has signed it, is missing")
        return
    match found.checks.trusted.check(key, signature, data):
        case Trust.GOOD:
            found.signed_by = key
        case Trust.BAD if found.is_registered(data):
            found.add("altered", SIGNATURE, f"it is not the signature of {manifest.NAME} by {key}")
        case Trust.BAD:
            found.add("altered", manifest.NAME, f"it or {SIGNATURE}: {key} has not signed these bytes")
        case Trust.UNKNOWN:
            found.add("unknown-key", manifest.NAME, f"it names the key {key}, which is not trusted here")


def _unsigned(found: _Findings, signature: bytes | None) -> None:
    entry = found.checks.entry
    if signature is not None:
        found.add("altered", manifest.NAME, f"it names no key, but there is a {SIGNATURE}")
    elif entry and entry.adopted and not entry.closed:
        found.notes.append(f"unsigned: it is older than the keys; the register has its manifest since {entry.adopted}")
    elif found.checks.signed:
        found.add("unsigned", manifest.NAME, "no key has signed it")


def _withdrawn(found: _Findings) -> set[str]:
    """The files that were erased. That nobody has forged the list is the supplement's to say."""
    data = found.read(withdrawn.NAME)
    if data is None:
        return set()
    try:
        erased = withdrawn.decode(data)
    except ValueError as error:
        found.add("altered", withdrawn.NAME, str(error))
        return set()
    if erased.recording != found.folder.name:
        found.add("swapped", withdrawn.NAME, f"it is of recording {erased.recording}")
        return set()
    found.notes += [f"{one.file} was erased on {views.iso(one.erased_us)[:10]}: {one.reason}" for one in erased.files]
    return {one.file for one in erased.files}


def _segments(found: _Findings, segments: list[Segment], erased: set[str]) -> Iterator[Segment]:
    """The genuine ones; what is wrong with the others is added."""
    by_hash = {segment.sha256: segment.file for segment in segments}
    for segment in segments:
        found.known.add(segment.file)
        if segment.file in erased:
            _gone(found, segment)
            continue
        path = found.folder / segment.file
        if path.parent != found.folder or path.is_symlink():
            found.add("altered", segment.file, "not a file of this folder")
            continue
        try:
            size, digest = _digest(found.storage.stored(found.folder, segment))
        except FileNotFoundError as error:
            found.add("missing", segment.file, error.strerror or str(error))
            continue
        if digest == segment.sha256 and size == segment.bytes:
            if segment.content is msgspec.UNSET or _content(found, segment, segment.content):
                yield segment
        elif digest in by_hash:
            found.add("swapped", segment.file, f"it is what the manifest has as {by_hash[digest]}")
        elif size != segment.bytes:
            found.add("altered", segment.file, f"{size} bytes, not {segment.bytes}")
        else:
            found.add("altered", segment.file, "its SHA-256 is not that of the manifest")


def _gone(found: _Findings, segment: Segment) -> None:
    try:
        found.storage.stored(found.folder, segment).close()
    except FileNotFoundError:
        return
    found.add("added", segment.file, f"{withdrawn.NAME} says that it was erased")


def _content(found: _Findings, segment: Segment, content: Content) -> bool:
    """Whether the plaintext of a file whose stored bytes are genuine is as well, as far as its key is at hand."""
    try:
        reader = found.storage.media(found.folder, segment)
        genuine = _digest(reader) == (content.bytes, content.sha256)
    except MissingKey:
        return True
    except Unreadable as error:
        found.add("altered", segment.file, str(error))
        return False
    found.opened += genuine
    if not genuine:
        found.add("altered", segment.file, "its content is not that of the manifest")
    return genuine


def _digest(reader: Reader) -> tuple[int, str]:
    """Size and SHA-256; closes the reader."""
    digest = hashlib.sha256()
    try:
        for offset in range(0, reader.size, _CHUNK):
            digest.update(reader.read(_CHUNK, offset))
        return reader.size, digest.hexdigest()
    finally:
        reader.close()


def _chain(found: _Findings, kept: Manifest, segments: list[Segment]) -> None:
    """The manifest's own account of its files."""
    if kept.chain is msgspec.UNSET:
        return
    facts = {segment.file: (segment.file, segment.bytes, segment.sha256) for segment in segments}
    if sorted(facts) != sorted(kept.chain.files):
        found.add("altered", manifest.NAME, "its chain is over other files than its tracks have")
    elif chain.follow(kept.id, (facts[name] for name in kept.chain.files)) != kept.chain.head:
        found.add("altered", manifest.NAME, "its chain does not end in the head that it names")


def _supplement(found: _Findings, kept: Manifest | None) -> None:
    name, entry = supplement.NAME, found.checks.entry
    data = found.read(name)
    if data is None:
        if entry and entry.supplement:
            found.add("missing", name, "the register has one")
        return
    if entry and hashlib.sha256(data).hexdigest() != entry.supplement:
        found.add("altered", name, "it is not the one that the register has")
    try:
        added = supplement.decode(data)
    except ValueError as error:
        found.add("altered", name, str(error))
        return
    if added.recording != found.folder.name or (kept and added.manifest != kept.digest):
        found.add("swapped", name, f"it belongs to another manifest, of {added.recording}")
    match supplement.check(added, found.checks.trusted):
        case Trust.UNKNOWN if not added.key and not added.signature:
            if found.checks.signed:
                found.add("unsigned", name, "no key has signed it")
        case Trust.UNKNOWN:
            found.add("unknown-key", name, f"it names the key {added.key}, which is not trusted here")
        case Trust.BAD:
            found.add("altered", name, f"{added.key} has not signed it")
        case Trust.GOOD:
            pass
    for addition in added.files:
        found.known.add(addition.name)
        content = found.read(addition.name) if Path(addition.name).name == addition.name else None
        if content is None:
            found.add("missing", addition.name, "the supplement has it")
        elif hashlib.sha256(content).hexdigest() != addition.sha256:
            found.add("altered", addition.name, "its SHA-256 is not that of the supplement")


def _additions(found: _Findings) -> None:
    checks = found.checks
    registered = checks.entry.additions if checks.entry else None
    found.problems += additions.problems(found.folder, checks.trusted, signs=checks.signed, registered=registered)


def _time_stamp(found: _Findings) -> None:
    stamp, data = found.read(TIME_STAMP), found.read(manifest.NAME)
    if stamp is None or data is None:
        return
    try:
        found.time_stamp = timestamp.check(stamp, data, found.checks.trusted.authorities)
    except timestamp.NoLibrary as error:
        found.notes.append(f"{TIME_STAMP} was not checked: {error}")
    except timestamp.TimeStampError as error:
        found.add("time-stamp", TIME_STAMP, str(error))


def _strays(found: _Findings, kept: Manifest | None) -> None:
    for path in sorted(found.folder.iterdir()) if found.folder.is_dir() else []:
        if path.name == journal.NAME:
            found.add("open", path.name, "the recording was not closed; it is when a server starts")
            if found.checks.signed:
                _journal(found)
        elif kept and path.name == REPORT and path.name not in found.known and kept.chain is msgspec.UNSET:
            found.notes.append(f"{path.name} is older than supplements: nothing covers it")
        elif kept and path.name not in found.known:
            found.add("added", path.name, "neither the manifest nor the supplement knows it")


def _journal(found: _Findings) -> None:
    with contextlib.suppress(FileNotFoundError), (found.folder / journal.NAME).open("rb") as stream:
        if wrong := journal.check(stream, found.folder.name, found.checks.trusted):
            found.add("altered", journal.NAME, wrong)


def _register(found: _Findings) -> None:
    checks = found.checks
    if checks.registered and checks.entry is None:
        found.add("added", found.folder.name, "the register of the archive does not know it")
    elif checks.entry and checks.entry.gone:
        found.add("added", found.folder.name, f"the register says that it was {checks.entry.gone}")
