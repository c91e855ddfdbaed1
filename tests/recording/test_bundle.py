"""One zip with everything in it, written through without going back."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from importlib import resources
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mediaserver.recording import manifest, sidecars
from mediaserver.recording.cli import app
from mediaserver.recording.evidence import NOTHING
from mediaserver.recording.export import bundle as bundling
from mediaserver.recording.export.bundle import bundle
from mediaserver.recording.export.progress import ExportError
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.verify import verify
from tests.recording.feed import Studio
from tests.recording.test_export import consultation


class Pipe(io.RawIOBase):
    """Takes bytes one after the other and can't go back."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.data += memoryview(data)  # type: ignore[arg-type]
        return memoryview(data).nbytes  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    made = consultation(tmp_path_factory.mktemp("archive"))
    NOTHING.supplement(LocalStorage(made.folder), made.path, "report.json", b'{"report": true}')
    return made


def kept(studio: Studio) -> manifest.Manifest:
    return manifest.decode((studio.path / manifest.NAME).read_bytes())


def test_everything_is_in_it_as_it_is(studio: Studio, tmp_path: Path) -> None:
    stream = Pipe()
    assert bundle(studio.path, kept(studio), stream) == []  # type: ignore[arg-type]
    with zipfile.ZipFile(io.BytesIO(stream.data)) as made:
        assert made.testzip() is None
        assert {entry.compress_type for entry in made.infolist()} == {zipfile.ZIP_STORED}
        names = [Path(name).name for name in made.namelist()]
        assert set(names) == {path.name for path in studio.path.iterdir()} | {"verify.html"}
        assert names[0] == "manifest.json"
        made.extractall(tmp_path)
    folder = tmp_path / studio.recording.id
    (folder / "verify.html").unlink()
    assert verify(folder).ok


def test_the_same_recording_makes_the_same_zip(studio: Studio) -> None:
    first, second = Pipe(), Pipe()
    bundle(studio.path, kept(studio), first)  # type: ignore[arg-type]
    bundle(studio.path, kept(studio), second)  # type: ignore[arg-type]
    assert first.data == second.data


def test_memory_stays_small(studio: Studio, tmp_path: Path) -> None:
    folder = tmp_path / studio.recording.id
    folder.mkdir()
    for path in studio.path.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    with (folder / "large.bin").open("wb") as large:
        large.truncate(200 << 20)
    tracemalloc.start()
    with Path("/dev/null").open("wb") as stream:
        bundle(folder, kept(studio), stream)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * bundling.PIECE


def test_what_is_altered_is_named_and_what_is_lost_is_an_error(tmp_path: Path) -> None:
    studio = consultation(tmp_path)
    path = studio.path / "us-1.mp4"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert bundle(studio.path, kept(studio), io.BytesIO()) == ["us-1.mp4"]
    path.unlink()
    with pytest.raises(ExportError, match=r"has lost us-1\.mp4"):
        bundle(studio.path, kept(studio), io.BytesIO())


def test_an_open_journal_stays_out(studio: Studio) -> None:
    (studio.path / "journal.jsonl").write_text(json.dumps({}))
    stream = io.BytesIO()
    try:
        bundle(studio.path, kept(studio), stream)
    finally:
        (studio.path / "journal.jsonl").unlink()
    assert not any("journal" in name for name in zipfile.ZipFile(stream).namelist())


def test_the_command(tmp_path: Path) -> None:
    studio = consultation(tmp_path / "archive")
    identifier = studio.recording.id

    def command(*flags: str) -> Result:
        return CliRunner().invoke(app, ["--data", str(tmp_path), "export", identifier, *flags])

    out = tmp_path / "out.zip"
    said = command("--out", str(out))
    assert (said.exit_code, zipfile.is_zipfile(out)) == (0, True), said.output
    assert command("--out", str(tmp_path / "a.bin"), "--format", "zip").exit_code == 0
    assert (tmp_path / "a.bin").read_bytes() == out.read_bytes()
    said = command("--out", str(tmp_path / "out.mp4"))
    assert said.exit_code == 2
    assert "--format mkv" in said.output
    assert "--transcode" in said.output
    assert command("--out", str(out), "--transcode").exit_code == 2
    assert command("--out", str(tmp_path / "out"), "--format", "dicom").exit_code == 2
    (studio.path / "us-1.mp4").write_bytes(b"x")
    said = command("--out", str(out))
    assert said.exit_code == 0
    assert "us-1.mp4 is not as it was recorded" in said.output


def test_the_page_knows_all_that_may_lie_beside_the_media() -> None:
    page = resources.files(bundling.__package__).joinpath(bundling.PAGE).read_text("utf-8")
    for name in (*sidecars.NAMES, sidecars.ADDITIONS):
        assert f'"{name}"' in page
