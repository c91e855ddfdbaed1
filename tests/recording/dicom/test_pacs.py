"""A real PACS takes the objects, both ways, and gives the same pictures back."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from dicomweb_client import DICOMwebClient
from requests import Session
from typer.testing import CliRunner, Result

from mediaserver.recording.cli import app
from mediaserver.recording.export.dicom import waveform
from tests.recording.dicom import consultation, modules, orthanc
from tests.recording.dicom.orthanc import Orthanc
from tests.recording.feed import Studio

FLAGS = ("--transcode", "--h264", "relabel", "--patient-id", "4711", "--patient-name", "Müller^Anna")


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if reason := orthanc.missing():
        pytest.skip(reason)
    running = Orthanc(tmp_path_factory.mktemp("orthanc"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Studio]:
    """A server's data folder with a recording."""
    folder = tmp_path_factory.mktemp("data")
    return folder, consultation.record(folder / "archive")


def command(data: tuple[Path, Studio], *flags: str) -> Result:
    folder, studio = data
    return CliRunner().invoke(app, ["--data", str(folder), "dicom", studio.recording.id, *flags])


def check(data: tuple[Path, Studio], pacs: Orthanc) -> None:
    """All three objects are there; the ultrasound has the bytes of the recording, the stethoscope its sound."""
    found = [pydicom.dcmread(io.BytesIO(pacs.file(uid))) for uid in pacs.instances()]
    assert sorted(one.Modality for one in found) == ["AU", "US", "XC"]
    (scan,) = (one for one in found if one.Modality == "US")
    segment = consultation.manifest_of(data[1]).tracks[1].segments[0]
    assert consultation.nals(scan) == consultation.master_nals(data[1], segment)
    (heart,) = (one for one in found if one.Modality == "AU")
    assert modules.complaints(heart) == []
    recorded = consultation.samples(data[1], consultation.manifest_of(data[1]).tracks[2].segments[0], waveform.RATE)
    assert consultation.apart_db(heart.waveform_array(0)[:, 0], recorded, most_lag=waveform.RATE // 50) > 50


def test_stow(data: tuple[Path, Studio], pacs: Orthanc, tmp_path: Path) -> None:
    pacs.clear()
    auth = tmp_path / "authorization"
    auth.write_text(pacs.authorization + "\n")
    said = command(data, *FLAGS, "--stow", pacs.web, "--auth", str(auth))
    assert (said.exit_code, "3 objects accepted, 0 not" in said.output) == (0, True), said.output
    check(data, pacs)
    assert not (data[0] / "dicom-outbox" / data[1].recording.id).exists()
    # Once more: the same UIDs are the same objects, so nothing is added.
    assert command(data, *FLAGS, "--stow", pacs.web, "--auth", str(auth)).exit_code == 0
    assert len(pacs.instances()) == 3


def test_wado_gives_the_same_pictures(data: tuple[Path, Studio], pacs: Orthanc, tmp_path: Path) -> None:
    """By another client than ours, in the transfer syntax that it was stored in."""
    pacs.clear()
    auth = tmp_path / "authorization"
    auth.write_text(pacs.authorization)
    out = tmp_path / "out"
    assert command(data, *FLAGS, "--out", str(out), "--stow", pacs.web, "--auth", str(auth)).exit_code == 0
    session = Session()
    session.headers["Authorization"] = pacs.authorization
    client = DICOMwebClient(pacs.web, session=session)
    for path in out.iterdir():
        sent = pydicom.dcmread(path)
        got = client.retrieve_instance(
            sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID,
            media_types=(("application/dicom", "*"),),
        )  # fmt: skip
        assert got.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
        if "PixelData" in sent:
            assert consultation.movie(got) == consultation.movie(sent)
        else:
            assert got.WaveformSequence[0].WaveformData == sent.WaveformSequence[0].WaveformData
            assert (got.waveform_array(0) == sent.waveform_array(0)).all()


def test_c_store(data: tuple[Path, Studio], pacs: Orthanc) -> None:
    pacs.clear()
    said = command(data, *FLAGS, "--cstore", f"127.0.0.1:{pacs.dicom_port}:{orthanc.TITLE}")
    assert (said.exit_code, "3 objects accepted, 0 not" in said.output) == (0, True), said.output
    check(data, pacs)


def test_what_is_refused_is_kept_and_named(data: tuple[Path, Studio], pacs: Orthanc) -> None:
    pacs.clear()
    said = command(data, *FLAGS, "--stow", pacs.web)
    assert said.exit_code == 2
    assert said.output.count("HTTP 401 Unauthorized: it wants credentials (--auth)") == 3
    kept = data[0] / "dicom-outbox" / data[1].recording.id
    assert str(kept) in said.output.replace("\n", "")
    assert len(list(kept.iterdir())) == 3
    said = command(data, *FLAGS, "--cstore", f"127.0.0.1:{pacs.dicom_port}:NOBODY")
    assert said.exit_code == 2
    assert re.search(r"rejects the association.*Called AE title not recognised.*called NOBODY", said.output)
    assert len(list(kept.iterdir())) == 3
    assert pacs.instances() == {}
    # The next try brings what the others did not.
    assert command(data, *FLAGS, "--cstore", f"127.0.0.1:{pacs.dicom_port}:{orthanc.TITLE}").exit_code == 0
    assert len(pacs.instances()) == 3
    assert not kept.exists()


def test_the_command_says_what_it_needs(data: tuple[Path, Studio], tmp_path: Path) -> None:
    for flags, words in (
        ((), "say where to: --out DIR, --stow URL, --cstore HOST:PORT:AET"),
        (("--out", str(tmp_path / "a"), "--mask", "1,2"), "a mask is x,y,width,height"),
        (("--out", str(tmp_path / "a"), "--cstore", "host"), "a receiver is host:port:AE-title"),
        (("--out", str(tmp_path / "a"), "--h264", "maybe"), "h264"),
        (("--out", str(tmp_path / "a"), "--drop", "microphone"), "--h264 relabel"),
        (("--out", str(tmp_path / "a" / "b")), "there is no folder"),
        (("--out", str(tmp_path / "a"), "--key", str(tmp_path)), "Is a directory"),
    ):
        said = command(data, *flags)
        assert (said.exit_code, words in said.output) == (2, True), said.output
    assert not (tmp_path / "a").exists()
