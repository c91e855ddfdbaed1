"""Encrypted recordings: what a user of the archive meets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import itertools
import json
import zipfile
from pathlib import Path

import av
import pytest
from aiohttp import ClientSession
from typer.testing import CliRunner

from mediaserver import archive_command, clock
from mediaserver.codecs.payload import Codec
from mediaserver.recording import journal, manifest, sidecars, supplement
from mediaserver.recording.archive import Archive
from mediaserver.recording.evidence import TIME_STAMP
from mediaserver.recording.export import kinds
from mediaserver.recording.export.dicom.options import DicomOptions
from mediaserver.recording.export.join import join
from mediaserver.recording.storage import LocalStorage, Unreadable, keys
from mediaserver.recording.storage.keys import KeysError, MasterKeys, Tombstone
from mediaserver.recording.verify import REPORT, verify
from tests.recording import feed
from tests.recording.dicom import consultation
from tests.recording.feed import MASTERS, Source, Studio
from tests.recording.test_archive import Desk


def record(folder: Path, codec: Codec = Codec.CODEC_H264, masters: MasterKeys = MASTERS) -> Studio:
    studio = Studio(folder, LocalStorage(folder, masters))
    studio.track("camera")
    studio.feed("camera", feed.deliver([Source(codec, feed.video(codec, 90))]))
    studio.run()
    studio.stop()
    return studio


def test_what_lies_on_the_disk_is_sealed_and_what_comes_out_is_what_a_plain_archive_has(tmp_path: Path) -> None:
    plain = Studio(tmp_path / "plain")
    plain.track("camera")
    plain.feed("camera", feed.deliver([Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 90))]))
    plain.run()
    plain.stop()
    genuine = (plain.path / "camera-1.mp4").read_bytes()
    studio = record(tmp_path / "sealed")
    stored = (studio.path / "camera-1.mp4").read_bytes()
    assert not any(genuine[at : at + 16] in stored for at in range(0, len(genuine), 1000))
    (track,) = manifest.decode((studio.path / manifest.NAME).read_bytes()).tracks
    (segment,) = track.segments
    assert segment.bytes == len(stored)
    assert segment.sha256 == hashlib.sha256(stored).hexdigest()
    assert segment.content == manifest.Content(len(genuine), hashlib.sha256(genuine).hexdigest())
    reader = studio.storage.media(studio.path, segment)
    assert reader.read(reader.size, 0) == genuine
    reader.close()
    assert len(stored) < len(genuine) * 1.05 + 20_000
    assert sorted(path.name for path in studio.path.iterdir()) == ["camera-1.mp4", keys.NAME, manifest.NAME]


def test_over_http(tmp_path: Path) -> None:
    studio = record(tmp_path, Codec.CODEC_VP8)
    base = f"/api/archive/recordings/{studio.recording.id}"
    segment = manifest.decode((studio.path / manifest.NAME).read_bytes()).tracks[0].segments[0]
    reader = studio.storage.media(studio.path, segment)
    clear = reader.read(reader.size, 0)
    reader.close()

    async def work(client: ClientSession) -> None:
        for header, part in ((None, clear), ("bytes=70000-70099", clear[70_000:70_100]), ("bytes=-9", clear[-9:])):
            async with client.get(
                f"{base}/tracks/camera/media", headers={"Range": header} if header else {}
            ) as response:
                assert response.headers["ETag"] == f'"{segment.sha256}"'
                assert await response.read() == part
        async with client.get(f"{base}/verify") as response:
            report = await response.json()
        assert (report["ok"], report["files"], report["opened"]) == (True, 1, 1)
        async with client.get(f"{base}/export?format=mkv") as response:
            with av.open(io.BytesIO(await response.read())) as container:
                assert sum(1 for _ in container.decode(video=0)) == 90
        await desk.archive.keep_report(studio.recording.id, b'{"secret":1}')
        assert b"secret" not in await asyncio.to_thread((studio.path / REPORT).read_bytes)
        async with client.get(f"{base}/report") as response:
            assert await response.read() == b'{"secret":1}'
        await desk.archive.erase(studio.recording.id, "the patient has asked for it", 1)
        for path in ("tracks/camera/media", "report", "export"):
            async with client.get(f"{base}/{path}") as response:
                assert response.status == 410, path
                assert "the patient has asked for it" in (await response.json())["detail"]

    desk = Desk(Archive(tmp_path, storage=LocalStorage(tmp_path, MASTERS)))
    desk.run(work)


def test_without_the_key_a_recording_can_be_verified_and_not_read(tmp_path: Path) -> None:
    studio = record(tmp_path)
    locked = LocalStorage(tmp_path)
    report = verify(studio.path, storage=locked)
    assert (report.ok, report.files, report.opened) == (True, 1, 0)

    async def work(client: ClientSession) -> None:
        async with client.get(f"/api/archive/recordings/{studio.recording.id}/tracks/camera/media") as response:
            assert response.status == 503
            assert "under master key test, which is not configured here" in (await response.json())["detail"]

    Desk(Archive(tmp_path, storage=locked)).run(work)
    other = MasterKeys("test", {"test": bytes(32)})
    report = verify(studio.path, storage=LocalStorage(tmp_path, other))
    assert [problem.kind for problem in report.problems] == ["altered"]
    assert "master key test does not open" in report.problems[0].detail


def test_another_recordings_key_does_not_open_it(tmp_path: Path) -> None:
    one, two = record(tmp_path / "one"), record(tmp_path / "two")
    (one.path / keys.NAME).write_bytes((two.path / keys.NAME).read_bytes())
    report = verify(one.path, storage=one.storage)
    assert not report.ok
    assert "not the bytes that were sealed" in report.problems[0].detail


def test_keys_are_rewrapped_without_touching_the_media(tmp_path: Path) -> None:
    studio = record(tmp_path)
    before = (studio.path / "camera-1.mp4").read_bytes()
    newer = LocalStorage(tmp_path, MasterKeys("other", {"test": bytes(range(32)), "other": bytes(32)}))
    assert newer.rewrap(studio.path)
    assert not newer.rewrap(studio.path)
    only_other = LocalStorage(tmp_path, MasterKeys("other", {"other": bytes(32)}))
    assert verify(studio.path, storage=only_other).opened == 1
    assert verify(studio.path, storage=LocalStorage(tmp_path, MasterKeys("", {"test": bytes(range(32))}))).opened == 0
    assert (studio.path / "camera-1.mp4").read_bytes() == before


def test_erasing_leaves_the_manifest_and_a_tombstone(tmp_path: Path) -> None:
    studio = record(tmp_path)
    studio.storage.erase(studio.path, Tombstone(1, studio.recording.id, 1_790_000_000_000_000, "by request"))
    assert not (studio.path / keys.NAME).exists()
    report = verify(studio.path, storage=studio.storage)
    assert (report.ok, report.files, report.opened) == (True, 1, 0)
    kept = manifest.decode((studio.path / manifest.NAME).read_bytes())
    with pytest.raises(Unreadable, match="was erased on 2026-09-21: by request"):
        studio.storage.media(studio.path, kept.tracks[0].segments[0])
    with pytest.raises(Unreadable, match="was erased"):
        studio.storage.write(studio.path / REPORT, b"{}")


def test_a_plain_recording_can_not_be_erased_so(tmp_path: Path) -> None:
    studio = record(tmp_path, masters=MasterKeys("", {}))
    with pytest.raises(Unreadable, match="is not encrypted"):
        studio.storage.erase(studio.path, Tombstone(1, studio.recording.id, 1, "by request"))


def test_nothing_recorded_leaves_nothing(tmp_path: Path) -> None:
    studio = Studio(tmp_path, LocalStorage(tmp_path, MASTERS))
    studio.run(1_000_000)
    folder = studio.path
    assert (folder / keys.NAME).exists()
    assert (folder / journal.NAME).exists()
    studio.stop()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("current", "lines", "message"),
    [
        ("a", [], "there is no master key a"),
        ("a", ["a"], "written as ID:KEY"),
        ("a", ["a:xyz!"], "is not Base64"),
        ("a", ["a:AAAA"], "has 3 bytes, not 32"),
        ("a", ["a:AAAA", "a:BBBB"], "two master keys a"),
        ("", ["a b:" + base64.b64encode(bytes(32)).decode()], "a master key's id"),
    ],
)
def test_master_keys_that_can_not_be_used_are_told(current: str, lines: list[str], message: str) -> None:
    with pytest.raises(KeysError, match=message):
        MasterKeys.parse(current, ["# keys", "", *lines])


def command(config: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(archive_command.app, ["--config", str(config), *arguments])
    return result.exit_code, result.output


def test_commands(tmp_path: Path) -> None:
    data = tmp_path / "data"
    studio = record(data / "archive")
    identifier = studio.recording.id
    key = {name: base64.b64encode(value).decode() for name, value in (("test", bytes(range(32))), ("other", bytes(32)))}
    (tmp_path / "keys").write_text(f"# ours\ntest:{key['test']}\nother:{key['other']}\n")
    config = tmp_path / "mediaserver.toml"
    config.write_text(f'[data]\ndir = "{data}"\n[encryption]\nmaster = "other"\nkeys_file = "{tmp_path / "keys"}"\n')
    code, text = command(config, "verify", identifier)
    assert (code, text.rstrip().endswith("1 of them decrypted")) == (0, True)
    assert command(config, "rewrap") == (0, "1 recordings rewrapped\n")
    assert command(config, "rewrap") == (0, "0 recordings rewrapped\n")
    code, _ = command(config, "export", identifier, "--out", str(tmp_path / "out.mkv"))
    assert code == 0
    with av.open(tmp_path / "out.mkv") as container:
        assert sum(1 for _ in container.decode(video=0)) == 90
    assert command(config, "erase", identifier, "--reason", " ")[0] == 2
    code, text = command(config, "erase", identifier, "--reason", "by request")
    assert (code, text.splitlines()[-1]) == (0, f"{identifier}: erased")
    line = json.loads((data / "audit.log").read_text().splitlines()[-1])
    assert (line["event"], line["recording"], line["reason"]) == ("archive-erase", identifier, "by request")
    assert line["time"].startswith(clock.iso(clock.Clock().wall())[:10])
    code, text = command(config, "export", identifier, "--out", str(tmp_path / "out.mkv"))
    assert code == 2
    assert "was erased" in text
    assert command(config, "verify", identifier)[0] == 0
    config.write_text('[encryption]\nmaster = "none"\n')
    code, text = command(config, "list")
    assert code == 2
    assert "there is no master key none" in text


def test_segments_of_a_length_play_on_and_join_without_a_seam(tmp_path: Path) -> None:
    studio = Studio(tmp_path, segment_us=2_000_000)
    studio.track("us")
    studio.track("mic", "audio")
    studio.feed("us", feed.deliver([Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 210))]))
    sound = Source(Codec.CODEC_OPUS, feed.sound(7), unit_us=20_000, ssrc=3)
    studio.feed("mic", feed.deliver([sound]))
    studio.run()
    made = studio.stop()
    for track in made.tracks:
        assert [s.reason for s in track.segments] == ["start", "length", "length", "length"]
        assert not track.gaps
        for before, after in zip(track.segments, track.segments[1:], strict=False):
            assert before.last_rtp == after.first_rtp
            assert before.last_us == after.first_us
            assert before.last_us - before.first_us >= 2_000_000
    us = made.tracks[0]
    shown = [picture.code for segment in us.segments for picture in feed.watch(studio.path, segment)]
    assert shown == list(range(210))
    join(studio.path, made, tmp_path / "out.mkv", "mkv")
    with av.open(tmp_path / "out.mkv") as container:
        assert len(container.streams) == 2
        times = [round(float(frame.time or 0) * 1000) for frame in container.decode(video=0)]
    assert len(times) == 210
    steps = {after - before for before, after in itertools.pairwise(times)}
    assert steps <= {33, 34}


def test_a_zip_of_it_is_in_the_clear_and_says_what_was_signed(tmp_path: Path) -> None:
    studio = record(tmp_path)
    report, stamp = b'{"report": true}', b"a time stamp"

    async def exported() -> bytes:
        archive = Archive(tmp_path, storage=studio.storage)
        await archive.open()
        try:
            assert await archive.keep_report(studio.recording.id, report)
            assert await archive.keep_time_stamp(studio.recording.id, stamp)
            await archive.set_identifiers(studio.recording.id, sidecars.Identifiers(patient_id="p-1"))
            async with archive.export(studio.recording.id, "zip") as path:
                return path.read_bytes()
        finally:
            await archive.close()

    data = asyncio.run(exported())
    assert report not in (studio.path / REPORT).read_bytes()
    assert (studio.path / TIME_STAMP).read_bytes() == stamp  # who has no key can check it
    with zipfile.ZipFile(io.BytesIO(data)) as made:
        inside = {Path(name).name: made.read(name) for name in made.namelist()}
    assert keys.NAME not in inside
    assert inside[REPORT] == report
    assert b"p-1" in inside["identifiers.json"]
    (track,) = manifest.decode(inside[manifest.NAME]).tracks
    additions = {added.name: added for added in supplement.decode(inside[supplement.NAME]).files}
    for name, content in [(track.segments[0].file, track.segments[0].content), (REPORT, additions[REPORT].content)]:
        assert content == manifest.Content(len(inside[name]), hashlib.sha256(inside[name]).hexdigest())


def test_a_study_of_it_is_the_same_as_of_a_plain_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pydicom = pytest.importorskip("pydicom")
    studies = []
    for encrypted in (False, True):
        monkeypatch.setattr(feed, "encrypted", encrypted)
        studio = consultation.record(tmp_path / f"archive-{encrypted}", voice=False)
        studio.storage.write(studio.path / "identifiers.json", b'{"version": 1, "identifiers": {"patient_id": "p-1"}}')
        out = tmp_path / f"out-{encrypted}"
        options = DicomOptions(h264="relabel")
        kept = consultation.manifest_of(studio)
        kinds.export(kinds.find("dicom"), studio.path, kept, out, options, storage=studio.storage)
        found = [pydicom.dcmread(path) for path in sorted(out.iterdir())]
        assert {str(one.PatientID) for one in found} == {"p-1"}
        studies.append([one.get("PixelData", b"") or len(one.WaveformSequence[0].WaveformData) for one in found])
    assert studies[0] == studies[1]
    assert len(studies[0]) == 3
