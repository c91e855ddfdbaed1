"""What is in the archive, to be found quickly: a database that can be rebuilt from the manifests at any time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    ForeignKey,
    Integer,
    MetaData,
    Row,
    Select,
    String,
    Table,
    delete,
    event,
    func,
    insert,
    select,
)
from sqlalchemy import Column as C
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from mediaserver.recording.manifest import Manifest
from mediaserver.recording.views import RecordingList, RecordingView, TrackView, iso

_meta = MetaData()


def _recording() -> C[str]:
    return C("recording", String(64), ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True)


# The schema as the last step of `migrations` leaves it; a test compares the two.
recordings = Table(
    "recordings", _meta,
    C("id", String(64), primary_key=True), C("room", String, nullable=False), C("state", String(16), nullable=False),
    C("started_us", BigInteger, nullable=False), C("ended_us", BigInteger, nullable=False),
    C("digest", String(64), nullable=False), C("words", String, nullable=False),
)  # fmt: skip
participants = Table(
    "participants", _meta, _recording(),
    C("id", String, primary_key=True), C("name", String, nullable=False), C("role", String(16), nullable=False),
    C("joined_us", BigInteger, nullable=False),
)  # fmt: skip
tracks = Table(
    "tracks", _meta, _recording(),
    C("id", String(64), primary_key=True), C("position", Integer, nullable=False),
    C("source", String(32), nullable=False), C("kind", String(8), nullable=False),
    C("codec", String(16), nullable=False), C("label", String, nullable=False),
    C("participant", String, nullable=False),
)  # fmt: skip
segments = Table(
    "segments", _meta, _recording(),
    C("file", String, primary_key=True), C("track", String(64), nullable=False),
    C("position", Integer, nullable=False), C("container", String(8), nullable=False),
    C("codec", String(16), nullable=False), C("width", Integer, nullable=False), C("height", Integer, nullable=False),
    C("bytes", BigInteger, nullable=False), C("sha256", String(64), nullable=False),
    C("first_us", BigInteger, nullable=False), C("last_us", BigInteger, nullable=False),
)  # fmt: skip
gaps = Table(
    "gaps", _meta, _recording(),
    C("track", String(64), primary_key=True), C("position", Integer, primary_key=True),
    C("cause", String(16), nullable=False), C("packets", BigInteger, nullable=False),
    C("skipped", BigInteger, nullable=False), C("from_us", BigInteger, nullable=False),
    C("to_us", BigInteger, nullable=False),
)  # fmt: skip


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for; all that is given must match. Times are Unix times in µs."""

    room: str = ""
    source: str = ""
    from_us: int | None = None
    to_us: int | None = None
    """Recordings that go on at some time between the two."""
    text: str = ""
    """Each of its words must occur in the room's name, the id, a label or a participant's name."""
    rooms: Collection[str] | None = None
    """Only these rooms; None: all."""
    limit: int = 50
    offset: int = 0


class CatalogError(Exception):
    """The database can't be used; the message says why."""


