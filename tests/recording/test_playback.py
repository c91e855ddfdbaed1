"""The archive's page in a real browser: it knows how long each file is, seeks to the very picture, keeps in sync."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import mediaserver
from mediaserver.codecs.payload import Codec
from mediaserver.desk.api import ArchiveApi
from mediaserver.recording.archive import Archive
from tests.browser.drivers import CHROMIUM_FLAGS, LoopThread
from tests.recording import feed
from tests.recording.feed import Source, Studio

pytestmark = pytest.mark.browser

WEB = Path(mediaserver.__file__).parent / "web"
READ_CODES = """
([...document.querySelectorAll("figure video.current")].filter((video) => video.videoWidth).map((video) => {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  let word = 0;
  for (let bit = 0; bit < 16; bit++) {
    const side = SIDE;
    const { data } = context.getImageData(bit * side + side / 2, side / 2, 1, 1);
    word = word * 2 + (data[1] > 128 ? 1 : 0);
  }
  return [video.closest("figure").dataset.track, word, video.videoWidth];
}))
"""


def record(folder: Path, camera: Codec, scan: Codec) -> Studio:
    """Eight seconds: a camera that changes its picture size after four, an ultrasound from the second on, a voice."""
    studio = Studio(folder)
    for name, kind, source in (
        ("cam", "video", "camera"),
        ("us", "video", "ultrasound"),
        ("mic", "audio", "microphone"),
    ):
        studio.track(name, kind, source)
    first = Source(camera, feed.video(camera, 120), ssrc=1)
    used = sum(1 for _, item in first.sent() if item[0] == 0)
    second = Source(
        camera, feed.video(camera, 120, 120, 640, 480), ssrc=1, rtp_start=(first.rtp_start + 360_000) % 2**32,
        start_us=4e6, sequence=first.sequence + used, size=(640, 480),
    )  # fmt: skip
    studio.feed("cam", feed.deliver([first, second]))
    late = Source(scan, feed.video(scan, 210), ssrc=2, start_us=1e6)
    studio.feed("us", feed.deliver([late]))
    studio.feed("mic", feed.deliver([Source(Codec.CODEC_OPUS, feed.sound(8), ssrc=3, unit_us=20_000)]))
    studio.run()
    studio.stop()
    return studio


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    running = LoopThread()
    yield running
    running.close()


async def serve(folder: Path) -> tuple[web.AppRunner, Archive]:
    """The page and the archive behind it, open to everybody."""
    archive = Archive(folder)
    await archive.open()

    async def anybody(request: web.Request, action: str, recording: str | None) -> Collection[str] | None:
        return None

    async def page(request: web.Request) -> web.FileResponse:
        return web.FileResponse(WEB / "archive.html")

    application = web.Application()
    api = ArchiveApi(archive, anybody, wall_us=lambda: feed.WALL_START)
    application.router.add_routes([*api.routes(), web.get("/archive", page)])
    application.router.add_static("/static", WEB)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, archive


@pytest.mark.parametrize(
    ("camera", "scan"),
    [(Codec.CODEC_VP8, Codec.CODEC_H264), (Codec.CODEC_H264, Codec.CODEC_VP9), (Codec.CODEC_VP8, Codec.CODEC_AV1)],
)
def test_plays_in_sync_and_seeks(tmp_path: Path, loop: LoopThread, camera: Codec, scan: Codec) -> None:
    from playwright.sync_api import sync_playwright

    from mediaserver.loadtest.raster import BLOCK

    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed")
    record(tmp_path, camera, scan)
    runner, archive = loop.run(serve(tmp_path))
    host, port = runner.addresses[0][:2]
    errors: list[str] = []
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
            page = browser.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            page.goto(f"http://{host}:{port}/archive#token=any")
            page.click("#recordings button")
            page.wait_for_function("[...document.querySelectorAll('video, audio')].some((m) => m.readyState >= 1)")
            for second in (6.5, 2.25, 3.5, 5.75):
                seek(page, second)
                for _ in range(100):
                    if shown(page, BLOCK) == expected(second):
                        break
                    page.wait_for_timeout(50)
                assert shown(page, BLOCK) == expected(second)
            page.click("#play")
            page.wait_for_function("Number(document.querySelector('[aria-label=Position]').value) > 6500")
            browser.close()
    finally:
        loop.run(runner.cleanup())
        loop.run(archive.close())
    assert errors == []


def seek(page: Any, second: float) -> None:
    page.evaluate(
        "(ms) => { const s = document.querySelector('[aria-label=Position]'); s.value = ms; "
        "s.dispatchEvent(new Event('input')); }",
        second * 1000,
    )


def shown(page: Any, side: int) -> dict[str, tuple[int, int]]:
    """The code of each picture and its width, of those that have loaded."""
    return {track: (code, width) for track, code, width in page.evaluate(READ_CODES.replace("SIDE", str(side)))}


def expected(second: float) -> dict[str, tuple[int, int]]:
    """What stands at this time: recording time is a network's delay behind the capture."""
    frame = int((second - 0.02) * 30 + 1e-6)
    return {"cam": (frame, 320 if second < 4 else 640), "us": (frame - 30, 320)}
