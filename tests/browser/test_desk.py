"""The archivist's desk in real browsers: all tracks in step, at any speed, across files, after any seek."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from playwright.sync_api import expect

from mediaserver.loadtest.raster import read_code
from tests.browser import desk
from tests.browser.conftest import PATIENCE, Pages, Server, shot
from tests.browser.consultation import percentile
from tests.browser.desk import Sample

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SECONDS = 16
SKEW_MS = 80.0
SAMPLE_MS = 100
LOOK_MS = 5.0
"""A look at all elements that took longer was interrupted by the machine: it has not seen them at one moment."""


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    data = tmp_path_factory.mktemp("desk")
    studio = desk.record(data / "archive", SECONDS, gap=True)
    running = Server(data)
    yield running, studio.recording.id
    running.stop()


def opened(pages: Pages, server: Server, recording: str, **options: Any) -> Page:
    page = pages.open(f"{server.base}/archive#token={server.token('*', 'archivist', name='Archivist')}", **options)
    page.locator(f"#recordings button[data-recording='{recording}']").click()
    page.locator(".replay").wait_for()
    return page


def seek(page: Page, ms: float) -> None:
    """As a click on the timeline would."""
    page.get_by_label("Position").evaluate(
        "(slider, ms) => { slider.value = ms; slider.dispatchEvent(new Event('input')); }", round(ms)
    )


def settle(page: Page) -> None:
    """Until everything that should be seen is."""
    page.wait_for_function("""() => [...document.querySelectorAll(".replay :is(video, audio).current")].every(
      (media) => !media.seeking && media.readyState >= 2)""")


def played(page: Page, described: dict[str, Any], *, seconds: float, seeks: Sequence[float]) -> dict[str, Any]:
    """Play, and seek to each of those places (ms) in turn; gives the figures of all samples that were taken while it
    played: skew by the elements' clocks, every 20 ms, and what is seen by the numbers in the pictures."""
    seen: list[float] = []
    seen_apart: list[tuple[int, float, dict[str, float]]] = []
    page.evaluate(desk.SKEWS, described)
    page.locator("#play").click()
    for turn in range(len(seeks) + 1):
        if turn:
            seek(page, seeks[turn - 1])
        page.locator(".replay[data-state=playing]").wait_for()
        for _ in range(round(1000 * seconds / (len(seeks) + 1) / SAMPLE_MS)):
            page.wait_for_timeout(SAMPLE_MS)
            sample = Sample(page, described)
            if sample.settled and sample.state == "playing" and len(sample.pictures) > 1:
                seen.append(sample.seen_ms)
                if sample.seen_ms > SKEW_MS:
                    seen_apart.append((turn, sample.position, sample.pictures))
            if sample.state == "paused":
                break
    if page.locator(".replay[data-state=playing]").count():
        page.locator("#play").click()
    looks = page.evaluate("() => window.skews")
    taken = [look for look in looks if look[2] <= LOOK_MS]
    skews = [skew for _, skew, *_ in taken]
    first = [skew for since, skew, *_ in taken if since < 1000]
    apart = [(round(since), round(skew), round(now), more) for since, skew, _, now, more in taken if more]
    return {
        "samples": len(skews), "starts": page.evaluate("() => window.starts"),
        "skew_p50_ms": round(percentile(skews, 0.5), 1), "skew_p95_ms": round(percentile(skews, 0.95), 1),
        "skew_p99_ms": round(percentile(skews, 0.99), 1), "skew_max_ms": round(max(skews), 1),
        "first_second_p95_ms": round(percentile(first, 0.95), 1), "first_second_max_ms": round(max(first), 1),
        "over": sum(1 for skew in skews if skew > SKEW_MS),
        "interrupted_looks": len(looks) - len(taken),
        "seen_p50_ms": round(percentile(seen, 0.5), 1), "seen_p95_ms": round(percentile(seen, 0.95), 1),
        "seen_max_ms": round(max(seen), 1), "load": round(os.getloadavg()[0], 1), "apart": apart[:20],
        "seen_apart": seen_apart[:20],
    }  # fmt: skip


def test_four_tracks_play_in_step_through_seeks(
    archived: tuple[Server, str], pages: Pages, figures: Callable[..., None]
) -> None:
    server, recording = archived
    page = opened(pages, server, recording)
    described = desk.timeline(server, recording)
    chance = random.Random(11)
    seeks = [chance.uniform(0, 1000 * (SECONDS - 3)) for _ in range(5)]
    found = played(page, described, seconds=6, seeks=seeks)
    figures(**found)
    assert found["samples"] > 20
    assert found["skew_p95_ms"] <= SKEW_MS * PATIENCE
    assert found["seen_p50_ms"] <= SKEW_MS * PATIENCE


def code_at(track: str, ms: float) -> int:
    """The number of the picture that stands at a moment of the recording."""
    return int((ms - desk.DELAY_MS - 1000 * desk.STARTS_S[track]) * 30 / 1000 + 1e-6)


