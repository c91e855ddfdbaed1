"""A consultation from Chromium, as the archive has it: the pictures that were drawn, with the sound of their moment."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.browser import framecode
from tests.browser.conftest import PATIENCE, Pages, Server
from tests.browser.consultation import percentile
from tests.browser.drivers import LoopThread
from tests.interop import consultation as c

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SECONDS = 8
SKEW_MS = 80.0

SEND = """
async ({ room, token }) => {
  // Camera and ultrasound are one canvas, seen twice; with each thirtieth picture a beep sounds.
  const { MediaClient } = await import("/static/client.js");
  const [width, height, size] = [640, 480, 40];
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d", { alpha: false });
  const sound = new AudioContext({ sampleRate: 48000, latencyHint: "interactive" });
  const tone = new OscillatorNode(sound, { frequency: 1000 });
  const volume = new GainNode(sound, { gain: 0 });
  const out = sound.createMediaStreamDestination();
  out.channelCount = 1;
  tone.connect(volume).connect(out);
  tone.start();
  await sound.resume();
  const streams = { camera: canvas.captureStream(0), ultrasound: canvas.captureStream(0) };
  const tracks = Object.values(streams).map((stream) => stream.getVideoTracks()[0]);
  const made = (window.made = { count: 0 });
  function draw() {
    const count = (made.count += 1);
    pen.fillStyle = `hsl(${count % 360} 40% 40%)`;
    pen.fillRect(0, 0, width, height);
    for (let bit = 0; bit < 16; bit++) {
      const one = (count >> bit) & 1;
      pen.fillStyle = one ? "#fff" : "#000";
      pen.fillRect(bit * size, 0, size, size);
      pen.fillStyle = one ? "#000" : "#fff";
      pen.fillRect(bit * size, size, size, size);
    }
    if (count % 30 === 0) {
      volume.gain.setValueAtTime(0.8, sound.currentTime);
      volume.gain.setValueAtTime(0, sound.currentTime + 0.06);
    }
    for (const track of tracks) track.requestFrame();
  }
  const client = new MediaClient({ room, token, autoSubscribe: false });
  await client.connect();
  made.timer = setInterval(draw, 1000 / 30);
  for (const [source, stream] of Object.entries(streams)) {
    await client.publish(stream.getVideoTracks()[0], { source, label: source });
  }
  await client.publish(out.stream.getAudioTracks()[0], { source: "stethoscope", label: "beeps" });
}
"""


def test_what_chromium_sent_is_kept_in_sync(
    pages: Pages, loop: LoopThread, tmp_path: Path, figures: Callable[..., None]
) -> None:
    server = Server(tmp_path, "--record", "on")
    try:
        page = pages.open(f"{server.base}/cart")
        page.evaluate(SEND, {"room": "exam", "token": server.token("exam", "cart")})
        page.wait_for_function(f"() => made.count >= {30 * SECONDS}", timeout=c.PATIENCE * 1000)
        recorded = c.until(lambda: [one["duration_ms"] > SECONDS * 500 for one in c.listed(tmp_path)] == [True])
        loop.run(recorded, c.PATIENCE)
        drawn = page.evaluate("() => (clearInterval(made.timer), made.count)")
        page.close()
    finally:
        server.stop()
    (recording,) = c.listed(tmp_path)
    verified = c.command(tmp_path, "verify", recording["id"])
    assert verified.returncode == 0, verified.stdout
    manifest, folder = c.kept(tmp_path, recording["id"]), c.folder_of(tmp_path, recording["id"])
    tracks = {track.source: track for track in manifest.tracks}
    assert set(tracks) == {"camera", "ultrasound", "stethoscope"}
    assert all(track.gaps == [] for track in manifest.tracks)
    shown = {}
    for source in ("camera", "ultrasound"):
        pictures = [one for s in tracks[source].segments for one in c.decoded(folder, s, framecode.read)]
        numbers = [number for number, _ in pictures if number is not None]
        assert min(numbers) >= 0, "an unreadable picture"
        # A browser that has to wait for a core may hand out one drawing twice, as two pictures with times of their own.
        assert min(after - before for before, after in pairwise(numbers)) >= 0, "not in the order of their drawing"
        assert min(after - before for (_, before), (_, after) in pairwise(pictures)) > 0, "a picture stands twice"
        assert len(set(numbers)) > 0.9 * len(numbers)
        assert numbers[-1] <= drawn
        shown[source] = c.Shown(numbers, [time for _, time in pictures])
    bursts = c.listen(folder, tracks["stethoscope"])
    assert len(bursts) >= SECONDS / 2
    skews = {
        "ultrasound after camera": c.skews_ms(shown["camera"], shown["ultrasound"]),
        "sound after camera": c.sound_skews_ms(shown["camera"], bursts),
        "sound after ultrasound": c.sound_skews_ms(shown["ultrasound"], bursts),
    }
    median = {name: round(statistics.median(values), 1) for name, values in skews.items()}
    p90 = {name: round(percentile(list(map(abs, values)), 0.9), 1) for name, values in skews.items()}
    pictures = {source: len(one.numbers) for source, one in shown.items()}
    figures(median_skew_ms=median, p90_skew_ms=p90, pictures=pictures, beeps=len(bursts))
    # A browser that has to wait for a core hands one of the two canvas tracks its picture late: that is its own skew,
    # of single pictures, and not of the recording.
    assert max(map(abs, median.values())) <= SKEW_MS
    assert p90["ultrasound after camera"] <= SKEW_MS * PATIENCE
    assert len(skews["sound after camera"]) >= SECONDS / 2
