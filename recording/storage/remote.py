"""Recordings in an S3 bucket, with the local folder as journal and cache.

Everything is written locally first. A media file goes up as soon as it is complete, the small files and the manifest
when the recording is closed, the manifest last. Then the mark `.stored.json` is laid into the local folder: it names
the files that the bucket has given back as they are here. Only what the mark names may go from the local folder.

A small file that changes is taken out of the mark first, and comes in again when the change is up. So whatever happens
in between, a recording whose mark lacks a file is looked at again, and one with a whole mark is whole in the bucket.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import msgspec

from mediaserver.recording import chained, journal, manifest, register, sidecars, trail, withdrawn
from mediaserver.recording.chained import Head
from mediaserver.recording.manifest import Manifest, Segment
from mediaserver.recording.problem import Problem
from mediaserver.recording.storage import keys
from mediaserver.recording.storage.cache import Cache
from mediaserver.recording.storage.claims import Claims
from mediaserver.recording.storage.face import MARK, Reader, ReaderFile, Unreadable
from mediaserver.recording.storage.keys import MasterKeys, Tombstone
from mediaserver.recording.storage.local import LocalReader, LocalStorage
from mediaserver.recording.storage.locks import Locks
from mediaserver.recording.storage.logs import AUDIT, REGISTER, LogCopy
from mediaserver.recording.storage.s3 import Bucket, BucketReader, S3Settings
from mediaserver.recording.storage.uploads import END, Item, Uploader

VERSION = 1
CACHE = ".fetched"
ERASABLE = frozenset({keys.NAME, *sidecars.NAMES, sidecars.ADDITIONS})
"""What is never locked in the bucket: a key that can't be destroyed would keep a recording from ever being erased, and
whom a recording is about may have to be forgotten."""
LEAVE_SECONDS = 60.0
"""How long a disposal waits for what is just being sent."""
_CHUNK = 1 << 20
_DAY_US = 86_400_000_000


class Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the bucket has of a recording: SHA-256 by name."""

    version: int
    files: dict[str, str]


