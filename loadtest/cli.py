"""The commands `mediaserver cart` and `mediaserver loadtest`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from mediaserver.loadtest.generator import Options
    from mediaserver.loadtest.measure import Process
    from mediaserver.loadtest.outcome import Outcome
    from mediaserver.loadtest.report import Report
    from mediaserver.loadtest.scenario import Scenario
    from mediaserver.loadtest.search import Found
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
    settings = CartSettings(_server(url), room, token, wanted, name, not insecure)

    def say(text: str) -> None:
        typer.echo(f"cart: {text}")

    try:
        uvloop.run(run_cart(settings, say))
    except CartRefused as error:
        typer.echo(f"cart: {error}", err=True)
        raise typer.Exit(1) from None


def loadtest(
    scenario: Annotated[
        str, typer.Option(metavar="FILE", help="A TOML file, or the name of a scenario that ships; flags go before it.")
    ] = "",
    carts: Annotated[
        int | None, typer.Option("--carts", "--consultations", help="Carts, each in a room of its own: 10.", min=1)
    ] = None,
    viewers: Annotated[int | None, typer.Option(help="Viewers of each cart: 3.", min=0)] = None,
    seconds: Annotated[
        float | None, typer.Option(help="How long to measure, after everyone has joined: 20.", min=1)
    ] = None,
    url: Annotated[str, typer.Option(help="The server's HTTP address. Without it one is started for the run.")] = "",
    secret: Annotated[str, typer.Option(help="The secret of that server, to sign tokens with.")] = "",
    token: Annotated[str, typer.Option(help="In place of a secret: a token to publish and to subscribe.")] = "",
    room: Annotated[str, typer.Option(help="The room of that token.")] = "",
    server_pid: Annotated[
        int, typer.Option("--pid", "--server-pid", help="The process of that server, to measure what it costs.")
    ] = 0,
    target: Annotated[
        Literal["mediaserver", "whip"], typer.Option(help="What the server is: this one, or any with WHIP and WHEP.")
    ] = "mediaserver",
    whip: Annotated[
        str, typer.Option(metavar="URL", help="Where to publish; {room} and {sources} are filled in.")
    ] = "",
    whep: Annotated[str, typer.Option(metavar="URL", help="Where to view; {room} is filled in.")] = "",
    auth_header: Annotated[
        str, typer.Option(help="How a token is given to such a server.")
    ] = "Authorization: Bearer {token}",
    profile: Annotated[
        Literal["ultrasound", "plain", "video", "audio"] | None,
        typer.Option(help="What each cart publishes: ultrasound."),
    ] = None,
    join: Annotated[
        Literal["ws", "whip"] | None, typer.Option(help="By the WebSocket, or by WHIP and WHEP: ws.")
    ] = None,
    spin: Annotated[
        bool, typer.Option("--spin", help="Never sleep, so that the server does not pay for waking us. Takes a core.")
    ] = False,
    open_every: Annotated[
        int,
        typer.Option(
            "--open",
            help="Open (authenticate and decrypt) one viewer in so many whole, of the others one packet in so many and "
            "all that comes out of turn; 1: everything.",
            min=1,
            max=65536,
        ),
    ] = 16,
    max_loss: Annotated[
        float | None, typer.Option(help="Loss after repair to allow, as a fraction: 0.", min=0, max=1)
    ] = None,
    at_once: Annotated[int | None, typer.Option(help="Joins under way at a time: 8.", min=1)] = None,
    decode: Annotated[
        int | None, typer.Option(help="Viewers whose pictures are decoded, for the time from glass to glass: 1.", min=0)
    ] = None,
    ramp: Annotated[float | None, typer.Option(help="Seconds over which the rooms open: 0.", min=0)] = None,
    storm: Annotated[
        bool,
        typer.Option(
            "--storm",
            help="One cart that makes a keyframe only when asked, and viewers whose transports come up in one second.",
        ),
    ] = False,
    processes: Annotated[int, typer.Option(help="Processes of the generator.", min=1, max=64)] = 1,
    search: Annotated[
        Literal["consultations"] | None, typer.Option(help="Find how many are carried within budget.")
    ] = None,
    search_limit: Annotated[int, typer.Option(help="The most that a search tries.", min=1)] = 4096,
    workers: Annotated[int, typer.Option(help="Workers of the server that is started.", min=0)] = 1,
    record: Annotated[
        Literal["off", "on"] | None, typer.Option(help="Whether the server that is started records: off.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the whole report.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="The same as a page that opens anywhere.")] = None,
    junit_file: Annotated[Path | None, typer.Option("--junit", help="The budgets as JUnit XML, for CI.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Take any TLS certificate, for trials.")] = False,
) -> None:
    """Load a server with carts and viewers over real ICE, DTLS and SRTP, and judge it by the budgets.

    Exits with 1 when a budget is broken, with 2 when the test could not be made.
    """
    import uvloop
    from rich.console import Console

    from mediaserver.loadtest.generator import Options
    from mediaserver.loadtest.scenario import ScenarioError
    from mediaserver.loadtest.target import TargetError

    fields = {"seconds": seconds, "join": join, "max_loss": max_loss, "at_once": at_once, "record": record}
    fields |= {"ramp_seconds": ramp, "consultations": carts, "decoded_viewers": decode}
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    try:
        played = _scenario(scenario, profile, viewers, fields, storm=storm)
        named = _named_target(url, secret, token, room, played.consultations, server_pid)
        if target == "whip":
            named, played = _whip_target(whip, whep, auth_header, token, server_pid, played)
        own_room = room if token and target == "mediaserver" else ""
        options = Options(processes, spin, not insecure, own_room, open_every)
        if played.storm and (processes > 1 or search):
            raise ScenarioError("storm: a storm is made by one process, and there is nothing to search for")
        if search:
            found = uvloop.run(_search(played, named, workers, options, search_limit, console))
        else:
            outcome = uvloop.run(_load(played, named, workers, options, console))
    except (TargetError, ScenarioError) as error:
        typer.echo(f"loadtest: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    files = (json_file, html_file, junit_file)
    raise typer.Exit(_conclude_search(console, found, *files) if search else _conclude(console, outcome, *files))


def _scenario(name: str, profile: str | None, viewers: int | None, fields: dict[str, Any], *, storm: bool) -> Scenario:
    """What is to be played: a file's scenario or that of a profile, with what the flags say before either."""
    from mediaserver.loadtest import scenario

    given = {key: value for key, value in fields.items() if value is not None}
    if not name:
        count = 3 if viewers is None else viewers
        if storm:
            given |= {"storm": True, "consultations": 1}
        return scenario.of_profile(
            "storm" if storm else profile or "ultrasound", count, **{"consultations": 10} | given
        )
    return scenario.override(scenario.load(name), given, profile, viewers)