def test_seeks_show_the_very_picture_and_frames_are_stepped_both_ways(
    archived: tuple[Server, str], pages: Pages
) -> None:
    server, recording = archived
    page = opened(pages, server, recording)
    described = desk.timeline(server, recording)
    for ms in (9_255.0, 2_255.0, 13_000.0, 6_600.0):  # the camera's second, first and third file
        seek(page, ms)
        settle(page)
        expect_codes(page, described, {track: code_at(track, ms) for track in ("us", "cam", "skin")})
    code = Sample(page, described).codes["us"]
    for name, step in (("One frame on", 1), ("One frame on", 1), ("One frame back", -1), ("One frame back", -1)):
        code += step
        page.get_by_role("button", name=name).click()
        expect_codes(page, described, {"us": code})
    page.keyboard.press(".")
    expect_codes(page, described, {"us": code + 1})
    for key, frames in ((".", 4), (",", 1)):  # presses quicker than frames come: each counts
        for _ in range(3):
            page.keyboard.press(key)
        expect_codes(page, described, {"us": code + frames})
    # From the last frame of one file of the camera into the next, and back.
    page.get_by_role("button", name="Show Room camera large").click()
    seek(page, 1000 * SECONDS / 2 + 5)  # the last of the first file stands until the network's delay has passed
    settle(page)
    last = 30 * SECONDS // 2 - 1
    expect_codes(page, described, {"cam": last})
    page.keyboard.press(".")
    expect_codes(page, described, {"cam": last + 1})
    page.keyboard.press(",")
    expect_codes(page, described, {"cam": last})


def expect_codes(page: Page, described: dict[str, Any], wanted: dict[str, int]) -> None:
    """Wait until those pictures are seen."""
    for _ in range(200):
        codes = Sample(page, described).codes
        if {track: codes.get(track) for track in wanted} == wanted:
            return
        page.wait_for_timeout(50)
    assert {track: codes.get(track) for track in wanted} == wanted


def test_speed_sound_and_layout(archived: tuple[Server, str], pages: Pages) -> None:
    server, recording = archived
    page = opened(pages, server, recording)
    page.get_by_label("Speed").select_option("4")
    page.locator("#play").click()
    page.wait_for_function("() => [...document.querySelectorAll('video.current')].some((v) => v.playbackRate > 3)")
    page.locator(".replay[data-state=paused]").wait_for()  # it has come to the end
    page.keyboard.press("[")
    expect(page.get_by_label("Speed")).to_have_value("3")
    assert page.locator(".replayed.focused").get_attribute("data-source") == "ultrasound"
    page.keyboard.press("2")
    expect(page.locator(".replayed.focused")).not_to_have_attribute("data-source", "ultrasound")
    page.get_by_role("button", name="Sound of Stethoscope").click()
    page.get_by_label("Volume of Stethoscope").fill("0.5")
    assert page.evaluate("() => [document.querySelector('audio').muted, document.querySelector('audio').volume]") == [
        True,
        0.5,
    ]


def test_marks_are_drawn_and_lead_to_their_moment(archived: tuple[Server, str], pages: Pages) -> None:
    server, recording = archived
    page = opened(pages, server, recording)
    marks = page.locator(".row .mark").evaluate_all("(all) => all.map((mark) => mark.dataset.mark)")
    assert sorted(marks) == ["floor", "floor", "gap", "stale"]
    row = page.get_by_role("button", name="Ultrasound. Below its floor: the viewer's line")
    row.click()
    expect(page.get_by_label("Position")).to_have_value(str(round(SECONDS * 400)))
    shot(page, "archive-player")


def test_bookmarks_are_set_found_and_removed_by_keyboard(archived: tuple[Server, str], pages: Pages) -> None:
    server, recording = archived
    page = opened(pages, server, recording)
    seek(page, 7_000)
    page.keyboard.press("b")
    page.keyboard.type("Mitral valve")
    page.keyboard.press("Enter")
    jump = page.get_by_role("button", name="Mitral valve", exact=False).first
    jump.wait_for()
    expect(page.locator(".flag")).to_have_count(1)
    seek(page, 0)
    jump.click()
    expect(page.get_by_label("Position")).to_have_value("7000")
    page.reload()
    page.locator("#recordings button").click()
    page.get_by_role("button", name="Remove the bookmark Mitral valve").click()
    expect(page.locator(".flag")).to_have_count(0)


def test_holds_are_placed_and_lifted(archived: tuple[Server, str], pages: Pages) -> None:
    server, recording = archived
    page = opened(pages, server, recording)
    page.get_by_text("Holds").click()
    page.get_by_label("Reason of a hold").fill("complaint 7")
    page.keyboard.press("Enter")
    page.locator(".held", has_text="On hold").wait_for()
    page.get_by_role("button", name="Lift the hold: complaint 7").click()
    page.get_by_text("lifted by Archivist").wait_for()
    page.get_by_text("Who has looked").click()
    page.get_by_text("Archivist opened it").first.wait_for()


