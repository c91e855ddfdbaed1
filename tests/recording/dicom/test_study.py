"""A recording becomes a study that says what was recorded, and nothing else."""

from __future__ import annotations

import copy
import io
import re
import shutil
import subprocess
from pathlib import Path

import av
import msgspec
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from mediaserver.codecs.payload import Codec
from mediaserver.recording.export import avc, kinds
from mediaserver.recording.export.dicom import coding, deidentify, waveform
from mediaserver.recording.export.dicom.objects import UTC_FRAME
from mediaserver.recording.export.dicom.options import BoxMask, DicomOptions
from mediaserver.recording.export.progress import ExportCancelled, ExportError, Progress
from mediaserver.recording.sidecars import Identifiers
from tests.codecs import media
from tests.recording import feed
from tests.recording.dicom import consultation, modules
from tests.recording.dicom.consultation import export
from tests.recording.feed import Source, Studio

WHO = Identifiers(
    patient_id="4711", patient_issuer="HOSPITAL", patient_name="Müller^Anna", birth_date="1961-02-03", sex="F",
    encounter="V-9", accession="A-1", referring="Groß^Karl", study_description="Tele-Echo",
)  # fmt: skip


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return consultation.record(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def relabelled(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Dataset]]:
    """Nothing encoded again but the voice."""
    out = tmp_path_factory.mktemp("relabelled")
    return out, export(studio, out, DicomOptions(identifiers=WHO, transcode=True, h264="relabel"))


@pytest.fixture(scope="module")
def hidden(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Dataset]]:
    """Without the person: the voice dropped, a box over the ultrasound."""
    out = tmp_path_factory.mktemp("hidden")
    options = DicomOptions(
        identifiers=WHO, h264="relabel", drop=("microphone",), masks=(BoxMask(0, 0, 96, 48, "ultrasound"),),
        deidentify=True, key="a secret",
    )  # fmt: skip
    return out, export(studio, out, options)


def test_one_study_a_series_for_each_source(studio: Studio, relabelled: tuple[Path, list[Dataset]]) -> None:
    camera, scan, heart = relabelled[1]
    assert [found.Modality for found in (camera, scan, heart)] == ["XC", "US", "AU"]
    assert [found.SeriesNumber for found in (camera, scan, heart)] == [1, 2, 3]
    assert [found.SeriesDescription for found in (camera, scan, heart)] == ["cam", "us", "st"]
    assert len({found.StudyInstanceUID for found in (camera, scan, heart)}) == 1
    assert len({found.SeriesInstanceUID for found in (camera, scan, heart)}) == 3
    assert len({found.SynchronizationFrameOfReferenceUID for found in (camera, scan, heart)}) == 1
    for found in (camera, scan, heart):
        assert found.AcquisitionTimeSynchronized == "N"
        assert str(found.PatientName) == "Müller^Anna"
        assert (found.PatientID, found.IssuerOfPatientID, found.PatientBirthDate) == ("4711", "HOSPITAL", "19610203")
        assert (found.AccessionNumber, found.AdmissionID) == ("A-1", "V-9")
        assert all(str(found[name].value).startswith("2.25.") for name in ("StudyInstanceUID", "SOPInstanceUID"))
        assert found.ContributingEquipmentSequence[0].ContributionDescription.startswith("Sent as")
    began = consultation.manifest_of(studio).tracks[1].segments[0].first_us
    assert scan.AcquisitionDateTime == np.datetime_as_string(np.datetime64(began, "us")).translate(
        {ord(letter): None for letter in "-:T"}
    ) + "+0000"  # fmt: skip


def test_the_standard_is_kept(relabelled: tuple[Path, list[Dataset]], hidden: tuple[Path, list[Dataset]]) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (package dicom3tools)")
    for path in (*relabelled[0].iterdir(), *hidden[0].iterdir()):
        # Of General Audio Waveform this dciodvfy has not heard: `modules` checks it, and the others once more.
        unknown = ["Error - Information Object Not found"] if "stethoscope" in path.name else []
        assert consultation.complaints(path) == unknown, path.name


