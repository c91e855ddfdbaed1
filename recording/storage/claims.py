"""The last question before a recording goes, asked of a bucket so that the answer still holds when it is acted upon.

S3 has no transaction over a lock and a deletion. But in a bucket that keeps versions, and no other has locks, an object
can be hidden by a delete marker: who wants to lock it by its name is refused from then on, and what was locked before
is seen in its versions. So a claim hides all objects of a recording, asks, and shows them again when one is locked.
A lock that somebody puts on a version by its number after that still protects that version: it can't be deleted.

The local mark stands for as long as objects may be hidden, so that whatever happens they come to light again.
"""

from __future__ import annotations

from pathlib import Path

from mediaserver.recording.storage.keys import CLAIMED
from mediaserver.recording.storage.local import LocalStorage
from mediaserver.recording.storage.locks import Locks


class Claims:
    """Those of one bucket. Every method blocks, and raises OSError."""

    def __init__(self, storage: LocalStorage, locks: Locks) -> None:
        self._storage = storage
        self._locks = locks

    def take(self, folder: Path, prefix: str) -> str:
        """What keeps the objects below a prefix, in words; empty: nothing, and they are hidden."""
        self._storage.write_atomic(folder / CLAIMED, b"")
        self._locks.hide(prefix)
        return self._locks.kept_by(prefix)

    def is_taken(self, folder: Path) -> bool:
        return (folder / CLAIMED).exists()

    def release(self, folder: Path, prefix: str) -> None:
        self._locks.show(prefix)
        (folder / CLAIMED).unlink(missing_ok=True)
        self._storage.sync_folder(folder)
