"""One file with all tracks: everything is in it, and in sync."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.loadtest.raster import read_code
from mediaserver.recording import manifest
from mediaserver.recording.export import kinds
from mediaserver.recording.export.join import join
from mediaserver.recording.export.progress import ExportCancelled, ExportError, Progress
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


def test_what_mp4_cannot_hold_is_transcoded_when_asked(tmp_path: Path) -> None:
    studio = consultation(tmp_path / "archive")
    out = tmp_path / "out.mp4"
    told: list[float] = []
    join(studio.path, _manifest(studio), out, "mp4", told.append, transcode=True)
    pictures, bursts = times(out)
    with av.open(out) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "h264", "opus"]
        assert container.streams.video[0].codec_context.profile == "High"
    assert [code for code, _ in pictures[0]] == list(range(150))
    offsets = [time - (code or 0) * FRAME_US / 1e6 for code, time in pictures[0]]
    offsets += [time - 1 - (code or 0) * FRAME_US / 1e6 for code, time in pictures[1]]
    offsets += [time - second for second, time in enumerate(bursts)]
    assert max(offsets) - min(offsets) < 0.040
    assert told == sorted(told)
    assert told[-1] > 0.95


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_a_gap_stays_as_long_as_it_was(tmp_path: Path, container: str) -> None:
    """Two seconds of the camera and of the voice never come: what follows stands where it was."""
    studio = Studio(tmp_path / "archive")
    studio.track("camera")
    studio.track("mic", "audio")

    def cut(time: float, item: feed.Item) -> list[float]:
        return [] if item[0] == 0 and 1.5e6 < time < 3.5e6 else [time + 20_000]

    camera = Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 150))
    studio.feed("camera", feed.deliver([camera], cut))
    voice = Source(Codec.CODEC_OPUS, feed.sound(5), ssrc=3, unit_us=20_000, sequence=1)
    studio.feed("mic", feed.deliver([voice], cut))
    studio.run()
    studio.stop()
    out = tmp_path / f"out.{container}"
    join(studio.path, _manifest(studio), out, container)  # type: ignore[arg-type]
    pictures, bursts = times(out)
    shown = {code for code, _ in pictures[0]}
    assert shown >= {*range(45), *range(120, 150)}
    assert not shown & set(range(46, 105))
    assert max(abs(time - (code or 0) * FRAME_US / 1e6) for code, time in pictures[0]) < 0.040
    assert [round(time) for time in bursts] == [0, 1, 4]
    assert max(abs(time - round(time)) for time in bursts) < 0.040


def test_kinds_say_how_far_they_are_and_can_be_stopped(tmp_path: Path) -> None:
    studio = consultation(tmp_path / "archive")
    for name in ("mkv", "zip"):
        kind = kinds.find(name)
        out = tmp_path / f"out{kind.suffix}"
        told: list[float] = []
        kinds.export(kind, studio.path, _manifest(studio), out, None, Progress(told.append))
        assert told[0] == 0
        assert told[-1] == 1
        assert told == sorted(set(told))
        stopped = Progress()
        stopped.stop()
        with pytest.raises(ExportCancelled):
            kinds.export(kind, studio.path, _manifest(studio), out, None, stopped)
    with pytest.raises(ExportError, match="there is no export avi: choose mkv, mp4, zip"):
        kinds.find("avi")
    with pytest.raises(TypeError):
        kinds.export(kinds.find("mkv"), studio.path, _manifest(studio), out, kinds.Mp4Options())
