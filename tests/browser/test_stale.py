"""A frozen picture is never taken for a live one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import consultation as c
from tests.browser.conftest import PATIENCE, Pages, Server, launch, shot

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

pytestmark = pytest.mark.browser

STALE_MS = 500
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
    c.wait_live(doctor, c.CAMERA)
    shot(doctor, "viewer-stale")
    cart.evaluate("() => { grabber.frozen = false; }")
    c.wait_live(doctor)


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


def test_unchanging_picture(pages: Pages, server: Server) -> None:
    cart = c.start_cart(pages, server, "stale-3")
    doctor = c.open_viewer(pages, server, "stale-3")
    c.wait_live(doctor)
    cart.evaluate("() => { grabber.still = true; }")
    doctor.locator(f"{c.ULTRASOUND}[data-state=unchanging]").wait_for()
    doctor.locator(f"{c.ULTRASOUND} .sign", has_text="Picture not changing").wait_for()
    cart.evaluate("() => { grabber.still = false; }")
    c.wait_live(doctor)
