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
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from mediaserver.recording import journal, manifest, sidecars, withdrawn
from mediaserver.recording.amending import Amending, Live
from mediaserver.recording.catalog import Catalog, CatalogError, Entry, Query
from mediaserver.recording.catalog.query import matches, parse_cursor
from mediaserver.recording.disposal import Disposals
from mediaserver.recording.evidence import NOTHING, Evidence
from mediaserver.recording.export import kinds
from mediaserver.recording.export.progress import Progress as ExportProgress
from mediaserver.recording.export.work import Order
from mediaserver.recording.ledger import Ledger
from mediaserver.recording.manifest import Manifest, Segment
from mediaserver.recording.proving import Proving
from mediaserver.recording.recovery import recover_all
from mediaserver.recording.refusals import (
    ArchiveInUse,
    ArchiveUnusable,
    Disposed,
    Held,
    StillRecording,
    UnknownRecording,
)
from mediaserver.recording.retention import NO_POLICY, Policy
from mediaserver.recording.storage import LocalStorage, Lock, Reader
from mediaserver.recording.storage.face import Opening
from mediaserver.recording.storage.keys import KeysError, Tombstone
from mediaserver.recording.upkeep import Progress, Upkeep
from mediaserver.recording.views import RecordingList, view
from mediaserver.recording.withdrawal import Withdrawals

__all__ = [
    "Archive",
    "ArchiveInUse",
    "ArchiveUnusable",
    "Disposed",
    "Held",
    "Live",
    "StillRecording",
    "UnknownRecording",
]

EXPORTS_AT_ONCE = 2
_LIVE = "live-"
"""A page that ended among the recordings that go on has a cursor that begins so."""