class S3Storage(LocalStorage):
    """The storage of a server whose recordings end up in a bucket."""

    def __init__(
        self,
        root: Path,
        settings: S3Settings,
        masters: MasterKeys | None = None,
        *,
        monotonic: Callable[[], int],
        wall: Callable[[], int],
        local_days: float = 7,
        cache_bytes: int = 10 << 30,
        on_trouble: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`monotonic` and `wall` give µs. A recording that ended `local_days` ago and is whole in the bucket loses its
        media here. `cache_bytes` bounds what is fetched back for exports. `on_trouble` is as for `Uploader`."""
        super().__init__(root, masters)
        self.bucket = Bucket(settings)
        self.uploader = Uploader(self._upload, monotonic, on_trouble)
        self._locks = Locks(settings, wall)
        self._claims = Claims(self, self._locks)
        self._wall = wall
        self._local_us = round(local_days * _DAY_US)
        self._cache = Cache(root / CACHE, cache_bytes)
        self._sent: dict[str, set[tuple[str, str]]] = {}
        """By recording: file and SHA-256 of what this process has seen in the bucket, and no mark names yet."""

    # Reading

    def stored(self, folder: Path, segment: Segment) -> Reader:
        """Where it lies: here, or by ranges from the bucket."""
        with suppress(FileNotFoundError):
            return super().stored(folder, segment)
        name = self._object(folder, segment.file)
        size = self.bucket.size(name)
        if size is None:
            raise FileNotFoundError(f"{segment.file} of recording {folder.name} is neither here nor in the bucket")
        return BucketReader(self.bucket, name, size)

    def fetch(self, folder: Path, segment: Segment) -> Path | ReaderFile:
        return ReaderFile(self._clear(LocalReader(self._descriptor(folder, segment)), folder, segment))

    def _descriptor(self, folder: Path, segment: Segment) -> int:
        """Open, so that the file may go from its folder meanwhile."""
        with suppress(FileNotFoundError):
            return super()._descriptor(folder, segment)
        name = self._object(folder, segment.file)
        return self._cache.get(name, segment.sha256, lambda: self.bucket.chunks(name)).detach()

    # Changing

    def replace(self, path: Path, stored: bytes) -> None:
        with self._changing(path.parent, path.name):
            super().replace(path, stored)

    def remove(self, path: Path) -> None:
        """From the bucket too, every version of it; later, when the bucket does not answer."""
        with self._changing(path.parent, path.name, gone=True):
            super().remove(path)

    def erase_media(self, folder: Path, name: str, sha256: str) -> None:
        super().erase_media(folder, name, sha256)
        self._cache.drop(sha256)

    def rewrap(self, folder: Path) -> bool:
        with self._changing(folder, keys.NAME):
            return super().rewrap(folder)

    def erase(self, folder: Path, tombstone: Tombstone) -> None:
        """In the bucket as well, every version. Raises PermissionError when a lock of the bucket's forbids it: then
        nobody can read the recording here, and it can be tried again."""
        path = folder / keys.NAME
        with self._changing(folder, keys.NAME, gone=True), _alone(path) if path.exists() else nullcontext():
            super().erase(folder, tombstone)
            self._locks.delete_all(self.bucket.key(self._object(folder, keys.NAME)))

    def kept_by(self, folder: Path) -> str:
        """Retention and legal hold of its objects."""
        return self._locks.kept_by(self._prefix(folder))

    def claim(self, folder: Path) -> str:
        if not self.uploader.forget(folder.name, LEAVE_SECONDS):
            raise OSError(f"a file of recording {folder.name} is still being sent")
        try:
            kept_by = self._claims.take(folder, self._prefix(folder))
        except BaseException:
            with suppress(OSError):  # else it is done later: by `sweep`, or when the archive is opened next
                self.release(folder)
            raise
        if kept_by:
            self.release(folder)
        return kept_by

    def release(self, folder: Path) -> None:
        if self._claims.is_taken(folder):
            self._claims.release(folder, self._prefix(folder))
            self.closed(folder.name)

    def dispose(self, folder: Path, decision: bytes) -> None:
        """From the bucket first, every version. Raises PermissionError when it is locked there."""
        self.write_atomic(folder / keys.DISPOSED, decision)  # from here on nothing of it is sent any more
        if not self.uploader.forget(folder.name, LEAVE_SECONDS):
            raise OSError(f"a file of recording {folder.name} is still being sent")
        kept = _manifest(folder)
        self._locks.delete_all(self.bucket.key(self._object(folder, keys.NAME)))
        self._locks.delete_below(self._prefix(folder))
        for segment in _segments(kept) if kept else []:
            self._cache.drop(segment.sha256)
        self._sent.pop(folder.name, None)
        super().dispose(folder, decision)

    # Sending

    def start(self, threads: int) -> None:
        """Begin to send, first of all what an earlier run has left."""
        self.uploader.open(threads)

    def stop(self, timeout: float = 5.0) -> None:
        self.uploader.close(timeout)

    def sealed(self, recording: str, name: str, size: int, sha256: str) -> None:
        """A media file is complete, and its line in the journal is on the disk."""
        if size:
            self.uploader.put(recording, name, size, sha256)

    def closed(self, recording: str) -> None:
        """The manifest stands, or a small file has changed."""
        folder = self.find(recording)
        kept = _manifest(folder) if folder else None
        if folder is None or kept is None:
            return
        for segment in self._unsent(folder, kept):
            self.uploader.put(recording, segment.file, segment.bytes, segment.sha256)
        self.uploader.put(recording, END)

    def sweep(self) -> int:
        """Look at all recordings: send what has no mark, and let go of media that has been here for long enough.
        Gives the bytes that were let go of."""
        freed = 0
        for folder in self.folders():
            if (folder / journal.NAME).exists():
                continue
            if self._claims.is_taken(folder):
                self._let_show(folder)
            kept = _manifest(folder)
            if kept is not None and not self.is_whole(folder, kept):
                self.closed(folder.name)
            elif kept is not None:
                freed += self._let_go(folder, kept)
        return freed

    def clean(self) -> None:
        """Drop what uploads that were interrupted have left in the bucket."""
        self._locks.abort_unfinished(self.bucket.key(""))

    def restore(self) -> int:
        """Bring the small files of recordings that the bucket has and this folder has not; gives how many."""
        count = 0
        found = [name for name in self.bucket.names() if name.endswith(f"/{manifest.NAME}")]
        for name in found:
            folder = self.root / Path(name).parent
            known = (folder / manifest.NAME).exists() or self.is_leaving(folder)
            if folder != self.folder(folder.name) or known:
                continue
            data = b"".join(self.bucket.chunks(name))
            media = {segment.file for segment in _segments(manifest.decode(data))}
            self.make_folder(folder)
            for other in self.bucket.names(str(Path(name).parent)):
                if Path(other).name not in media and other != name:
                    self.write_atomic(folder / Path(other).name, b"".join(self.bucket.chunks(other)))
            self.write_atomic(folder / manifest.NAME, data)
            count += 1
        return count

    def logs(
        self,
        data: Path,
        register_head: Callable[[], Head] = lambda: chained.ORIGIN,
        trail_head: Callable[[], Head] = lambda: chained.ORIGIN,
    ) -> list[LogCopy]:
        kept = self.root / register.NAME
        return [
            LogCopy(REGISTER, self.bucket, self._locks, lambda: [kept] if kept.exists() else [], register_head),
            LogCopy(AUDIT, self.bucket, self._locks, lambda: trail.parts(data), trail_head),
        ]

    def restore_logs(self, data: Path) -> list[str]:
        restored = []
        for copy in self.logs(data):
            if copy.is_here or not (lines := copy.fetch()):
                continue
            if copy.name == AUDIT:
                trail.restore(data, lines)
            else:
                self.root.mkdir(parents=True, exist_ok=True)
                self.write_atomic(self.root / register.NAME, lines)
            restored.append(copy.name)
        return restored

    def check_logs(self, data: Path) -> dict[str, list[Problem]]:
        return {copy.name: copy.check() for copy in self.logs(data)}

    def mark(self, folder: Path) -> dict[str, str]:
        """What the bucket is known to have of a recording: SHA-256 by name."""
        try:
            return msgspec.json.decode((folder / MARK).read_bytes(), type=Mark).files
        except (FileNotFoundError, msgspec.MsgspecError):
            return {}

    def is_whole(self, folder: Path, kept: Manifest) -> bool:
        """The bucket has everything of a recording."""
        media = {segment.file for segment in _segments(kept)}
        return set(self.mark(folder)) == media | {manifest.NAME, *_small_files(folder, media)}

    def _unsent(self, folder: Path, kept: Manifest) -> list[Segment]:
        mark = self.mark(folder)
        return [
            segment
            for segment in _segments(kept)
            if mark.get(segment.file) != segment.sha256 and not self._is_sent(folder, segment.file, segment.sha256)
        ]

    def _prefix(self, folder: Path) -> str:
        """What the keys of a recording's objects begin with."""
        return self.bucket.key(self._object(folder, ""))

    def _object(self, folder: Path, name: str) -> str:
        return f"{folder.relative_to(self.root).as_posix()}/{name}"

    @contextmanager
    def _changing(self, folder: Path, name: str, *, gone: bool = False) -> Iterator[None]:
        """The mark forgets it first, or remembers that it is to go; the bucket follows later."""
        with _alone(folder.parent):
            mark = self.mark(folder)
            before = dict(mark)
            mark.pop(name, None)
            if gone:
                mark[name] = ""
            if mark != before:
                self._write_mark(folder, mark)
            try:
                yield
            finally:
                if (folder / manifest.NAME).exists():
                    self.uploader.put(folder.name, END)

    def _let_show(self, folder: Path) -> None:
        """What a claim has hidden that nobody holds any more."""
        with sidecars.alone(folder):
            if not self.is_leaving(folder):
                self.release(folder)

    def _upload(self, item: Item) -> bool:
        folder = self.folder(item.recording)
        if (
            self.is_leaving(folder)
            or self._claims.is_taken(folder)
            or (item.name != END and _is_withdrawn(folder, item.name))
        ):
            return True
        if item.name != END:
            with suppress(FileNotFoundError):  # media that can't be opened is of no use
                self._ensure_key(folder)
            self._ensure_media(folder, item.name, item.bytes, item.sha256)
            return True
        return not self.uploader.has_files(item.recording) and self._finish(folder)

    def _finish(self, folder: Path) -> bool:
        """The small files, the manifest, the mark. False when media has to go first."""
        kept = _manifest(folder)
        if kept is None:
            raise Unreadable(f"{manifest.NAME} of recording {folder.name} can't be read")
        if missing := self._unsent(folder, kept):
            for segment in missing:
                self.uploader.put(folder.name, segment.file, segment.bytes, segment.sha256)
            return False
        media = {segment.file: segment.sha256 for segment in _segments(kept)}
        small = {
            name: self._ensure_key(folder) if name == keys.NAME else self._ensure_small(folder, name)
            for name in _small_files(folder, set(media))
        }
        small[manifest.NAME] = self._ensure_small(folder, manifest.NAME)
        for name in set(self.mark(folder)) - set(media) - set(small):
            if not (folder / name).exists():
                self._locks.delete_all(self.bucket.key(self._object(folder, name)))
        with _alone(folder.parent):
            names = [*_small_files(folder, set(media)), manifest.NAME]
            if {name: _hash_of(folder / name) for name in names} != small:
                return False  # changed meanwhile: once more
            self._write_mark(folder, media | small)
        self._sent.pop(folder.name, None)
        return True

    def _is_sent(self, folder: Path, name: str, sha256: str) -> bool:
        return (name, sha256) in self._sent.get(folder.name, ())

    def _note_sent(self, folder: Path, name: str, sha256: str) -> None:
        self._sent.setdefault(folder.name, set()).add((name, sha256))

    def _write_mark(self, folder: Path, files: dict[str, str]) -> None:
        self.write_atomic(folder / MARK, msgspec.json.encode(Mark(VERSION, files)) + b"\n")

    def _ensure_media(self, folder: Path, name: str, size: int, sha256: str) -> None:
        if self._is_sent(folder, name, sha256):
            return
        path = folder / name
        target = self._object(folder, name)
        if self.bucket.size(target) != size or self.bucket.sha256(target) != sha256:
            if _hash_of(path) != sha256:
                raise Unreadable(f"{name} of recording {folder.name} is not what the manifest says, and stays here")
            self.bucket.put(target, path)
            if self.bucket.sha256(target) != sha256:
                raise OSError(f"S3: {target} does not come back as it was sent")
        self._protect(target)
        self._note_sent(folder, name, sha256)

    def _ensure_small(self, folder: Path, name: str) -> str:
        """Gives the SHA-256."""
        data = (folder / name).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        if not self._is_sent(folder, name, sha256) and self.mark(folder).get(name) != sha256:
            target = self._object(folder, name)
            if self.bucket.size(target) != len(data) or self.bucket.sha256(target) != sha256:
                self.bucket.put(target, data)
                if self.bucket.sha256(target) != sha256:
                    raise OSError(f"S3: {target} does not come back as it was sent")
            if name not in ERASABLE:
                self._protect(target)
            self._note_sent(folder, name, sha256)
        return sha256

    def _ensure_key(self, folder: Path) -> str:
        """As `_ensure_small` for the recording's key, and never after it was destroyed."""
        with _alone(folder / keys.NAME):
            return self._ensure_small(folder, keys.NAME)

    def _protect(self, target: str) -> None:
        if self._locks.wanted:
            self._locks.lock(self.bucket.key(target))

    def _let_go(self, folder: Path, kept: Manifest) -> int:
        """Remove the media of a recording that is whole in the bucket and old enough; gives the bytes."""
        if self._wall() - kept.ended_us < self._local_us:
            return 0
        mark = self.mark(folder)
        freed = 0
        for segment in _segments(kept):
            path = folder / segment.file
            if mark.get(segment.file) == segment.sha256 and path.exists():
                path.unlink()
                freed += segment.bytes
        return freed


def _manifest(folder: Path) -> Manifest | None:
    try:
        return withdrawn.what_is_left(manifest.decode((folder / manifest.NAME).read_bytes()), folder)
    except (OSError, ValueError):
        return None


def _is_withdrawn(folder: Path, name: str) -> bool:
    """It was erased while it waited to be sent."""
    try:
        return any(one.file == name for one in withdrawn.load(folder))
    except (OSError, ValueError):
        return False


def _segments(kept: Manifest) -> list[Segment]:
    return [segment for track in kept.tracks for segment in track.segments]


def _small_files(folder: Path, media: set[str]) -> list[str]:
    """What goes up beside the media and before the manifest."""
    apart = {manifest.NAME, journal.NAME, MARK}
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return [name for name in names if name not in media | apart and not name.startswith(".")]


def _hash_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One thread of one process at a time: with a day's folder, who changes a mark in it; with a key, who sends or
    destroys it. Raises FileNotFoundError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
