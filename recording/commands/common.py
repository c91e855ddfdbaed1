"""What the commands of `mediaserver archive` have in common: where the archive is, and how it is opened."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, NoReturn, TypeVar

import msgspec
import typer

from mediaserver.recording import views
from mediaserver.recording.keys import PRIVATE, SigningKey, TrustedKeys, read_private
from mediaserver.recording.retention import NO_POLICY, Policy

# The archive brings the database's library with it: it is not wanted for a help text.
if TYPE_CHECKING:
    from mediaserver.recording.archive import Archive
    from mediaserver.recording.evidence import Evidence
    from mediaserver.recording.storage import LocalStorage

DAY_US = 86_400_000_000

ResultT = TypeVar("ResultT")


Noted = Literal["archive-erase", "archive-delete", "archive-retention", "break-glass-reviewed"]
"""What a command writes into the audit trail."""


class Stores(NamedTuple):
    """Where recordings lie, the catalog's URL, and how long they are kept."""

    storage: LocalStorage
    catalog: str = ""
    retention: Policy = NO_POLICY
    signer: SigningKey | None = None
    """The key that signs, where it is not the one in the data folder."""


class Place(NamedTuple):
    """The server's data folder, where the keys are whose signatures count, the catalog's URL, where recordings lie and
    how long."""

    data: Path
    keys: Path
    catalog: str
    storage: LocalStorage
    retention: Policy
    signer: SigningKey | None


class Asked(NamedTuple):
    """What the command line says of the server."""

    config: Path | None
    data: Path | None
    keys: Path | None
    catalog: str

    @property
    def place(self) -> Place:
        try:
            stores = stores_of(self.config, self.data)
        except BadSettings as error:
            fail(str(error))
        data = stores.storage.root.parent
        return Place(
            data,
            self.keys or data / "keys",
            self.catalog or stores.catalog,
            stores.storage,
            stores.retention,
            stores.signer,
        )


Identifier = Annotated[str, typer.Argument(metavar="ID", help="The recording, as `list` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


class BadSettings(Exception):
    """The settings can't be used; the message says why."""


def _plain_stores(config: Path | None, data: Path | None) -> Stores:
    from mediaserver.recording.storage import LocalStorage

    return Stores(LocalStorage((data or Path("data")) / "archive"))


def _no_audit(
    config: Path | None,
    data: Path | None,
    action: Noted,
    facts: Mapping[str, str],
) -> None:
    raise BadSettings("there is no audit trail here that this could be written to")


# What only a server's settings can say; `mediaserver.archive_command` puts it here.
stores_of: Callable[[Path | None, Path | None], Stores] = _plain_stores
write_audit: Callable[[Path | None, Path | None, Noted, Mapping[str, str]], None] = _no_audit


def with_archive(context: typer.Context, work: Callable[[Archive], Awaitable[ResultT]], alone: bool = False) -> ResultT:
    """Do `work` on the archive; errors that a user can cause become a sentence and exit code 2.

    Without `alone` a server may own the archive already, or take it meanwhile.
    """
    from mediaserver.recording.archive import (
        Archive,
        ArchiveInUse,
        ArchiveUnusable,
        Held,
        StillRecording,
        UnknownRecording,
    )
    from mediaserver.recording.catalog import BadCursor, CatalogError

    place: Place = context.obj.place
    storage = place.storage
    folder = storage.root

    async def run() -> ResultT:
        archive = Archive(
            folder,
            evidence=evidence_of(place),
            storage=storage,
            catalog=place.catalog,
            retention=place.retention,
            wall_us=wall_us,
        )
        try:
            await archive.open(wall_us())
            for failure in archive.failures:
                typer.echo(failure, err=True)
            if not alone:
                archive.share()
        except ArchiveInUse:
            if alone:
                raise
            await archive.open_to_read()
        try:
            return await work(archive)
        finally:
            await archive.close()

    if not folder.is_dir():
        fail(f"there is no archive in {place.data}: give the server's data folder by --data")
    try:
        return asyncio.run(run())
    except ArchiveInUse:
        fail(f"a server records into {folder}: stop it first, or wait until another command has ended")
    except UnknownRecording as error:
        fail(str(error.args[0]))
    except CatalogError as error:
        fail(f"the catalog can't be used: {error}")
    except BadCursor:
        raise
    except (ArchiveUnusable, Held, StillRecording, BadSettings, ValueError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def evidence_of(place: Place) -> Evidence | None:
    """None where no server with keys has been. Raises OSError and ValueError."""
    from mediaserver.recording.evidence import Evidence
    from mediaserver.recording.register import Register

    trusted, private = TrustedKeys.load(place.keys), place.data / "keys" / PRIVATE
    try:
        signer = place.signer or read_private(private.read_text(), str(private))
    except (FileNotFoundError, PermissionError):
        return Evidence(trusted) if trusted.ids else None
    register = Register(place.storage, signer, wall_us)
    return Evidence(trusted, signer, register, wall_us)


def wall_us() -> int:
    return time.time_ns() // 1000


def read_time(text: str, option: str, *, to_its_end: bool = False) -> int | None:
    try:
        if not text:
            return None
        return views.from_iso(text) + (DAY_US - 1 if to_its_end and len(text) == len("2026-01-31") else 0)
    except ValueError:
        raise typer.BadParameter(f"a date or a time after RFC 3339, not {text!r}", param_hint=option) from None


def fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(2)


def print_json(value: object) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