def _named_target(url: str, secret: str, token: str, room: str, carts: int, server_pid: int) -> Target | None:
    """The server that the command line names, or None for one of our own."""
    from mediaserver.loadtest.target import FixedToken, Signer, Target

    if not url:
        return None
    if bool(secret) == bool(token):
        raise typer.BadParameter("a named server needs either its secret or a token", param_hint="--secret, --token")
    if token and (not room or carts != 1):
        raise typer.BadParameter("a token is good for one room: name it, and take one cart", param_hint="--room")
    process = _process(server_pid)
    return Target(_server(url), Signer(secret) if secret else FixedToken(token), process)


def _server(url: str) -> str:
    """The address, when it can be one of a server."""
    from mediaserver.loadtest.signalling import socket_url

    try:
        socket_url(url)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from None
    return url


def _process(pid: int) -> Process | None:
    """The process to be measured, when one is named."""
    from mediaserver.loadtest.measure import Process

    if not pid:
        return None
    process = Process(pid)
    try:
        process.sample()
    except OSError as error:
        raise typer.BadParameter(f"process {pid} can't be looked at: {error.strerror}", param_hint="--pid") from None
    return process


def _whip_target(
    whip: str, whep: str, header: str, token: str, server_pid: int, scenario: Scenario
) -> tuple[Target, Scenario]:
    """Any server with WHIP and WHEP."""
    import msgspec

    from mediaserver.loadtest.join import WhipUrls
    from mediaserver.loadtest.target import FixedToken, Target

    if not whip or not whep or "{room}" not in whip or "{room}" not in whep:
        raise typer.BadParameter("give both addresses, each with {room} in it", param_hint="--whip, --whep")
    urls = WhipUrls(whip, whep, header)
    target = Target(whip, FixedToken(token), _process(server_pid), urls)
    return target, msgspec.structs.replace(scenario, join="whip")


async def _load(scenario: Scenario, named: Target | None, workers: int, options: Options, console: Console) -> Outcome:
    from mediaserver.loadtest.display import Progress
    from mediaserver.loadtest.generator import play
    from mediaserver.loadtest.target import STORM_SERVER, own_server

    with Progress(console) as progress:
        async with contextlib.AsyncExitStack() as stack:
            if named is None:
                further = STORM_SERVER if scenario.storm else {}
                named = await stack.enter_async_context(own_server(workers, scenario.record, further))
            return await play(scenario, named, progress.tell, options)


async def _search(
    scenario: Scenario, named: Target | None, workers: int, options: Options, limit: int, console: Console
) -> Found:
    from mediaserver.loadtest.report import judge
    from mediaserver.loadtest.search import Searcher

    async def step(consultations: int) -> Report:
        import msgspec

        more = msgspec.structs.replace(scenario, consultations=consultations)
        return judge(await _load(more, named, workers, options, console))

    return await Searcher(step, lambda text: console.print(f"loadtest: {text}", highlight=False), limit).run(
        scenario.consultations
    )


def _conclude(
    console: Console, outcome: Outcome, json_file: Path | None, html_file: Path | None, junit_file: Path | None
) -> int:
    """Show and write the report; the exit code."""
    from mediaserver.loadtest.display import print_report
    from mediaserver.loadtest.report import judge

    report = judge(outcome)
    print_report(console, report)
    _write(report, None, json_file, html_file, junit_file)
    return 0 if report.passed else 1


def _conclude_search(
    console: Console, found: Found, json_file: Path | None, html_file: Path | None, junit_file: Path | None
) -> int:
    """The same of a search; the report is that of its last step that was judged, with the steps."""
    from mediaserver.loadtest.display import print_search

    print_search(console, found)
    _write(found.report, found, json_file, html_file, junit_file)
    return 0 if found.most else 1


def _write(
    report: Report, found: Found | None, json_file: Path | None, html_file: Path | None, junit_file: Path | None
) -> None:
    import msgspec

    from mediaserver.loadtest.junit import junit
    from mediaserver.loadtest.page import load_page

    if json_file is not None:
        told = msgspec.to_builtins(report) | {"passed": report.passed, "own_limit": report.own_limit}
        if found is not None:
            told["search"] = msgspec.to_builtins(found.told())
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(told)))
    if html_file is not None:
        html_file.write_text(load_page(report, found))
    if junit_file is not None:
        junit_file.write_bytes(junit(report))
