"""A frozen picture is never taken for a live one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import consultation as c
from tests.browser.conftest import PATIENCE, Pages, Server, launch, shot

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

pytestmark = pytest.mark.browser

STALE_MS = 500
KEEP_PEERS = """(() => {
  const Made = RTCPeerConnection;
  window.peers = [];
  window.RTCPeerConnection = class extends Made {
    constructor(...given) { super(...given); window.peers.push(this); }
  };
})();"""
WATCH_STATE = """async (selector) => {
  // When each state began, and when the last frame before it was on the screen, by the page's own clock.
  const tile = document.querySelector(selector);
  const video = tile.querySelector("video");
  window.states = [];
  let last = 0;
  const frame = () => { last = performance.now(); video.requestVideoFrameCallback(frame); };
  video.requestVideoFrameCallback(frame);
  await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
  new MutationObserver(() => window.states.push([tile.dataset.state, performance.now() - last]))
    .observe(tile, { attributeFilter: ["data-state"] });
}"""


def wait_state(page: Page, state: str, timeout: float = 30_000) -> float:
    """ms from the last frame until the sign said so."""
    page.wait_for_function("(state) => window.states.some(([name]) => name === state)", arg=state, timeout=timeout)
    states: list[list[Any]] = page.evaluate("() => window.states")
    return float(next(since for name, since in reversed(states) if name == state))


def test_rule_in_virtual_time(pages: Pages, server: Server) -> None:
    page = pages.open(server.base)
    run = """async ([rule, frames, looks]) => {
      const { Freshness } = await import("/static/freshness.js");
      const freshness = new Freshness(rule);
      const events = [...frames.map((at) => [at, true]), ...looks.map((at) => [at, false])].sort((a, b) => a[0] - b[0]);
      const states = [];
      for (const [at, isFrame] of events) isFrame ? freshness.frame(at) : states.push(freshness.state(at));
      return states;
    }"""
    steady = [100 + 33.3 * count for count in range(60)]
    last = steady[-1]
    looks = [50, last + 240, last + 260, last + 1990, last + 2010]
    assert page.evaluate(run, [{}, steady, looks]) == ["waiting", "live", "stale", "stale", "frozen"]
    slow = [100 + 140 * count for count in range(20)]  # three intervals are more than 250 ms, and less than 500
    assert page.evaluate(run, [{}, slow, [slow[-1] + 400, slow[-1] + 430]]) == ["live", "stale"]
    slowest = [100 + 400 * count for count in range(20)]  # never later than 500 ms
    assert page.evaluate(run, [{}, slowest, [slowest[-1] + 430, slowest[-1] + 450]]) == ["live", "stale"]
    screen = {"stale_ms": 2500}
    assert page.evaluate(run, [screen, [100], [2500, 2700]]) == ["live", "frozen"]


def test_frozen_grabber(pages: Pages, server: Server, figures: Callable[..., None]) -> None:
    cart = c.start_cart(pages, server, "stale-1")
    doctor = c.open_viewer(pages, server, "stale-1")
    c.wait_live(doctor)
    doctor.evaluate(WATCH_STATE, c.ULTRASOUND)
    cart.evaluate("() => { grabber.frozen = true; }")
    stale = wait_state(doctor, "stale")
    frozen = wait_state(doctor, "frozen")
    figures(stale_after_ms=round(stale), dimmed_after_ms=round(frozen))
    assert stale < STALE_MS * PATIENCE
    assert 2000 <= frozen < 2000 + STALE_MS * PATIENCE
    doctor.locator(f"{c.ULTRASOUND} .sign", has_text="STALE").wait_for()
    doctor.locator(f"{c.ULTRASOUND}[data-told=stale]").wait_for()
    c.wait_live(doctor, c.CAMERA)
    shot(doctor, "viewer-stale")
    cart.evaluate("() => { grabber.frozen = false; }")
    c.wait_live(doctor)
    doctor.locator(f"{c.ULTRASOUND}[data-told=live]").wait_for()


def kill_pages(browser: Browser) -> None:
    """Its pages' processes die where they stand: nothing is said to anybody."""
    session = browser.new_browser_cdp_session()
    for process in session.send("SystemInfo.getProcessInfo")["processInfo"]:
        if process["type"] == "renderer":
            os.kill(process["id"], signal.SIGKILL)


