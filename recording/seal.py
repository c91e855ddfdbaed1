"""Completing media files: from one that has grown to one that a player can seek in, hashed as a whole."""

from __future__ import annotations

from pathlib import Path

from mediaserver.recording import journal, muxer
from mediaserver.recording.ledger import FileState
from mediaserver.recording.storage import LocalStorage


def seal_file(storage: LocalStorage, folder: Path, file: FileState) -> journal.Sealed:
    """Complete one file; doing it again after an interruption gives the same bytes. A file without media goes.

    It reads the file once, about a second for each gigabyte. Raises OSError.
    """
    opened = file.opened
    path = folder / opened.file
    if not file.fragments:
        path.unlink(missing_ok=True)
        return journal.Sealed(opened.track, opened.file, 0, "")
    growing = storage.open_media(path)
    try:
        head = growing.read(opened.header, 0)
    finally:
        growing.close()
    patches, tail = muxer.complete(opened.container, head, opened.clock_rate, file.fragments)
    size, sha256, content = storage.seal(path, patches, tail, file.size)
    return journal.Sealed(opened.track, opened.file, size, sha256, content=content)
