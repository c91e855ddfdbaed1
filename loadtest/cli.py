"""The commands `mediaserver cart` and `mediaserver loadtest`."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from mediaserver.loadtest.run import Outcome
    from mediaserver.loadtest.scenario import LoadSettings
    from mediaserver.loadtest.target import Target

LOG_WIDTH = 132
"""Columns of the tables where there is no terminal to ask."""
DEFAULT_SOURCES = "camera,ultrasound,stethoscope,microphone"


def cart(
    url: Annotated[str, typer.Option(help="The server's HTTP address.", envvar="MEDIASERVER_URL")],
    room: Annotated[str, typer.Option(help="The room to join.")],
    token: Annotated[str, typer.Option(help="A token with the right to publish.", envvar="MEDIASERVER_TOKEN")],
    sources: Annotated[str, typer.Option(help="What to publish, separated by commas.")] = DEFAULT_SOURCES,
    name: Annotated[str, typer.Option(help="The name that others see.")] = "Synthetic cart",
    insecure: Annotated[bool, typer.Option("--insecure", help="Take any TLS certificate, for trials.")] = False,
) -> None:
    """Publish a synthetic consultation: a room camera, an ultrasound phantom, heart sounds and a voice."""
    import uvloop

    from mediaserver.loadtest.cart import CartRefused, CartSettings, run_cart
    from mediaserver.loadtest.loops import SOURCES

    wanted = tuple(part.strip() for part in sources.split(",") if part.strip())
    unknown = [source for source in wanted if source not in SOURCES]
    if unknown or not wanted:
        raise typer.BadParameter(f"choose from {', '.join(SOURCES)}", param_hint="--sources")
    settings = CartSettings(url, room, token, wanted, name, not insecure)

    def say(text: str) -> None:
        typer.echo(f"cart: {text}")

    try:
        uvloop.run(run_cart(settings, say))
    except CartRefused as error:
        typer.echo(f"cart: {error}", err=True)
        raise typer.Exit(1) from None


def loadtest(
    carts: Annotated[int, typer.Option(help="Carts, each in a room of its own.", min=1)] = 10,
    viewers: Annotated[int, typer.Option(help="Viewers of each cart.", min=0)] = 3,
    seconds: Annotated[float, typer.Option(help="How long to measure, after everyone has joined.", min=1)] = 20.0,
    url: Annotated[str, typer.Option(help="The server's HTTP address. Without it one is started for the run.")] = "",
    secret: Annotated[str, typer.Option(help="The secret of that server, to sign tokens with.")] = "",
    token: Annotated[str, typer.Option(help="In place of a secret: a token to publish and to subscribe.")] = "",
    room: Annotated[str, typer.Option(help="The room of that token.")] = "",
    server_pid: Annotated[int, typer.Option(help="The process of that server, to measure what it costs.")] = 0,
    profile: Annotated[
        Literal["ultrasound", "plain", "video", "audio"], typer.Option(help="What each cart publishes.")
    ] = "ultrasound",
    join: Annotated[Literal["ws", "whip"], typer.Option(help="By the WebSocket, or by WHIP and WHEP.")] = "ws",
    spin: Annotated[
        bool, typer.Option("--spin", help="Never sleep, so that the server does not pay for waking us. Takes a core.")
    ] = False,
    max_loss: Annotated[float, typer.Option(help="Loss after repair to allow, as a fraction.", min=0, max=1)] = 0.0,
    at_once: Annotated[int, typer.Option(help="Joins under way at a time.", min=1)] = 8,
    storm: Annotated[
        bool,
        typer.Option(
            "--storm",
            help="One cart that makes a keyframe only when asked, and viewers whose transports come up in one second.",
        ),
    ] = False,
    workers: Annotated[int, typer.Option(help="Workers of the server that is started.", min=0)] = 1,
    record: Annotated[Literal["off", "on"], typer.Option(help="Whether the server that is started records.")] = "off",
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the whole report.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Take any TLS certificate, for trials.")] = False,
) -> None:
    """Load a server with carts and viewers over real ICE, DTLS and SRTP, and judge it by the budgets.

    Exits with 1 when a budget is broken, with 2 when the test could not be made.
    """
    import msgspec
    import uvloop
    from rich.console import Console

    from mediaserver.loadtest.display import print_report
    from mediaserver.loadtest.report import judge
    from mediaserver.loadtest.scenario import LoadSettings
    from mediaserver.loadtest.target import TargetError

    settings = LoadSettings(
        carts=1 if storm else carts,
        viewers=viewers,
        seconds=seconds,
        profile="storm" if storm else profile,
        join=join,
        room=room,
        spin=spin,
        at_once=at_once,
        max_loss=max_loss,
        storm=storm,
        verify=not insecure,
    )
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    try:
        target = _named_target(url, secret, token, room, settings.carts, server_pid)
        outcome = uvloop.run(_load(settings, target, workers, record, console))
    except TargetError as error:
        typer.echo(f"loadtest: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    report = judge(outcome)
    print_report(console, report)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    raise typer.Exit(0 if report.passed else 1)


def _named_target(url: str, secret: str, token: str, room: str, carts: int, server_pid: int) -> Target | None:
    """The server that the command line names, or None for one of our own."""
    from mediaserver.loadtest.measure import Process
    from mediaserver.loadtest.target import Target, signer

    if not url:
        return None
    if bool(secret) == bool(token):
        raise typer.BadParameter("a named server needs either its secret or a token", param_hint="--secret, --token")
    if token and (not room or carts != 1):
        raise typer.BadParameter("a token is good for one room: name it, and take one cart", param_hint="--room")
    process = Process(server_pid) if server_pid else None
    return Target(url, signer(secret) if secret else lambda room, role: token, process)


async def _load(settings: LoadSettings, named: Target | None, workers: int, record: str, console: Console) -> Outcome:
    from mediaserver.loadtest.display import Progress
    from mediaserver.loadtest.run import LoadRun
    from mediaserver.loadtest.scenario import make_storm_streams, make_streams
    from mediaserver.loadtest.target import STORM_SERVER, own_server

    with Progress(console) as progress:
        progress.tell("drawing and encoding what the carts will send")
        make = make_storm_streams if settings.storm else partial(make_streams, settings.profile)
        streams = await asyncio.to_thread(make)
        async with contextlib.AsyncExitStack() as stack:
            if named is None:
                further = STORM_SERVER if settings.storm else {}
                named = await stack.enter_async_context(own_server(workers, record, further))
            return await LoadRun(settings, named, streams, progress.tell).run()
