"""What could not be muxed in exports: whole in the zip, and named by every export that can't hold it."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import av
import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.recording import raw
from mediaserver.recording.export import kinds
from mediaserver.recording.export.dicom.options import DicomOptions
from mediaserver.recording.export.progress import ExportError, Progress
from mediaserver.recording.manifest import Manifest
from tests.recording import feed
from tests.recording.feed import Source, Studio
from tests.recording.test_odd_input import stripped


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Studio, Manifest]:
    """Ultrasound that describes itself only after 3 s, and a camera of which a third has a strange payload type."""
    studio = Studio(tmp_path_factory.mktemp("archive"))
    studio.track("us", source="ultrasound")
    scan = Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 150, gop=30))
    studio.feed("us", stripped(feed.deliver([scan]), 2_950_000))
    studio.track("cam", source="camera")
    items = feed.deliver([Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 60), ssrc=9)])
    odd = [(at, (*item[:5], 42, *item[6:]) if item[0] == 0 and item[2] % 3 == 0 else item) for at, item in items]
    studio.feed("cam", odd)
    studio.run()
    return studio, studio.stop()


def raw_files(kept: Manifest) -> dict[str, str]:
    found = [segment for track in kept.tracks for segment in track.segments if segment.container == raw.CONTAINER]
    return {segment.file: segment.sha256 for segment in found}


def test_the_zip_has_them_and_says_what_they_are(made: tuple[Studio, Manifest], tmp_path: Path) -> None:
    studio, kept = made
    progress = Progress()
    kinds.export(kinds.KINDS["zip"], studio.path, kept, tmp_path / "a.zip", progress=progress)
    expected = raw_files(kept)
    assert len(expected) >= 2
    with zipfile.ZipFile(tmp_path / "a.zip") as target:
        found = {name: hashlib.sha256(target.read(f"{kept.id}/{name}")).hexdigest() for name in expected}
    assert found == expected
    assert [words.split(" ")[0] for words in progress.warnings] == list(expected)
    assert all("Wireshark" in words for words in progress.warnings)


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_one_file_of_all_tracks_names_them(made: tuple[Studio, Manifest], tmp_path: Path, kind: str) -> None:
    studio, kept = made
    options = kinds.Mp4Options(transcode=True) if kind == "mp4" else None
    progress = Progress()
    out = tmp_path / f"exam.{kind}"
    kinds.export(kinds.KINDS[kind], studio.path, kept, out, options, progress)
    assert len(progress.warnings) == len(raw_files(kept))
    for name, words in zip(raw_files(kept), progress.warnings, strict=True):
        assert words.startswith(f"left out: {name} (")
    assert any("H264 without anything that a file could begin with" in words for words in progress.warnings)
    assert any("of no codec that was agreed on" in words for words in progress.warnings)
    with av.open(out) as container:
        said = {name.lower(): value for name, value in container.metadata.items()}["description"]
        assert all(name in said for name in raw_files(kept))
        assert sum(1 for _ in container.decode(video=0)) > 0


def test_dicom_names_them(made: tuple[Studio, Manifest], tmp_path: Path) -> None:
    studio, kept = made
    progress = Progress()
    options = DicomOptions(h264="relabel", drop=("camera",))
    kinds.export(kinds.KINDS["dicom"], studio.path, kept, tmp_path / "study", options, progress)
    (words,) = [words for words in progress.warnings if "left out" in words]
    assert "ultrasound" in words


def test_packets_alone_are_for_the_zip(tmp_path: Path) -> None:
    studio = Studio(tmp_path / "archive")
    studio.track("us")
    items = feed.deliver([Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 60))])
    studio.feed("us", [(at, (*item[:5], 42, *item[6:]) if item[0] == 0 else item) for at, item in items])
    studio.run()
    kept = studio.stop()
    with pytest.raises(ExportError, match="export it to ZIP"):
        kinds.export(kinds.KINDS["mkv"], studio.path, kept, tmp_path / "exam.mkv")
    kinds.export(kinds.KINDS["zip"], studio.path, kept, tmp_path / "exam.zip")
