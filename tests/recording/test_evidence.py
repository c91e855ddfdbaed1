"""Whatever is changed in a signed recording, its register or beside it is named, and nothing that is genuine."""

from __future__ import annotations

import asyncio
import hashlib
import io
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediaserver.codecs.payload import Codec
from mediaserver.recording import chain, journal, manifest, supplement
from mediaserver.recording.archive import Archive, UnknownRecording
from mediaserver.recording.evidence import NOTHING, SIGNATURE, Evidence
from mediaserver.recording.keys import SigningKey, TrustedKeys, make_key
from mediaserver.recording.register import NAME as REGISTER
from mediaserver.recording.register import Register
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.verify import REPORT, Report
from tests.recording import feed
from tests.recording.feed import Source, Studio

TRACKS = ("camera", "us")


def evidence_of(root: Path, signer: SigningKey, *more: SigningKey) -> Evidence:
    """As a server has it that signs with one key and trusts more."""
    trusted = TrustedKeys(key.public for key in (signer, *more))
    register = Register(LocalStorage(root), signer, lambda: feed.WALL_START)
    return Evidence(trusted, signer, register, lambda: feed.WALL_START)


def record(root: Path, evidence: Evidence, *, stop: bool = True) -> Studio:
    """A second of two tracks."""
    studio = Studio(root, evidence=evidence)
    for name in TRACKS:
        studio.track(name)
        first = 0 if name == "us" else 100
        studio.feed(name, feed.deliver([Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 30, first))]))
    studio.run()
    if stop:
        studio.stop()
    return studio


def verified(root: Path, evidence: Evidence, recording: str) -> Report:
    """As the command has it: the archive is somebody else's."""

    async def work() -> Report:
        archive = Archive(root, evidence=Evidence(evidence.trusted))
        try:
            return await archive.verify(recording)  # which needs no catalog
        finally:
            await archive.close()

    return asyncio.run(work())


def named(report: Report) -> list[tuple[str, str]]:
    return sorted({(problem.kind, problem.name) for problem in report.problems})


class Kept:
    """An archive with two recordings, the first with a session report."""

    def __init__(self, root: Path, key: SigningKey, *more: SigningKey) -> None:
        self.root = root
        self.evidence = evidence_of(root, key, *more)
        self.ids: list[str] = []

    async def fill(self) -> None:
        archive = Archive(self.root, evidence=self.evidence)
        await archive.open()
        studios = [await asyncio.to_thread(record, self.root, self.evidence) for _ in range(2)]
        self.ids = [studio.recording.id for studio in studios]
        assert await archive.keep_report(self.ids[0], b'{"version": 1, "room": "room-1"}')
        await archive.close()

    def folder(self, number: int = 0) -> Path:
        found = LocalStorage(self.root).find(self.ids[number])
        assert found is not None
        return found

    def verify(self, number: int = 0) -> Report:
        return verified(self.root, self.evidence, self.ids[number])


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    kept = Kept(tmp_path_factory.mktemp("archive"), make_key())
    asyncio.run(kept.fill())
    return kept


@pytest.fixture
def kept(original: Kept, tmp_path: Path) -> Kept:
    """A copy to spoil."""
    root = tmp_path / "archive"
    shutil.copytree(original.root, root)
    copy = Kept(root, make_key())
    copy.evidence, copy.ids = original.evidence, original.ids
    return copy


def test_genuine(kept: Kept) -> None:
    for number in (0, 1):
        report = kept.verify(number)
        assert report.ok, report
        assert report.files == 2
        assert kept.evidence.signer is not None
        assert report.signed_by == kept.evidence.signer.id
    assert {path.name for path in kept.folder().iterdir()} == {
        "camera-1.webm", "us-1.webm", manifest.NAME, SIGNATURE, REPORT, supplement.NAME,
    }  # fmt: skip


