"""Steps that the tests share: a cart that sends, a viewer that sees, and what a page tells of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.browser import framecode
from tests.browser.conftest import Pages, Server

if TYPE_CHECKING:
    from playwright.sync_api import Page

ULTRASOUND = ".tile[data-source=ultrasound]"
CAMERA = ".tile[data-source=camera]"
SOURCES = {"ultrasound", "camera", "stethoscope", "microphone"}

FIRSTS = """() => {
  const began = performance.getEntriesByName("join").at(-1).startTime;
  const marks = performance.getEntriesByType("mark").filter(({ name }) => name.startsWith("first-"));
  return Object.fromEntries(marks.map(({ detail, startTime }) => [detail, startTime - began]));
}"""


def open_cart(pages: Pages, server: Server, room: str, *, script: str = "", query: str = "", **options: Any) -> Page:
    """The cart's page with a device for each of four sources, joined, not sending yet."""
    address = server.address("cart", room, "cart", name="Cart 3").replace("#", f"{query}#")
    page = pages.open(address, script=framecode.FAKE_GRABBER + script, **options)
    page.get_by_label("Device for Ultrasound").select_option(label="Test grabber")
    page.get_by_label("Device for Stethoscope").select_option(label="Fake Audio Input 1")
    for source in SOURCES:
        page.locator(f".source[data-source={source}] .state", has_text="Ready").wait_for()
    page.locator("#connection[data-state=good]").wait_for()
    return page


def start_cart(pages: Pages, server: Server, room: str, **options: Any) -> Page:
    """A cart that sends ultrasound, camera, stethoscope and microphone."""
    page = open_cart(pages, server, room, **options)
    page.get_by_role("button", name="Start consultation").click()
    page.wait_for_function("() => document.querySelectorAll('.source.sending').length === 4")
    page.locator("#connection", has_text="Connected").wait_for()
    return page


def open_viewer(pages: Pages, server: Server, room: str, role: str = "doctor", *, name: str = "Dr. Rivera") -> Page:
    return pages.open(server.address("viewer", room, role, name=name))


def wait_live(page: Page, *selectors: str) -> None:
    for selector in selectors or (ULTRASOUND, CAMERA):
        page.locator(f"{selector}[data-state=live]").wait_for()


def firsts(page: Page, sources: set[str]) -> dict[str, float]:
    """ms from the join to the first frame or sound of each source, once all of them have come."""
    page.wait_for_function(
        f"(wanted) => {{ const got = ({FIRSTS})(); return wanted.every((s) => s in got); }}", arg=sorted(sources)
    )
    times: dict[str, float] = page.evaluate(FIRSTS)
    return times


def watch(page: Page, selector: str = ULTRASOUND, name: str = "codes") -> None:
    """Begins to read the numbers of a tile's frames."""
    page.evaluate(f"(argument) => {{ {framecode.READ} }}", {"selector": selector, "name": name})


def seen(page: Page, count: int, name: str = "codes") -> list[list[Any]]:
    """What has been read, once it is `count` frames: [number, wall clock in ms, captured, received] each."""
    page.wait_for_function("([name, count]) => window.seen[name].length >= count", arg=[name, count], timeout=100_000)
    frames: list[list[Any]] = page.evaluate("(name) => window.seen[name].splice(0)", name)
    return frames


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
