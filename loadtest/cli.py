"""The commands `mediaserver cart` and `mediaserver loadtest`."""

from __future__ import annotations

from typing import Annotated

import typer

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
