"""Every page opens without an error, says what it lacks, and is used by keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import consultation as c
from tests.browser.conftest import Pages, Server, shot

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("page", ["", "viewer", "cart", "archive"])
@pytest.mark.parametrize("width", [1440, 480])
def test_page_without_a_token_asks_for_one(pages: Pages, server: Server, page: str, width: int) -> None:
    opened = pages.open(f"{server.base}/{page}", width=width)
    token = opened.get_by_label("Token")
    token.wait_for()
    assert opened.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    shot(opened, f"entrance-{page or 'index'}-{width}")


def test_pages_ask_nothing_of_others(pages: Pages, server: Server) -> None:
    asked: list[str] = []
    for name in ("", "viewer", "cart", "archive"):
        page = pages.open(server.base)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{server.base}/{name}")
        page.get_by_label("Token").wait_for()
    assert asked
    assert all(url.startswith(server.base) for url in asked)


def test_index_leads_to_the_viewer(pages: Pages, server: Server) -> None:
    page = pages.open(server.base)
    page.keyboard.type("pages-1")  # the first field has the focus
    page.keyboard.press("Tab")
    page.keyboard.insert_text(server.token("pages-1", "doctor"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/viewer?room=pages-1#**")
    page.locator("#connection", has_text="Connected").wait_for()
    assert "token" not in page.url.split("#")[0]


def test_form_of_the_viewer_joins(pages: Pages, server: Server) -> None:
    page = pages.open(f"{server.base}/viewer?room=pages-2")
    page.get_by_label("Token").fill(server.token("pages-2", "observer"))
    page.get_by_label("Your name").fill("Student")
    page.keyboard.press("Enter")
    page.locator("#connection", has_text="Connected").wait_for()
    page.locator("#people li", has_text="Student").wait_for()
    page.reload()
    page.locator("#people li", has_text="Student").wait_for()


@pytest.mark.parametrize("name", ["viewer", "cart"])
def test_token_for_another_room_is_refused_in_words(pages: Pages, server: Server, name: str) -> None:
    page = pages.open(f"{server.base}/{name}?room=pages-3#token={server.token('elsewhere')}")
    page.locator("#banner", has_text="Disconnected").wait_for()
    page.locator("#connection", has_text="Disconnected").wait_for()


def test_expired_token_is_refused_in_words(pages: Pages, server: Server) -> None:
    page = pages.open(f"{server.base}/viewer?room=pages-4#token={server.token('pages-4', now=1_000_000)}")
    page.locator("#banner", has_text="expired").wait_for()


def test_a_server_at_its_limit_lets_pages_wait(pages: Pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MAX_PARTICIPANTS", "1"), ("CALM_SECONDS", "0"), ("RETRY_SECONDS", "1")):
        monkeypatch.setenv(f"MEDIASERVER_LIMITS_{name}", value)
    server = Server(tmp_path)
    pages.expected = "ERR_CONNECTION_"  # in the end, when this server has gone
    try:
        first = pages.open(server.address("viewer", "full"))
        first.locator("#connection", has_text="Connected").wait_for()
        second = pages.open(server.address("cart", "full", "cart"))
        second.locator("#connection", has_text="Waiting to be let in").wait_for()
        second.locator("#banner", has_text="The server is at its limit").wait_for()
        shot(second, "waiting")
        first.locator("#leave").click()
        second.locator("#connection", has_text="Connected").wait_for()
        assert second.locator("#banner").is_hidden()
    finally:
        server.stop()


def focused(page: Page) -> str:
    name: str = page.evaluate(
        "() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText"
    )
    return name


def test_viewer_by_keyboard(pages: Pages, server: Server) -> None:
    c.start_cart(pages, server, "pages-5")
    page = c.open_viewer(pages, server, "pages-5")
    c.wait_live(page)
    page.locator("#stage .tile[data-source=ultrasound]").wait_for()
    page.keyboard.press("2")
    page.locator("#stage .tile[data-source=camera]").wait_for()
    page.keyboard.press("1")
    page.locator("#stage .tile[data-source=ultrasound]").wait_for()
    page.keyboard.press("s")
    page.get_by_role("button", name="Sound off").wait_for()
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keyboard").wait_for()
    shot(page, "viewer-keyboard")
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    seen = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.add(focused(page))
        outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or focused(page) == page.locator("body").inner_text()
        if "Show Room camera large" in focused(page):
            break
    assert {"Sound off", "Talk", "Record", "Full screen", "Keyboard", "Leave"} <= seen
    page.keyboard.press("Enter")
    page.locator("#stage .tile[data-source=camera]").wait_for()
    c.wait_live(page)


def test_cart_by_keyboard(pages: Pages, server: Server) -> None:
    page = c.open_cart(pages, server, "pages-6")
    page.keyboard.press("s")
    page.wait_for_function("() => document.querySelectorAll('.source.sending').length === 4")
    page.keyboard.press("1")
    page.locator(".source[data-source=ultrasound]:not(.sending)").wait_for()
    page.keyboard.press("1")
    page.locator(".source[data-source=ultrasound].sending").wait_for()
    page.keyboard.press("s")
    page.wait_for_function("() => document.querySelectorAll('.source.sending').length === 0")


def test_controls_have_names(pages: Pages, server: Server) -> None:
    c.start_cart(pages, server, "pages-7")
    doctor = c.open_viewer(pages, server, "pages-7")
    c.wait_live(doctor)
    archive = pages.open(server.address("archive", "pages-7"))
    for page in (doctor, archive):
        nameless = page.evaluate("""() => [...document.querySelectorAll("button, a, input, select, meter")]
          .filter((control) => control.checkVisibility() && !control.closest("[hidden]"))
          .filter((control) => !(control.innerText?.trim() || control.ariaLabel || control.labels?.length
            || control.querySelector("img[alt]:not([alt=''])")))
          .map((control) => control.outerHTML)""")
        assert nameless == []


# Says that the browser has refused to play, again and again, so that the word is not missed. Looking into the page
# before that would count as somebody's click: the driver evaluates with a user's gesture.
TELL_REFUSAL = """
const play = HTMLMediaElement.prototype.play;
HTMLMediaElement.prototype.play = function () {
  const started = play.call(this);
  started.catch((error) => setInterval(() => console.debug(error.name), 100));
  return started;
};
"""


def test_sound_waits_for_a_click_where_the_browser_wants_one(playwright: object, pages: Pages, server: Server) -> None:
    from tests.browser.drivers import CHROMIUM_FLAGS

    c.start_cart(pages, server, "pages-8")
    flags = [flag for flag in CHROMIUM_FLAGS if "autoplay" not in flag]
    strict = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)  # type: ignore[attr-defined]
    opened = Pages(strict)
    page = opened.open(server.address("viewer", "pages-8", "doctor"), script=TELL_REFUSAL)
    page.wait_for_event("console", lambda message: message.text == "NotAllowedError")
    c.wait_live(page)  # pictures come by themselves
    page.get_by_role("button", name="Turn the sound on").click()
    page.get_by_role("button", name="Turn the sound on").wait_for(state="hidden")
    page.wait_for_function(
        "() => [...document.querySelectorAll('audio')].every((audio) => !audio.paused && !audio.muted)"
    )
    assert opened.errors == []
    strict.close()
