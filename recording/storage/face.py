"""What an archive asks of the place where its recordings lie. Everything here blocks: call it on a thread."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from mediaserver.recording.manifest import Segment


MARK = ".stored.json"
"""Beside the manifest: what another store is known to have of the recording."""


class Unreadable(OSError):
    """What is asked for is there but can't be read: its key is not at hand or destroyed, or the bytes are not what
    was sealed. The message says which."""


class MissingKey(Unreadable):
    """The recording is encrypted, and what would open it is not at hand."""


class Erased(MissingKey):
    """The recording's key was destroyed."""


class Reader(Protocol):
    """A file that can be read at any place. Errors are OSError."""

    @property
    def size(self) -> int: ...

    def read(self, size: int, offset: int) -> bytes:
        """At most `size` bytes from `offset` on; fewer only at the end."""

    def close(self) -> None: ...


class Storage(Protocol):
    """The recordings, each with a local folder that holds at least its small files; media may lie elsewhere."""

    @property
    def root(self) -> Path: ...

    def find(self, recording: str) -> Path | None:
        """The folder of a recording by its id; None when there is none."""

    def folders(self) -> Iterator[Path]:
        """The folders of all recordings, oldest day first."""

    def sealed(self, recording: str, name: str, size: int, sha256: str) -> None:
        """A media file is complete, and the journal knows."""

    def closed(self, recording: str) -> None:
        """The manifest stands."""

    def restore(self) -> int:
        """Bring recordings here that only another store has; gives how many."""

    def read(self, path: Path) -> bytes:
        """A small file of a recording, in the clear."""

    def write(self, path: Path, data: bytes) -> None:
        """All of it under its name, or what stood there before; encrypted where the recording is."""

    def stored(self, folder: Path, segment: Segment) -> Reader:
        """The bytes of a media file as they lie in the store: those of which the manifest has the SHA-256."""

    def media(self, folder: Path, segment: Segment) -> Reader:
        """A media file in the clear, read where it lies."""

    def encode(self, path: Path, data: bytes) -> bytes:
        """A small file as `write` would store it."""

    def decode(self, path: Path, stored: bytes) -> bytes:
        """What `encode` was given."""

    def replace(self, path: Path, stored: bytes) -> None:
        """As `write`, by the bytes that are to be stored."""

    def remove(self, path: Path) -> None:
        """A small file, wherever it is."""

    def opening(self, folder: Path, segment: Segment) -> Opening:
        """As `fetch`, for another process."""

    def fetch(self, folder: Path, segment: Segment) -> Path | ReaderFile:
        """A media file in the clear for somebody who reads all of it: brought here first when it lies elsewhere.
        A path where a local file serves as it is."""


class Opening(msgspec.Struct, frozen=True):
    """What another process needs to read a media file: it inherits the descriptor, and is told the rest by a pipe,
    for `key` is secret. Whoever has made it closes the descriptor."""

    fd: int
    name: str
    key: bytes | None

    def open(self) -> Path | ReaderFile:
        """In the process that has inherited it."""
        from mediaserver.recording.storage.local import LocalReader  # which is built on this module
        from mediaserver.recording.storage.sealed import SealedReader

        path = Path(f"/proc/self/fd/{self.fd}")
        return path if self.key is None else ReaderFile(SealedReader(LocalReader(path), self.key, self.name))


class ReaderFile(io.RawIOBase):
    """A reader as a file object, for libraries that want one. Closes it with itself."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self._reader = reader
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._reader.size}[whence]
        if base + offset < 0:
            raise ValueError(f"a file has no place {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._reader.read(len(buffer), self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._reader.close()
        super().close()