def test_killed_cart(playwright: Playwright, pages: Pages, server: Server, figures: Callable[..., None]) -> None:
    other = launch(playwright)
    c.start_cart(Pages(other), server, "stale-2")
    doctor = c.open_viewer(pages, server, "stale-2")
    c.wait_live(doctor)
    doctor.evaluate(WATCH_STATE, c.ULTRASOUND)
    kill_pages(other)
    stale = wait_state(doctor, "stale")
    figures(stale_after_ms=round(stale))
    assert stale < STALE_MS * PATIENCE
    other.close()


def test_sound_that_stops(pages: Pages, server: Server) -> None:
    cart = c.start_cart(pages, server, "stale-4", script=KEEP_PEERS)
    doctor = c.open_viewer(pages, server, "stale-4")
    sound = doctor.locator(".sounds li[data-source=stethoscope]")
    doctor.locator(".sounds li[data-source=stethoscope][data-state=live]").wait_for()
    # The track goes on, and nothing of it is sent: what a pulled plug or a dead sound driver look like.
    cart.evaluate("""async () => {
      for (const peer of window.peers)
        for (const sender of peer.getSenders())
          if (sender.track?.kind === "audio") {
            const parameters = sender.getParameters();
            for (const encoding of parameters.encodings) encoding.active = false;
            await sender.setParameters(parameters);
          }
    }""")
    sound.locator(".sound-sign", has_text="STALE").wait_for()
    doctor.locator(".sounds li[data-source=stethoscope][data-told=stale]").wait_for()
    doctor.locator(".sounds li[data-source=microphone][data-state=stale]").wait_for()
    c.wait_live(doctor)


def test_dead_line_of_the_viewer(pages: Pages, tmp_path: Path) -> None:
    """Nothing comes any more, from the server neither: only the page's own clock can tell."""
    own = Server(tmp_path)
    pages.expected = "WebSocket"  # the server goes before the pages do
    try:
        c.start_cart(pages, own, "stale-5")
        doctor = c.open_viewer(pages, own, "stale-5")
        c.wait_live(doctor)
        doctor.evaluate(WATCH_STATE, c.ULTRASOUND)
        own.process.send_signal(signal.SIGSTOP)
        try:
            stale = wait_state(doctor, "stale")
            assert stale < STALE_MS * PATIENCE
            wait_state(doctor, "frozen")
            doctor.locator(".sounds li[data-source=stethoscope][data-state=stale]").wait_for()
        finally:
            own.process.send_signal(signal.SIGCONT)
        c.wait_live(doctor)
    finally:
        own.stop()


def test_unchanging_picture(pages: Pages, server: Server) -> None:
    cart = c.start_cart(pages, server, "stale-3")
    doctor = c.open_viewer(pages, server, "stale-3")
    c.wait_live(doctor)
    cart.evaluate("() => { grabber.still = true; }")
    doctor.locator(f"{c.ULTRASOUND}[data-state=unchanging]").wait_for()
    doctor.locator(f"{c.ULTRASOUND} .sign", has_text="Picture not changing").wait_for()
    # The server sees no pixels, and comes to the same by what the frames cost. It waits until the encoder has no more
    # to improve, which takes it some seconds.
    doctor.locator(f"{c.ULTRASOUND}[data-told=unchanging]").wait_for(timeout=60_000)
    late = c.open_viewer(pages, server, "stale-3")
    late.locator(f"{c.ULTRASOUND}[data-state=unchanging]").wait_for()
    cart.evaluate("() => { grabber.still = false; }")
    c.wait_live(doctor)
    doctor.locator(f"{c.ULTRASOUND}[data-told=live]").wait_for()