def test_the_signature_is_checked_by_openssl_alone(kept: Kept, tmp_path: Path) -> None:
    """No word of this software is needed to check it in years to come."""
    assert kept.evidence.signer is not None
    public = tmp_path / "public.pem"
    public.write_bytes(kept.evidence.signer.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-rawin"]
    command += ["-in", str(kept.folder() / manifest.NAME), "-sigfile", str(kept.folder() / SIGNATURE)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    with (kept.folder() / manifest.NAME).open("ab") as stream:
        stream.write(b"\n")
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0


def test_the_chain_is_followed_by_a_shell_alone(kept: Kept) -> None:
    described = manifest.decode((kept.folder() / manifest.NAME).read_bytes())
    assert isinstance(described.chain, chain.Chain)
    segments = {segment.file: segment for track in described.tracks for segment in track.segments}
    link = hashlib.sha256(f"{described.id}\n".encode()).hexdigest()
    for name in described.chain.files:
        text = f"{link} {segments[name].sha256} {segments[name].bytes} {name}"
        done = subprocess.run(["sh", "-c", 'echo "$1" | sha256sum', "sh", text], check=True, capture_output=True)
        link = done.stdout.split()[0].decode()
    assert link == described.chain.head


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_flipped_bit_anywhere(kept: Kept, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(kept.folder().iterdir())), label="file")
    genuine = path.read_bytes()
    position = data.draw(st.integers(0, len(genuine) - 1), label="position")
    spoilt = bytearray(genuine)
    spoilt[position] ^= 1 << data.draw(st.integers(0, 7), label="bit")
    path.write_bytes(spoilt)
    try:
        report = kept.verify()
        assert not report.ok
        assert path.name in {name for _, name in named(report)}
    finally:
        path.write_bytes(genuine)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_flipped_bit_of_the_register(kept: Kept, data: st.DataObject) -> None:
    path = kept.root / REGISTER
    genuine = path.read_bytes()
    spoilt = bytearray(genuine)
    # All but the end of the last line: without it the line is as torn as after a crash.
    spoilt[data.draw(st.integers(0, len(genuine) - 2))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(spoilt)
    try:
        assert REGISTER in {name for _, name in named(kept.verify())}
    finally:
        path.write_bytes(genuine)


@pytest.mark.parametrize("name", ["us-1.webm", manifest.NAME, REPORT, supplement.NAME])
def test_a_removed_file(kept: Kept, name: str) -> None:
    (kept.folder() / name).unlink()
    assert ("missing", name) in named(kept.verify())


def test_a_removed_report_with_its_supplement(kept: Kept) -> None:
    for name in (REPORT, supplement.NAME):
        (kept.folder() / name).unlink()
    assert named(kept.verify()) == [("missing", supplement.NAME)]


def test_a_removed_signature(kept: Kept) -> None:
    (kept.folder() / SIGNATURE).unlink()
    assert named(kept.verify()) == [("unsigned", manifest.NAME)]


def test_an_added_file(kept: Kept) -> None:
    (kept.folder() / "us-2.webm").write_bytes(b"more")
    assert named(kept.verify()) == [("added", "us-2.webm")]


def test_swapped_segments(kept: Kept) -> None:
    us, camera = kept.folder() / "us-1.webm", kept.folder() / "camera-1.webm"
    us.rename(kept.root / "x")
    camera.rename(us)
    (kept.root / "x").rename(camera)
    assert named(kept.verify()) == [("swapped", "camera-1.webm"), ("swapped", "us-1.webm")]


def test_a_report_of_another_recording(kept: Kept) -> None:
    for name in (REPORT, supplement.NAME):
        shutil.copy(kept.folder(0) / name, kept.folder(1) / name)
    assert ("swapped", supplement.NAME) in named(kept.verify(1))


def test_an_edited_manifest_whose_digests_were_made_anew(kept: Kept) -> None:
    """By somebody who knows the format and has no key: a segment is dropped from everything but the signature."""
    path = kept.folder() / manifest.NAME
    described = manifest.decode(path.read_bytes())
    tracks = [track for track in described.tracks if track.id != "us"]
    facts = [(s.file, s.bytes, s.sha256) for track in tracks for s in track.segments]
    shorter = chain.Chain([name for name, _, _ in facts], chain.follow(described.id, facts))
    edited = manifest.seal(msgspec.structs.replace(described, tracks=tracks, chain=shorter))
    path.write_bytes(manifest.encode(edited))
    (kept.folder() / "us-1.webm").unlink()
    (kept.root / REGISTER).unlink()
    assert ("altered", manifest.NAME) in named(kept.verify())


def test_a_manifest_signed_by_a_stranger(kept: Kept) -> None:
    stranger = make_key()
    path = kept.folder(1) / manifest.NAME
    described = manifest.decode(path.read_bytes())
    signed = manifest.encode(manifest.seal(msgspec.structs.replace(described, room="room-2", key=stranger.id)))
    path.write_bytes(signed)
    (kept.folder(1) / SIGNATURE).write_bytes(stranger.sign(signed))
    assert named(kept.verify(1)) == [("altered", manifest.NAME), ("unknown-key", manifest.NAME)]


def test_a_manifest_without_a_key(kept: Kept) -> None:
    path = kept.folder(1) / manifest.NAME
    described = manifest.decode(path.read_bytes())
    path.write_bytes(manifest.encode(manifest.seal(msgspec.structs.replace(described, key=msgspec.UNSET))))
    (kept.folder(1) / SIGNATURE).unlink()
    assert named(kept.verify(1)) == [("altered", manifest.NAME), ("unsigned", manifest.NAME)]


def test_a_removed_recording(kept: Kept) -> None:
    shutil.rmtree(kept.folder())
    assert named(kept.verify()) == [("missing", kept.ids[0])]
    with pytest.raises(UnknownRecording):
        verified(kept.root, kept.evidence, "20260101-000000-00000000")


def test_a_recording_that_was_disposed_of(kept: Kept, tmp_path: Path) -> None:
    register = kept.evidence.register
    evidence = evidence_of(kept.root, kept.evidence.signer or make_key())
    register = evidence.register
    assert register is not None
    register.open()
    register.append("recording-disposed", kept.ids[0], by="Dr. A", reason="ten years are over")
    register.close()
    shutil.move(kept.folder(), tmp_path / kept.ids[0])
    report = kept.verify()
    assert report.ok
    assert "by Dr. A: ten years are over" in report.notes[0]
    LocalStorage(kept.root).folder(kept.ids[0]).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(tmp_path / kept.ids[0], LocalStorage(kept.root).folder(kept.ids[0]))
    assert named(kept.verify()) == [("added", kept.ids[0])]


def test_a_recording_from_elsewhere(kept: Kept) -> None:
    other = kept.folder().with_name(kept.ids[0][:-1] + "x")
    shutil.copytree(kept.folder(), other)
    report = verified(kept.root, kept.evidence, other.name)
    assert {("added", other.name), ("swapped", manifest.NAME)} <= set(named(report))


def test_keys_are_rotated(tmp_path: Path) -> None:
    old, new = make_key(), make_key()
    first = Kept(tmp_path, old)
    asyncio.run(first.fill())
    second = Kept(tmp_path, new, old)
    asyncio.run(second.fill())
    for recording, key in ((first.ids[0], old), (second.ids[0], new)):
        report = verified(tmp_path, second.evidence, recording)
        assert (report.ok, report.signed_by) == (True, key.id)
    forgetful = evidence_of(tmp_path, new)
    assert ("unknown-key", manifest.NAME) in named(verified(tmp_path, forgetful, first.ids[0]))


def test_recordings_from_before_the_keys_are_adopted(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("us")
    studio.feed("us", feed.deliver([Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 30))]))
    studio.run()
    studio.stop()
    path = studio.path / manifest.NAME
    kept = Kept(tmp_path, make_key())
    asyncio.run(kept.fill())
    report = verified(tmp_path, kept.evidence, studio.recording.id)
    assert report.ok
    assert "unsigned" in report.notes[0]
    room = manifest.decode(path.read_bytes())
    path.write_bytes(manifest.encode(manifest.seal(msgspec.structs.replace(room, room="other"))))
    assert named(verified(tmp_path, kept.evidence, studio.recording.id)) == [("altered", manifest.NAME)]


def test_an_old_manifest_keeps_its_bytes() -> None:
    """What was written before chains and keys has no trace of them."""
    old = manifest.seal(manifest.Manifest(1, "mediaserver", "x", "r", "complete", 1, 2, [], [], []))
    data = manifest.encode(old)
    assert b"chain" not in data
    assert manifest.is_genuine(data, manifest.decode(data))


def test_a_recovery_signs_too_and_says_so(tmp_path: Path) -> None:
    key = make_key()
    evidence = evidence_of(tmp_path, key)
    assert evidence.register is not None
    evidence.register.open()
    studio = record(tmp_path, evidence, stop=False)
    evidence.register.close()
    kept = Kept(tmp_path, key)
    asyncio.run(kept.fill())
    report = verified(tmp_path, kept.evidence, studio.recording.id)
    assert (report.ok, report.signed_by) == (True, key.id), report
    recovered = manifest.decode((studio.path / manifest.NAME).read_bytes())
    assert (recovered.state, recovered.notes) == ("recovered", [])


def test_a_journal_that_nobody_has_begun_is_noted(tmp_path: Path) -> None:
    """Somebody lays a folder into the archive of a server that is down, as if it had crashed."""
    studio = record(tmp_path / "elsewhere", NOTHING, stop=False)
    kept = Kept(tmp_path / "archive", make_key())
    asyncio.run(kept.fill())
    laid = LocalStorage(kept.root).folder(studio.recording.id)
    shutil.copytree(studio.path, laid)
    asyncio.run(kept.fill())
    described = manifest.decode((laid / manifest.NAME).read_bytes())
    assert described.notes[0].text == "the register of the archive has not seen this recording begin"


def test_a_growing_recording_that_was_removed_is_missed(tmp_path: Path) -> None:
    key = make_key()
    evidence = evidence_of(tmp_path, key)
    assert evidence.register is not None
    evidence.register.open()
    studio = record(tmp_path, evidence, stop=False)
    evidence.register.close()
    shutil.rmtree(studio.path)
    assert named(verified(tmp_path, evidence, studio.recording.id)) == [("missing", studio.recording.id)]


def interrupted(tmp_path: Path) -> Studio:
    """A recording of two files that were completed one after the other, the journal still there."""
    studio = Studio(tmp_path)
    for name in TRACKS:
        studio.track(name)
        studio.feed(name, feed.deliver([Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 30))]))
    studio.run()
    for name in TRACKS:
        studio.recording.remove_track(name)
        studio.rings[name].gone = True
    studio.run(studio.now + 2_000_000)
    records = journal.read(studio.path / journal.NAME)
    assert sum(isinstance(record, journal.Sealed) for record in records) == 2
    return studio


