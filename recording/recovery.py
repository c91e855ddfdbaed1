"""After a crash: close what was open.

A recording whose journal still stands was not finished. Its files are cut to the last fragment that the journal
vouches for, completed like any other, and the manifest is drawn from the journal. Interrupted, it can be done again.
"""

from __future__ import annotations

from pathlib import Path

from mediaserver.recording import journal, manifest
from mediaserver.recording.ledger import FileState, Ledger
from mediaserver.recording.seal import seal_file
from mediaserver.recording.storage import LocalStorage


def recover_all(storage: LocalStorage) -> tuple[list[manifest.Manifest], list[str]]:
    """Close every recording that a crash has left open. The caller holds the archive's lock.

    Gives what was closed, and in words what could not be: that stays as it is for another time.
    """
    closed: list[manifest.Manifest] = []
    failures: list[str] = []
    for folder in storage.folders():
        if (folder / journal.NAME).exists():
            try:
                kept = recover(storage, folder)
            except (OSError, ValueError) as error:
                failures.append(f"recording {folder.name} could not be closed: {error}")
            else:
                closed += [kept] if kept else []
    return closed, failures


def recover(storage: LocalStorage, folder: Path) -> manifest.Manifest | None:
    """Close one recording; None when nothing of it has reached the disk. Raises OSError."""
    if _is_complete(folder):
        storage.discard_journal(folder)
        return manifest.decode((folder / manifest.NAME).read_bytes())
    ledger, understood = _read(folder)
    if ledger.begun is None or not ledger.tracks:
        _remove_strays(folder, set())
        storage.discard_journal(folder, whole=True)
        return None
    now = ledger.last_media_us()
    if not understood:
        ledger.apply(journal.Noted("", now, "the end of the journal was torn; what it said is not known"))
    for _, file in ledger.unsealed():
        text = _check(folder, file)
        if text:
            ledger.apply(journal.Noted(file.opened.track, now, text))
        ledger.apply(seal_file(storage, folder, file))
    _remove_strays(folder, {name for track in ledger.tracks.values() for name in track.files})
    closed = manifest.seal(ledger.manifest("recovered", ledger.last_media_us()))
    storage.write_atomic(folder / manifest.NAME, manifest.encode(closed))
    storage.discard_journal(folder)
    return closed


def _is_complete(folder: Path) -> bool:
    """The crash came between the manifest and the end of the journal."""
    path = folder / manifest.NAME
    try:
        data = path.read_bytes()
        return manifest.is_genuine(data, manifest.decode(data))
    except (OSError, ValueError):
        return False


def _read(folder: Path) -> tuple[Ledger, bool]:
    """The ledger as far as the journal can be followed, and whether that is to its end."""
    data = (folder / journal.NAME).read_bytes()
    records = journal.decode(data)
    ledger = Ledger()
    for record in records:
        try:
            ledger.apply(record)
        except ValueError:
            return ledger, False
    return ledger, len(records) == data.count(b"\n") and (not data or data.endswith(b"\n"))


def _check(folder: Path, file: FileState) -> str:
    """Make `file` say what the disk really holds; gives what there is to note about it, or an empty string."""
    path = folder / file.opened.file
    size = path.stat().st_size if path.exists() else 0
    whole = len(file.fragments)
    while file.fragments and file.fragments[-1].offset + file.fragments[-1].size > size:
        fragment = file.fragments.pop()
        file.size = fragment.offset
    if size < file.opened.header:
        file.fragments.clear()
    if len(file.fragments) < whole:
        return f"{file.opened.file}: {whole - len(file.fragments)} fragments are missing from the disk"
    if not file.closed and file.fragments and not _is_untouched(path, file):
        return f"{file.opened.file} is not what was written before the crash"
    return ""


def _is_untouched(path: Path, file: FileState) -> bool:
    stored = LocalStorage(path.parent).open(path)
    try:
        return stored.sha256(file.size) == file.sha256
    finally:
        stored.close()


def _remove_strays(folder: Path, known: set[str]) -> None:
    """Media that no line of the journal speaks of was on its way to the disk; nothing vouches for it."""
    for path in folder.iterdir():
        if path.suffix in (".mp4", ".webm", ".new") and path.name not in known:
            path.unlink()
