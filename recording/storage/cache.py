"""Files that were fetched from far away, as many as fit."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from mediaserver.recording.storage.face import Unreadable
from mediaserver.recording.storage.local import LocalReader

STALE_SECONDS = 86_400


class Cache:
    """A folder of files by their SHA-256. What was used longest ago goes when it is full; who has one open keeps it."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._turn = threading.Lock()

    def get(self, name: str, sha256: str, fetch: Callable[[], Iterable[bytes]]) -> LocalReader:
        """The file with this hash, fetched when it is not there. Raises `Unreadable` when what comes has another."""
        path = self._folder / sha256
        with self._turn:
            try:
                reader = LocalReader(path)
                os.utime(path)
                return reader
            except FileNotFoundError:
                self._folder.mkdir(parents=True, exist_ok=True)
        beside = self._folder / f"{sha256}.{threading.get_ident()}.new"
        try:
            digest = hashlib.sha256()
            with beside.open("wb") as stream:
                for chunk in fetch():
                    digest.update(chunk)
                    stream.write(chunk)
            if digest.hexdigest() != sha256:
                raise Unreadable(f"{name}: what the store gives back is not what was put there")
            with self._turn:
                beside.rename(path)
                reader = LocalReader(path)
                self._trim(path)
                return reader
        finally:
            beside.unlink(missing_ok=True)

    def drop(self, sha256: str) -> None:
        """It must not be kept any more."""
        with self._turn:
            (self._folder / sha256).unlink(missing_ok=True)

    def _trim(self, keep: Path) -> None:
        newest = keep.stat().st_mtime
        for path in self._folder.glob("*.new"):  # of a process that was killed
            if path.stat().st_mtime < newest - STALE_SECONDS:
                path.unlink(missing_ok=True)
        files = sorted(
            ((path.stat(), path) for path in self._folder.iterdir() if path.suffix != ".new"),
            key=lambda entry: entry[0].st_mtime_ns,
        )
        total = sum(stat.st_size for stat, _ in files)
        for stat, path in files:
            if total > self._limit and path != keep:
                path.unlink()
                total -= stat.st_size
