"""Recordings for the archivist's desk, written by the real recorder in virtual time, and how in step they play.

Ultrasound is H.264 and begins after a second, the camera is VP8 and changes its picture size half-way and restarts
after three quarters, the dermatoscope is VP9, the stethoscope Opus. All pictures carry their number.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mediaserver.codecs.payload import Codec
from mediaserver.loadtest.raster import BLOCK
from mediaserver.recording import views
from mediaserver.recording.evidence import Evidence
from mediaserver.recording.keys import TrustedKeys, own_key
from mediaserver.recording.placing import media_ms
from mediaserver.recording.register import Register
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.verify import REPORT
from mediaserver.reports.session import Breach, SessionReport, ViewEntry
from mediaserver.reports.spells import Spell, SpellsSection
from tests.recording import feed
from tests.recording.feed import FRAME_US, WALL_START, Source, Studio

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Server

DELAY_MS = 20.0
"""A recording's time is the network's delay behind the capture."""
STARTS_S = {"us": 1.0, "cam": 0.0, "skin": 0.5}
"""When the picture of number 0 was taken."""
TRACKS = (
    ("us", "video", "ultrasound"),
    ("cam", "video", "camera"),
    ("skin", "video", "dermatoscope"),
    ("heart", "audio", "stethoscope"),
)


def record(
    archive: Path, seconds: int, *, scan: Codec = Codec.CODEC_H264, gap: bool = False, second_sound: int = 0
) -> Studio:
    """A consultation of `seconds`; with `gap`, half a second of the dermatoscope is lost on its way. The stethoscope
    restarts at `second_sound`, which begins another file; 0: it does not."""
    with evidence(archive) as signs:
        studio = consultation(Studio(archive, evidence=signs), seconds, scan, gap, second_sound)
        lay_report(studio, signs, report(studio.recording.id, seconds))
    return studio


def consultation(studio: Studio, seconds: int, scan: Codec, gap: bool, second_sound: int) -> Studio:
    for name, kind, source in TRACKS:
        studio.track(name, kind, source)
    count = 30 * seconds
    studio.feed("us", feed.deliver([Source(scan, feed.video(scan, count - 30), ssrc=1, start_us=1e6)]))
    studio.feed("cam", feed.deliver(camera(count)))
    skin = Source(Codec.CODEC_VP9, feed.video(Codec.CODEC_VP9, count - 15), ssrc=3, start_us=0.5e6)
    lost = (seconds * 0.3e6, seconds * 0.3e6 + 0.5e6) if gap else (-1.0, -1.0)
    studio.feed("skin", feed.deliver([skin], lambda time, _: [] if lost[0] < time < lost[1] else [time + 20_000]))
    studio.feed("heart", feed.deliver(stethoscope(seconds, second_sound)))
    studio.run()
    studio.stop()
    return studio


@contextmanager
def evidence(archive: Path) -> Iterator[Evidence]:
    """As a server with its data beside `archive` signs and registers: with the key that it will find there."""
    keys = archive.parent / "keys"
    keys.mkdir(parents=True, exist_ok=True)
    archive.mkdir(exist_ok=True)
    signer, _ = own_key(keys)
    register = Register(LocalStorage(archive), signer, lambda: WALL_START)
    register.open()
    yield Evidence(TrustedKeys([signer.public]), signer, register, lambda: WALL_START)
    register.close()


def lay_report(studio: Studio, signs: Evidence, data: bytes) -> None:
    """As the archive lays a session's report beside the media."""
    signs.supplement(LocalStorage(studio.folder), studio.path, REPORT, data)


def camera(count: int) -> Iterable[Source]:
    """Three files: another size after a half, another encoder after three quarters."""
    half, rest = count // 2, count // 4
    vp8 = Codec.CODEC_VP8
    first = Source(vp8, feed.video(vp8, half), ssrc=2)
    used = sum(1 for _, item in first.sent() if item[0] == 0)
    yield first
    yield Source(
        vp8, feed.video(vp8, rest, half, 640, 480), ssrc=2, rtp_start=(first.rtp_start + half * 3000) % 2**32,
        start_us=half * FRAME_US, sequence=first.sequence + used, size=(640, 480),
    )  # fmt: skip
    yield Source(
        vp8, feed.video(vp8, count - half - rest, half + rest), ssrc=22, rtp_start=7, start_us=(half + rest) * FRAME_US
    )


def stethoscope(seconds: int, second: int) -> Iterable[Source]:
    opus = Codec.CODEC_OPUS
    yield Source(opus, feed.sound(second or seconds), ssrc=4, unit_us=20_000)
    if second:
        yield Source(opus, feed.sound(seconds - second), ssrc=44, unit_us=20_000, start_us=second * 1e6, rtp_start=9)


