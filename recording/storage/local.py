"""Recordings in a local folder: <root>/<yyyy>/<mm>/<dd>/<recording id>/ by their start in UTC.

Everything that touches the disk on the way in goes through here. With master keys, media and sidecars are encrypted;
the journal and the manifest are not, so that recovery, the catalog and a check for tampering need no key.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from mediaserver.recording import journal, manifest, sidecars
from mediaserver.recording.manifest import Content, Segment
from mediaserver.recording.problem import Problem
from mediaserver.recording.sample import Patch
from mediaserver.recording.settings import IDENTIFIER
from mediaserver.recording.storage import keys, sealed
from mediaserver.recording.storage.face import Erased, MissingKey, Opening, Reader, ReaderFile, Unreadable
from mediaserver.recording.storage.keys import MasterKeys, Tombstone

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


class LocalReader:
    """A local file to read, by its path or by a descriptor, which it takes over."""

    def __init__(self, path: Path | int) -> None:
        self._fd = path if isinstance(path, int) else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._fd).st_size

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def detach(self) -> int:
        """Give the descriptor away."""
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Sealing(NamedTuple):
    """A file that was completed: what is stored, and what its plaintext is where that is something else."""

    bytes: int
    sha256: str
    content: Content | msgspec.UnsetType = msgspec.UNSET


class LocalStorage:
    """Recordings in a local folder."""

    def __init__(self, root: Path, masters: MasterKeys | None = None) -> None:
        """New recordings are encrypted when `masters` has a key in use."""
        self.root = root
        self._masters = masters or MasterKeys("", {})

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

    def begin(self, folder: Path) -> None:
        """Make a recording's folder, and its key where it is to be encrypted."""
        self.make_folder(folder)
        if self._masters.current and not (folder / keys.NAME).exists():
            self.write_atomic(folder / keys.NAME, self._masters.create())

    def open(self, path: Path) -> StoredFile:
        """For writing as it is; made when it is not there."""
        return StoredFile(path)

    def open_media(self, path: Path) -> StoredFile | sealed.SealedFile:
        """A media file for writing, which encrypts where the recording is encrypted."""
        key = self._key(path.parent)
        file = self.open(path)
        if key is None:
            return file
        try:
            return sealed.SealedFile(file, key, _name(path))
        except BaseException:
            file.close()
            raise

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
            for name in (keys.NAME, *sidecars.NAMES, sidecars.ADDITIONS):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
            folder = folder.parent
        self.sync_folder(folder)

    def seal(self, path: Path, patches: list[Patch], tail: bytes, size: int) -> Sealing:
        """Complete a file of `size` bytes: patches, `tail` at its end, nothing behind it."""
        file = self.open_media(path)
        try:
            if isinstance(file, sealed.SealedFile):
                stored, sha256, content = file.complete(patches, tail, size)
                return Sealing(stored, sha256, Content(*content))
            for patch in patches:
                file.write(patch.data, patch.offset)
            if tail:
                file.write(tail, size)
            file.truncate(size + len(tail))
            file.sync()
            return Sealing(size + len(tail), file.sha256(size + len(tail)))
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

    def read(self, path: Path) -> bytes:
        """A small file of a recording, in the clear. Raises OSError, `Unreadable` among them."""
        return self.decode(path, path.read_bytes())

    def decode(self, path: Path, stored: bytes) -> bytes:
        """What `encode` was given. Raises OSError, `Unreadable` among them."""
        if not stored.startswith(sealed.MAGIC):
            return stored
        return sealed.open_bytes(stored, self._need_key(path.parent), _name(path))

    def write(self, path: Path, data: bytes) -> None:
        """A small file of a recording, atomically; encrypted where the recording is. Raises OSError."""
        self.replace(path, self.encode(path, data))

    def encode(self, path: Path, data: bytes) -> bytes:
        """A small file of a recording as it is to be stored. Raises OSError."""
        key = self._key(path.parent)
        return data if key is None else sealed.seal_bytes(data, key, _name(path))

    def replace(self, path: Path, stored: bytes) -> None:
        """A small file of a recording, atomically, by its bytes as they are stored. Raises OSError."""
        self.write_atomic(path, stored)

    def remove(self, path: Path) -> None:
        """A small file of a recording, wherever it is. Raises OSError."""
        path.unlink(missing_ok=True)
        self.sync_folder(path.parent)

    def erase_media(self, folder: Path, name: str, sha256: str) -> None:
        """A media file, wherever it is; one that is gone is no error. Raises OSError."""
        self.remove(folder / name)

    def sealed(self, recording: str, name: str, size: int, sha256: str) -> None:
        """A media file is complete, and the journal knows. For storages that send it elsewhere."""

    def closed(self, recording: str) -> None:
        """The manifest stands. For storages that send the recording elsewhere."""

    def restore(self) -> int:
        """Bring recordings here that only another store has; gives how many."""
        return 0

    def restore_logs(self, data: Path) -> list[str]:
        """Bring the register and the audit trail into the data folder where there is none and another store has them;
        gives their names. Raises OSError."""
        return []

    def check_logs(self, data: Path) -> dict[str, list[Problem]]:
        """What another store has of the register and the audit trail, and the data folder has not, by the log's name.
        Raises OSError."""
        return {}

    def stored(self, folder: Path, segment: Segment) -> Reader:
        """A media file as it is stored. Raises OSError."""
        return LocalReader(folder / segment.file)

    def media(self, folder: Path, segment: Segment) -> Reader:
        """A media file in the clear. Raises OSError, `Unreadable` among them."""
        return self._clear(self.stored(folder, segment), folder, segment)

    def fetch(self, folder: Path, segment: Segment) -> Path | ReaderFile:
        """As `media`, for somebody who reads all of it."""
        if segment.content is msgspec.UNSET:
            return folder / segment.file
        return ReaderFile(self.media(folder, segment))

    def opening(self, folder: Path, segment: Segment) -> Opening:
        """As `fetch`, for another process. The caller closes the descriptor. Raises OSError."""
        key = None if segment.content is msgspec.UNSET else self._need_key(folder)
        return Opening(self._descriptor(folder, segment), f"{folder.name}/{segment.file}", key)

    def _descriptor(self, folder: Path, segment: Segment) -> int:
        return os.open(folder / segment.file, os.O_RDONLY | os.O_CLOEXEC)

    def tombstone(self, folder: Path) -> Tombstone | None:
        """What is left of an erased recording's key; None for one that is not erased."""
        try:
            return msgspec.json.decode((folder / keys.TOMBSTONE).read_bytes(), type=Tombstone)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise Unreadable(f"{keys.TOMBSTONE} of recording {folder.name} can't be read: {error}") from None

    def erase(self, folder: Path, tombstone: Tombstone) -> None:
        """Destroy the key of a recording, for good. Raises `Unreadable` when there is none, and OSError."""
        path = folder / keys.NAME
        if not path.exists() and not (folder / keys.TOMBSTONE).exists():
            raise Unreadable(f"recording {folder.name} is not encrypted: it has no key that could be destroyed")
        if self.tombstone(folder) is None:
            self.write_atomic(folder / keys.TOMBSTONE, msgspec.json.encode(tombstone) + b"\n")
        if path.exists():
            self._overwrite(path)
            path.unlink()
        self.sync_folder(folder)

    def kept_by(self, folder: Path) -> str:
        """What another store says against a disposal, in words; empty when nothing does. Raises OSError."""
        return ""

    def claim(self, folder: Path) -> str:
        """Just before the decision that a recording goes: as `kept_by`, in a way that nobody can begin to keep it
        meanwhile who does not see that it goes. Where something is said the claim is given up. Raises OSError."""
        return ""

    def release(self, folder: Path) -> None:
        """Give up a claim that no decision has followed, also one that a crash has left. Raises OSError."""

    def dispose(self, folder: Path, decision: bytes) -> None:
        """Remove all of a recording but `decision`, which stands as `keys.DISPOSED` before anything goes; its key goes
        first and its manifest last, so that an interruption can be seen. It can be done again. Raises OSError."""
        self.write_atomic(folder / keys.DISPOSED, decision)
        key = folder / keys.NAME
        if key.exists():
            self._overwrite(key)
            key.unlink()
            self.sync_folder(folder)
        for path in sorted(folder.iterdir(), key=lambda path: path.name == manifest.NAME):
            if path.name == manifest.NAME:
                self.sync_folder(folder)
            if path.name != keys.DISPOSED:
                path.unlink()
        self.sync_folder(folder)

    def is_leaving(self, folder: Path) -> bool:
        """It is being disposed of, or was."""
        return (folder / keys.DISPOSED).exists()

    def _overwrite(self, path: Path) -> None:
        """A file system that writes in place then holds the key no longer; others may, until they use the space."""
        file = self.open(path)
        try:
            file.write(bytes(file.size), 0)
            file.sync()
        finally:
            file.close()

    def rewrap(self, folder: Path) -> bool:
        """Put a recording's key under the master key in use; False when it is already, or has none. Raises OSError."""
        path = folder / keys.NAME
        if not path.exists():
            return False
        wrapped = self._masters.rewrap(path.read_bytes(), folder.name)
        if wrapped is None:
            return False
        self.write_atomic(path, wrapped)
        return True

    def _clear(self, stored: Reader, folder: Path, segment: Segment) -> Reader:
        if segment.content is msgspec.UNSET:
            return stored
        try:
            key = self._need_key(folder)
        except BaseException:
            stored.close()
            raise
        return sealed.SealedReader(stored, key, f"{folder.name}/{segment.file}")

    def _key(self, folder: Path) -> bytes | None:
        """The data key of a recording; None when it is not encrypted."""
        try:
            data = (folder / keys.NAME).read_bytes()
        except FileNotFoundError:
            if (folder / keys.TOMBSTONE).exists():
                raise _erased(folder, self.tombstone(folder)) from None
            return None
        return self._masters.open(data, folder.name)

    def _need_key(self, folder: Path) -> bytes:
        key = self._key(folder)
        if key is None:
            raise MissingKey(f"recording {folder.name} is encrypted, and its {keys.NAME} is missing")
        return key


def _erased(folder: Path, tombstone: Tombstone | None) -> Erased:
    if tombstone is None:
        return Erased(f"recording {folder.name} was erased")
    moment = datetime.fromtimestamp(tombstone.erased_us // 1_000_000, UTC)
    return Erased(f"recording {folder.name} was erased on {moment:%Y-%m-%d}: {tombstone.reason}")


def _name(path: Path) -> str:
    """What binds a sealed file to its place."""
    return f"{path.parent.name}/{path.name}"


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
