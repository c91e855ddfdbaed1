"""A cart that sends several encodings of its pictures, when its address asks for it, and who gets a picture of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import consultation as c
from tests.browser import framecode
from tests.browser.conftest import Pages, Server

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

KEEP = """
window.connections = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...given) { super(...given); connections.push(this); }
};
window.sockets = [];
window.published = {};
window.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    sockets.push(this);
    this.addEventListener("message", ({ data }) => {
      const { type, track } = JSON.parse(data);
      if (type === "track-added") published[track.source] = track.id;
    });
  }
};
"""
ENCODINGS = """() => connections.flatMap((one) => one.getSenders())
  .filter(({ track }) => track?.kind === "video")
  .map((sender) => sender.getParameters().encodings.map(({ rid, active }) => [rid ?? "", active]))"""
SAY_WANTED = """([source, wanted]) => sockets.at(-1).dispatchEvent(new MessageEvent("message", {
  data: JSON.stringify({ type: "encodings", track: published[source], wanted }),
}))"""
ENCODED = """async () => {
  const found = {};
  for (const { type, kind, rid, ...one } of (await connections[0].getStats()).values()) {
    if (type !== "outbound-rtp" || kind !== "video" || !one.framesEncoded) continue;
    const name = `${one.mid}:${rid ?? ""}`;
    found[name] = [one.framesEncoded, one.totalEncodeTime, one.bytesSent];
  }
  return found;
}"""
MEASURED_MS = 8_000


def rids(cart: Page) -> list[str]:
    """Of each picture that is sent, the rids of its encodings."""
    return sorted(",".join(rid for rid, _ in sender) for sender in cart.evaluate(ENCODINGS))


ACTIVE = f"({ENCODINGS})().find((one) => one.length === 3).filter(([, on]) => on).map(([rid]) => rid).join()"


def wait_active(cart: Page, wanted: str) -> None:
    """Waits until these are the rids of the camera's encodings that are sent."""
    cart.wait_for_function(f"(wanted) => {ACTIVE} === wanted", arg=wanted)


def test_viewer_sees_what_is_sent_in_several_encodings(pages: Pages, server: Server) -> None:
    cart = c.start_cart(pages, server, "layers-1", script=KEEP, query="&simulcast=1")
    assert rids(cart) == ["l,f", "q,h,f"]
    doctor = c.open_viewer(pages, server, "layers-1")
    c.wait_live(doctor)
    c.watch(doctor)
    codes = [frame[0] for frame in c.seen(doctor, 60)]
    assert min(framecode.steps(codes)) >= 0, "a frame was shown after a later one"
    assert sum(code >= 0 for code in codes) > 0.9 * len(codes)


def test_one_encoding_of_each_picture_unless_asked(pages: Pages, server: Server) -> None:
    cart = c.start_cart(pages, server, "layers-2", script=KEEP)
    assert rids(cart) == ["", ""]
    c.wait_live(c.open_viewer(pages, server, "layers-2"))


def test_an_encoding_is_sent_while_somebody_has_a_use_for_it(pages: Pages, server: Server) -> None:
    """The server tells by what its viewers get: the lowest stays where nobody comes."""
    cart = c.start_cart(pages, server, "layers-3", script=KEEP, query="&simulcast=1")
    wait_active(cart, "q,h,f")
    cart.evaluate(SAY_WANTED, ["ultrasound", ["no such rid"]])
    wait_active(cart, "q")
    doctor = c.open_viewer(pages, server, "layers-3")
    cart.wait_for_function(f"() => {ACTIVE}.includes('f')")
    c.wait_live(doctor)
    doctor.close()
    wait_active(cart, "q")


@pytest.mark.soak
def test_an_encoding_goes_on_while_somebody_watches(pages: Pages, server: Server) -> None:
    cart = c.start_cart(pages, server, "layers-5", script=KEEP, query="&simulcast=1")
    wait_active(cart, "q,h,f")
    cart.wait_for_timeout(5_000)
    wait_active(cart, "q,h,f")  # not yet: somebody may come
    doctor = c.open_viewer(pages, server, "layers-5")
    c.wait_live(doctor)
    cart.wait_for_timeout(20_000)
    assert cart.evaluate(ACTIVE) in ("h", "f")  # by the size in which the page shows it
    c.wait_live(doctor)


@pytest.mark.soak
@pytest.mark.parametrize("query", ["", "&simulcast=camera", "&simulcast=1"])
def test_what_several_encodings_cost(pages: Pages, server: Server, figures: Callable[..., None], query: str) -> None:
    room = f"layers-4{query.rpartition('=')[2]}"
    cart = c.start_cart(pages, server, room, script=KEEP, query=query)
    doctor = c.open_viewer(pages, server, room)
    firsts = c.firsts(doctor, {"camera", "ultrasound"})
    cart.wait_for_timeout(MEASURED_MS)
    before: dict[str, Any] = cart.evaluate(ENCODED)
    cart.wait_for_timeout(MEASURED_MS)
    after: dict[str, Any] = cart.evaluate(ENCODED)
    spent = {name: [x - y for x, y in zip(after[name], before.get(name, [0, 0, 0]), strict=True)] for name in after}
    figures(
        first_frame_ms={source: round(time) for source, time in firsts.items()},
        encoders_ms_per_s=round(sum(time for _, time, _ in spent.values()) * 1e6 / MEASURED_MS),
        encodings={
            name: f"{frames * 1e3 / MEASURED_MS:.0f} fps, {8 * octets / MEASURED_MS:.0f} kbit/s"
            for name, (frames, _, octets) in sorted(spent.items())
        },
    )
    # Which of them a busy machine can encode is its own business; not less than a picture each.
    assert len({name.split(":")[0] for name in spent}) == 2
