"""Real browsers offer, a room answers, and the browser must take the answer as it stands, over a session's changes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from mediaserver.sfu.session.model import Publication, Source, SubscribeAll
from mediaserver.sfu.session.room import Negotiated, Room
from tests.browser.drivers import Page, chromium, firefox
from tests.sfu.session.harness import join, make_room

pytestmark = pytest.mark.browser

CART = {
    "0": Publication(Source.CAMERA),
    "1": Publication(Source.ULTRASOUND),
    "2": Publication(Source.MICROPHONE),
    "3": Publication(Source.STETHOSCOPE),
}
SETUP = """
    const canvas = document.createElement('canvas');
    canvas.getContext('2d');
    const context = new AudioContext();
    window.picture = () => canvas.captureStream(30).getVideoTracks()[0];
    window.sound = () => context.createMediaStreamDestination().stream.getAudioTracks()[0];
    window.connections = {};
    window.offer = async (name) => {
        const connection = window.connections[name];
        await connection.setLocalDescription();
        return connection.localDescription.sdp;
    };
    window.lines = (name) => window.connections[name].getTransceivers().map(t => [t.mid, t.currentDirection]);
"""


@pytest.fixture(scope="module", params=["chromium", "firefox"])
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    driver = {"chromium": chromium, "firefox": firefox}[request.param]
    if shutil.which({"chromium": "chromium", "firefox": "firefox-esr"}[request.param]) is None:
        pytest.skip(f"{request.param} is not installed")
    with driver() as page:
        page.evaluate(SETUP)
        yield page


@pytest.fixture
def room() -> Room:
    room, _ = make_room()
    join(room, "cart", "doctor")
    return room


def negotiate(page: Page, room: Room, name: str, change: str = "", **roles: Any) -> Negotiated:
    """Change the connection, offer, answer, and let the browser take the answer."""
    offer = page.evaluate(f"const c = connections['{name}']; {change}; return await offer('{name}');")
    answered = room.offer(name, offer, **{"publish": {}, "subscribe": {}, "now": 0} | roles)
    page.evaluate(
        f"await connections['{name}'].setRemoteDescription({{type: 'answer', sdp: argument}})", answered.answer
    )
    return answered


def create(page: Page, name: str) -> None:
    page.evaluate(f"connections['{name}'] = new RTCPeerConnection()")


def publish(page: Page, room: Room) -> Negotiated:
    create(page, "cart")
    add = (
        "for (const track of [picture(), picture(), sound(), sound()]) c.addTransceiver(track, {direction: 'sendonly'})"
    )
    return negotiate(page, room, "cart", add, publish=CART)


def lines(page: Page, name: str) -> dict[str, str]:
    return dict(page.evaluate(f"return lines('{name}')"))


def test_a_cart_publishes_and_a_doctor_receives(page: Page, room: Room) -> None:
    published = publish(page, room)
    assert set(published.bound) == set(CART)
    assert lines(page, "cart") == dict.fromkeys(CART, "sendonly")

    create(page, "doctor")
    add = "for (const kind of ['video', 'video', 'audio', 'audio']) c.addTransceiver(kind, {direction: 'recvonly'})"
    wanted = {mid: published.bound[mid] for mid in CART}
    answered = negotiate(page, room, "doctor", add, subscribe=wanted)
    assert answered.bound == wanted
    assert answered.refused == {}
    assert lines(page, "doctor") == dict.fromkeys(CART, "recvonly")
    ids = page.evaluate("return connections.doctor.getReceivers().map(r => r.track.id)")
    if ids[0] in wanted.values():  # Chromium names a received track by its msid, Firefox by an id of its own
        assert ids == list(wanted.values())


def test_a_viewer_of_everything_gets_slots_that_are_filled_later(page: Page, room: Room) -> None:
    create(page, "doctor")
    add = "for (const kind of ['video', 'audio', 'audio']) c.addTransceiver(kind, {direction: 'recvonly'})"
    assert negotiate(page, room, "doctor", add, subscribe=SubscribeAll()).bound == {}
    assert lines(page, "doctor") == dict.fromkeys("012", "recvonly")
    publish(page, room)
    sources = [leg.track.source for leg in room.participants["doctor"].legs()]
    assert sources == [Source.ULTRASOUND, Source.MICROPHONE, Source.STETHOSCOPE]


def test_tracks_are_added_stopped_and_their_lines_used_again(page: Page, room: Room) -> None:
    first = publish(page, room)
    camera = {"4": Publication(Source.SCREEN)}
    added = negotiate(page, room, "cart", "c.addTransceiver(picture(), {direction: 'sendonly'})", publish=camera)
    assert set(added.bound) == {*CART, "4"}
    assert {mid: added.bound[mid] for mid in CART} == first.bound  # what was not named goes on

    stopped = negotiate(page, room, "cart", "c.getTransceivers()[0].stop()")
    assert set(stopped.bound) == {"1", "2", "3", "4"}
    assert "0" not in lines(page, "cart") or lines(page, "cart")["0"] in ("stopped", "inactive", None)

    again = "window.fresh = c.addTransceiver(picture(), {direction: 'sendonly'})"
    mid = page.evaluate(f"const c = connections.cart; {again}; await c.setLocalDescription(); return fresh.mid")
    reused = negotiate(page, room, "cart", publish={mid: Publication(Source.CAMERA)})
    assert set(reused.bound) == {"1", "2", "3", "4", mid}
    assert len(room.tracks) == 5

    quiet = negotiate(page, room, "cart", "c.getTransceivers().find(t => t.mid === '1').direction = 'inactive'")
    assert "1" not in quiet.bound
    assert len(room.tracks) == 4


def test_an_ice_restart_keeps_the_tracks(page: Page, room: Room) -> None:
    before = publish(page, room)
    transport = room.participants["cart"].transport
    assert transport is not None
    credentials = transport.local
    after = negotiate(page, room, "cart", "c.restartIce()")
    assert after.bound == before.bound
    assert after.events == []
    assert transport.local != credentials


def test_both_ways_on_one_line_with_a_data_channel_declined(page: Page, room: Room) -> None:
    published = publish(page, room)
    create(page, "doctor")
    add = "c.addTransceiver(picture()); c.addTransceiver(sound()); c.createDataChannel('chat')"
    answered = negotiate(
        page,
        room,
        "doctor",
        add,
        publish={"0": Publication(Source.CAMERA), "1": Publication(Source.MICROPHONE)},
        subscribe={"0": published.bound["1"], "1": published.bound["3"]},
    )
    assert lines(page, "doctor") == dict.fromkeys("01", "sendrecv")
    assert "m=application 0 " in answered.answer
    assert len(room.tracks) == 6


def test_simulcast(page: Page, room: Room) -> None:
    create(page, "cart")
    add = "window.sender = c.addTransceiver(picture(), {direction: 'sendonly', sendEncodings: ['q', 'h', 'f']"
    add += ".map((rid) => ({rid}))}).sender"
    answered = negotiate(page, room, "cart", add, publish={"0": Publication(Source.CAMERA)})
    assert "a=simulcast:recv q;h;f" in answered.answer
    assert lines(page, "cart") == {"0": "sendonly"}
    assert page.evaluate("return sender.getParameters().encodings.map(({rid}) => rid)") == ["q", "h", "f"]
