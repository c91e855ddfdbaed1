"""The archive as one object: the folder, the catalog over it, and what is being recorded now.

On the event loop::

    archive = Archive(folder, live=recorder.recordings)
    await archive.open()         # migrates the catalog, closes what a crash left open, indexes what is missing
    await archive.index(id)      # after a recording's stop() future is done
    await archive.close()
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from mediaserver.recording import journal, manifest
from mediaserver.recording.catalog import Catalog, CatalogError, Query
from mediaserver.recording.ledger import Ledger
from mediaserver.recording.manifest import Manifest, Segment
from mediaserver.recording.recovery import recover_all
from mediaserver.recording.storage import LocalStorage, Lock
from mediaserver.recording.verify import REPORT, Report, verify
from mediaserver.recording.views import RecordingList, RecordingView, from_iso, view

if TYPE_CHECKING:
    from mediaserver.recording.export.join import Format

EXPORTS_AT_ONCE = 2


class UnknownRecording(LookupError):
    """There is no such recording, track or segment; the message says which."""


class StillRecording(Exception):
    """The recording is not closed yet."""


class ArchiveInUse(Exception):
    """Another process owns the archive."""


class ArchiveUnusable(Exception):
    """The folder or the catalog can't be used; the message says why, and what can be done."""


class Live(Protocol):
    """A recording that goes on, such as `recorder.Recording`."""

    @property
    def id(self) -> str: ...

    @property
    def room(self) -> str: ...

    def snapshot(self) -> Manifest: ...