class Catalog:
    """The database. Opened and used on one event loop."""

    def __init__(self, url: str) -> None:
        """An async SQLAlchemy URL, such as sqlite+aiosqlite:///file."""
        self._engine = create_async_engine(url)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine.sync_engine, "connect", _prepare_sqlite)

    async def open(self) -> None:
        """Bring the schema to the newest step. Raises `CatalogError`."""
        try:
            async with self._engine.begin() as connection:
                await connection.run_sync(_migrate)
        except (SQLAlchemyError, CommandError) as error:
            await self.close()
            raise CatalogError(str(getattr(error, "orig", None) or error)) from error

    async def close(self) -> None:
        await self._engine.dispose()

    async def put(self, manifest: Manifest) -> None:
        """Enter a recording, in the place of what was known of it."""
        async with self._engine.begin() as connection:
            await _remove(connection, manifest.id)
            await connection.execute(insert(recordings), _recording_row(manifest))
            for table, rows in _part_rows(manifest).items():
                if rows:
                    await connection.execute(insert(table), rows)

    async def remove(self, recording: str) -> None:
        async with self._engine.begin() as connection:
            await _remove(connection, recording)

    async def digests(self) -> dict[str, str]:
        """The digest of each recording's manifest, by recording."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(select(recordings.c.id, recordings.c.digest))
            return {row.id: row.digest for row in rows}

    async def room(self, recording: str) -> str | None:
        """The room of a recording; None when it is unknown."""
        async with self._engine.connect() as connection:
            return await connection.scalar(select(recordings.c.room).where(recordings.c.id == recording))

    async def find(self, query: Query) -> RecordingList:
        """A page of what matches, newest first."""
        matching = select(recordings).where(*_conditions(query))
        page = (
            matching.order_by(recordings.c.started_us.desc(), recordings.c.id).limit(query.limit).offset(query.offset)
        )
        async with self._engine.connect() as connection:
            total = await connection.scalar(select(func.count()).select_from(matching.subquery()))
            found = (await connection.execute(page)).all()
            views = await _views(connection, found)
        return RecordingList(total or 0, views)


def _prepare_sqlite(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "busy_timeout = 10000", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _migrate(connection: Connection) -> None:
    config = Config()
    folder = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def _remove(connection: AsyncConnection, recording: str) -> None:
    for table in (gaps, segments, tracks, participants):
        await connection.execute(delete(table).where(table.c.recording == recording))
    await connection.execute(delete(recordings).where(recordings.c.id == recording))


def _recording_row(manifest: Manifest) -> dict[str, Any]:
    words = [manifest.room, manifest.id, *(p.name for p in manifest.participants), *(t.label for t in manifest.tracks)]
    return {
        "id": manifest.id,
        "room": manifest.room,
        "state": manifest.state,
        "started_us": manifest.started_us,
        "ended_us": manifest.ended_us,
        "digest": manifest.digest,
        "words": " ".join(words).casefold(),
    }


def _part_rows(manifest: Manifest) -> dict[Table, list[dict[str, Any]]]:
    base = {"recording": manifest.id}
    return {
        participants: [base | msgspec.structs.asdict(participant) for participant in manifest.participants],
        tracks: [
            base | {"position": position, **_picked(track, tracks)} for position, track in enumerate(manifest.tracks)
        ],
        segments: [
            base | {"track": track.id, "position": position, **_picked(segment, segments)}
            for track in manifest.tracks
            for position, segment in enumerate(track.segments)
        ],
        gaps: [
            base | {"track": track.id, "position": position, **_picked(gap, gaps)}
            for track in manifest.tracks
            for position, gap in enumerate(track.gaps)
        ],
    }


def _picked(struct: msgspec.Struct, table: Table) -> dict[str, Any]:
    """Those fields of a struct that the table has."""
    return {name: value for name, value in msgspec.structs.asdict(struct).items() if name in table.c}


def _conditions(query: Query) -> Iterable[ColumnElement[bool]]:
    if query.room:
        yield recordings.c.room == query.room
    if query.rooms is not None:
        yield recordings.c.room.in_(query.rooms)
    if query.from_us is not None:
        yield recordings.c.ended_us >= query.from_us
    if query.to_us is not None:
        yield recordings.c.started_us <= query.to_us
    if query.source:
        yield recordings.c.id.in_(select(tracks.c.recording).where(tracks.c.source == query.source))
    for word in query.text.casefold().split():
        yield recordings.c.words.contains(word, autoescape=True)


async def _views(connection: AsyncConnection, found: Sequence[Row[Any]]) -> list[RecordingView]:
    by_recording: dict[str, list[TrackView]] = {row.id: [] for row in found}
    for row in (await connection.execute(_track_rows(list(by_recording)))).all():
        view = TrackView(
            id=row.id,
            source=row.source,
            kind=row.kind,
            codec=row.codec,
            label=row.label,
            participant=row.participant,
            duration_ms=((row.last_us or 0) - (row.first_us or 0)) // 1000,
            bytes=row.bytes or 0,
            width=row.width or 0,
            height=row.height or 0,
            gaps=row.gaps,
            segments=row.segments,
        )
        by_recording[row.recording].append(view)
    return [
        RecordingView(
            id=row.id,
            room=row.room,
            started=iso(row.started_us),
            ended=iso(row.ended_us),
            duration_ms=(row.ended_us - row.started_us) // 1000,
            state=row.state,
            tracks=by_recording[row.id],
        )
        for row in found
    ]


def _track_rows(ids: Sequence[str]) -> Select[Any]:
    """The tracks of these recordings, each with what its segments and gaps come to."""
    mine = (segments.c.recording == tracks.c.recording) & (segments.c.track == tracks.c.id)
    sums = {
        "segments": func.count(),
        "bytes": func.sum(segments.c.bytes),
        "first_us": func.min(segments.c.first_us),
        "last_us": func.max(segments.c.last_us),
    }
    last = select(segments.c.width, segments.c.height).where(mine).order_by(segments.c.position.desc()).limit(1)
    of_gaps = select(func.count()).where(gaps.c.recording == tracks.c.recording, gaps.c.track == tracks.c.id)
    return (
        select(
            tracks,
            *(select(value).where(mine).scalar_subquery().label(name) for name, value in sums.items()),
            last.with_only_columns(segments.c.width).scalar_subquery().label("width"),
            last.with_only_columns(segments.c.height).scalar_subquery().label("height"),
            of_gaps.scalar_subquery().label("gaps"),
        )
        .where(tracks.c.recording.in_(ids))
        .order_by(tracks.c.recording, tracks.c.position)
    )
