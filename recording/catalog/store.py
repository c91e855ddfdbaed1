"""The catalog as one object."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec
from sqlalchemy import Table, bindparam, delete, false, func, insert, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from mediaserver.recording.catalog import search
from mediaserver.recording.catalog.engine import make_engine, migrate, telling, writing
from mediaserver.recording.catalog.query import Query
from mediaserver.recording.catalog.rows import Entry, Row, part_rows, recording_row, wanted_place
from mediaserver.recording.catalog.schema import PARTS, accesses, marks, recordings
from mediaserver.recording.manifest import Manifest
from mediaserver.recording.sidecars import Sidecars
from mediaserver.recording.views import RecordingList


class Access(msgspec.Struct, frozen=True):
    """That somebody looked at a recording: how often, and when first and last. The audit trail has each time."""

    who: str
    action: str
    first_us: int
    last_us: int
    times: int


class Catalog:
    """The database. Opened and used on one event loop.

    Every method raises `CatalogUnreachable` while the database does not answer, `CatalogError` when it can't be used.
    """

    def __init__(self, url: str) -> None:
        """An async SQLAlchemy URL: sqlite+aiosqlite:///file or postgresql+asyncpg://user@host/database.

        Raises `CatalogError` for any other.
        """
        self._engine = make_engine(url)

    @property
    def address(self) -> str:
        """Where it is, without a password."""
        url = self._engine.url
        return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)

    async def open(self) -> None:
        """Bring the schema to the newest step."""
        try:
            await migrate(self._engine)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self._engine.dispose()

    async def put(self, manifest: Manifest, sidecars: Sidecars | None = None) -> None:
        """Enter a recording, in the place of what was known of it."""
        await self.put_many([Entry(manifest, sidecars or Sidecars())])

    async def put_many(self, entries: Sequence[Entry], *, mark: tuple[str, str] | None = None) -> None:
        """Enter recordings, all or none; with `mark`, a name and a value, say in the same step how far one has come."""
        async with self._writing() as connection:
            if entries:
                await _put(connection, {entry.manifest.id: entry for entry in entries})
            if mark:
                await _set_mark(connection, *mark)

    async def remove(self, recording: str) -> None:
        async with self._writing() as connection:
            await connection.execute(delete(accesses).where(accesses.c.recording == recording))
            await connection.execute(delete(recordings).where(recordings.c.id == recording))

    async def known(self, prefix: str) -> set[str]:
        """The recordings that are entered whole, of those whose id begins so (a day: 20260921)."""
        mine = (recordings.c.id >= prefix) & (recordings.c.id < prefix + "~") & (recordings.c.digest != "")
        async with self._reading() as connection:
            return set(await connection.scalars(select(recordings.c.id).where(mine)))

    async def ids(self, after: str, limit: int) -> list[str]:
        """The recordings in the order of their ids."""
        page = select(recordings.c.id).where(recordings.c.id > after).order_by(recordings.c.id).limit(limit)
        async with self._reading() as connection:
            return list(await connection.scalars(page))

    async def tidy(self) -> None:
        """After many entries at once: let the database count what it holds, so that it plans well, and throw away what
        its index of words still has of words that are gone. Minutes, where there is a million."""
        async with self._writing() as connection:
            if connection.dialect.name == "sqlite":
                await connection.execute(text("INSERT INTO found(found) VALUES ('optimize')"))
            await connection.execute(text("ANALYZE"))

    async def due(self, cutoffs: Mapping[str, int], after: str, limit: int) -> list[str]:
        """The recordings of each class that ended by its time (Unix time in µs), in the order of their ids, from behind
        the id `after` on. The class "" is of those that were given none."""
        over = [(recordings.c.retention == name) & (recordings.c.ended_us <= end) for name, end in cutoffs.items()]
        page = select(recordings.c.id).where(recordings.c.id > after, or_(false(), *over))
        async with self._reading() as connection:
            return list(await connection.scalars(page.order_by(recordings.c.id).limit(limit)))

    async def retained(self) -> dict[str, int]:
        """How many recordings each class has."""
        counted = select(recordings.c.retention, func.count()).group_by(recordings.c.retention)
        async with self._reading() as connection:
            return {row[0]: row[1] for row in await connection.execute(counted)}

    async def room(self, recording: str) -> str | None:
        """The room of a recording; None when it is unknown."""
        async with self._reading() as connection:
            return await connection.scalar(select(recordings.c.room).where(recordings.c.id == recording))

    async def find(self, query: Query) -> RecordingList:
        """A page of what matches, newest first. Raises `BadCursor`."""
        async with self._reading() as connection:
            return await search.find(connection, query)

    async def record_access(self, recording: str, who: str, action: str, at_us: int) -> None:
        """Count that `who` looked at a recording."""
        row = {"recording": recording, "who": who, "action": action, "first_us": at_us, "last_us": at_us, "times": 1}
        async with self._writing() as connection:
            changes = {"last_us": at_us, "times": accesses.c.times + 1}
            await _upsert(connection, accesses, row, changes)

    async def accesses(self, recording: str) -> list[Access]:
        """Who looked at a recording, the last one first."""
        mine = select(accesses).where(accesses.c.recording == recording).order_by(accesses.c.last_us.desc())
        async with self._reading() as connection:
            rows = await connection.execute(mine)
            return [Access(row.who, row.action, row.first_us, row.last_us, row.times) for row in rows]

    async def mark(self, name: str) -> str | None:
        """How far work of this name has come; None when it is not under way."""
        async with self._reading() as connection:
            return await connection.scalar(select(marks.c.value).where(marks.c.name == name))

    async def clear_mark(self, name: str) -> None:
        async with self._writing() as connection:
            await connection.execute(delete(marks).where(marks.c.name == name))

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        with telling(self._engine):
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        with telling(self._engine):
            async with writing(self._engine) as connection:
                yield connection


async def _put(connection: AsyncConnection, entries: dict[str, Entry]) -> None:
    kept = select(recordings.c.id, recordings.c.place, recordings.c.started_us)
    known = {row.id: row for row in await connection.execute(kept.where(recordings.c.id.in_(entries)))}
    moved = {name for name, row in known.items() if row.started_us != entries[name].manifest.started_us}
    places = {row.id: row.place for row in known.values() if row.id not in moved}
    missing = [entry.manifest for name, entry in entries.items() if name not in places]
    places |= await _free_places(connection, missing)
    rows = {name: recording_row(entry, places[name]) for name, entry in entries.items()}
    if known:
        for table in PARTS:
            await connection.execute(delete(table).where(table.c.recording.in_(known)))
        changes = [{f"_{key}": value for key, value in rows[name].items()} for name in known]
        values: Row = {key: bindparam(f"_{key}") for key in rows[next(iter(known))] if key != "id"}
        await connection.execute(update(recordings).where(recordings.c.id == bindparam("_id")).values(values), changes)
    fresh = [row for name, row in rows.items() if name not in known]
    if fresh:
        await connection.execute(insert(recordings), fresh)
    parts: dict[Table, list[Row]] = {table: [] for table in PARTS}
    for entry in entries.values():
        for table, own in part_rows(entry).items():
            parts[table] += own
    for table, own in parts.items():
        if own:
            await connection.execute(insert(table), own)


async def _free_places(connection: AsyncConnection, manifests: Sequence[Manifest]) -> dict[str, int]:
    """A place for each, no other recording's: where two began within 16 µs the later comer steps behind."""
    wanted = {manifest.id: wanted_place(manifest.started_us) for manifest in manifests}
    where = recordings.c.place.in_(wanted.values())
    taken = set(await connection.scalars(select(recordings.c.place).where(where))) if wanted else set()
    places = {}
    for name, place in sorted(wanted.items(), key=lambda item: (item[1], item[0])):
        while place in taken:
            place += 1
            if await connection.scalar(select(recordings.c.id).where(recordings.c.place == place)):
                taken.add(place)
        taken.add(place)
        places[name] = place
    return places


async def _set_mark(connection: AsyncConnection, name: str, value: str) -> None:
    await _upsert(connection, marks, {"name": name, "value": value}, {"value": value})


async def _upsert(connection: AsyncConnection, table: Table, row: Row, changes: Row) -> None:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = dialect.insert(table).values(row)
    await connection.execute(new.on_conflict_do_update(index_elements=list(table.primary_key), set_=changes))