class Archive:
    """Finds, shows, verifies and exports recordings below `folder`. No method blocks the event loop."""

    def __init__(self, folder: Path, *, live: Callable[[], Sequence[Live]] = lambda: ()) -> None:
        self.folder = folder
        self.failures: list[str] = []
        """What `open` could not close, in words."""
        self._live = live
        self._storage = LocalStorage(folder)
        self._lock = Lock(folder)
        self._database = folder / "catalog.sqlite"
        self._catalog = Catalog(f"sqlite+aiosqlite:///{self._database}")
        self._exports = asyncio.Semaphore(EXPORTS_AT_ONCE)

    async def open(self) -> None:
        """Own the archive: close what a crash has left open, and enter what the catalog lacks.

        Raises `ArchiveInUse` and `ArchiveUnusable`.
        """
        try:
            if not await asyncio.to_thread(self._lock.take):
                raise ArchiveInUse(f"another server or command uses the archive {self.folder}")
        except OSError as error:
            raise ArchiveUnusable(f"the archive {self.folder} can't be written: {error.strerror}") from error
        try:
            await asyncio.to_thread(shutil.rmtree, self.folder / ".exports", ignore_errors=True)
            await self._open_catalog()
            closed, self.failures = await asyncio.to_thread(recover_all, self._storage)
            for kept in closed:
                await self._catalog.put(kept)
            await self._enter_missing()
        except BaseException:
            self._lock.release()
            raise

    async def open_to_read(self) -> None:
        """Look into an archive that another process owns; what that records now is read from its journals.

        Raises `ArchiveUnusable`.
        """
        await self._open_catalog()
        self._live = self._journaled

    def share(self) -> None:
        """Own the archive no longer, only look into it: a server may take it."""
        self._lock.release()
        self._live = self._journaled

    async def close(self) -> None:
        await self._catalog.close()
        self._lock.release()

    async def index(self, recording: str) -> None:
        """Enter a recording that was closed; one of which nothing is left goes from the catalog."""
        folder = self._folder(recording)
        kept = await asyncio.to_thread(_manifest, folder) if folder else None
        if kept is None:
            await self._catalog.remove(recording)
        else:
            await self._catalog.put(kept)

    async def rebuild(self) -> int:
        """Make the catalog anew from the manifests; gives how many there are."""
        folders = await asyncio.to_thread(lambda: list(self._storage.folders()))
        for gone in set(await self._catalog.digests()) - {folder.name for folder in folders}:
            await self._catalog.remove(gone)
        for folder in folders:
            await self.index(folder.name)
        return len(folders)

    async def find(self, query: Query) -> RecordingList:
        """What matches, newest first; recordings that go on come first."""
        live = [found for found in self._live_views() if _matches(found, query)]
        shown = live[query.offset : query.offset + query.limit]
        rest = msgspec.structs.replace(query, offset=max(0, query.offset - len(live)), limit=query.limit - len(shown))
        found = await self._catalog.find(rest)
        return RecordingList(found.total + len(live), shown + found.recordings)

    async def get(self, recording: str) -> Manifest:
        """The manifest, as it stands for a recording that goes on. Raises `UnknownRecording`."""
        for live in self._live():
            if live.id == recording:
                return live.snapshot()
        folder = self._folder(recording)
        kept = await asyncio.to_thread(_manifest, folder) if folder else None
        if kept is None:
            raise UnknownRecording(f"there is no recording {recording}")
        return kept

    async def room(self, recording: str) -> str | None:
        """The room of a recording by the catalog, or of one that goes on; None when there is none."""
        for live in self._live():
            if live.id == recording:
                return live.room
        return await self._catalog.room(recording)

    async def media(self, recording: str, track: str, number: int = 0) -> tuple[Path, Segment]:
        """A track's file, by its number from 0. Raises `UnknownRecording` and `StillRecording`."""
        kept = await self.get(recording)
        if kept.state == "recording":
            raise StillRecording(f"recording {recording} goes on; its files can be read when it is closed")
        for candidate in kept.tracks:
            if candidate.id == track and 0 <= number < len(candidate.segments):
                folder = self._folder(recording)
                assert folder is not None
                return folder / candidate.segments[number].file, candidate.segments[number]
        raise UnknownRecording(f"recording {recording} has no segment {number} of a track {track}")

    def path(self, recording: str) -> Path:
        """The folder of a recording. Raises `UnknownRecording`."""
        folder = self._folder(recording)
        if folder is None:
            raise UnknownRecording(f"there is no recording {recording}")
        return folder

    async def verify(self, recording: str) -> Report:
        """Read every byte. Raises `UnknownRecording` and `StillRecording`."""
        if any(live.id == recording for live in self._live()):
            raise StillRecording(f"recording {recording} goes on; it can be verified when it is closed")
        folder = self._folder(recording)
        if folder is None:
            raise UnknownRecording(f"there is no recording {recording}")
        return await asyncio.to_thread(verify, folder)

    async def keep_report(self, recording: str, data: bytes) -> bool:
        """Lay a session report beside the media, in place of an earlier one; False when there is no such recording.
        Raises OSError."""
        folder = self._folder(recording)
        if folder is None:
            return False
        await asyncio.to_thread(self._storage.write_atomic, folder / REPORT, data)
        return True

    async def report(self, recording: str) -> bytes:
        """The session report that was laid there. Raises `UnknownRecording`."""
        folder = self._folder(recording)
        try:
            if folder is not None:
                return await asyncio.to_thread((folder / REPORT).read_bytes)
        except OSError:
            pass
        raise UnknownRecording(f"there is no report with recording {recording}")

    @asynccontextmanager
    async def export(self, recording: str, container: Format) -> AsyncIterator[Path]:
        """A file with all tracks, which goes at the end. Raises `UnknownRecording`, `StillRecording`, `ExportError`."""
        from mediaserver.recording.export.join import join  # PyAV is large, and only this needs it

        kept = await self.get(recording)
        if kept.state == "recording":
            raise StillRecording(f"recording {recording} goes on; it can be exported when it is closed")
        folder = self._folder(recording)
        assert folder is not None
        exports = self.folder / ".exports"
        exports.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=exports) as name:
            out = Path(name) / f"{recording}.{container}"
            async with self._exports:
                await asyncio.to_thread(join, folder, kept, out, container)
            yield out

    async def _open_catalog(self) -> None:
        try:
            await self._catalog.open()
        except CatalogError as error:
            advice = "move it away, and the catalog is made anew from the recordings"
            raise ArchiveUnusable(f"the catalog {self._database} can't be used ({error}): {advice}") from error

    def _folder(self, recording: str) -> Path | None:
        return self._storage.find(recording)

    async def _enter_missing(self) -> None:
        folders = await asyncio.to_thread(lambda: list(self._storage.folders()))
        known = await self._catalog.digests()
        for folder in folders:
            if folder.name not in known:
                await self.index(folder.name)

    def _live_views(self) -> list[RecordingView]:
        views = [view(live.snapshot()) for live in self._live()]
        return sorted(views, key=lambda found: found.started, reverse=True)

    def _journaled(self) -> list[Live]:
        folders = [folder for folder in self._storage.folders() if (folder / journal.NAME).exists()]
        return [_Journaled(folder) for folder in folders]


class _Journaled:
    """A recording that another process makes."""

    def __init__(self, folder: Path) -> None:
        self.id = folder.name
        self._path = folder / journal.NAME

    @property
    def room(self) -> str:
        return self.snapshot().room

    def snapshot(self) -> Manifest:
        ledger = Ledger.fold(journal.decode(self._path.read_bytes()))
        return ledger.manifest("recording", ledger.last_media_us())


def _manifest(folder: Path) -> Manifest | None:
    try:
        return manifest.decode((folder / manifest.NAME).read_bytes())
    except (OSError, ValueError):
        return None


def _matches(found: RecordingView, query: Query) -> bool:
    """As `Catalog.find` does, for recordings that are not in it yet."""
    words = " ".join([found.room, found.id, *(track.label for track in found.tracks)]).casefold()
    return (
        (not query.room or found.room == query.room)
        and (query.rooms is None or found.room in query.rooms)
        and (not query.source or any(track.source == query.source for track in found.tracks))
        and (query.to_us is None or from_iso(found.started) <= query.to_us)
        and all(word in words for word in query.text.casefold().split())
    )