@pytest.mark.parametrize("spoil", ["cut", "swap", "gone", "unlink"])
def test_what_was_changed_between_crash_and_recovery_is_noted(tmp_path: Path, spoil: str) -> None:
    from mediaserver.recording.recovery import recover_all

    studio = interrupted(tmp_path)
    first, second = (studio.path / f"{name}-1.webm" for name in TRACKS)
    if spoil == "cut":
        first.write_bytes(first.read_bytes()[:-1])
    elif spoil == "swap":
        first.write_bytes(second.read_bytes()[:-1] + b"x")
    elif spoil == "gone":
        first.unlink()
    else:
        path = studio.path / journal.NAME
        lines = path.read_bytes().splitlines(keepends=True)
        (at, *_) = [number for number, line in enumerate(lines) if b'"what":"sealed"' in line]
        lines[at] = (
            msgspec.json.encode(
                msgspec.structs.replace(next(iter(journal.Reading(io.BytesIO(lines[at])))), sha256="0" * 64)  # type: ignore[type-var]
            )
            + b"\n"
        )
        path.write_bytes(b"".join(lines))
    (kept,), _ = recover_all(LocalStorage(tmp_path))
    texts = " ".join(note.text for note in kept.notes)
    said = {"gone": "is gone", "unlink": "does not follow"}.get(spoil, "is not what was completed")
    assert said in texts


