"""One file with all tracks: everything is in it, and in sync."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.loadtest.raster import read_code
from mediaserver.recording import manifest
from mediaserver.recording.export.join import ExportError, join
from tests.codecs import media
from tests.recording import feed
from tests.recording.feed import FRAME_US, Source, Studio


def consultation(folder: Path, scan: Codec = Codec.CODEC_H264, camera: Codec = Codec.CODEC_VP8) -> Studio:
    """A camera, an ultrasound that begins a second later, sound; clocks that start anywhere and drift."""
    studio = Studio(folder)
    for name, kind in (("camera", "video"), ("us", "video"), ("mic", "audio")):
        studio.track(name, kind)
    studio.feed("camera", feed.deliver([Source(camera, feed.video(camera, 150), ssrc=1)], feed.jitter(1)))
    late = Source(scan, feed.video(scan, 120), ssrc=2, rtp_start=77, start_us=1e6)
    studio.feed("us", feed.deliver([late], feed.jitter(2, 60_000, 90_000)))
    voice = Source(Codec.CODEC_OPUS, feed.sound(5), ssrc=3, rtp_start=3_000_000_000, unit_us=20_000, sequence=1)
    studio.feed("mic", feed.deliver([voice], feed.jitter(3)))
    studio.run()
    studio.stop()
    return studio


def times(path: Path) -> tuple[dict[int, list[tuple[int | None, float]]], list[float]]:
    """By stream of video: code and time (s) of each picture; and the times of the bursts in the sound."""
    pictures: dict[int, list[tuple[int | None, float]]] = {}
    bursts: list[float] = []
    quiet = True
    with av.open(path) as container:
        for frame in container.decode():
            assert frame.time is not None
            if isinstance(frame, av.VideoFrame):
                continue
            samples = np.abs(frame.to_ndarray()).max(axis=0)
            loud = np.flatnonzero(samples > 0.2)
            if quiet and len(loud):
                bursts.append(frame.time + int(loud[0]) / 48_000)
            quiet = not len(loud)
    for index in range(10):
        with av.open(path) as container:
            if index >= len(container.streams.video):
                break
            decoded = container.decode(container.streams.video[index])
            pictures[index] = [(read_code(media.planes(frame)[0]), frame.time) for frame in decoded]
    return pictures, bursts


@pytest.mark.parametrize(
    ("container", "scan", "camera"),
    [
        ("mkv", Codec.CODEC_H264, Codec.CODEC_VP8),
        ("mkv", Codec.CODEC_AV1, Codec.CODEC_VP9),
        ("mkv", Codec.CODEC_H265, Codec.CODEC_VP8),
        ("mp4", Codec.CODEC_H264, Codec.CODEC_VP9),
        ("mp4", Codec.CODEC_H265, Codec.CODEC_AV1),
    ],
)
def test_all_tracks_in_sync(tmp_path: Path, container: str, scan: Codec, camera: Codec) -> None:
    studio = consultation(tmp_path / "archive", scan, camera)
    kept = _manifest(studio)
    out = tmp_path / f"out.{container}"
    join(studio.path, kept, out, container)  # type: ignore[arg-type]
    pictures, bursts = times(out)
    assert [code for code, _ in pictures[0]] == list(range(150))
    assert [code for code, _ in pictures[1]] == list(range(120))
    offsets = [time - (code or 0) * FRAME_US / 1e6 for code, time in pictures[0]]
    offsets += [time - 1 - (code or 0) * FRAME_US / 1e6 for code, time in pictures[1]]
    offsets += [time - second for second, time in enumerate(bursts)]
    assert len(bursts) == 5
    assert max(offsets) - min(offsets) < 0.040


def _manifest(studio: Studio) -> manifest.Manifest:
    return manifest.decode((studio.path / manifest.NAME).read_bytes())


def test_mp4_says_what_it_cannot_hold(tmp_path: Path) -> None:
    studio = consultation(tmp_path / "archive")
    with pytest.raises(ExportError, match="MP4 cannot hold VP8, which is the codec of camera: export to MKV"):
        join(studio.path, _manifest(studio), tmp_path / "out.mp4", "mp4")


def test_another_size_goes_on_in_another_stream(tmp_path: Path) -> None:
    studio = Studio(tmp_path / "archive")
    studio.track("camera")
    first = Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 30))
    used = sum(1 for _, item in first.sent() if item[0] == 0)
    second = Source(
        Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 30, 30, 640, 480), rtp_start=(first.rtp_start + 90_000) % 2**32,
        start_us=1e6, sequence=first.sequence + used, size=(640, 480),
    )  # fmt: skip
    studio.feed("camera", feed.deliver([first, second]))
    studio.run()
    studio.stop()
    out = tmp_path / "out.mkv"
    join(studio.path, _manifest(studio), out, "mkv")
    pictures, _ = times(out)
    assert [code for code, _ in pictures[0]] == list(range(30))
    assert [code for code, _ in pictures[1]] == list(range(30, 60))
    assert abs(pictures[1][0][1] - 1) < 0.03
    with av.open(out) as container:
        assert [stream.metadata["title"] for stream in container.streams] == ["camera", "camera (2)"]
        assert container.metadata["title"] == "room-1"


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    studio = consultation(tmp_path / "archive")
    (studio.path / "us-1.mp4").write_bytes(b"nothing")
    with pytest.raises(ExportError, match=r"us-1\.mp4 cannot be read"):
        join(studio.path, _manifest(studio), tmp_path / "out.mkv", "mkv")