class Archive(Amending, Proving):
    """Finds, shows, verifies and exports recordings below `folder`. No method blocks the event loop.

    What asks the catalog raises `CatalogError` while its database can't be used; all else goes on without it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        live: Callable[[], Sequence[Live]] = lambda: (),
        evidence: Evidence | None = None,
        storage: LocalStorage | None = None,
        catalog: str = "",
        on_catalog: Callable[[str], None] = lambda trouble: None,
        retention: Policy = NO_POLICY,
        wall_us: Callable[[], int] = lambda: 0,
    ) -> None:
        """`storage` has `folder` as its root; without one everything lies there, in the clear. `evidence` signs what is
        closed here and says whose signatures count; without one neither is looked at. `catalog` is the URL of
        its database, SQLite in the folder by default. `on_catalog` is told why that can't be
        used, and an empty string when it can again. `retention` puts recordings that are closed into classes, `wall_us`
        says when that was. Raises `CatalogError` for a URL that is none."""
        self.folder = folder
        self.failures: list[str] = []
        """What `open` could not close, in words."""
        self.erased: list[tuple[str, list[str]]] = []
        """Recordings of which `open` has erased files, as consent had been withdrawn."""
        self._live = live
        self._storage = storage or LocalStorage(folder)
        self._evidence = evidence or NOTHING
        self._signed = evidence is not None
        self._lock = Lock(folder)
        self._catalog = Catalog(catalog or f"sqlite+aiosqlite:///{folder / 'catalog.sqlite'}")
        self._upkeep = Upkeep(self._storage, self._catalog, on_catalog)
        self._changing = asyncio.Lock()
        self._exports = asyncio.Semaphore(EXPORTS_AT_ONCE)
        self._exporting: Counter[str] = Counter()
        self._wall_us = wall_us
        self.disposals = Disposals(self._storage, self._evidence, self._catalog, self._upkeep, retention, self._signed)
        self._withdrawals = Withdrawals(self._storage, self._evidence, self._signed, self.disposals.distrust)
        self.disposals.users.append(lambda recording: "it is being exported" if self._exporting[recording] else "")

    @property
    def catalog_trouble(self) -> str:
        """Why the catalog can't be used; empty when it can."""
        return self._upkeep.trouble

    async def open(self, now_us: int = 0) -> None:
        """Own the archive: close what a crash has left open, erase of it what it has kept from being erased at
        `now_us`, and enter what the catalog lacks, in the background where that is much.

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
            closed, self.failures = await asyncio.to_thread(self._recover)
            await self._erase_left_over([kept.id for kept in closed], now_us)
            for kept in closed:
                await self.index(kept.id)
            await self._upkeep.follow()
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
        await asyncio.to_thread(self._evidence.shut)
        await self._upkeep.close()
        self._lock.release()

    def _recover(self) -> tuple[list[Manifest], list[str]]:
        if self._signed and self._evidence.signer is None:
            reason = "the key that signs is not here; it is closed when its server starts"
            return [], [f"recording {live.id} is open: {reason}" for live in self._journaled()]
        register = self._evidence.register
        if register is not None:
            try:
                register.open()
                if register.is_new:
                    self._evidence.adopt(self._storage)
            except OSError as error:
                raise ArchiveUnusable(f"the register {register.path} can't be written: {error.strerror}") from error
        failures = self._evidence.resume(self._storage)
        closed, more = recover_all(self._storage, self._evidence)
        return closed, failures + more + self.disposals.resume()[1]

    async def index(self, recording: str) -> None:
        """Enter a recording that was closed, and put it into its class of retention; one of which nothing is left goes
        from the catalog."""
        folder = self._folder(recording)
        if folder is not None:
            # What is not said now is said by the policy when it is looked for.
            with suppress(OSError, ValueError):
                await asyncio.to_thread(self.disposals.classify, folder, self._wall_us())
        await self._upkeep.enter(recording)

    async def rebuild(self, progress: Callable[[Progress], None] = lambda progress: None) -> int:
        """Make the catalog anew from the folders, those included that only another store has; gives how many there
        are. Goes on where an earlier one was interrupted. Raises `CatalogError` and OSError."""
        await asyncio.to_thread(self._storage.restore)
        return await self._upkeep.rebuild(progress)

    async def find(self, query: Query) -> RecordingList:
        """What matches, newest first; recordings that go on come first. Raises `BadCursor`."""
        live = await self._live_matching(query)
        if query.cursor.startswith(_LIVE):
            skip, query = parse_cursor(query.cursor.removeprefix(_LIVE)) or 0, replace(query, cursor="")
        else:
            skip = len(live) if query.cursor else query.offset
        shown = live[skip : skip + query.limit]
        offset = query.offset if query.cursor else max(0, skip - len(live))
        found = await self._catalog.find(replace(query, limit=query.limit - len(shown), offset=offset))
        end = skip + len(shown)
        return RecordingList(
            found.total + len(live),
            [view(entry.manifest, entry.sidecars) for entry in shown] + found.recordings,
            at_least=found.at_least,
            cursor=f"{_LIVE}{end}" if end < len(live) else found.cursor,
        )

    async def get(self, recording: str) -> Manifest:
        """The manifest, as it stands for a recording that goes on. Raises `UnknownRecording`."""
        for live in self._live():
            if live.id == recording:
                return live.snapshot()
        folder = self._folder(recording)
        kept = await asyncio.to_thread(_manifest, folder) if folder else None
        if folder is None or self._storage.is_leaving(folder):
            raise self._unknown(recording, folder)
        if kept is None:
            raise UnknownRecording(f"there is no recording {recording}")
        return kept

    async def room(self, recording: str) -> str | None:
        """The room of a recording by the catalog, or of one that goes on; None when there is none."""
        for live in self._live():
            if live.id == recording:
                return live.room
        return await self._catalog.room(recording)

    async def segment(self, recording: str, track: str, number: int = 0) -> Segment:
        """A track's file, by its number from 0. Raises `UnknownRecording` and `StillRecording`."""
        kept = await self.get(recording)
        if kept.state == "recording":
            raise StillRecording(f"recording {recording} goes on; its files can be read when it is closed")
        for candidate in kept.tracks:
            if candidate.id == track and 0 <= number < len(candidate.segments):
                return candidate.segments[number]
        raise UnknownRecording(f"recording {recording} has no segment {number} of a track {track}")

    def path(self, recording: str) -> Path:
        """The folder of a recording. Raises `UnknownRecording`."""
        folder = self._folder(recording)
        if folder is None:
            raise UnknownRecording(f"there is no recording {recording}")
        return folder

    def media(self, recording: str, segment: Segment) -> Reader:
        """One of its files in the clear. It blocks, so it is for a thread. Raises OSError, `Unreadable` among them."""
        return self._storage.media(self._storage.folder(recording), segment)

    def opening(self, recording: str, segment: Segment) -> Opening:
        """As `media`, for another process that will read much of it. It may have to be fetched."""
        return self._storage.opening(self._storage.folder(recording), segment)

    def order(self, kept: Manifest, kind: str, options: Struct) -> Order:
        """What a process needs to export a recording. It blocks, for files may have to be fetched. Raises OSError."""
        return Order.of(kept, self._storage, kind, options)

    @asynccontextmanager
    async def export(
        self, recording: str, kind: str, options: Struct | None = None, progress: ExportProgress | None = None
    ) -> AsyncIterator[Path]:
        """A file (or folder) of one of `kinds.KINDS`, which goes at the end. A task that is cancelled stops the export.

        Raises `UnknownRecording`, `StillRecording`, `ExportError`, `ExportCancelled`.
        """
        chosen = kinds.find(kind)
        kept = await self.get(recording)
        if kept.state == "recording":
            raise StillRecording(f"recording {recording} goes on; it can be exported when it is closed")
        folder = self._folder(recording)
        assert folder is not None
        exports = self.folder / ".exports"
        exports.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=exports) as name:
            out = Path(name) / f"{recording}{chosen.suffix}"
            self._exporting[recording] += 1
            try:
                async with self._exports:
                    await _exported(chosen, folder, kept, out, options, progress or ExportProgress(), self._storage)
                yield out
            finally:
                self._exporting[recording] -= 1
                self._exporting += Counter()  # without those that nobody exports any more

    async def erase(self, recording: str, reason: str, now_us: int) -> None:
        """Destroy the key of an encrypted recording: what it holds can never be read again, by anybody. The manifest
        and a tombstone stay. A hold beats it.

        Raises `UnknownRecording`, `StillRecording`, `Held` and OSError, `Unreadable` among them.
        """
        kept = await self.get(recording)
        if kept.state == "recording":
            raise StillRecording(f"recording {recording} goes on; it can be erased when it is closed")
        folder = self._storage.folder(recording)

        def work() -> None:
            with sidecars.alone(folder):  # nobody places a hold meanwhile
                holds = [hold for hold in sidecars.load(folder, self._storage.read).holds if hold.lifted_us is None]
                if holds:
                    raise Held(f"recording {recording} is held by {holds[0].by or 'somebody'}: {holds[0].reason}")
                if said := self.disposals.distrust(folder, self._evidence.entry):
                    raise Held(f"recording {recording} is not erased: {said}")
                self._storage.erase(folder, Tombstone(1, recording, now_us, reason))

        await asyncio.to_thread(work)

    async def rewrap(self) -> tuple[int, list[str]]:
        """Put every recording's key under the master key in use. Gives how many were, and what failed, in words."""

        def work() -> tuple[int, list[str]]:
            done = 0
            failures = []
            for folder in self._storage.folders():
                try:
                    done += self._storage.rewrap(folder)
                except (OSError, KeysError) as error:
                    failures.append(str(error))
            return done, failures

        return await asyncio.to_thread(work)

    async def _open_catalog(self) -> None:
        try:
            await self._upkeep.open()
        except CatalogError as error:
            advice = "move it away, and the catalog is made anew from the recordings"
            raise ArchiveUnusable(f"the catalog {self._catalog.address} can't be used ({error}): {advice}") from error

    async def _live_matching(self, query: Query) -> list[Entry]:
        """The recordings that go on, the newest first."""
        live = [live.snapshot() for live in self._live()]

        def read() -> list[Entry]:
            found = [Entry(kept, sidecars.load(self._storage.folder(kept.id), self._storage.read)) for kept in live]
            return [entry for entry in found if matches(entry, query)]

        matching = await asyncio.to_thread(read) if live else []
        return sorted(matching, key=lambda entry: entry.manifest.started_us, reverse=True)

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
        ledger = Ledger.fold(journal.read(self._path))
        return ledger.manifest("recording", ledger.last_media_us())


async def _exported(
    kind: kinds.Kind, folder: Path, kept: Manifest, out: Path, options: Struct | None, progress: ExportProgress,
    storage: LocalStorage,
) -> None:  # fmt: skip
    """The export on a thread, which has ended when this ends: it writes into a folder that goes."""
    running = asyncio.create_task(asyncio.to_thread(kinds.export, kind, folder, kept, out, options, progress, storage))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        progress.stop()
        await asyncio.gather(running, return_exceptions=True)
        raise


def _manifest(folder: Path) -> Manifest | None:
    try:
        return withdrawn.what_is_left(manifest.decode((folder / manifest.NAME).read_bytes()), folder)
    except (OSError, ValueError):
        return None
