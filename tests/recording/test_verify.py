"""What was altered, removed or added is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.recording import manifest
from mediaserver.recording.verify import Report, verify
from tests.recording import feed
from tests.recording.feed import Source, Studio

pytestmark = pytest.mark.usefixtures("kept")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    studio = Studio(tmp_path)
    for name in ("camera", "us"):
        studio.track(name)
        studio.feed(name, feed.deliver([Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 30))]))
    studio.run()
    studio.stop()
    return studio.path


def named(report: Report) -> list[tuple[str, str]]:
    return [(problem.kind, problem.name) for problem in report.problems]


def test_a_genuine_recording(folder: Path) -> None:
    report = verify(folder)
    assert report.ok
    assert report.files == 2
    assert report.bytes == sum(path.stat().st_size for path in folder.glob("*.webm"))


def test_a_flipped_bit_anywhere(folder: Path) -> None:
    path = folder / "us-1.webm"
    genuine = path.read_bytes()
    for position in range(0, len(genuine), len(genuine) // 50):
        data = bytearray(genuine)
        data[position] ^= 0x10
        path.write_bytes(data)
        assert named(verify(folder)) == [("altered", "us-1.webm")]


def test_swapped_files(folder: Path) -> None:
    camera, us = folder / "camera-1.webm", folder / "us-1.webm"
    us.write_bytes(us.read_bytes()[:-1])
    camera.rename(folder / "x")
    us.rename(camera)
    (folder / "x").rename(us)
    assert ("altered", "camera-1.webm") in named(verify(folder))


def test_a_file_that_is_gone_and_one_that_is_new(folder: Path) -> None:
    (folder / "us-1.webm").rename(folder / "us-2.webm")
    assert named(verify(folder)) == [("missing", "us-1.webm"), ("added", "us-2.webm")]


@pytest.mark.parametrize(("old", "new"), [(b"room-1", b"room-2"), (b'"gaps": []', b'"gaps":  []'), (b"}\n", b"}")])
def test_an_edited_manifest(folder: Path, old: bytes, new: bytes) -> None:
    path = folder / manifest.NAME
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    assert ("altered", manifest.NAME) in named(verify(folder))


def test_no_manifest(folder: Path) -> None:
    (folder / manifest.NAME).unlink()
    assert named(verify(folder)) == [("missing", manifest.NAME)]
    (folder / manifest.NAME).write_bytes(b"{}")
    assert named(verify(folder)) == [("altered", manifest.NAME)]


def test_a_manifest_of_another_recording(folder: Path) -> None:
    other = folder.with_name("20260101-000000-00000000")
    folder.rename(other)
    assert named(verify(other)) == [("swapped", manifest.NAME)]
