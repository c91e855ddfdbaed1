"""The command `mediaserver archive`: its options and its commands, in the order of the help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mediaserver.recording.commands import additions, exports, find, keeping, trust, upkeep
from mediaserver.recording.commands.common import Asked

app = typer.Typer(help="Find, show, export and verify recordings.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def archive(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="The server's data folder.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The server's TOML file: where its recordings lie, and their keys."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The public keys to trust, in place of those in DIR/keys.")
    ] = None,
    catalog: Annotated[
        str, typer.Option(metavar="URL", envvar="MEDIASERVER_CATALOG_URL", help="The server's `catalog.url`.")
    ] = "",
) -> None:
    """Find, show, export and verify recordings."""
    context.obj = Asked(config, data, keys, catalog)


app.command("list")(find.list_recordings)
for command in (
    find.show, exports.export, exports.dicom, trust.verify, trust.audit, additions.identify, additions.hold,
    additions.release, keeping.retention, keeping.retain, keeping.dispose, keeping.glass, upkeep.rebuild,
    upkeep.rewrap, upkeep.erase,
):  # fmt: skip
    app.command()(command)
