"""The files of one recording while they grow: entries to disk, in their order, all or not at all.

A commit writes the media, syncs it, then writes the journal and syncs that. When any of it fails nothing counts as
written, and the same commit can be made again: offsets only move on when all of it is on the disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mediaserver.recording import journal
from mediaserver.recording.entry import Entry
from mediaserver.recording.keys import SigningKey
from mediaserver.recording.ledger import Ledger
from mediaserver.recording.storage import LocalStorage, StoredFile
from mediaserver.recording.storage.sealed import SealedFile


@dataclass(slots=True)
class _Growing:
    file: StoredFile | SealedFile
    size: int
    digest: hashlib._Hash


class RecordingFiles:
    """Owns the journal and the open media files of a recording; used by one thread."""

    def __init__(
        self,
        storage: LocalStorage,
        folder: Path,
        ledger: Ledger,
        on_sync: Callable[[Callable[[], None]], None],
        on_begun: Callable[[], None] = lambda: None,
        signer: SigningKey | None = None,
    ) -> None:
        """`on_sync` is called with each sync that has to be carried out: it runs and times it. `on_begun` is called
        once, when the first commit is on the disk. With a `signer` the journal's head is signed with each commit."""
        self.folder = folder
        self._storage = storage
        self._ledger = ledger
        self._on_sync = on_sync
        self._on_begun = on_begun
        self._journal: StoredFile | None = None
        self._journal_size = 0
        self._signer = signer
        self._digest = hashlib.sha256()
        """Of the journal."""
        self._growing: dict[str, _Growing] = {}

    def commit(self, entries: Sequence[Entry]) -> None:
        """Raises OSError; then nothing of it counts, and it may be tried again."""
        if self._journal is None:
            self._storage.begin(self.folder)
            self._journal = self._storage.open(self.folder / journal.NAME)
            self._on_sync(lambda: self._storage.sync_folder(self.folder))
        lines, touched, born = self._write(entries)
        for growing in touched.values():
            self._on_sync(growing.file.sync)
        if born:
            self._on_sync(lambda: self._storage.sync_folder(self.folder))
        text, digest = self._headed(b"".join(journal.encode(line) for line in lines))
        # What a failed commit left behind the end must not be read as lines after a crash.
        if self._journal.size > self._journal_size:
            self._journal.truncate(self._journal_size)
        self._journal.write(text, self._journal_size)
        self._on_sync(self._journal.sync)
        begun = self._journal_size == 0
        self._journal_size += len(text)
        self._digest = digest
        self._settle(lines, touched)
        if begun:
            self._on_begun()

    def _headed(self, text: bytes) -> tuple[bytes, hashlib._Hash]:
        """The lines of a commit with a signed head behind them, and the digest of the journal that ends so."""
        digest = self._digest.copy()
        digest.update(text)
        if self._signer is not None:
            size = self._journal_size + len(text)
            head = journal.encode(journal.sign_head(self.folder.name, size, digest.hexdigest(), self._signer))
            digest.update(head)
            text += head
        return text, digest

    def _write(self, entries: Sequence[Entry]) -> tuple[list[journal.AnyRecord], dict[str, _Growing], bool]:
        """Write the media. Gives the lines with their hashes, the files as they will stand, and whether any is new."""
        lines: list[journal.AnyRecord] = []
        touched: dict[str, _Growing] = {}
        born = False
        head = self._ledger.head
        for record, data in entries:
            if isinstance(record, journal.Opened | journal.Written):
                growing = touched.get(record.file) or self._working(record.file)
                touched[record.file] = growing
                born = born or isinstance(record, journal.Opened)
                growing.file.write(data, growing.size)
                growing.size += len(data)
                growing.digest.update(data)
                if isinstance(record, journal.Written):
                    record = msgspec.structs.replace(record, sha256=growing.digest.hexdigest())
            elif isinstance(record, journal.Sealed):
                record = self._ledger.linked(record, head)
                head = record.link or head
            lines.append(record)
        return lines, touched, born

    def _working(self, name: str) -> _Growing:
        """A copy to go on with; it takes the original's place when the commit has succeeded."""
        original = self._growing.get(name)
        if original is None:
            original = self._growing[name] = _Growing(self._storage.open_media(self.folder / name), 0, hashlib.sha256())
        return _Growing(original.file, original.size, original.digest.copy())

    def _settle(self, lines: Sequence[journal.AnyRecord], touched: dict[str, _Growing]) -> None:
        self._growing |= touched
        for line in lines:
            self._ledger.apply(line)
            if isinstance(line, journal.Closed | journal.Dropped) and line.file in self._growing:
                self._growing.pop(line.file).file.close()
            if isinstance(line, journal.Dropped):
                (self.folder / line.file).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of all files."""
        for growing in self._growing.values():
            growing.file.close()
        self._growing.clear()
        if self._journal is not None:
            self._journal.close()
            self._journal = None
