"""Keeps the catalog as the folders are.

The folders are right and the catalog follows. Before somebody's addition to a recording is written, an empty file with
the recording's name is laid into `<archive>/.behind`, and it goes when the catalog has it: so nothing is lost between
the two, whatever breaks. While the database does not answer, that is all that happens; once it does, the marked
recordings and those that it has never seen are entered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import msgspec

from mediaserver.recording import journal, manifest, sidecars, withdrawn
from mediaserver.recording.catalog import Catalog, CatalogError, CatalogUnreachable, Entry
from mediaserver.recording.storage import LocalStorage

BATCH = 500
"""Recordings entered in one step."""
RETRY_SECONDS = 5.0
PATIENCE_SECONDS = 10.0
"""How long an archive that is being opened waits for the catalog to catch up; it goes on to do so afterwards."""
_REBUILD = "rebuild"


class Progress(msgspec.Struct, frozen=True):
    """How far a rebuild has come."""

    done: int
    total: int


class Upkeep:
    """The catalog of one archive and what makes it follow. On the event loop; disks are read on other threads."""

    def __init__(self, storage: LocalStorage, catalog: Catalog, on_change: Callable[[str], None]) -> None:
        """`on_change` is told in words why the database can't be used, and an empty string when it can again."""
        self.trouble = ""
        """Why the database can't be used."""
        self._storage = storage
        self._catalog = catalog
        self._on_change = on_change
        self._marks = storage.root / ".behind"
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._tried = asyncio.Event()
        self._opened = False

    async def open(self) -> None:
        """Raises `CatalogError` when it can't be used; that it can't be reached is only told."""
        try:
            await self._open()
        except CatalogUnreachable as error:
            self._tell(str(error))

    async def follow(self) -> None:
        """Catch up, now and whenever it has to be; gives the control back after a while, done or not."""
        self._wake.set()
        self._task = asyncio.create_task(self._run(), name="catalog")
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._tried.wait()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._catalog.close()

    def mark(self, recording: str) -> None:
        """Its entry is older than its folder, from now until `enter`. Raises OSError."""
        self._marks.mkdir(exist_ok=True)
        (self._marks / recording).touch()

    async def enter(self, recording: str) -> None:
        """Enter a recording as its folder is; one of which nothing is left goes from the catalog.

        While the database can't be used, it stays marked and is entered later.
        """
        try:
            await self._enter(recording)
        except CatalogError as error:
            await asyncio.to_thread(self.mark, recording)
            self._tell(str(error))
            self._wake.set()

    async def rebuild(self, progress: Callable[[Progress], None] = lambda progress: None) -> int:
        """Enter every recording anew and drop those that are gone; gives how many there are.

        After an interruption it goes on where it was. Raises `CatalogError`.
        """
        folders = await asyncio.to_thread(lambda: list(self._storage.folders()))
        folders.sort(key=lambda folder: folder.name)
        done_to = await self._catalog.mark(_REBUILD) or ""
        done = sum(folder.name <= done_to for folder in folders)
        await self._drop_gone()
        progress(Progress(done, len(folders)))
        for start in range(done, len(folders), BATCH):
            batch = folders[start : start + BATCH]
            await self._enter_folders(batch, mark=(_REBUILD, batch[-1].name))
            progress(Progress(start + len(batch), len(folders)))
        await self._catalog.tidy()
        await self._catalog.clear_mark(_REBUILD)
        return len(folders)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._open()
                await self._catch_up()
                self._tell("")
            except CatalogError as error:
                self._tell(str(error))
            except OSError as error:
                self._tell(f"the archive can't be read: {error.strerror}")
            self._tried.set()
            if self.trouble:
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def _open(self) -> None:
        if not self._opened:
            await self._catalog.open()
            self._opened = True

    async def _catch_up(self) -> None:
        """Enter what is marked and what the catalog has never seen."""
        for recording in await asyncio.to_thread(self.marked):
            await self._enter(recording)
        days = await asyncio.to_thread(self._days)
        for prefix, folders in days:
            known = await self._catalog.known(prefix)
            missing = [folder for folder in folders if folder.name not in known]
            for start in range(0, len(missing), BATCH):
                await self._enter_folders(missing[start : start + BATCH])

    def marked(self) -> list[str]:
        """The recordings whose entries are older than their folders, and those whose disposal was interrupted."""
        with suppress(FileNotFoundError):
            return sorted(path.name for path in self._marks.iterdir())
        return []

    def _days(self) -> list[tuple[str, list[Path]]]:
        """The folders by the day that their names begin with."""
        return [(prefix, list(own)) for prefix, own in groupby(self._storage.folders(), lambda folder: folder.name[:8])]

    async def _enter(self, recording: str) -> None:
        folder = self._storage.find(recording)
        if folder is None or not (folder / journal.NAME).exists():  # else it goes on, and is entered when it is closed
            entry = await asyncio.to_thread(read, self._storage, folder) if folder else None
            if entry is None:
                await self._catalog.remove(recording)
            else:
                await self._catalog.put_many([entry])
        if folder is None or not _goes(self._storage, folder):
            with suppress(FileNotFoundError):
                (self._marks / recording).unlink()

    async def _enter_folders(self, folders: list[Path], *, mark: tuple[str, str] | None = None) -> None:
        found = await asyncio.to_thread(lambda: [(folder.name, read(self._storage, folder)) for folder in folders])
        for recording in [recording for recording, entry in found if entry is None]:
            await self._catalog.remove(recording)
        await self._catalog.put_many([entry for _, entry in found if entry], mark=mark)

    async def _drop_gone(self) -> None:
        after = ""
        while ids := await self._catalog.ids(after, BATCH):
            after = ids[-1]
            for gone in await asyncio.to_thread(self._gone, ids):
                await self._catalog.remove(gone)

    def _gone(self, ids: list[str]) -> list[str]:
        folders = ((recording, self._storage.find(recording)) for recording in ids)
        return [recording for recording, folder in folders if not (folder and (folder / manifest.NAME).exists())]

    def _tell(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._on_change(trouble)


def _goes(storage: LocalStorage, folder: Path) -> bool:
    """Its disposal has begun and not ended."""
    return storage.is_leaving(folder) and (folder / manifest.NAME).exists()


def read(storage: LocalStorage, folder: Path) -> Entry | None:
    """What a folder says of itself; None when its manifest can't be read, or it goes."""
    if storage.is_leaving(folder):
        return None
    try:
        kept = manifest.decode((folder / manifest.NAME).read_bytes())
        return Entry(withdrawn.what_is_left(kept, folder), sidecars.load(folder, storage.read))
    except (OSError, ValueError):
        return None