@pytest.mark.parametrize("spoil", ["nothing", "name", "line", "tail", "heads", "other", "behind"])
def test_an_edited_journal_is_named_before_and_after_its_recovery(tmp_path: Path, spoil: str) -> None:
    """The hashes in it made anew or not: its heads are signed."""
    key = make_key()
    kept = Kept(tmp_path, key)
    names: list[str] = []

    async def crash() -> None:
        archive = Archive(tmp_path, evidence=kept.evidence)
        await archive.open()
        studio = await asyncio.to_thread(record, tmp_path, kept.evidence, stop=False)
        names.append(studio.recording.id)
        await archive.close()

    asyncio.run(crash())
    path = LocalStorage(tmp_path).folder(names[0]) / journal.NAME
    lines = path.read_bytes().splitlines(keepends=True)
    heads = [number for number, line in enumerate(lines) if b'"what":"head"' in line]
    assert len(heads) > 2
    assert heads[-1] == len(lines) - 1
    if spoil == "name":
        lines = [line.replace(b"room-1", b"room-2") for line in lines]
    elif spoil == "line":
        del lines[heads[1] + 1]
    elif spoil == "tail":
        lines = lines[:-1]  # as after a crash in the middle of a write
    elif spoil == "heads":
        lines = [line for line in lines if b'"what":"head"' not in line]
    elif spoil == "other":
        data = b"".join(lines[: heads[-1]])
        stranger = journal.sign_head(names[0], len(data), hashlib.sha256(data).hexdigest(), make_key())
        lines[heads[-1]] = journal.encode(stranger)
    elif spoil == "behind":
        lines.append(lines[1])
    path.write_bytes(b"".join(lines))
    altered = spoil in ("name", "line", "heads", "other")
    report = verified(tmp_path, kept.evidence, names[0])
    assert (("altered", journal.NAME) in named(report)) == altered, report

    async def recover() -> None:
        archive = Archive(tmp_path, evidence=evidence_of(tmp_path, key))
        await archive.open()
        assert archive.failures == []
        await archive.close()

    asyncio.run(recover())
    report = verified(tmp_path, kept.evidence, names[0])
    assert report.ok != altered, report
    assert (("altered", journal.NAME) in named(report)) == altered
    notes = [note.text for note in manifest.decode((path.parent / manifest.NAME).read_bytes()).notes]
    assert any("behind its signed head" in note for note in notes) == (spoil in ("tail", "behind")), notes


