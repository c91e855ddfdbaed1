"""A cart is asked, agrees by keyboard, and withdraws; a viewer sees at each moment what is recorded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import PATIENCE, Pages, Server, shot

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def mark(page: Page, words: str) -> None:
    """Wait for the mark on the picture of the camera."""
    page.locator('.tile[data-source="camera"] .rec', has_text=words).wait_for(timeout=PATIENCE * 10_000)


def test_cart_is_asked_and_viewer_sees_who_is_recorded(
    pages: Pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "MEDIASERVER_RECORDING_WHOSE", "consent")
    server = Server(tmp_path)
    try:
        cart = pages.open(server.address("cart", "exam", "cart", name="Cart 3"))
        cart.get_by_role("button", name="Start consultation").click()
        viewer = pages.open(server.address("viewer", "exam", name="Dr. A"))
        viewer.locator('.tile[data-source="camera"]').wait_for(timeout=PATIENCE * 10_000)
        assert not cart.locator("#consent").is_visible(), "nobody is asked before it is of use"
        viewer.get_by_role("button", name="Record", exact=True).click()
        question = cart.get_by_role("heading", name="May you be recorded?")
        question.wait_for(timeout=PATIENCE * 5_000)
        assert cart.evaluate("() => document.activeElement.id") == "consent-title", "no key agrees by chance"
        mark(viewer, "not recorded")
        viewer.locator("#recording", has_text="no consent").wait_for()
        viewer.locator("#people li", has_text="Cart 3").locator(".rec", has_text="not answered").wait_for()
        shot(cart, "consent-question")
        cart.keyboard.press("Tab")
        cart.keyboard.press("Enter")
        mark(viewer, "REC")
        cart.get_by_text("You are recorded now.").wait_for(timeout=PATIENCE * 5_000)
        cart.locator('.source[data-source="camera"] .state', has_text="Sending · REC").wait_for()
        viewer.locator("#recording", has_text="Recording").wait_for()
        viewer.locator("#people li", has_text="Cart 3").locator(".rec", has_text="REC").wait_for()
        shot(viewer, "consent-recorded")
        cart.get_by_role("button", name="Withdraw").click()
        mark(viewer, "not recorded")
        cart.get_by_text("You are not recorded.").wait_for()
        row = viewer.locator("#people li", has_text="Cart 3")
        row.locator(".rec", has_text="withdrawn").wait_for()
        row.get_by_role("button", name="Ask Cart 3 again").click()
        question.wait_for(timeout=PATIENCE * 5_000)
        cart.get_by_role("button", name="No", exact=True).click()
        cart.get_by_text("You are not recorded.").wait_for()
        viewer.get_by_role("button", name="Stop recording").click()
        viewer.locator("#recording", has_text="Not recording").wait_for()
        desk = pages.open(f"{server.base}/archive#token={server.token('*', 'archivist')}")
        desk.locator("#recordings button[data-recording]").first.click(timeout=PATIENCE * 10_000)
        consents = desk.locator("details.consents")
        consents.locator("summary").click()
        consents.get_by_text("Cart 3 agreed, text 1").wait_for()
        consents.get_by_text("Cart 3 withdrew, text 1").wait_for()
        consents.get_by_text("Who had agreed was recorded.").wait_for()
        desk.get_by_text("its sender had not agreed").first.wait_for()
        shot(desk, "consent-desk")
    finally:
        pages.close()  # before they lose their server
        server.stop()


def test_the_cart_chooses_what_may_be_recorded(pages: Pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By keyboard: the sound of the room is unticked, the rest is recorded, and a second choice withdraws that too."""
    monkeypatch.setitem(os.environ, "MEDIASERVER_RECORDING_WHOSE", "consent")
    server = Server(tmp_path, "--record", "on")
    try:
        cart = pages.open(server.address("cart", "exam", "cart", name="Cart 3"))
        cart.get_by_role("button", name="Start consultation").click()
        viewer = pages.open(server.address("viewer", "exam", name="Dr. A"))
        cart.get_by_role("heading", name="May you be recorded?").wait_for(timeout=PATIENCE * 10_000)
        cart.locator("#consent summary").focus()
        cart.keyboard.press("Enter")
        boxes = cart.locator("#consent fieldset input")
        assert boxes.evaluate_all("all => all.every((one) => one.checked)")
        for name in ("Ultrasound", "Room camera", "Stethoscope", "Microphone", "Screen", "Dermatoscope", "Otoscope"):
            cart.keyboard.press("Tab")
            if name != "Room camera":
                cart.keyboard.press("Space")
        shot(cart, "consent-choice")
        cart.get_by_role("button", name="Yes, record these").click()
        cart.get_by_text("Only this of you may be recorded: Room camera.").wait_for(timeout=PATIENCE * 5_000)
        mark(viewer, "REC")
        cart.locator('.source[data-source="microphone"] .state', has_text="not recorded").wait_for()
        viewer.locator("#people li", has_text="Cart 3").locator(".rec", has_text="REC: Room camera").wait_for()
        cart.locator("#consent summary").click()
        cart.locator("#consent").get_by_label("Microphone").check()
        cart.locator("#consent").get_by_label("Room camera").uncheck()
        cart.get_by_role("button", name="Record these").click()
        mark(viewer, "not recorded")
        viewer.locator("#people li", has_text="Cart 3").locator(".rec", has_text="REC: Microphone").wait_for()
        cart.locator("#consent summary").click()
        cart.locator("#consent").get_by_label("Microphone").uncheck()
        assert cart.get_by_role("button", name="Record these").is_disabled(), "a choice of nothing is a withdrawal"
    finally:
        pages.close()  # before they lose their server
        server.stop()


def test_where_everybody_is_recorded_who_refuses_stops_sending(pages: Pages, tmp_path: Path) -> None:
    server = Server(tmp_path, "--record", "on")
    try:
        cart = pages.open(server.address("cart", "exam", "cart", name="Cart 3"))
        cart.get_by_role("button", name="Start consultation").click()
        cart.get_by_role("heading", name="Everybody who sends is recorded").wait_for(timeout=PATIENCE * 10_000)
        shot(cart, "consent-notice")
        cart.get_by_role("button", name="Do not record me").click()
        cart.get_by_text("You are not recorded, and may not send here.").wait_for(timeout=PATIENCE * 5_000)
        cart.get_by_text("Nothing is sent yet.").wait_for(timeout=PATIENCE * 5_000)
        cart.get_by_role("button", name="Start consultation").click()
        cart.locator(".fault", has_text="you have refused").first.wait_for(timeout=PATIENCE * 5_000)
    finally:
        pages.close()  # before they lose their server
        server.stop()
