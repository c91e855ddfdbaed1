"""`mediaserver serve` and the demonstration that `make run` starts: a server, and its end by Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import resource
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from urllib.parse import quote, urlencode

import structlog
import typer
import uvloop

from mediaserver import __version__
from mediaserver.auth import ANY_ROOM, STRONG_SECRET
from mediaserver.net import machine_addresses
from mediaserver.server import MediaServer
from mediaserver.settings import Config, Endpoint, LogSettings
from mediaserver.sfu.session.model import Role
from mediaserver.sfu.wire import gcm

DEMO_ROOM = "demo"
CART_SECONDS = 5.0
"""How long the cart may take to leave."""
PR_SET_PDEATHSIG = 1
OPEN_FILES = 65_536


def run_server(settings: Config) -> None:
    """Serve until SIGINT or SIGTERM."""
    _set_up(settings)
    uvloop.run(_serve(settings))


def run_demo(settings: Config) -> None:
    """Serve with a synthetic cart beside until SIGINT or SIGTERM."""
    _set_up(settings)
    uvloop.run(_demo(settings))


def _set_up(settings: Config) -> None:
    set_up_logs(settings.log)
    # Each signalling client is a file descriptor, and the soft limit is 1024 on most systems.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def set_up_logs(settings: LogSettings) -> None:
    """Our own words by structlog, the libraries' through it, all to the standard error stream."""
    level = getattr(logging, settings.level.upper())
    renderer = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        # Its own way with exceptions prints the values of variables: tokens, keys, whom a recording is about.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper("iso"),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info if settings.format == "json" else _keep,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        stream=sys.stderr, level=max(level, logging.WARNING), format="%(levelname)s %(name)s: %(message)s"
    )


async def _serve(settings: Config) -> None:
    async with _until_stopped(settings) as (server, stop):
        _tell(server)
        await stop.wait()


async def _demo(settings: Config) -> None:
    async with _until_stopped(settings) as (server, stop):
        token = server.token(room=DEMO_ROOM, role=Role.CART, name="Synthetic cart")
        _tell(server)
        cart = await _start_cart(server, token)
        ended = asyncio.create_task(cart.wait())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                command = " ".join(_cart_command(server, token)[1:])
                typer.echo(f"The synthetic cart has ended with code {cart.returncode}; the server goes on.")
                typer.echo(f"Start another with: {command}")
                await stop.wait()
        finally:
            stopped.cancel()
            await _end_cart(cart)
            await ended


@contextlib.asynccontextmanager
async def _until_stopped(settings: Config) -> AsyncIterator[tuple[MediaServer, asyncio.Event]]:
    """A server, and an event for the first SIGINT or SIGTERM; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        stop.set()  # first: whoever read our words may have gone
        typer.echo("\nStopping.")

    async with MediaServer(settings) as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        yield server, stop
    typer.echo("Stopped.")


def _cart_command(server: MediaServer, token: str) -> list[str]:
    command = [sys.executable, "-m", "mediaserver", "cart", "--url", server.url, "--room", DEMO_ROOM, "--token", token]
    return [*command, "--insecure"] if server.secure else command


async def _start_cart(server: MediaServer, token: str) -> asyncio.subprocess.Process:
    # A session of its own: Ctrl-C comes to us alone, and we end the cart in order.
    return await asyncio.create_subprocess_exec(
        *_cart_command(server, token),
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )


def _end_with_parent() -> None:
    """In the child: be terminated when the server dies without a goodbye, as by SIGKILL (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


async def _end_cart(cart: asyncio.subprocess.Process) -> None:
    if cart.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        cart.terminate()
    try:
        async with asyncio.timeout(CART_SECONDS):
            await cart.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            cart.kill()


def _tell(server: MediaServer) -> None:
    """Print where everything is."""
    settings = server.config
    lines = [f"mediaserver {__version__}", ""]
    for page, role, room in (
        ("viewer", Role.DOCTOR, DEMO_ROOM),
        ("cart", Role.CART, DEMO_ROOM),
        ("archive", Role.ARCHIVIST, ANY_ROOM),
    ):
        for base in _bases(server):
            lines.append(f"  {page:8} {_address(server, base, page, role, room)}")
    tcp = f", TCP {_ports(server.tcp_ports)}" if server.tcp_ports else ""
    lines += ["", f"  media    UDP {_ports(server.media_ports)}{tcp} at {', '.join(_candidates(server))}"]
    lines.append(f"  SRTP     AES-GCM by {gcm.library()}")
    lines.append(f"  data     {settings.data.dir}, recording: {settings.recording.policy}")
    if server.random_secret:
        lines += [
            "",
            "  No secret is configured, so this run has a random one: the tokens in these addresses end with it.",
        ]
        lines.append("  Choose one with --secret or MEDIASERVER_AUTH_SECRET, and make tokens with `mediaserver token`.")
    elif settings.auth.secret and len(settings.auth.secret.encode()) < STRONG_SECRET:
        lines += ["", f"  The secret is short: take {STRONG_SECRET} bytes or more."]
    if settings.http.endpoint.host == "" and not server.secure:
        lines += ["", "  Other machines' browsers give their cameras to HTTPS pages only: see --tls self-signed."]
    typer.echo("\n".join([*lines, ""]))


def _bases(server: MediaServer) -> list[str]:
    """The server's address, and those for other machines when it listens on all."""
    if server.config.http.endpoint.host:
        return [server.url]
    scheme, port = server.url.partition(":")[0], server.http_ports[0].port
    return [f"{scheme}://{Endpoint(address, port)}" for address in machine_addresses() if ":" not in address]


def _address(server: MediaServer, base: str, page: str, role: Role, room: str) -> str:
    """With a token only where nobody else could have made one; it stands in the fragment, which no server sees."""
    if not server.random_secret:
        return f"{base}/{page}"
    query = "" if room == ANY_ROOM else f"?{urlencode({'room': room})}"
    return f"{base}/{page}{query}#token={quote(server.token(room=room, role=role))}"


def _ports(ports: Sequence[int]) -> str:
    consecutive = len(ports) > 1 and list(ports) == list(range(ports[0], ports[0] + len(ports)))
    return f"{ports[0]} to {ports[-1]}" if consecutive else ", ".join(map(str, ports))


def _candidates(server: MediaServer) -> list[str]:
    return [ip for ip, _ in next(iter(server.rooms.workers)).settings.candidates]


def _keep(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The console renderer shows exceptions itself."""
    return event
