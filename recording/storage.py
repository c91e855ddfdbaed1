"""Where recordings lie. The seam for other stores: everything that touches the disk on the way in goes through here.

A recording's folder is <root>/<yyyy>/<mm>/<dd>/<recording id>/ by its start in UTC.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from mediaserver.recording import journal, manifest, sidecars
from mediaserver.recording.sample import Patch
from mediaserver.recording.settings import IDENTIFIER

_CHUNK = 1 << 20


class StoredFile:
    """A file being written. Offsets are the caller's, so that a write can be repeated after a failure."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def write(self, data: bytes, offset: int) -> None:
        """All of it, or OSError."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, offset)
            view = view[written:]
            offset += written

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def sync(self) -> None:
        """When it returns, what was written is on the disk."""
        os.fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def sha256(self, size: int) -> str:
        """Of the first `size` bytes."""
        digest = hashlib.sha256()
        offset = 0
        while offset < size and (chunk := os.pread(self._fd, min(_CHUNK, size - offset), offset)):
            digest.update(chunk)
            offset += len(chunk)
        return digest.hexdigest()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LocalStorage:
    """Recordings in a local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, recording: str) -> Path:
        """Where a recording belongs, whether it is there or not."""
        return self.root / recording[:4] / recording[4:6] / recording[6:8] / recording

    @staticmethod
    def identifier(started_us: int, suffix: str) -> str:
        """A recording's id: its start in UTC, by which it is found, and what makes it the only one."""
        return f"{datetime.fromtimestamp(started_us // 1_000_000, UTC):%Y%m%d-%H%M%S}-{suffix}"

    def make_folder(self, folder: Path) -> None:
        """The folder and those above it, each entered into the one above it on the disk."""
        missing = [folder]
        while not missing[-1].parent.is_dir():
            missing.append(missing[-1].parent)
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            self.sync_folder(path.parent)

    def sync_folder(self, folder: Path) -> None:
        """When it returns, the names in it are on the disk."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def open(self, path: Path) -> StoredFile:
        """For writing; made when it is not there."""
        return StoredFile(path)

    def write_atomic(self, path: Path, data: bytes) -> None:
        """All of it under its name, or what stood there before; on the disk when it returns."""
        beside = path.with_name(f".{path.name}.new")
        file = self.open(beside)
        try:
            file.truncate(0)
            file.write(data, 0)
            file.sync()
        finally:
            file.close()
        beside.rename(path)
        self.sync_folder(path.parent)

    def discard_journal(self, folder: Path, *, whole: bool = False) -> None:
        """The journal has served; with `whole` the folder goes too, as nothing was recorded."""
        (folder / journal.NAME).unlink(missing_ok=True)
        if whole:
            for name in sidecars.NAMES:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
            folder = folder.parent
        self.sync_folder(folder)

    def seal(self, path: Path, patches: list[Patch], tail: bytes, size: int) -> tuple[int, str]:
        """Complete a file of `size` bytes: patches, `tail` at its end, nothing behind it. Gives size and SHA-256."""
        file = self.open(path)
        try:
            for patch in patches:
                file.write(patch.data, patch.offset)
            if tail:
                file.write(tail, size)
            file.truncate(size + len(tail))
            file.sync()
            return size + len(tail), file.sha256(size + len(tail))
        finally:
            file.close()

    def folders(self) -> Iterator[Path]:
        """The folders of all recordings, oldest day first."""
        for path in sorted(self.root.glob("[0-9]*/[0-9]*/[0-9]*/*/")):
            if (path / manifest.NAME).exists() or (path / journal.NAME).exists():
                yield path

    def find(self, recording: str) -> Path | None:
        """The folder of a recording by its id; None when there is none."""
        if not IDENTIFIER.fullmatch(recording):
            return None
        folder = self.folder(recording)
        return folder if folder.is_dir() else None


class Lock:
    """Says that a running server owns this archive. It goes with the process, however that ends."""

    def __init__(self, root: Path) -> None:
        self._path = root / ".lock"
        self._fd = -1

    def take(self) -> bool:
        """False when another process has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._fd = fd
            return True
        os.close(fd)
        return False

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
