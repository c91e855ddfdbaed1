"""A consultation in headless Chromium over a bad line: pictures come through it, and the figures say what it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import framecode
from tests.browser.conftest import launch
from tests.interop.lines import consultation, figures, run, table, watch_frames
from tests.interop.measured import by_codes, by_second, counted, picture, sounds
from tests.interop.shape import find
from tests.interop.tunnel import possible
from tests.sim.lines import LINES

if TYPE_CHECKING:
    from playwright.sync_api import Playwright

SMOKE = "loss-3"
FRAMES = 60


@pytest.fixture
def keep(record_property: Callable[[str, object], None], request: pytest.FixtureRequest) -> Callable[[Any], None]:
    def note(told: Any) -> None:
        record_property("figures", told)
        print(f"\n{request.node.name}\n{table(told, None)}")

    return note


@pytest.fixture
def playwright() -> Any:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver


@pytest.mark.browser
@pytest.mark.timeout(300)
def test_pictures_come_through_a_line_that_loses(playwright: Playwright, keep: Callable[[Any], None]) -> None:
    browser = launch(playwright)
    try:
        with consultation(browser, SMOKE, head_start=0.0) as ends:
            watch_frames(ends)
            ends.viewer.wait_for_function("(count) => window.seen.codes.length >= count", arg=FRAMES, timeout=120_000)
            told = figures(ends, SMOKE)
    finally:
        browser.close()
    keep(told)
    network, ultrasound = told["network"], told["pictures"]["ultrasound"]
    assert network["packets"] > 100
    assert 0 < network["lost_packets"] < 0.1 * network["packets"]
    assert ultrasound["first_frame_ms"] > 0
    assert ultrasound["shown"] >= FRAMES
    assert ultrasound["delay_p50_ms"] >= find(SMOKE).down.delay / 1000
    assert ultrasound["kbps"] > 0
    assert told["publisher"]["ultrasound"]["kbps"] > 0
    assert told["sounds"]["microphone"]["kbps"] > 0


@pytest.mark.soak
@pytest.mark.browser
@pytest.mark.timeout(600)
@pytest.mark.parametrize("line", [*LINES])
def test_the_lines_of_the_table(line: str, keep: Callable[[Any], None]) -> None:
    told = run(line, 60.0)
    keep(told)
    assert told["pictures"]["ultrasound"]["shown"] > 0
    assert told["network"]["use"] <= 1.02
    assert told["network"]["late_p99_ms"] < 20


@pytest.mark.soak
@pytest.mark.browser
@pytest.mark.timeout(300)
def test_a_namespace_has_the_line_as_its_only_way_out(keep: Callable[[Any], None]) -> None:
    if not possible():
        pytest.skip("network namespaces and TUN devices need root")
    told = run("4m-40ms", 20.0, tunnel=True)
    keep(told)
    assert told["pictures"]["ultrasound"]["delay_p50_ms"] >= 40
    assert told["uplink"]["packets"] > 100


# ---- the figures


def row(at: float, **counters: Any) -> dict[str, Any]:
    return {"at": at, "in": {"ultrasound": counters} if counters else {}, "out": {}}


def test_counters_become_rates() -> None:
    rows = [row(0.0), *(row(250.0 * n, bytesReceived=40_000 * n, framesDecoded=7 * n) for n in range(1, 41))]
    told = picture(rows, "ultrasound", 300.0, 0.0, 10_000.0)
    assert told["kbps"] == pytest.approx(1280)
    assert told["frames_per_s"] == pytest.approx(28)
    assert told["under_floor"] == 0.0
    assert told["kbps_by_second"][1:10] == [1280.0] * 9
    slow = [row(250.0 * n, bytesReceived=20_000 * n, framesDecoded=3 * n) for n in range(41)]
    told = picture(slow, "ultrasound", None, 0.0, 10_000.0)
    assert (told["under_floor_rate"], told["under_floor_frames"]) == (1.0, 1.0)
    assert by_second(counted(slow, "camera", "bytesReceived"), 0.0) == []


def test_numbers_become_freezes_and_delays() -> None:
    sent = [(number, 1000.0 + 33.3 * number) for number in range(300)]
    seen = [(number, at + 80.0) for number, at in sent if not 100 <= number < 130]
    told = by_codes(seen, sent, 900.0, 1000.0 + 33.3 * 300 + 80, [5.0])
    assert (told["freezes"], told["shown"]) == (1, 270)
    assert told["longest_freeze_ms"] == pytest.approx(31 * 33.3, abs=1)
    assert told["delay_p50_ms"] == pytest.approx(80)
    assert told["legible"] == 1.0
    assert told["recoveries"][0]["live_ms"] == pytest.approx(80, abs=34)
    assert by_codes([], sent, 0.0, 1000.0, [])["freezes"] == 1
    assert framecode.steps([number for number, _ in seen]).count(31) == 1


def test_made_up_sound_is_lost_sound() -> None:
    rows = [
        {"at": 0.0, "in": {"microphone": {"bytesReceived": 0}}, "out": {}},
        {
            "at": 1000.0,
            "in": {
                "microphone": {
                    "bytesReceived": 4000,
                    "concealedSamples": 1500,
                    "silentConcealedSamples": 500,
                    "totalSamplesReceived": 50_000,
                }
            },
            "out": {},
        },
    ]
    told = sounds(rows)["microphone"]
    assert (told["kbps"], told["lost"]) == (pytest.approx(32), pytest.approx(0.02))
