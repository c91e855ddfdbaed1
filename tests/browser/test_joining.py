"""A viewer in headless Chromium that joins between two keyframes has a picture without one being asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser import consultation as c
from tests.browser.conftest import PATIENCE, Pages, Server
from tests.browser.drivers import LoopThread
from tests.browser.test_network import count
from tests.interop.test_whip_ffmpeg import certificate, publishing

__all__ = ["certificate"]

SOURCES = {"ultrasound", "microphone"}
VIEWERS = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # Where lines are estimated, what a joiner may get of the history depends on what the first reports tell.
    folder = tmp_path_factory.mktemp("joining")
    (folder / "config.toml").write_text("[media]\nadapt = false\n")
    running = Server(folder / "data", "--config", str(folder / "config.toml"))
    yield running
    running.stop()


@pytest.mark.timeout(180)
def test_who_joins_between_two_keyframes_sees_at_once(
    pages: Pages, server: Server, loop: LoopThread, certificate: tuple[Path, Path], figures: Callable[..., None]
) -> None:
    """The publisher makes a keyframe each second, unasked."""
    publishing_now = publishing(server, "r", certificate, 150.0)
    publisher = loop.run(publishing_now.__aenter__())
    try:
        while len(publisher.sent) < 45:
            time.sleep(0.05)
        asked = count(server, "plane_plis_out")
        for number in range(VIEWERS):
            doctor = c.open_viewer(pages, server, "r", name=f"Dr. {number}")
            c.wait_live(doctor, c.ULTRASOUND)
            first = c.firsts(doctor, SOURCES)["ultrasound"]
            c.watch(doctor)
            frames = c.seen(doctor, 60)
            again = count(server, "plane_plis_in")
            figures(
                viewer=number, first_ms=round(first), viewers_asked=again, caught_up=count(server, "plane_caught_up")
            )
            shown = [frame[1] for frame in frames]
            assert shown[-1] - shown[0] > 60 / 30 * 1000 / PATIENCE  # live, and no longer faster than that
        # A machine that stalls the publisher for half a second leaves nothing live to begin with, and who comes then
        # waits for the next key picture; that each is served from the history otherwise is shown in virtual time.
        served, asked = count(server, "plane_caught_up"), count(server, "plane_plis_out") - asked
        assert served > 0
        assert served + asked <= VIEWERS
    finally:
        loop.run(publishing_now.__aexit__(None, None, None))