def report(recording: str, seconds: int) -> bytes:
    """A doctor whose line did not carry all for a while, and a camera that froze."""

    def at(share: float) -> str:
        return views.iso(WALL_START + round(share * seconds * 1e6))

    scan = ViewEntry("p2", "us", "ultrasound", at(0), breaches=[Breach("below-floor:line", at(0.4), at(0.55))])
    room = ViewEntry("p2", "cam", "camera", at(0), breaches=[Breach("paused:line", at(0.35), at(0.6))])
    stale = Spell("cam", "camera", "stale", "source", at(0.8), at(0.86))
    sections = {"freshness": SpellsSection([stale], 0)}
    made = SessionReport(1, "room-1", at(0), at(1), [recording], [], [], [scan, room], 0, sections)
    return msgspec.json.encode(made)


def timeline(server: Server, recording: str) -> dict[str, Any]:
    address = f"{server.base}/api/archive/recordings/{recording}/timeline.json"
    with urllib.request.urlopen(f"{address}?token={server.token('*', 'archivist')}") as response:
        found: dict[str, Any] = json.load(response)
    return found


SAMPLE = """([side]) => {
  const replay = document.querySelector(".replay");
  const all = [...replay.querySelectorAll("[data-track] :is(video.current, audio.current)")];
  const found = all.map((media) => ({
    track: media.closest("[data-track]").dataset.track, file: Number(media.dataset.segment),
    seconds: media.currentTime, paused: media.paused, seeking: media.seeking, width: media.videoWidth ?? 0, media,
  }));
  const canvas = (window.sampler ??= new OffscreenCanvas(20 * side, side));
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  for (const one of found) {
    if (one.width) {
      pen.drawImage(one.media, 0, 0, 16 * side, side, 0, 0, 16 * side, side);
      const { data } = pen.getImageData(0, 0, 16 * side, side);
      one.code = 0;
      for (let bit = 0; bit < 16; bit++) {
        const pixel = (side / 2) * 16 * side + bit * side + side / 2;
        one.code = one.code * 2 + (data[4 * pixel + 1] > 128 ? 1 : 0);
      }
    }
    delete one.media;
  }
  return { state: replay.dataset.state, position: Number(replay.querySelector("[aria-label=Position]").value), found };
}"""


SKEWS = """(described) => {
  const places = {};
  for (const track of described.tracks)
    for (const segment of track.segments) places[`${track.id}/${segment.n}`] = segment.places;
  const offset = (pairs, media) => {
    const right = pairs.findIndex((pair) => pair[0] > media);
    const [low, high] = right > 0 ? [pairs[right - 1], pairs[right]] : [pairs.at(right), null];
    return low[1] + (media - low[0]) * (high ? (high[1] - low[1]) / (high[0] - low[0]) : 1);
  };
  const replay = document.querySelector(".replay");
  window.skews = [];
  window.starts = 0;
  let since = null;
  setInterval(() => {
    const now = performance.now();
    if (replay.dataset.state !== "playing") return void (since = null);
    if (since === null) window.starts++;
    since ??= now;
    const all = [...replay.querySelectorAll("[data-track] :is(video.current, audio.current)")];
    if (all.length < 2 || all.some((media) => media.seeking)) return;
    const files = all.map((media) => `${media.closest("[data-track]").dataset.track}/${media.dataset.segment}`);
    const at = all.map((media, index) => offset(places[files[index]], 1000 * media.currentTime));
    const took = performance.now() - now;
    const skew = Math.max(...at) - Math.min(...at);
    const rates = all.map((media) => media.playbackRate);
    window.skews.push([now - since, skew, took, now, skew > 60 ? [files, at, rates] : null]);
  }, 20);
}"""
"""Notes every 20 ms while the player says that it plays, from its first moment after a start on: for how long it has
(ms), how far the two tracks that are furthest apart are (ms), how long it took to look, when that was (ms), and of what
is far apart the files, where they are, and their speeds. All elements are read in one turn of the page, so none moves
on in between by more than it took."""


class Sample:
    """Where each track is at one moment, in ms of the recording's time: by its element's clock, and for pictures by
    the number that is seen."""

    def __init__(self, page: Page, described: dict[str, Any]) -> None:
        read = page.evaluate(SAMPLE, [BLOCK])
        self.state: str = read["state"]
        self.position: float = read["position"]
        self.clocks: dict[str, float] = {}
        self.pictures: dict[str, float] = {}
        self.codes: dict[str, int] = {}
        self.settled = self.state != "waiting" and not any(one["seeking"] for one in read["found"])
        places = {(t["id"], s["n"]): s["places"] for t in described["tracks"] for s in t["segments"]}
        for one in read["found"]:
            turned = [(offset, media) for media, offset in places[one["track"], one["file"]]]
            self.clocks[one["track"]] = media_ms(turned, 1000 * one["seconds"])
            if "code" in one:
                self.codes[one["track"]] = one["code"]
                taken = 1000 * STARTS_S[one["track"]] + one["code"] * FRAME_US / 1000
                # A picture is seen until the next one; its middle is where it is.
                self.pictures[one["track"]] = taken + DELAY_MS + FRAME_US / 2000

    @property
    def skew_ms(self) -> float:
        """Between the two tracks that are furthest apart, by their clocks."""
        return max(self.clocks.values()) - min(self.clocks.values())

    @property
    def seen_ms(self) -> float:
        """The same by what is seen."""
        return max(self.pictures.values()) - min(self.pictures.values())