def test_every_module_is_as_its_table_says(
    studio: Studio, tmp_path: Path, relabelled: tuple[Path, list[Dataset]], hidden: tuple[Path, list[Dataset]]
) -> None:
    loose = export(studio, tmp_path / "loose", DicomOptions(h264="relabel", voices="waveform"))
    assert [found.Modality for found in loose] == ["XC", "US", "AU", "AU"]
    for found in (*relabelled[1], *hidden[1], *loose):
        assert modules.complaints(found) == [], found.Modality
        for group in found.get("WaveformSequence", ()):  # PS3.3, A.34.10: what such an object may hold
            assert float(group.SamplingFrequency) <= 44_100
            assert group.NumberOfWaveformChannels in (1, 2)
            assert len(group.WaveformData) == 2 * group.NumberOfWaveformSamples


def test_the_check_of_the_modules_sees_what_is_wrong(relabelled: tuple[Path, list[Dataset]]) -> None:
    heart = copy.deepcopy(relabelled[1][2])
    del heart.DeviceSerialNumber
    heart.ContentDate = ""
    heart.Rows = 4
    heart.AcquisitionTimeSynchronized = "MAYBE"
    group = heart.WaveformSequence[0]
    del group.ChannelDefinitionSequence[0].ChannelSourceSequence
    group.WaveformOriginality = "COPIED"
    assert modules.complaints(heart) == [
        "the object: DeviceSerialNumber (type 1) is missing",
        "the object: ContentDate (type 1) is empty",
        "the object: AcquisitionTimeSynchronized is MAYBE, none of ('Y', 'N')",
        "the object: Rows is in no module of this object",
        "WaveformSequence: WaveformOriginality is COPIED, none of ('ORIGINAL', 'DERIVED')",
        "WaveformSequence/ChannelDefinitionSequence: ChannelSourceSequence (type 1) is missing",
    ]


