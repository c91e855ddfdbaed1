"""The main job: a cart in Chromium, two doctors in Chromium, one viewer of another make; and Firefox."""

from __future__ import annotations

import re
import shutil
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import consultation as c
from tests.browser import framecode
from tests.browser.conftest import PATIENCE, Pages, Server, shot
from tests.browser.drivers import LoopThread, firefox
from tests.browser.outsider import OutsideViewer

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

JOIN_MS = 1000
FRAMES = 120


def check_codes(codes: list[int], least: float = 0.98) -> dict[str, float]:
    """Frames arrive in order, nearly all of them, and legible (at least this share)."""
    steps = framecode.steps(codes)
    assert min(steps) >= 0, "a frame was shown after a later one"
    legible = sum(code >= 0 for code in codes) / len(codes)
    assert legible > least
    return {"frames": len(codes), "legible": legible, "skipped": sum(step - 1 for step in steps if step > 1)}


def delays(cart: Page, frames: list[list[Any]]) -> list[float]:
    """ms from the drawing of each frame at the cart to its showing at the viewer."""
    drawn = dict(cart.evaluate("() => grabber.sent"))
    return [shown - drawn[code] for code, shown, *_ in frames if code in drawn]


def reported_ages(server: Server, source: str) -> tuple[float, float]:
    """What viewers have reported so far: the sum in s, and how many."""
    with urllib.request.urlopen(f"{server.base}/metrics") as response:
        text = response.read().decode()
    name = "mediaserver_shown_age_seconds"
    found = [re.search(rf'^{name}_{part}{{source="{source}"}} (.*)$', text, re.MULTILINE) for part in ("sum", "count")]
    return tuple(float(one.group(1)) if one else 0.0 for one in found)  # type: ignore[return-value]


@pytest.mark.timeout(300)
def test_everybody_sees_every_track(
    pages: Pages, server: Server, loop: LoopThread, figures: Callable[..., None]
) -> None:
    cart = c.start_cart(pages, server, "exam-1")
    doctors = [c.open_viewer(pages, server, "exam-1", name=name) for name in ("Dr. Rivera", "Dr. Chen")]
    for name, doctor in zip(("first", "second"), doctors, strict=True):
        times = c.firsts(doctor, c.SOURCES)
        figures(viewer=name, join_ms={source: round(ms) for source, ms in times.items()})
        assert max(times.values()) < JOIN_MS * PATIENCE
        c.wait_live(doctor)
        c.watch(doctor)
    outsider = OutsideViewer()
    try:
        tracks = loop.run(outsider.join(server.base, "exam-1", server.token("exam-1", "observer")))
        assert {track["source"] for track in tracks} == c.SOURCES
        loop.run(outsider.until_all(tracks, 30))
        figures(viewer="aiortc", join_ms={t["source"]: round(1000 * outsider.first[t["id"]]) for t in tracks})
        assert max(outsider.first.values()) * 1000 < JOIN_MS * PATIENCE
        for name, doctor in zip(("first", "second"), doctors, strict=True):
            frames = c.seen(doctor, FRAMES)
            result = check_codes([frame[0] for frame in frames])
            late = delays(cart, frames)
            figures(viewer=name, **result, glass_ms={s: round(c.percentile(late, s)) for s in (0.5, 0.95, 0.99)})
        # It decodes in this process, and shows what it can of pictures that came while nobody read its socket.
        figures(viewer="aiortc", **check_codes(outsider.codes(), least=0.5))
    finally:
        loop.run(outsider.leave())
    shot(cart, "cart")
    shot(doctors[0], "viewer")


def test_ultrasound_goes_as_h264_at_its_own_size(pages: Pages, server: Server) -> None:
    cart = c.start_cart(pages, server, "exam-2")
    doctor = c.open_viewer(pages, server, "exam-2")
    c.wait_live(doctor)
    codec = cart.locator(".source[data-source=ultrasound] dt", has_text="Codec").locator("+ dd")
    codec.filter(has_text="H264").wait_for()
    doctor.locator(f"{c.ULTRASOUND} .size", has_text="640×480").wait_for()
    doctor.locator("#stage .tile[data-source=ultrasound]").wait_for()


def test_age_of_the_picture_is_shown(pages: Pages, server: Server, figures: Callable[..., None]) -> None:
    cart = c.start_cart(pages, server, "exam-3")
    doctor = c.open_viewer(pages, server, "exam-3")
    c.wait_live(doctor)
    doctor.wait_for_timeout(3_000)
    before = reported_ages(server, "ultrasound")
    c.watch(doctor)
    frames = c.seen(doctor, 150)
    after = reported_ages(server, "ultrasound")
    told = doctor.locator(f"{c.ULTRASOUND} .age", has_text="ms")
    told.wait_for()
    age = told.inner_text()
    assert age.endswith("ms")
    assert 0 < float(age.split()[0]) < 300 * PATIENCE
    # From the capture on, as the page reports it, and as the frames' numbers tell who knows both machines' clocks.
    doctor.locator(f"{c.ULTRASOUND} .age[title='since the picture was taken']").wait_for()
    seconds, count = after[0] - before[0], after[1] - before[1]
    true = sum(delays(cart, frames)) / len(frames)
    figures(age=age, reported_ms=round(1000 * seconds / count), reports=count, drawn_to_shown_ms=round(true))
    assert abs(1000 * seconds / count - true) < 100 * PATIENCE
    assert reported_ages(server, "stethoscope")[1] > 0


@pytest.mark.skipif(shutil.which("firefox-esr") is None, reason="firefox-esr is not installed")
def test_firefox_sees_the_consultation(pages: Pages, server: Server, figures: Callable[..., None]) -> None:
    c.start_cart(pages, server, "exam-4")
    with firefox(server.address("viewer", "exam-4", name="Dr. Fox")) as doctor:
        # Debian's Firefox has no H.264 of its own, so ultrasound may not be shown; it must then say so.
        live = f"() => document.querySelector('{c.CAMERA}')?.dataset.state === 'live'"
        doctor.evaluate(f"const live = {live}; while (!live()) await new Promise(requestAnimationFrame);")
        times = doctor.evaluate(f"return ({c.FIRSTS})();")
        state = doctor.evaluate(f"return document.querySelector('{c.ULTRASOUND}')?.dataset.state;")
        figures(firefox_join_ms=times, ultrasound=state)
        assert times["camera"] < 1500 * PATIENCE
        assert state in ("live", "unavailable")
        assert doctor.errors == []


@pytest.mark.skipif(shutil.which("firefox-esr") is None, reason="firefox-esr is not installed")
def test_firefox_publishes(pages: Pages, server: Server) -> None:
    with firefox(server.address("cart", "exam-5", "cart", name="Cart 5")) as cart:
        cart.evaluate("""
            const next = () => new Promise(requestAnimationFrame);
            const state = (source) => document.querySelector(`.source[data-source=${source}] .state`)?.textContent;
            while (state("camera") !== "Ready" || state("microphone") !== "Ready") await next();
            while (document.querySelector("#start").disabled) await next();
            document.querySelector("#start").click();
            while (document.querySelectorAll(".source.sending").length < 2) await next();
        """)
        doctor = c.open_viewer(pages, server, "exam-5")
        c.firsts(doctor, {"camera", "microphone"})
        c.wait_live(doctor, c.CAMERA)
        assert cart.errors == []
