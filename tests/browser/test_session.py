"""What happens to a session: tracks come and go, sockets drop, servers restart, doctors talk and record."""

from __future__ import annotations

import socket
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.browser import consultation as c
from tests.browser.conftest import PATIENCE, Pages, Server, shot

pytestmark = pytest.mark.browser

OF_THE_GRABBER = """(size) => {
  const [width, height] = document.querySelector(size).textContent.split("×");
  return 3 * width === 4 * height;
}"""
KEEP_SOCKETS = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...given) { super(...given); window.sockets.push(this); }
};
"""


def test_tracks_come_and_go(pages: Pages, server: Server) -> None:
    cart = c.open_cart(pages, server, "session-1")
    doctor = c.open_viewer(pages, server, "session-1")
    doctor.locator("#empty", has_text="The cart is here").wait_for()
    send = {source: cart.get_by_role("button", name=f"Send {source}") for source in ("Room camera", "Ultrasound")}
    stop = {source: cart.get_by_role("button", name=f"Stop sending {source}") for source in send}
    # One by one, in an order that makes the doctor's page reuse what an earlier track left.
    send["Room camera"].click()
    c.wait_live(doctor, c.CAMERA)
    send["Ultrasound"].click()
    c.wait_live(doctor, c.CAMERA, c.ULTRASOUND)
    doctor.locator("#stage .tile[data-source=ultrasound]").wait_for()
    stop["Ultrasound"].click()
    doctor.locator(c.ULTRASOUND).wait_for(state="detached")
    c.wait_live(doctor, c.CAMERA)
    for _ in range(2):
        send["Ultrasound"].click()
        c.wait_live(doctor, c.CAMERA, c.ULTRASOUND)
        stop["Room camera"].click()
        doctor.locator(c.CAMERA).wait_for(state="detached")
        send["Room camera"].click()
        c.wait_live(doctor, c.CAMERA, c.ULTRASOUND)
        stop["Ultrasound"].click()
        doctor.locator(c.ULTRASOUND).wait_for(state="detached")
    latecomer = c.open_viewer(pages, server, "session-1", "observer", name="Student")
    c.wait_live(latecomer, c.CAMERA)
    assert latecomer.locator(".tile").count() == 1


def test_another_device_in_the_same_track(pages: Pages, server: Server) -> None:
    cart = c.start_cart(pages, server, "session-2")
    doctor = c.open_viewer(pages, server, "session-2")
    c.wait_live(doctor)
    track = doctor.locator(c.CAMERA).get_attribute("data-track")
    cart.get_by_label("Device for Room camera").select_option(label="Test grabber")
    # The fake camera's pictures are wide, the grabber's 640 by 480; a busy browser sends them smaller.
    doctor.wait_for_function(OF_THE_GRABBER, arg=f"{c.CAMERA} .size")
    c.wait_live(doctor)
    assert doctor.locator(c.CAMERA).get_attribute("data-track") == track


def test_dropped_socket_is_resumed(pages: Pages, server: Server, figures: Callable[..., None]) -> None:
    c.start_cart(pages, server, "session-3")
    doctor = pages.open(server.address("viewer", "session-3", name="Dr. Rivera"), script=KEEP_SOCKETS)
    witness = c.open_viewer(pages, server, "session-3", "observer", name="Student")
    c.wait_live(doctor)
    c.wait_live(witness)
    me = doctor.locator("#people li", has_text="Dr. Rivera").get_attribute("data-participant")
    there = witness.locator(f"#people li[data-participant='{me}']").element_handle()
    c.watch(doctor)
    c.seen(doctor, 20)
    doctor.evaluate("() => sockets.at(-1).close(4000)")
    doctor.wait_for_function("() => sockets.length > 1 && sockets.at(-1).readyState === WebSocket.OPEN")
    frames = c.seen(doctor, 60)
    gaps = [after[1] - before[1] for before, after in pairwise(frames)]
    figures(longest_gap_ms=round(max(gaps)))
    assert max(gaps) < 500 * PATIENCE
    doctor.locator("#connection", has_text="Connected").wait_for()
    # It is still the same participant, and nobody has seen it go.
    doctor.locator(f"#people li[data-participant='{me}']", has_text="Dr. Rivera").wait_for()
    assert there is not None
    assert there.evaluate("(row) => row.textContent.includes('Dr. Rivera')")
    # The resumed session goes on to be told what happens.
    late = c.open_viewer(pages, server, "session-3", name="Dr. Late")
    doctor.locator("#people li", has_text="Dr. Late").wait_for()
    late.get_by_role("button", name="Leave").click()
    doctor.locator("#people li", has_text="Dr. Late").wait_for(state="detached")


def test_server_restart(pages: Pages, tmp_path: Path, figures: Callable[..., None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        http = f"127.0.0.1:{probe.getsockname()[1]}"
    pages.expected = "net::ERR_CONNECTION_"  # refused, or reset where it was just about to be accepted
    server = Server(tmp_path, http=http)
    cart = c.start_cart(pages, server, "session-4")
    doctor = c.open_viewer(pages, server, "session-4")
    c.wait_live(doctor)
    server.process.kill()
    server.stop()
    doctor.locator("#connection[data-state=warn], #connection[data-state=lost]").wait_for()
    doctor.locator(f"{c.ULTRASOUND}[data-state=frozen]").wait_for()
    doctor.locator(f"{c.ULTRASOUND} .sign", has_text="STALE").wait_for()
    doctor.locator("#banner").wait_for()
    shot(doctor, "viewer-lost")
    server = Server(tmp_path, http=http)
    try:
        c.wait_live(doctor)
        cart.wait_for_function("() => document.querySelectorAll('.source.sending').length === 4")
        doctor.locator("#connection", has_text="Connected").wait_for()
        doctor.locator("#banner").wait_for(state="hidden")
    finally:
        server.stop()


def test_talk_is_heard_at_the_cart(pages: Pages, server: Server) -> None:
    cart = c.start_cart(pages, server, "session-5")
    doctor = c.open_viewer(pages, server, "session-5")
    c.wait_live(doctor)
    doctor.keyboard.press("t")
    doctor.locator("#talk[aria-pressed=true]").wait_for()
    row = cart.locator("#sounds li")
    row.filter(has_text="Dr. Rivera").wait_for()
    cart.wait_for_function("() => document.querySelector('#sounds meter').value > 0")
    doctor.keyboard.press("t")
    doctor.locator("#talk[aria-pressed=false]").wait_for()
    row.filter(has_text="muted").wait_for()
    doctor.keyboard.press("t")
    row.filter(has_not_text="muted").wait_for()
    c.wait_live(doctor)


def test_recording_is_seen_by_all(pages: Pages, server: Server) -> None:
    cart = c.start_cart(pages, server, "session-6")
    doctor = c.open_viewer(pages, server, "session-6")
    observer = c.open_viewer(pages, server, "session-6", "observer", name="Student")
    c.wait_live(doctor)
    observer.locator("#record").wait_for(state="hidden")
    observer.locator("#talk").wait_for(state="hidden")
    doctor.keyboard.press("r")
    for page in (cart, doctor, observer):
        page.locator("#recording[data-state=on]").wait_for()
    doctor.get_by_role("button", name="Stop recording").click()
    for page in (cart, doctor, observer):
        page.locator("#recording[data-state=off]").wait_for()


def test_cart_that_leaves_is_gone_at_once(pages: Pages, server: Server) -> None:
    cart = c.start_cart(pages, server, "session-7")
    doctor = c.open_viewer(pages, server, "session-7")
    c.wait_live(doctor)
    cart.close(run_before_unload=False)
    doctor.locator("#people li", has_text="Cart 3").wait_for(state="detached")
    doctor.locator(".tile").first.wait_for(state="detached")
    doctor.locator("#empty", has_text="Waiting for the cart").wait_for()