def test_other_tools_read_the_waveform(relabelled: tuple[Path, list[Dataset]]) -> None:
    if shutil.which("dcmdump") is None:
        pytest.skip("dcmdump is not installed (package dcmtk)")
    (path,) = (path for path in relabelled[0].iterdir() if "stethoscope" in path.name)
    ran = subprocess.run(["dcmdump", "-q", "+P", "WaveformData", str(path)], capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    assert f"# {len(relabelled[1][2].WaveformSequence[0].WaveformData)}," in ran.stdout


def test_high_goes_over_byte_by_byte(studio: Studio, relabelled: tuple[Path, list[Dataset]]) -> None:
    scan = relabelled[1][1]
    segment = consultation.manifest_of(studio).tracks[1].segments[0]
    assert consultation.nals(scan) == consultation.master_nals(studio, segment)
    assert scan.file_meta.TransferSyntaxUID == coding.H264_41
    assert scan.ImageType == ["ORIGINAL", "PRIMARY"]
    assert (scan.Rows, scan.Columns, scan.NumberOfFrames) == (240, 320, consultation.FRAMES)
    assert (scan.LossyImageCompression, scan.LossyImageCompressionMethod) == ("01", "ISO_14496_10")
    assert float(scan.LossyImageCompressionRatio) > 1
    assert abs(float(scan.FrameTime) - 33.333) < 0.05
    assert "DerivationDescription" not in scan


def test_relabelled_pictures_are_the_same_but_for_their_name(
    studio: Studio, relabelled: tuple[Path, list[Dataset]]
) -> None:
    camera = relabelled[1][0]
    segment = consultation.manifest_of(studio).tracks[0].segments[0]
    for mine, theirs in zip(consultation.nals(camera), consultation.master_nals(studio, segment), strict=True):
        for one, other in zip(mine, theirs, strict=True):
            assert one == (avc.as_high(other) if avc.kind_264(other) == avc.SPS_264 else other)
    with av.open(io.BytesIO(consultation.movie(camera))) as container:
        assert container.streams.video[0].codec_context.profile == "High"
    assert "its slices are as they were sent" in camera.DerivationDescription
    assert camera.ImageType[0] == "ORIGINAL"


def test_the_voice_is_in_step_with_the_camera(relabelled: tuple[Path, list[Dataset]]) -> None:
    movie = consultation.movie(relabelled[1][0])
    assert len(movie) % 2 == 0
    loud: list[float] = []
    with av.open(io.BytesIO(movie)) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
        for frame in container.decode(audio=0):
            assert frame.time is not None
            samples = np.flatnonzero(np.abs(frame.to_ndarray()).max(axis=0) > 0.1)
            loud += [frame.time + index / 48_000 for index in samples]
    # Bursts of 20 ms at each full second; the encoder smears them a little.
    assert min(loud) < 0.030
    assert abs(min(time for time in loud if time > 0.5) - 1) < 0.030


def test_the_stethoscope_is_samples(studio: Studio, relabelled: tuple[Path, list[Dataset]]) -> None:
    heart = relabelled[1][2]
    group = heart.WaveformSequence[0]
    assert heart.SOPClassUID == pydicom.uid.GeneralAudioWaveformStorage
    assert float(group.SamplingFrequency) == waveform.RATE
    samples = heart.waveform_array(0)[:, 0]
    assert len(samples) == group.NumberOfWaveformSamples
    assert abs(len(samples) - 2 * waveform.RATE) < waveform.RATE / 50
    loud = np.flatnonzero(np.abs(samples) > 6000)
    assert loud[0] < waveform.RATE * 0.03
    assert abs(loud[loud > waveform.RATE / 2][0] / waveform.RATE - 1) < 0.03
    assert group.ChannelDefinitionSequence[0].ChannelSourceSequence[0].CodeValue == "109115"
    recorded = consultation.samples(studio, consultation.manifest_of(studio).tracks[2].segments[0], waveform.RATE)
    assert consultation.apart_db(samples, recorded, most_lag=waveform.RATE // 50) > 50


def test_a_repeated_export_gives_the_same_objects(
    studio: Studio, relabelled: tuple[Path, list[Dataset]], tmp_path: Path
) -> None:
    again = export(studio, tmp_path, DicomOptions(identifiers=WHO, drop=("camera", "microphone")))
    assert again[0].SOPInstanceUID == relabelled[1][1].SOPInstanceUID
    assert again[0].PixelData == relabelled[1][1].PixelData
    assert again[0].StudyInstanceUID == relabelled[1][1].StudyInstanceUID
    assert again[1].SOPInstanceUID == relabelled[1][2].SOPInstanceUID


def test_nothing_is_decided_silently(studio: Studio, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"DICOM takes no Opus.*--transcode.*--voices waveform.*--drop microphone"):
        export(studio, tmp_path, DicomOptions())
    with pytest.raises(ExportError, match=r"cam \(cam-1\.mp4\): its profile is 66.*--h264 relabel.*--h264 transcode"):
        export(studio, tmp_path, DicomOptions(drop=("microphone",)))
    with pytest.raises(ExportError, match="no camera to put the sound to"):
        export(studio, tmp_path, DicomOptions(drop=("camera",), transcode=True))
    with pytest.raises(ExportError, match="the recording has no dermatoscope"):
        export(studio, tmp_path, DicomOptions(drop=("dermatoscope",)))
    assert list(tmp_path.iterdir()) == []


def test_vp8_is_transcoded_when_asked(tmp_path: Path) -> None:
    studio = consultation.record(tmp_path / "archive", camera=Codec.CODEC_VP8, voice=False)
    with pytest.raises(ExportError, match=r"no transfer syntax for VP8: have it transcoded.*--drop camera"):
        export(studio, tmp_path / "out", DicomOptions())
    (camera, *_) = export(studio, tmp_path / "out", DicomOptions(transcode=True))
    assert camera.ImageType[0] == "DERIVED"
    assert camera.DerivationCodeSequence[0].CodeValue == "113040"
    assert camera.NumberOfFrames == consultation.FRAMES
    with av.open(io.BytesIO(consultation.movie(camera))) as container:
        context = container.streams.video[0].codec_context
        assert (context.profile, len(list(container.decode(video=0)))) == ("High", consultation.FRAMES)


def test_h265_goes_over_as_it_is(tmp_path: Path) -> None:
    studio = Studio(tmp_path / "archive")
    studio.track("skin", "video", "dermatoscope")
    studio.feed("skin", feed.deliver([Source(Codec.CODEC_H265, media.encode(Codec.CODEC_H265, count=30), ssrc=1)]))
    studio.run()
    studio.stop()
    (found,) = export(studio, tmp_path / "out", DicomOptions(time_source="NTP"))
    assert found.file_meta.TransferSyntaxUID == coding.H265_51
    assert found.LossyImageCompressionMethod == "ISO_23008_2"
    segment = consultation.manifest_of(studio).tracks[0].segments[0]
    sent = [nal for sample in consultation.master_nals(studio, segment) for nal in sample]
    kept = [nal for sample in consultation.nals(found) for nal in sample]
    assert [nal for nal in kept if avc.kind_265(nal) < 32] == [nal for nal in sent if avc.kind_265(nal) < 32]
    assert found.AcquisitionTimeSynchronized == "Y"
    assert (found.TimeDistributionProtocol, found.SynchronizationFrameOfReferenceUID) == ("NTP", UTC_FRAME)
    assert found.AnatomicRegionSequence[0].CodeMeaning == "Skin"


@pytest.mark.parametrize("source", ["otoscope", "dermatoscope", "screen"])
def test_other_sources(tmp_path: Path, source: str) -> None:
    studio = Studio(tmp_path / "archive")
    studio.track("x", "video", source)
    studio.feed("x", feed.deliver([Source(Codec.CODEC_H264, consultation.h264(consultation.HIGH, 10), ssrc=1)]))
    studio.run()
    studio.stop()
    (found,) = export(studio, tmp_path / "out", DicomOptions(identifiers=WHO))
    assert found.Modality == ("ES" if source == "otoscope" else "XC")
    if shutil.which("dciodvfy"):
        assert consultation.complaints(next((tmp_path / "out").iterdir())) == []


def test_another_size_is_another_object_and_a_gap_is_told(tmp_path: Path) -> None:
    studio = Studio(tmp_path / "archive")
    studio.track("us", "video", "ultrasound")
    first = Source(Codec.CODEC_H264, consultation.h264((*consultation.HIGH, ("g", "15")), 90))
    used = sum(1 for _, item in first.sent() if item[0] == 0)
    large = media.encode(Codec.CODEC_H264, 640, 480, 30, consultation.HIGH)
    second = Source(
        Codec.CODEC_H264, large, rtp_start=(first.rtp_start + 270_000) % 2**32, start_us=3e6,
        sequence=first.sequence + used, size=(640, 480),
    )  # fmt: skip

    def cut(time: float, item: feed.Item) -> list[float]:
        return [] if item[0] == 0 and 1e6 < time < 2e6 else [time + 20_000]

    studio.feed("us", feed.deliver([first, second], cut))
    studio.run()
    studio.stop()
    found = export(studio, tmp_path / "out", DicomOptions())
    assert [(one.InstanceNumber, one.Columns) for one in found] == [(1, 320), (2, 640)]
    assert len({one.SeriesInstanceUID for one in found}) == 1
    vector = [int(step) for step in found[0].FrameTimeVector]
    assert len(vector) == found[0].NumberOfFrames
    assert max(vector) > 1000
    assert found[0].FrameIncrementPointer == 0x00181065


def test_a_gap_in_sound_is_marked(tmp_path: Path) -> None:
    studio = Studio(tmp_path / "archive")
    studio.track("st", "audio", "stethoscope")
    heart = Source(Codec.CODEC_OPUS, feed.sound(4), ssrc=3, unit_us=20_000, sequence=1)

    def cut(time: float, item: feed.Item) -> list[float]:
        return [] if item[0] == 0 and 1.5e6 < time < 2.5e6 else [time + 20_000]

    studio.feed("st", feed.deliver([heart], cut))
    studio.run()
    studio.stop()
    (found,) = export(studio, tmp_path / "out", DicomOptions())
    samples = found.waveform_array(0)[:, 0]
    missing = np.flatnonzero(samples == waveform.PADDING)
    assert abs(len(missing) / waveform.RATE - 1) < 0.05
    assert abs(missing[0] / waveform.RATE - 1.5) < 0.05
    loud = np.flatnonzero((np.abs(samples) > 6000) & (samples != waveform.PADDING))
    assert abs(loud[loud > 2.5 * waveform.RATE][0] / waveform.RATE - 3) < 0.03


def test_nobody_is_left_in_it(
    studio: Studio, relabelled: tuple[Path, list[Dataset]], hidden: tuple[Path, list[Dataset]]
) -> None:
    told = {element.keyword for found in relabelled[1] for element in found}
    assert told - set(deidentify.ACTIONS) == set()
    out, found = hidden
    secrets = ["Müller", "Anna", "4711", "HOSPITAL", "1961", "Groß", "A-1", "V-9", "Tele-Echo", studio.recording.id]
    secrets += [one.SOPInstanceUID for one in relabelled[1]] + [relabelled[1][0].StudyInstanceUID]
    secrets += [relabelled[1][0].StudyDate, relabelled[1][0].AcquisitionDateTime[:8]]
    for path in out.iterdir():
        # What was drawn by chance may have any four digits in it.
        drawn = re.compile(rb"2\.25\.\d+|" + re.escape(found[0].PatientID.encode()))
        data = drawn.sub(b"", path.read_bytes() + path.name.encode())
        assert [text for text in secrets if len(text) < 20 and text.encode() in data] == []
        assert [text for text in secrets if len(text) >= 20 and text.encode() in path.read_bytes()] == []
    assert [one.PatientIdentityRemoved for one in found] == ["YES"] * 3
    assert len({one.PatientID for one in found}) == len({one.StudyInstanceUID for one in found}) == 1
    assert len({one.StudyDate for one in found}) == 1
    codes = [[item.CodeValue for item in one.DeidentificationMethodCodeSequence] for one in found]
    assert codes[0] == ["113100", "113105", "113107"]
    assert codes[1] == [*codes[0], "113101"]


def test_the_master_is_untouched(studio: Studio, hidden: tuple[Path, list[Dataset]]) -> None:
    from mediaserver.recording.verify import verify

    assert verify(studio.path).ok


def test_masks_are_burnt_in(hidden: tuple[Path, list[Dataset]]) -> None:
    with av.open(io.BytesIO(consultation.movie(hidden[1][1]))) as container:
        for frame in container.decode(video=0):
            luma = media.planes(frame)[0]
            assert luma[:44, :92].max() < 30
            assert luma[64:].mean() > 40
    assert hidden[1][1].BurnedInAnnotation == "NO"


def test_the_same_key_gives_the_same_pseudonyms(
    studio: Studio, hidden: tuple[Path, list[Dataset]], tmp_path: Path
) -> None:
    drop = ("microphone", "camera", "ultrasound")
    options = DicomOptions(identifiers=WHO, drop=drop, deidentify=True, key="a secret")
    (same,) = export(studio, tmp_path / "same", options)
    assert (same.PatientID, same.StudyInstanceUID, same.StudyDate) == (
        hidden[1][2].PatientID, hidden[1][2].StudyInstanceUID, hidden[1][2].StudyDate,
    )  # fmt: skip
    (other,) = export(studio, tmp_path / "other", msgspec.structs.replace(options, key=""))
    assert other.PatientID != same.PatientID
    assert other.StudyInstanceUID != same.StudyInstanceUID


def test_identifiers_beside_the_recording_count(studio: Studio, tmp_path: Path) -> None:
    folder = tmp_path / studio.recording.id
    shutil.copytree(studio.path, folder)
    kept = {"version": 1, "identifiers": {"patient_id": "beside", "accession": "X", "modality": "US", "sex": "M"}}
    (folder / "identifiers.json").write_bytes(msgspec.json.encode(kept))
    options = DicomOptions(identifiers=Identifiers(accession="given"), drop=("microphone", "camera", "ultrasound"))
    progress = Progress()
    kind = kinds.find("dicom")
    kinds.export(kind, folder, consultation.manifest_of(studio), tmp_path / "out", options, progress)
    (found,) = [pydicom.dcmread(path) for path in (tmp_path / "out").iterdir()]
    assert (found.PatientID, found.AccessionNumber, found.PatientSex) == ("beside", "given", "M")
    assert progress.warnings == []
    (folder / "identifiers.json").write_text("{")
    with pytest.raises(ExportError, match=r"identifiers\.json can't be read"):
        kinds.export(kind, folder, consultation.manifest_of(studio), tmp_path / "out", options)


@pytest.mark.parametrize(
    "wrong",
    [{"patient_id": "x" * 65}, {"accession": "a\\b"}, {"birth_date": "3.2.1961"}, {"sex": "x"}, {"study_uid": "1.02"}],
)
def test_identifiers_that_dicom_cannot_hold(studio: Studio, tmp_path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(ExportError, match=next(iter(wrong))):
        export(studio, tmp_path, DicomOptions(identifiers=Identifiers(**wrong)))


def test_voices_as_waveforms_and_a_stop(studio: Studio, tmp_path: Path) -> None:
    options = DicomOptions(voices="waveform", drop=("camera", "ultrasound"))
    told: list[float] = []
    found = export(studio, tmp_path / "out", options, Progress(told.append))
    sources = [
        one.WaveformSequence[0].ChannelDefinitionSequence[0].ChannelSourceSequence[0].CodeMeaning for one in found
    ]  # fmt: skip
    assert sources == ["Physiological audio signal", "Voice"]
    assert told[-1] > 0.9
    stopped = Progress()
    stopped.stop()
    with pytest.raises(ExportCancelled):
        export(studio, tmp_path / "stopped", options, stopped)
