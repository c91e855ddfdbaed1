"""The command `mediaserver report`: the page of a consultation from the report that the server kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, NoReturn

import typer


def report(
    session: Annotated[
        str,
        typer.Argument(
            metavar="SESSION", help="A recording's id, a room (its newest session), or a report's file, in any folder."
        ),
    ],
    data: Annotated[Path, typer.Option(metavar="DIR", help="The server's data folder.")] = Path("data"),
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The server's TOML file: the keys of encrypted recordings.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write the page; else SESSION.html.")
    ] = None,
) -> None:
    """Write the report of a consultation as a page: latency by segment, loss, floors, freezes."""
    from mediaserver.config import ConfigError
    from mediaserver.reports.page import ReportError, read_report, session_page

    found = find_report(session, data)
    if found is None:
        _fail(f"{session}: no file, and no recording or session of this name below {data}")
    try:
        page = session_page(read_report(_read(found, config)))
    except (OSError, ReportError, ConfigError) as error:
        _fail(f"{found}: {getattr(error, 'strerror', None) or error}")
    target = out or Path(f"{Path(session).stem}.html")
    try:
        target.write_text(page)
    except OSError as error:
        _fail(f"{target}: {error.strerror}")
    typer.echo(str(target))


def find_report(session: str, data: Path) -> Path | None:
    """The file of a report: as a path, by the id of a recording, by its own name, or the newest one of a room."""
    if Path(session).is_file():
        return Path(session)
    if not re.fullmatch(r"[\w.-]+", session):
        return None  # a name that is none must not lead out of the folder
    recorded = sorted((data / "archive").glob(f"**/{session}/report.json"))
    named = data / "reports" / f"{session.removesuffix('.json')}.json"
    of_room = sorted(path for path in (data / "reports").glob(f"*-{session}.json") if _room_of(path) == session)
    candidates = [*recorded, *([named] if named.is_file() else []), *reversed(of_room)]
    return candidates[0] if candidates else None


def _read(path: Path, config: Path | None) -> bytes:
    """In the clear. Raises OSError and `ConfigError`."""
    from mediaserver.archive_storage import make_storage
    from mediaserver.clock import Clock
    from mediaserver.config import load
    from mediaserver.recording.storage.sealed import MAGIC

    data = path.read_bytes()
    if not data.startswith(MAGIC):
        return data
    return make_storage(load(config), Clock()).decode(path, data)


def _room_of(path: Path) -> str:
    """A report's file is named by when its room was opened, and the room."""
    return path.stem.partition("-")[2]


def _fail(text: str) -> NoReturn:
    typer.echo(f"report: {text}", err=True)
    raise typer.Exit(2)
