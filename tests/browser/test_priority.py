"""What a viewer's page says of pictures that its line does not carry, and what it tells of those it shows."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Pages, Server

pytestmark = pytest.mark.browser

SHOW = """async () => {
  const { Tile } = await import("/static/tile.js");
  const info = { id: "t1", source: "camera", participant: "p1", label: "", codec: "VP8" };
  const tile = new Tile(info, "Cart 3", { stale_ms: 60000, unchanged_ms: 0 }, () => {});
  document.body.replaceChildren(tile.root);
  const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
  const context = canvas.getContext("2d");
  const draw = () => { context.fillRect(0, 0, performance.now() % 320, 90); requestAnimationFrame(draw); };
  draw();
  tile.show(canvas.captureStream(10).getVideoTracks()[0]);
  await new Promise((resolve) => tile.video.requestVideoFrameCallback(resolve));
  window.tile = tile;
}"""
SAY = """(quality) => {
  tile.allow(quality);
  tile.judge(performance.now());
  return [tile.root.dataset.state, tile.root.querySelector(".sign").textContent];
}"""
LOOK = """async () => {
  const { Attention } = await import("/static/attention.js");
  const told = [];
  const client = { joined: { budgets: { camera: { rank: 4 } } }, view: async (wishes) => told.push(...wishes) };
  const attention = new Attention(client, new Map([["t1", tile]]));
  const size = (width, height) => Object.assign(tile.video.style, { width: `${width}px`, height: `${height}px` });
  const next = async (count) => { while (told.length < count) await new Promise((done) => setTimeout(done, 20)); };
  size(640, 1000); attention.watch(tile); await next(1);
  for (let width = 600; width > 320; width -= 7) size(width, 180);
  size(320, 180); await next(2);
  attention.choose("t1"); await next(3);
  attention.choose(null); await next(4);
  return told.map(({ height, rank }) => [height / devicePixelRatio, rank]);
}"""


def test_words_of_a_tile_and_what_the_page_looks_at(pages: Pages, server: Server) -> None:
    page = pages.open(server.base)
    page.evaluate(SHOW)
    thin = {"state": "paused", "cause": "line"}
    assert page.evaluate(SAY, thin) == ["thin", "Paused: your line is too thin"]
    assert page.evaluate(SAY, {"state": "paused", "cause": "viewer"}) == ["off", "Paused here"]
    assert page.evaluate(SAY, {"state": "below-floor", "cause": "line"}) == ["below", "Below its floor"]
    assert page.evaluate(SAY, {"state": "ok", "cause": ""}) == ["live", ""]
    assert page.evaluate(SAY, None) == ["live", ""]
    # The height of the picture, not of its box; once for a window that was dragged; the chosen one first.
    assert page.evaluate(LOOK) == [[360, 4], [180, 4], [180, 0], [180, 4]]
