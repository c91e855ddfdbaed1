"""A stethoscope whose sound is squeezed on its way to the encoder's output: both pages must say so."""

from __future__ import annotations

import pytest

from tests.browser import consultation as c
from tests.browser.conftest import Pages, Server
from tests.browser.test_simulcast import KEEP

pytestmark = [pytest.mark.browser, pytest.mark.timeout(200)]

SQUEEZE = """async (maxBitrate) => {
  for (const sender of connections.flatMap((one) => one.getSenders()).filter(({ track }) => track?.kind === "audio")) {
    const parameters = sender.getParameters();
    parameters.encodings[0].maxBitrate = maxBitrate;
    await sender.setParameters(parameters);
  }
}"""
WINDOWS_MS = 7_000


def test_an_altered_stethoscope_is_shown_on_both_pages(pages: Pages, server: Server) -> None:
    cart = c.start_cart(pages, server, "sound-1", script=KEEP)
    doctor = c.open_viewer(pages, server, "sound-1")
    c.wait_live(doctor)
    sign = doctor.locator(".sounds [data-source=stethoscope] .sound-sign")
    fault = cart.locator(".source[data-source=stethoscope] .fault")
    cart.wait_for_timeout(WINDOWS_MS)
    assert "altered" not in sign.inner_text()
    assert not fault.is_visible()
    cart.evaluate(SQUEEZE, 24_000)
    words = "its bitrate is too low. Do not trust it."
    sign.filter(has_text=words).wait_for()
    fault.filter(has_text=words).wait_for()
    assert cart.locator(".source[data-source=microphone] .fault").is_hidden(), "voices may be squeezed"
    late = c.open_viewer(pages, server, "sound-1", "observer", name="Student")
    late.locator(".sounds [data-source=stethoscope] .sound-sign", has_text=words).wait_for()
    cart.evaluate(SQUEEZE, 128_000)
    sign.filter(has_not_text="altered").wait_for(state="attached")
    fault.wait_for(state="hidden")


SPEAK = """
navigator.mediaDevices.getUserMedia = async () => {
  const context = new AudioContext();
  const [tone, gate, out] = [context.createOscillator(), context.createGain(), context.createMediaStreamDestination()];
  gate.gain.value = 0;
  tone.connect(gate).connect(out);
  tone.start();
  // Syllables of a quarter of a second, with pauses between them.
  setInterval(() => gate.gain.setTargetAtTime(window.speaks && performance.now() % 400 < 250 ? 0.4 : 0, 0, 0.01), 50);
  return out.stream;
};
"""


def test_who_speaks_is_marked(pages: Pages, server: Server) -> None:
    cart = c.start_cart(pages, server, "sound-2")
    cart.get_by_role("button", name="Stop sending Microphone").click()  # the test device's beeps echo
    doctor = pages.open(server.address("viewer", "sound-2", name="Dr. Rivera"), script=SPEAK)
    c.wait_live(doctor)
    doctor.get_by_role("button", name="Talk").click()
    marked = "#people .speaking"
    assert doctor.locator(marked).count() == 0, "a stethoscope does not speak"
    doctor.evaluate("() => { window.speaks = true; }")
    for page in (cart, doctor):
        page.locator(marked, has_text="Dr. Rivera").wait_for()
    late = c.open_viewer(pages, server, "sound-2", "observer", name="Student")
    late.locator(marked, has_text="Dr. Rivera").wait_for()
    doctor.evaluate("() => { window.speaks = false; }")
    for page in (cart, late):
        page.locator(marked).wait_for(state="detached")
