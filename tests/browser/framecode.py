"""A number in every frame that survives any codec: 16 bits as black and white cells, and their opposites below.

The number stands in a band of two rows of 16 cells over the full width, each cell a sixteenth of the width high
and wide. `DRAW` and `READ` are the JavaScript of it, `read` the Python.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

BITS = 16

FAKE_GRABBER = """
(() => {
  // A video grabber whose pictures carry their number: a canvas behind the browser's own list of devices.
  const [width, height, size] = [640, 480, 40];
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d", { alpha: false });
  const grabber = window.grabber = { count: 0, sent: [], frozen: false, still: false };
  function draw() {
    if (grabber.frozen) return;
    const count = (grabber.count = (grabber.count + 1) % 65536);
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, width, height);
    const turn = grabber.still ? 0 : count * 0.02;
    for (let spot = 0; spot < 260; spot++) {
      const angle = 0.7 + ((spot * 2.399 + turn) % 1.75);
      const depth = 120 + ((spot * 37 + 90 * Math.sin(turn + spot)) % 300);
      pen.fillStyle = `rgb(${40 + (spot * 53) % 180} ${40 + (spot * 53) % 180} ${50 + (spot * 53) % 180})`;
      pen.fillRect(width / 2 + depth * Math.cos(angle), 60 + depth * Math.sin(angle), 14, 6);
    }
    const shown = grabber.still ? 0 : count;
    for (let bit = 0; bit < 16; bit++) {
      const one = (shown >> bit) & 1;
      pen.fillStyle = one ? "#fff" : "#000";
      pen.fillRect(bit * size, 0, size, size);
      pen.fillStyle = one ? "#000" : "#fff";
      pen.fillRect(bit * size, size, size, size);
    }
    grabber.sent.push([count, performance.timeOrigin + performance.now()]);
    for (const track of tracks) track.requestFrame();
  }
  const tracks = new Set();
  setInterval(draw, 1000 / 30);
  const media = navigator.mediaDevices;
  const [list, open] = [media.enumerateDevices.bind(media), media.getUserMedia.bind(media)];
  media.enumerateDevices = async () => [
    ...(await list()), { deviceId: "grabber", groupId: "", kind: "videoinput", label: "Test grabber" }];
  media.getUserMedia = async (wish) => {
    if (wish.video?.deviceId?.exact !== "grabber") return open(wish);
    const stream = canvas.captureStream(0);
    tracks.add(stream.getVideoTracks()[0]);
    return stream;
  };
})();
"""
"""Gives the page one more camera, "Test grabber": 640x480, 30 frames/s. `window.grabber` steers and logs it."""

READ = """
const tile = document.querySelector(argument.selector);
const video = tile.querySelector("video");
const canvas = new OffscreenCanvas(160, 20);
const pen = canvas.getContext("2d", { willReadFrequently: true });
const seen = (window.seen = window.seen ?? {});
const log = (seen[argument.name] = []);
function note(now, metadata) {
  video.requestVideoFrameCallback(note);
  pen.drawImage(video, 0, 0, video.videoWidth, video.videoWidth / 8, 0, 0, 160, 20);
  const pixels = pen.getImageData(0, 0, 160, 20).data;
  const bright = (x, y) => pixels[4 * (160 * y + x) + 1] > 127;
  let [code, sound] = [0, true];
  for (let bit = 0; bit < 16; bit++) {
    const one = bright(bit * 10 + 5, 5);
    if (one === bright(bit * 10 + 5, 15)) sound = false;
    if (one) code += 2 ** bit;
  }
  const shown = performance.timeOrigin + (metadata.presentationTime ?? now);
  log.push([sound ? code : -1, shown, metadata.captureTime ?? null, metadata.receiveTime ?? null]);
}
video.requestVideoFrameCallback(note);
"""
"""Reads a tile's pictures into `window.seen[name]`: [number or -1, wall clock in ms, captureTime, receiveTime]."""


def read(luma: npt.NDArray[np.uint8]) -> int:
    """The number in a picture's luma plane, -1 where it can't be read."""
    cell = luma.shape[1] // BITS
    across = cell // 2 + cell * np.arange(BITS)
    ones = luma[cell // 2, across] > 127
    if np.any(ones == (luma[cell + cell // 2, across] > 127)):
        return -1
    return int(np.sum(1 << np.arange(BITS)[ones]))


def steps(codes: list[int]) -> list[int]:
    """The steps between neighbouring numbers, over the roll-over at 16 bits; unreadable ones are left out."""
    read_codes = [code for code in codes if code >= 0]
    wrapped = [(after - before) % 65536 for before, after in pairwise(read_codes)]
    return [step - 65536 if step > 32768 else step for step in wrapped]