def test_snapshot_has_the_source_size(archived: tuple[Server, str], pages: Pages) -> None:
    server, recording = archived
    page = opened(pages, server, recording)
    page.get_by_role("button", name="Show Room camera large").click()
    seek(page, 9_255)
    settle(page)
    with page.expect_download() as download:
        page.keyboard.press("s")
    assert download.value.suggested_filename.startswith("room-1_camera_2026-09-21T14-13-29")
    with av.open(str(download.value.path())) as container:
        (frame,) = container.decode(video=0)
    assert isinstance(frame, av.VideoFrame)
    luma = np.ascontiguousarray(frame.to_ndarray(format="gray"))
    assert (frame.width, frame.height) == (640, 480)
    assert read_code(luma) == code_at("cam", 9_255)


def test_export_is_followed_and_saved(archived: tuple[Server, str], pages: Pages) -> None:
    server, recording = archived
    page = opened(pages, server, recording)
    page.keyboard.press("e")
    dialog = page.get_by_role("dialog", name="Export")
    dialog.get_by_label("MP4").check()
    pages.expected = "422"
    dialog.get_by_role("button", name="Begin export").click()
    dialog.get_by_role("alert").get_by_text("export to MKV").wait_for()
    dialog.get_by_label("MKV").check()
    dialog.get_by_role("button", name="Begin export").click()
    with page.expect_download() as download:
        dialog.get_by_role("link", name="Save").click()
    with av.open(str(download.value.path())) as container:
        assert len(container.streams) == 5
    dialog.get_by_role("button", name="Remove").click()
    expect(dialog.locator(".jobs li")).to_have_count(0)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Verify").click()
    page.locator(".verdict.good", has_text="6 files are as they were recorded").wait_for()


def test_everything_has_a_name_and_fits_a_narrow_page(archived: tuple[Server, str], pages: Pages) -> None:
    server, recording = archived
    page = opened(pages, server, recording, width=480)
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, a, input, select, summary")]
      .filter((control) => control.checkVisibility() && !control.closest("[hidden]"))
      .filter((control) => !(control.innerText?.trim() || control.ariaLabel || control.labels?.length
        || control.querySelector("img[alt]:not([alt=''])")))
      .map((control) => control.outerHTML)""")
    assert nameless == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    shot(page, "archive-player-480")


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_four_tracks_stay_in_step_for_five_minutes(tmp_path: Path, pages: Pages, figures: Callable[..., None]) -> None:
    length, sounds = 330, 200
    studio = desk.record(tmp_path / "archive", length, second_sound=sounds)
    server = Server(tmp_path)
    try:
        page = opened(pages, server, studio.recording.id)
        described = desk.timeline(server, studio.recording.id)
        chance = random.Random(11)
        seeks = [chance.uniform(0, 1000 * (length - 20)) for _ in range(17)]
        # And a little before each place where another file goes on.
        seeks += [1000 * second - 4000 for second in (length / 2, 3 * length / 4, sounds)]
        found = played(page, described, seconds=300, seeks=seeks)
        page.close()
    finally:
        server.stop()
    figures(**found)
    assert found["samples"] > 10_000
    assert found["interrupted_looks"] < found["samples"] / 50
    assert found["starts"] > 20
    assert found["skew_max_ms"] < SKEW_MS
    assert found["seen_p95_ms"] < SKEW_MS


@pytest.fixture
def retained(tmp_path: Path) -> Iterator[tuple[Server, str]]:
    """A server with a recording that is over its time, which doctors may open in an emergency."""
    recording = desk.record(tmp_path / "archive", 2).recording.id
    config = tmp_path / "mediaserver.toml"
    config.write_text(
        '[retention]\ndefault = "short"\n[[retention.classes]]\nname = "short"\ndays = 0\n'
        '[breakglass]\nroles = ["doctor"]\n'
    )
    running = Server(tmp_path, "--config", str(config))
    yield running, recording
    running.stop()


def test_what_is_due_goes_and_the_glass_is_broken_and_reviewed(retained: tuple[Server, str], pages: Pages) -> None:
    server, recording = retained
    doctor = pages.open(server.address("archive", "elsewhere", "doctor", name="Dr. No"))
    pages.expected = "403"  # the list of openings is not for doctors
    doctor.get_by_role("button", name="Emergency access").click()
    sheet = doctor.get_by_role("dialog", name="Emergency access")
    sheet.get_by_label("Recording").fill(recording)
    sheet.get_by_label("Reason of the access").fill("unconscious in the emergency room")
    sheet.get_by_role("button", name="Break the glass").click()
    doctor.locator(".replay").wait_for()
    doctor.close()
    page = pages.open(f"{server.base}/archive#token={server.token('*', 'operator', 'admin', name='Olga')}")
    page.get_by_role("button", name="Emergency access").click()
    page.get_by_label(f"Finding on {recording}").fill("asked him")
    page.get_by_role("button", name="Reviewed").click()
    page.get_by_text("Reviewed by Olga").wait_for()
    page.get_by_role("dialog", name="Emergency access").get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Retention").click()
    page.locator(f"[data-case='{recording}'][data-state=due]").wait_for()
    page.get_by_label("Reason of the disposal").fill("its time is over")
    page.get_by_role("button", name="Dispose of what is due").click()
    page.get_by_text("1 recordings are gone").wait_for()
    page.locator(f"[data-case='{recording}'][data-state=disposed]").wait_for()
