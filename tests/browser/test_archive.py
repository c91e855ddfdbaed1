"""A consultation is recorded, found in the archive, played in step, verified and taken along."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import av
import pytest
from playwright.sync_api import expect

from tests.browser import consultation as c
from tests.browser import framecode
from tests.browser.conftest import PATIENCE, Pages, Server, shot

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

SECONDS = 6
SKEW_MS = 80


@pytest.fixture(scope="module")
def recorded(browser: Browser, server: Server) -> str:
    """A room with a recording of SECONDS, made by the pages alone."""
    pages = Pages(browser)
    cart = c.start_cart(pages, server, "archive-1")
    doctor = c.open_viewer(pages, server, "archive-1")
    c.wait_live(doctor)
    doctor.keyboard.press("r")
    doctor.locator("#recording[data-state=on]").wait_for()
    start = cart.evaluate("() => grabber.count")
    cart.wait_for_function("([start, frames]) => grabber.count > start + frames", arg=[start, 30 * SECONDS])
    doctor.keyboard.press("r")
    doctor.locator("#recording[data-state=off]").wait_for()
    pages.close()
    assert pages.errors == []
    return "archive-1"


PLAYING = """() => {
  const lanes = [...document.querySelectorAll("#player .replayed, #player .sounds li")];
  return Object.fromEntries(lanes.map((lane) => {
    const playing = [...lane.querySelectorAll("video, audio")].filter((media) => !media.paused);
    return [lane.dataset.track, playing.map(({ dataset, currentTime }) => [dataset.segment, currentTime])];
  }));
}"""


def detail(server: Server, recording: str) -> dict[str, Any]:
    """What the archive says of a recording."""
    address = f"{server.base}/api/archive/recordings/{recording}?token={server.token('*', 'archivist')}"
    with urllib.request.urlopen(address) as response:
        found: dict[str, Any] = json.load(response)
    return found


def skews(page: Page, recording: dict[str, Any]) -> dict[str, float]:
    """ms on the recording's time at which each source plays now, less that of ultrasound."""
    tracks = {track["id"]: track for track in recording["tracks"]}
    places = {}
    for track, playing in page.evaluate(PLAYING).items():
        ((number, seconds),) = playing
        begin = tracks[track]["segments"][int(number)]["offset_ms"]
        places[tracks[track]["source"]] = begin + 1000 * seconds
    return {source: round(place - places["ultrasound"]) for source, place in places.items()}


def codes_of(path: str) -> list[int]:
    """The numbers of the ultrasound's frames in an exported file; it is the picture that is H.264."""
    with av.open(path) as container:
        (stream,) = (video for video in container.streams.video if video.codec_context.name == "h264")
        return [framecode.read(frame.to_ndarray(format="gray")) for frame in container.decode(stream)]


def test_recording_is_found_played_and_verified(
    recorded: str, pages: Pages, server: Server, figures: Callable[..., None]
) -> None:
    page = pages.open(f"{server.base}/archive#token={server.token('*', 'archivist')}")
    page.get_by_role("textbox", name="Room").fill(recorded)
    page.get_by_label("Source").select_option("ultrasound")
    page.get_by_role("button", name="Search").click()
    page.locator("#count", has_text="1 recording").wait_for()
    page.locator("#recordings button").click()
    page.locator("#player figure[data-source=ultrasound] video").wait_for(state="attached")
    page.locator("#player figure[data-source=camera]").wait_for()
    page.locator("#player .sounds li").nth(1).wait_for()

    current = "#player figure[data-source=ultrasound]"
    page.keyboard.press("k")
    page.get_by_role("button", name="Pause", exact=True).wait_for()
    page.evaluate(f"(argument) => {{ {framecode.READ} }}", {"selector": current, "name": "played"})
    frames = c.seen(page, 20, "played")
    codes = [frame[0] for frame in frames]
    steps = framecode.steps(codes)
    skipped = sum(step - 1 for step in steps if step > 1)
    recording = page.locator("#recordings button").get_attribute("data-recording") or ""
    skew = skews(page, detail(server, recording))
    figures(frames=len(codes), unreadable=sum(code < 0 for code in codes), skipped=skipped, skew_ms=skew)
    assert min(steps) >= 0
    assert max(skew.values()) - min(skew.values()) < SKEW_MS * PATIENCE
    assert sum(code >= 0 for code in codes) > 0.9 * len(codes)
    shot(page, "archive")

    page.get_by_role("button", name="Verify").click()
    page.locator(".verdict.good").wait_for()
    page.get_by_role("button", name="Export", exact=True).click()
    page.get_by_role("button", name="Begin export").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Save").click()
    exported = codes_of(str(download.value.path()))
    steps = framecode.steps(exported)
    figures(exported_frames=len(exported), unreadable=exported.count(-1), missing=sum(step - 1 for step in steps))
    # A busy browser leaves frames out before it encodes them; what it sent is all there, and the archive says so.
    assert exported.count(-1) == 0
    assert min(steps) >= 1
    assert sum(steps) > 0.9 * 30 * SECONDS
    assert all(track["gaps"] == [] for track in detail(server, recording)["tracks"])


def test_archive_by_keyboard(recorded: str, pages: Pages, server: Server) -> None:
    page = pages.open(server.address("archive", recorded))
    page.locator("#recordings button").focus()
    page.keyboard.press("Enter")
    page.locator("#player figure").first.wait_for()
    assert page.evaluate("() => document.activeElement.id") == "play"
    slider = page.get_by_label("Position")
    expect(slider).to_have_value("0")
    page.keyboard.press("l")
    expect(slider).to_have_value("5000")
    page.keyboard.press("j")
    expect(slider).to_have_value("0")
    page.keyboard.press("/")
    page.wait_for_function("() => document.activeElement.name === 'text'")


def test_observer_sees_no_archive(pages: Pages, server: Server) -> None:
    pages.expected = "403"
    page = pages.open(f"{server.base}/archive#token={server.token('archive-1', 'observer')}")
    page.locator("#banner", has_text="does not open the archive").wait_for()
