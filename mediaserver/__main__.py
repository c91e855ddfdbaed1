"""The command line: `mediaserver serve | cart | archive | report | loadtest | token`.

A command's module is imported when that command is called, so that `token` does not wait for the whole server.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from mediaserver import __version__

app = typer.Typer(
    name="mediaserver",
    help="A real-time media server for medical video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Commands of other folders: name -> (module, the function or the typer app in it).
ELSEWHERE = {
    "cart": ("mediaserver.loadtest.cli", "cart"),
    "loadtest": ("mediaserver.loadtest.cli", "loadtest"),
    "archive": ("mediaserver.archive_command", "app"),
    "report": ("mediaserver.reports.files", "report"),
}

ConfigFile = Annotated[Path | None, typer.Option("--config", help="A TOML file; `mediaserver config` prints one.")]
Http = Annotated[str | None, typer.Option(metavar="ADDR:PORT", help="Pages and signalling.")]
Udp = Annotated[str | None, typer.Option(metavar="ADDR:PORT", help="Media; the next workers take the next ports.")]
Tcp = Annotated[
    str | None, typer.Option(metavar="ADDR:PORT", help='Media without UDP; "same" as --udp is the default, or "off".')
]
Data = Annotated[str | None, typer.Option(metavar="DIR", help="The folder of the archive and the audit trail.")]
Workers = Annotated[int | None, typer.Option(help="Worker threads; 0 is one for each core.")]
Record = Annotated[Literal["off", "on", "request"] | None, typer.Option(help="Which rooms are recorded.")]
Tls = Annotated[Literal["off", "self-signed"] | None, typer.Option(help="HTTPS with a certificate of our own.")]
Announce = Annotated[
    list[str] | None, typer.Option(metavar="ADDR", help="An address for the clients, behind a 1:1 NAT. Repeatable.")
]
Secret = Annotated[str | None, typer.Option(metavar="S", help="The secret that tokens are signed with.")]


@app.callback(invoke_without_command=True)
def version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """A real-time media server for medical video."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def serve(
    http: Http = None,
    udp: Udp = None,
    tcp: Tcp = None,
    data: Data = None,
    secret: Secret = None,
    workers: Workers = None,
    record: Record = None,
    config: ConfigFile = None,
    tls: Tls = None,
    certificate: Annotated[str | None, typer.Option(metavar="FILE", help="PEM certificate chain, for HTTPS.")] = None,
    key: Annotated[str | None, typer.Option(metavar="FILE", help="PEM key of the certificate.")] = None,
    announce: Announce = None,
) -> None:
    """Run the server."""
    from mediaserver.run import run_server

    _run(
        run_server,
        config,
        {
            "http": {"address": http, "tls": tls, "certificate": certificate, "key": key},
            "media": {"udp": udp, "tcp": tcp, "workers": workers, "announce": announce},
            "auth": {"secret": secret},
            "recording": {"policy": record},
            "data": {"dir": data},
        },
    )


@app.command(hidden=True)
def demo(
    http: Http = None,
    udp: Udp = None,
    tcp: Tcp = None,
    data: Data = None,
    workers: Workers = None,
    record: Record = "on",
    config: ConfigFile = None,
    tls: Tls = None,
    announce: Announce = None,
) -> None:
    """Run the server with a synthetic cart, and print the addresses of the pages."""
    from mediaserver.run import run_demo

    _run(
        run_demo,
        config,
        {
            "http": {"address": http, "tls": tls},
            "media": {"udp": udp, "tcp": tcp, "workers": workers, "announce": announce},
            "recording": {"policy": record},
            "data": {"dir": data},
        },
    )


@app.command()
def token(
    room: Annotated[str, typer.Option(metavar="R", help='The room; "*" is every room, for archivists and operators.')],
    role: Annotated[
        Literal["cart", "doctor", "observer", "archivist", "operator"], typer.Option(help="What its holder is.")
    ],
    secret: Secret = None,
    rights: Annotated[
        str | None, typer.Option(help="Of publish,subscribe,record,admin; without it those of the role.")
    ] = None,
    name: Annotated[str, typer.Option(help="The name that others see.")] = "",
    recording: Annotated[
        Literal["required", "consent", "forbidden"] | None,
        typer.Option(help="Whose tracks may be recorded in the room; without it the server's settings say."),
    ] = None,
    hours: Annotated[float, typer.Option(help="How long it is good for.", min=0.01, max=24 * 366)] = 24.0,
    config: ConfigFile = None,
) -> None:
    """Make a token and print it alone."""
    from mediaserver import auth
    from mediaserver.clock import Clock
    from mediaserver.config import ConfigError, load
    from mediaserver.sfu.session.model import Role

    try:
        key = secret or load(config).auth.secret
        wanted = None if rights is None else auth.parse_rights(rights)
        made = auth.mint(
            key,
            room=room,
            role=Role(role),
            now=Clock().wall(),
            rights=wanted,
            name=name,
            ttl=hours * 3600,
            recording=recording,
        )
    except (ConfigError, ValueError) as error:
        _fail(str(error), 2)
    typer.echo(made)


@app.command("config", hidden=True)
def print_config() -> None:
    """Print the documented configuration file with all defaults."""
    from mediaserver.config import example

    typer.echo(example(), nl=False)


def _run(what: Any, path: Path | None, flags: dict[str, dict[str, Any]]) -> None:
    from mediaserver.config import ConfigError, load
    from mediaserver.net import StartError

    try:
        what(load(path, flags=flags))
    except ConfigError as error:
        _fail(str(error), 2)
    except StartError as error:
        _fail(str(error), 1)


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(f"mediaserver: {text}", err=True)
    raise typer.Exit(code)


def _mount(name: str) -> None:
    """Import a command of another folder."""
    module, attribute = ELSEWHERE[name]
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=name)
    else:
        app.command(name)(found)


def main() -> None:
    """The entry point of `mediaserver` and `python -m mediaserver`."""
    named = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)
    if named is None and "--version" not in sys.argv:
        for name in ELSEWHERE:
            _mount(name)
    elif named in ELSEWHERE:
        _mount(named)
    app()


if __name__ == "__main__":
    main()
