"""The way to the database: SQLite in a file or PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

POOL = 4
"""Connections that are kept; each is a thread (SQLite) or a process of the server (PostgreSQL)."""
BURST = 4
"""Connections beyond them, on a busy day."""
CONNECT_SECONDS = 5
COMMAND_SECONDS = 60
MIGRATION_LOCK = 7_366_021_905_118
"""Whoever changes the schema of a PostgreSQL database holds this lock."""


class CatalogError(Exception):
    """The database can't be used; the message says why."""


class CatalogUnreachable(CatalogError):
    """The database does not answer, for the time being; the message says why."""


def make_engine(url: str) -> AsyncEngine:
    """Raises `CatalogError` for a URL that can't be used."""
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+asyncpg")
        if parsed.drivername == "sqlite+aiosqlite":
            engine = create_async_engine(parsed, pool_size=POOL, max_overflow=BURST)
            event.listen(engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(engine.sync_engine, "begin", _begin_sqlite)
            return engine
        if parsed.drivername != "postgresql+asyncpg":
            raise CatalogError(f"{parsed.drivername}: a catalog is postgresql+asyncpg://USER@HOST/DATABASE or SQLite's")
        return create_async_engine(
            parsed,
            pool_size=POOL,
            max_overflow=BURST,
            pool_timeout=CONNECT_SECONDS,
            pool_pre_ping=True,  # after a restart of the database its old connections are dead
            pool_recycle=1800,
            connect_args={"timeout": CONNECT_SECONDS, "command_timeout": COMMAND_SECONDS},
        )
    except ModuleNotFoundError as error:
        raise CatalogError(
            f"PostgreSQL needs the extra `postgres`: pip install mediaserver[postgres] ({error})"
        ) from None
    except (ArgumentError, ValueError) as error:
        raise CatalogError(f"not a URL of a database: {error}") from None


async def migrate(engine: AsyncEngine) -> None:
    """Bring the schema to the newest step. Raises `CatalogError`."""
    with telling(engine):
        async with writing(engine) as connection:
            if engine.dialect.name == "postgresql":
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            await connection.run_sync(_upgrade)


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that changes something. SQLite takes the one writer's place at once: later it could be refused."""
    async with engine.connect() as connection:
        await connection.execution_options(writes=True)
        async with connection.begin():
            yield connection


@contextmanager
def telling(engine: AsyncEngine) -> Iterator[None]:
    """Errors of the database as `CatalogError` and `CatalogUnreachable`."""
    try:
        yield
    except CommandError as error:
        raise CatalogError(f"its schema is not one of this version: {error}") from error
    except (SQLAlchemyError, OSError) as error:
        reason = _reason(error)
        if engine.dialect.name == "postgresql" and _is_away(error):
            raise CatalogUnreachable(reason) from error
        raise CatalogError(reason) from error


def _is_away(error: Exception) -> bool:
    """Nothing is wrong with what was asked: there is nobody to ask, or nobody lets us in."""
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", None) or "")
        # Connection exceptions, not let in, no such database, out of resources, shutting down, internal errors.
        gone = state.startswith(("08", "28", "3D", "53", "57", "58"))
        return gone or error.connection_invalidated or isinstance(error, (InterfaceError, OperationalError))
    return isinstance(error, (OSError, PoolTimeout))


def _reason(error: Exception) -> str:
    """In one line, without the statement and its values: those may name a patient."""
    cause: object = getattr(error, "orig", None) or error
    if isinstance(cause, TimeoutError) or isinstance(error, PoolTimeout):
        return "no answer in time"
    if isinstance(cause, sqlite3.Error) or not isinstance(error, DBAPIError):
        return " ".join(str(cause).split()) or type(cause).__name__
    return " ".join(str(cause).partition("DETAIL:")[0].split()).partition(">: ")[2] or type(cause).__name__


def _prepare_sqlite(connection: Any, record: object) -> None:
    connection.isolation_level = None  # begin is ours
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "busy_timeout = 10000",
        "foreign_keys = ON",
        "secure_delete = ON",  # what was erased is overwritten
        "cache_size = -65536",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _upgrade(connection: Connection) -> None:
    config = Config()
    folder = str(Path(__file__).parents[1] / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
