"""Pictures of the archivist's desk for docs/archive.md: `python -m tests.browser.desk_shots docs`.

The real server over recordings of synthetic pictures, in headless Chromium.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright

from mediaserver.codecs.payload import Codec
from mediaserver.loadtest.phantom import Phantom
from mediaserver.loadtest.scene import Scene
from tests.browser import desk
from tests.browser.conftest import Server, launch
from tests.codecs import media
from tests.recording import feed
from tests.recording.feed import Source, Studio

SECONDS = 8
SIZE = (1440, 860)
OTHERS = (("ward-7", 26), ("cardio-2", 51), ("rural-clinic-14", 96), ("ward-7", 170), ("dermatology", 220))
"""Rooms of further recordings, and how many hours earlier they were."""

Picture = NDArray[np.uint8]


def coded(codec: Codec, pictures: Iterable[Picture], width: int, height: int) -> tuple[bytes, ...]:
    """Pictures as luma alone, or with U and V below it."""
    name, options = media.ENCODERS[codec]
    context = av.CodecContext.create(name, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.gop_size, context.thread_count = Fraction(1, 30), 60, 1
    context.options = dict(options) | {"g": "60", "b": "2500k", "crf": "24"}
    out = []
    for number, picture in enumerate(pictures):
        flat = np.full((height * 3 // 2, width), 128, np.uint8)
        flat[: len(picture)] = picture
        frame = av.VideoFrame.from_ndarray(flat, "yuv420p")
        frame.pts = number
        out += [bytes(packet) for packet in context.encode(frame)]
    return tuple(out + [bytes(packet) for packet in context.encode(None)])


def skin(width: int, height: int, count: int) -> Iterator[Picture]:
    """A mole under a dermatoscope that is held by hand."""
    chance = np.random.default_rng(3)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    grain = chance.normal(0, 5, (height, width)).astype(np.float32)
    for number in range(count):
        left, top = width / 2 + 14 * np.sin(number / 23), height / 2 + 9 * np.cos(number / 31)
        turn = np.arctan2(y - top, x - left)
        far = np.hypot(x - left, (y - top) * 1.15) / (1 + 0.12 * np.sin(3 * turn) + 0.06 * np.sin(7 * turn + 1))
        mole = 1 / (1 + np.exp((far - 95) / 9))
        rim = np.clip((np.hypot(x - width / 2, y - height / 2) - height * 0.49) / 6, 0, 1)
        luma = (178 - 105 * mole + np.roll(grain, number % 3, 0) * (1 + mole)) * (1 - rim) + 16 * rim
        shade = (1 - rim)[::2, ::2]
        u, v = (128 - (14 - 6 * mole[::2, ::2]) * shade), (128 + (26 - 10 * mole[::2, ::2]) * shade)
        flat = np.concatenate([plane.reshape(-1) for plane in (luma, u, v)])
        yield np.clip(flat, 16, 240).astype(np.uint8).reshape(height * 3 // 2, width)


def record(archive: Path, room: str, seconds: int, whole: bool) -> Studio:
    """A consultation; `whole` has all that the player can show, the others a picture and a sound."""
    with desk.evidence(archive) as signs:
        studio = consultation(Studio(archive, room=room, evidence=signs), seconds, whole)
        if whole:
            desk.lay_report(studio, signs, desk.report(studio.recording.id, seconds))
    return studio


def consultation(studio: Studio, seconds: int, whole: bool) -> Studio:
    room, count = studio.recording.room, 30 * seconds
    scan = coded(Codec.CODEC_H264, Phantom(640, 480, seed=len(room)).frames(count, code=False), 640, 480)
    tracks = {"us": ("ultrasound", Source(Codec.CODEC_H264, scan, ssrc=1, size=(640, 480)))}
    if room == "dermatology" or whole:
        mole = coded(Codec.CODEC_VP9, skin(640, 480, count), 640, 480)
        tracks["skin"] = ("dermatoscope", Source(Codec.CODEC_VP9, mole, ssrc=3, size=(640, 480), start_us=2e6))
    if whole:
        room_view = coded(Codec.CODEC_VP8, Scene(640, 360).frames(count, code=False), 640, 360)
        tracks["cam"] = ("camera", Source(Codec.CODEC_VP8, room_view, ssrc=2, size=(640, 360)))
    for name, (source, sent) in tracks.items():
        studio.track(name, "video", source)
        begin, end = (seconds * 0.2e6, seconds * 0.2e6 + 0.6e6) if name == "skin" else (-1.0, -1.0)
        lossy = feed.deliver([sent], lambda time, _, b=begin, e=end: [] if b < time < e else [time + 20_000])
        studio.feed(name, lossy)
    for ssrc, source in enumerate(("stethoscope", "microphone"), 8):
        studio.track(source, "audio", source)
        sound = Source(Codec.CODEC_OPUS, feed.sound(seconds), ssrc=ssrc, unit_us=20_000)
        studio.feed(source, feed.deliver([sound]))
    studio.run()
    studio.stop()
    return studio


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        data = Path(name)
        now = feed.WALL_START
        for room, hours in OTHERS:
            feed.WALL_START = now - hours * 3_600_000_000
            record(data / "archive", room, 1, whole=False)
        feed.WALL_START = now
        shown = record(data / "archive", "cardio-2", SECONDS, whole=True)
        server, browser = Server(data), launch(playwright)
        try:
            page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, locale="en-GB")
            page.on("console", lambda message: print(message.type, message.text))
            page.goto(f"{server.base}/archive#token={server.token('*', 'archivist', name='Archivist')}")
            page.locator("#recordings button").nth(len(OTHERS)).wait_for()
            page.wait_for_function("() => [...document.querySelectorAll('.thumb img')].every((one) => one.complete)")
            page.screenshot(path=folder / "archive-search.png")
            page.locator(f"#recordings button[data-recording='{shown.recording.id}']").click()
            for at, text in ((1_300, "Apical view"), (5_200, "Mitral valve")):
                page.get_by_label("Position").fill(str(at))
                page.keyboard.press("b")
                page.keyboard.type(text)
                page.keyboard.press("Enter")
                page.get_by_text(text).wait_for()
            page.get_by_label("Position").fill(str(3_100))
            page.wait_for_function("() => [...document.querySelectorAll('video.current')].every((v) => !v.seeking)")
            page.wait_for_timeout(1000)
            page.screenshot(path=folder / "archive-player.png")
        finally:
            browser.close()
            server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