def test_an_interrupted_supplement_is_finished(kept: Kept) -> None:
    """At each step the lights go out once; after the next start all is there and verifies."""
    signer = kept.evidence.signer
    assert signer is not None
    for cut in range(4):

        class Failing(LocalStorage):
            left = cut

            def write_atomic(self, path: Path, data: bytes) -> None:
                self.left -= 1
                if self.left < 0:
                    raise OSError("the lights went out")
                super().write_atomic(path, data)

        evidence = evidence_of(kept.root, signer)
        assert evidence.register is not None
        evidence.register.open()
        try:
            evidence.supplement(Failing(kept.root), kept.folder(1), REPORT, f"report {cut}".encode())
        except OSError:
            assert cut < 3
        evidence.register.close()
        again = evidence_of(kept.root, signer)
        assert again.register is not None
        again.register.open()
        assert again.resume(LocalStorage(kept.root)) == []
        again.register.close()
        assert kept.verify(1).ok
        if cut:
            assert (kept.folder(1) / REPORT).read_bytes() == f"report {cut}".encode()


def test_nothing_is_signed_that_somebody_else_has_left(kept: Kept) -> None:
    pending = kept.root / ".pending"
    pending.mkdir(exist_ok=True)
    (pending / f"{kept.ids[1]}+{REPORT}").write_bytes(make_key().sign(b"x") + b"forged")
    evidence = evidence_of(kept.root, kept.evidence.signer or make_key())
    assert "it was not this server" in evidence.resume(LocalStorage(kept.root))[0]
    assert kept.verify(1).ok


def test_a_torn_line_of_the_register_is_kept_and_told(kept: Kept) -> None:
    path = kept.root / REGISTER
    with path.open("ab") as stream:
        stream.write(b'{"seq":9,"prev":"torn')
    assert kept.verify().ok
    evidence = evidence_of(kept.root, kept.evidence.signer or make_key())
    assert evidence.register is not None
    evidence.register.open()
    evidence.register.close()
    assert kept.verify().ok
    assert b'"event":"register-torn"' in path.read_bytes()
    assert b'{\\"seq\\":9,\\"prev\\":\\"torn' in path.read_bytes()
