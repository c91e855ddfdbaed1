"""After a crash: close what was open.

A recording whose journal still stands was not finished. Its files are cut to the last fragment that the journal
vouches for, completed like any other, and the manifest is drawn from the journal. Interrupted, it can be done again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mediaserver.recording import journal, manifest
from mediaserver.recording.evidence import NOTHING, SIGNATURE, Evidence
from mediaserver.recording.keys import Trust
from mediaserver.recording.ledger import FileState, Ledger
from mediaserver.recording.replay import replay
from mediaserver.recording.seal import seal_file
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.storage.sealed import SealedFile


def recover_all(storage: LocalStorage, evidence: Evidence = NOTHING) -> tuple[list[manifest.Manifest], list[str]]:
    """Close every recording that a crash has left open. The caller holds the archive's lock.

    Gives what was closed, and in words what could not be: that stays as it is for another time.
    """
    closed: list[manifest.Manifest] = []
    failures: list[str] = []
    for folder in storage.folders():
        if (folder / journal.NAME).exists():
            try:
                kept = recover(storage, folder, evidence)
            except (OSError, ValueError) as error:
                failures.append(f"recording {folder.name} could not be closed: {error}")
            else:
                closed += [kept] if kept else []
    return closed, failures


def recover(storage: LocalStorage, folder: Path, evidence: Evidence = NOTHING) -> manifest.Manifest | None:
    """Close one recording; None when nothing of it has reached the disk. Raises OSError."""
    complete = _complete(folder, evidence)
    if complete is not None:
        evidence.registered(folder.name, complete)
        return _finish(storage, folder, manifest.decode(complete))
    ledger, understood = _read(folder)
    if ledger.begun is None or not ledger.tracks:
        evidence.note("recording-discarded", folder.name)
        _remove_strays(folder, set())
        storage.discard_journal(folder, whole=True)
        return None
    now = ledger.last_media_us()
    if not understood:
        ledger.apply(journal.Noted("", now, "the end of the journal was torn; what it said is not known"))
    if not evidence.has_begun(folder.name):
        ledger.apply(journal.Noted("", now, "the register of the archive has not seen this recording begin"))
    for text in _unsigned(folder, evidence) if evidence.signer is not None else ():
        ledger.apply(journal.Noted("", now, text))
    for text in _changed(storage, folder, ledger):
        ledger.apply(journal.Noted("", now, text))
    for _, file in ledger.unsealed():
        text = _check(storage, folder, file)
        if text:
            ledger.apply(journal.Noted(file.opened.track, now, text))
    for track, spill in ledger.spilled():
        _check(storage, folder, spill)
        replay(storage, folder, ledger, track, spill)
    for _, file in ledger.unsealed():
        ledger.apply(seal_file(storage, folder, file))
    return _finish(
        storage, folder, evidence.close(storage, folder, ledger.manifest("recovered", ledger.last_media_us()))
    )


def _finish(storage: LocalStorage, folder: Path, closed: manifest.Manifest) -> manifest.Manifest:
    """What the manifest does not name has served."""
    _remove_strays(folder, {segment.file for track in closed.tracks for segment in track.segments})
    storage.discard_journal(folder)
    return closed


def _complete(folder: Path, evidence: Evidence) -> bytes | None:
    """The manifest, when the crash came between it and the end of the journal."""
    try:
        data = (folder / manifest.NAME).read_bytes()
        kept = manifest.decode(data)
        if not manifest.is_genuine(data, kept):
            return None
        if evidence.signer is not None:
            signature = (folder / SIGNATURE).read_bytes()
            if evidence.trusted.check(str(kept.key), signature, data) is not Trust.GOOD:
                return None
        return data
    except (OSError, ValueError):
        return None


def _unsigned(folder: Path, evidence: Evidence) -> Iterator[str]:
    """What the signed heads of the journal say against it."""
    with (folder / journal.NAME).open("rb") as stream:
        wrong = journal.check(stream, folder.name, evidence.trusted)
        stream.seek(0)
        count = journal.behind_head(stream)
    if wrong:
        yield f"{journal.ALTERED}: {wrong}"
    elif count:
        yield f"the last {count} lines of the journal stand behind its signed head, as after a crash between the two"


def _changed(storage: LocalStorage, folder: Path, ledger: Ledger) -> list[str]:
    """What is no longer as the journal says that it was completed."""
    texts = [f"the journal's entry of {file} does not follow from those before it" for file in ledger.mislinked]
    for sealed in ledger.sealed:
        stored = storage.open(folder / sealed.file) if (folder / sealed.file).is_file() else None
        if stored is None:
            texts.append(f"{sealed.file} was completed before the crash and is gone")
            continue
        try:
            if stored.size != sealed.bytes or stored.sha256(sealed.bytes) != sealed.sha256:
                texts.append(f"{sealed.file} is not what was completed before the crash")
        finally:
            stored.close()
    return texts


def _read(folder: Path) -> tuple[Ledger, bool]:
    """The ledger as far as the journal can be followed, and whether that is to its end."""
    ledger = Ledger()
    with (folder / journal.NAME).open("rb") as stream:
        reading = journal.Reading(stream)
        for record in reading:
            try:
                ledger.apply(record)
            except ValueError:
                return ledger, False
    return ledger, reading.is_whole


def _check(storage: LocalStorage, folder: Path, file: FileState) -> str:
    """Make `file` say what the disk really holds; gives what there is to note about it, or an empty string."""
    path = folder / file.opened.file
    if not path.exists():
        return _cut(file, 0)
    stored = storage.open_media(path)
    try:
        text = _cut(file, stored.sound() if isinstance(stored, SealedFile) else stored.size)
        if not text and not file.closed and file.fragments and stored.sha256(file.size) != file.sha256:
            return f"{file.opened.file} is not what was written before the crash"
        return text
    finally:
        stored.close()


def _cut(file: FileState, size: int) -> str:
    """Take out the fragments that are not there, when only `size` bytes are."""
    whole = len(file.fragments)
    while file.fragments and file.fragments[-1].offset + file.fragments[-1].size > size:
        fragment = file.fragments.pop()
        file.size = fragment.offset
    if size < file.opened.header:
        file.fragments.clear()
    if len(file.fragments) < whole:
        file.last = None
        return f"{file.opened.file}: {whole - len(file.fragments)} fragments are missing from the disk"
    return ""


def _remove_strays(folder: Path, known: set[str]) -> None:
    """Media that no line of the journal speaks of was on its way to the disk; nothing vouches for it."""
    for path in folder.iterdir():
        if path.suffix in (".mp4", ".webm", ".rtp", ".new") and path.name not in known:
            path.unlink()
