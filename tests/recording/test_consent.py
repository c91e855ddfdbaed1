"""Nothing of a track is kept but what arrived while its participant agreed, and what was withdrawn goes for good."""

from __future__ import annotations

import asyncio
import json
import tempfile
import zipfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mediaserver.codecs.payload import Codec
from mediaserver.recording import journal, manifest, raw, views, withdrawn
from mediaserver.recording.archive import Archive
from mediaserver.recording.catalog import Entry, schema
from mediaserver.recording.catalog.rows import part_rows
from mediaserver.recording.evidence import NOTHING, Evidence
from mediaserver.recording.keys import make_key
from mediaserver.recording.manifest import ConsentFact, Consents, Manifest
from mediaserver.recording.recorder import ParticipantMeta
from mediaserver.recording.retention import DAY_US, Policy, RetentionClass
from mediaserver.recording.settings import TrackMeta
from mediaserver.recording.sidecars import Sidecars
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.storage.s3 import S3Settings
from mediaserver.recording.verify import Checks, verify
from mediaserver.recording.withdrawal import Withdrawals
from tests.recording import feed
from tests.recording.bucketed import Driven
from tests.recording.feed import MONOTONIC_START, WALL_START, Ring, Source, Studio, Unsynced
from tests.recording.test_evidence import evidence_of

SECOND = 1_000_000
PLANE_US = 60_000
"""So long the data plane may take to carry out a command here."""


class Room:
    """A studio whose one track is let in and taken out, as the server does it."""

    def __init__(self, studio: Studio, *, video: bool = True) -> None:
        self.studio = studio
        source = Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 180))
        payloads = feed.payloads() if video else ()
        self.meta = TrackMeta("us", "us", "video" if video else "audio", payloads, participant="cart")
        self.items = feed.deliver([source], feed.jitter(3))
        self.open: Ring | None = None
        self.closing: list[tuple[float, Ring]] = []
        studio.recording.add_participant(ParticipantMeta("cart", "Cart 3", "cart"))
        studio.recording.rule("consent", "keep", "7", "May we?")

    def run(self, until: float) -> None:
        """Packets go where the data plane has them go: a tap that is closed gets some more for a while."""
        studio = self.studio
        while studio.now < until:
            studio.now = min(studio.now + 10_000, until)
            arrived = [item for time, item in self.items if time <= studio.now]
            self.items = self.items[len(arrived) :]
            for ring in [self.open, *(ring for _, ring in self.closing)]:
                if ring is not None:
                    ring.items += arrived
            for end, ring in list(self.closing):
                if end <= studio.now:
                    ring.gone = True
                    self.closing.remove((end, ring))
            studio.recorder.step()

    def say(self, state: str, *, erase: bool = False) -> None:
        at = WALL_START + round(self.studio.now)
        self.studio.recording.consent(ConsentFact("cart", state, "participant", "", "7", at, erase))

    def agree(self, *, spoken: bool = True) -> None:
        if spoken:
            self.say("given")
        self.open = Ring()
        self.studio.recording.add_track(self.meta, self.open)

    def withdraw(self, *, erase: bool = False) -> None:
        self.say("withdrawn", erase=erase)
        assert self.open is not None
        self.closing.append((self.studio.now + PLANE_US, self.open))
        self.open = None
        self.studio.recording.withdraw_track("us", MONOTONIC_START + round(self.studio.now))

    def stop(self) -> Manifest:
        if self.open is not None:
            self.open.gone = True
        for _, ring in self.closing:
            ring.gone = True
        return self.studio.stop()


def consents(kept: Manifest) -> Consents:
    assert kept.consent is not msgspec.UNSET
    return kept.consent


def test_recorded_from_consent_to_withdrawal_and_again(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    room = Room(studio)
    studio.recording.withhold_track(room.meta)
    room.run(0.5 * SECOND)
    assert studio.recording.snapshot().tracks[0].gaps[0].cause == "consent", "it goes on, and is shown"
    room.run(0.95 * SECOND)
    room.agree()
    room.run(2.55 * SECOND)
    room.withdraw()
    room.run(3.5 * SECOND)
    room.agree()
    room.run(5.5 * SECOND)
    kept = room.stop()
    (track,) = kept.tracks
    assert [segment.reason for segment in track.segments] == ["consent", "consent"]
    assert [segment.file for segment in track.segments] == ["us-1.webm", "us-2.webm"]
    codes = [[p.code for p in feed.watch(studio.path, segment)] for segment in track.segments]
    assert codes[0] == list(range(30, 30 + len(codes[0]))), "from the first keyframe after the consent"
    assert 44 <= len(codes[0]) <= 47
    assert codes[1][0] == 120, "the next keyframe"
    gaps = [(gap.cause, gap.packets, (gap.from_us - WALL_START) / SECOND, (gap.to_us - WALL_START) / SECOND)
            for gap in track.gaps]  # fmt: skip
    assert [gap[:2] for gap in gaps] == [("consent", 0), ("consent", 0)], "want of consent is no loss"
    assert gaps[0][2:] == (pytest.approx(0, abs=0.1), pytest.approx(0.95, abs=0.05))
    assert gaps[1][2:] == (pytest.approx(2.55, abs=0.01), pytest.approx(3.5, abs=0.05))
    assert studio.keyframes.count("us") >= 2
    said = consents(kept)
    assert [(rule.whose, rule.text) for rule in said.rules] == [("consent", "May we?")]
    assert [fact.state for fact in said.facts] == ["given", "withdrawn", "given"]
    assert said.erase == []
    rows = part_rows(Entry(kept))[schema.consents]
    assert [(row["subject"], row["scope"], row["given"], row["note"]) for row in rows] == [
        ("Cart 3", "recording", True, "given, text 7"), ("Cart 3", "recording", False, "withdrawn, text 7"),
        ("Cart 3", "recording", True, "given, text 7"),
    ], "the catalog can be made of the manifest"  # fmt: skip
    shown = views.consents(kept, Sidecars())
    assert [one.state for one in shown] == ["given", "withdrawn", "given"]
    assert shown[1].offset_ms == pytest.approx(2550, abs=20)
    assert verify(studio.path, storage=studio.storage).ok


def test_who_never_agrees_is_a_gap_and_no_media(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    room = Room(studio)
    studio.recording.withhold_track(room.meta)
    room.say("refused")
    room.run(2 * SECOND)
    kept = room.stop()
    (track,) = kept.tracks
    assert track.segments == []
    (gap,) = track.gaps
    assert gap.cause == "consent"
    assert gap.to_us - gap.from_us == pytest.approx(2 * SECOND, abs=0.1 * SECOND)
    assert not [path for path in studio.path.iterdir() if path.suffix in (".webm", ".mp4", ".rtp")]


@pytest.mark.usefixtures("kept")
def test_a_crash_keeps_what_was_said(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    room = Room(studio)
    studio.recording.withhold_track(room.meta)
    room.run(0.9 * SECOND)
    room.agree()
    room.run(2.9 * SECOND)
    room.withdraw(erase=True)
    room.run(4 * SECOND)

    async def work() -> None:
        archive = Archive(tmp_path, storage=feed.storage_at(tmp_path))
        await archive.open(WALL_START)
        assert archive.failures == []
        assert archive.erased == [(studio.recording.id, ["us-1.webm"])], "recovered, and erased at once"
        kept = await archive.get(studio.recording.id)
        assert kept.state == "recovered"
        assert [fact.state for fact in consents(kept).facts] == ["given", "withdrawn"]
        (track,) = kept.tracks
        assert track.segments == []
        assert [gap.cause for gap in track.gaps] == ["consent", "withdrawn", "consent"]
        assert all(gap.to_us >= gap.from_us for gap in track.gaps)
        assert (await archive.verify(studio.recording.id)).ok
        await archive.close()

    asyncio.run(work())


def erasing(root: Path, evidence: Evidence = NOTHING, storage: LocalStorage | None = None) -> Studio:
    """A camera that stays; an ultrasound that is withdrawn after 3 s, and comes back."""
    studio = Studio(root, storage, evidence=evidence)
    studio.track("camera", participant="nurse")
    studio.feed("camera", feed.deliver([Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 30))]))
    studio.run()
    room = Room(studio)
    room.agree()
    room.run(3 * SECOND)
    room.withdraw(erase=True)
    room.run(3.3 * SECOND)
    room.agree()
    room.run(6 * SECOND)
    kept = room.stop()
    assert consents(kept).erase == ["us-1.webm"]
    return studio


@pytest.mark.usefixtures("kept")
def test_what_is_withdrawn_is_erased_and_all_of_it_can_be_proved(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, make_key())

    async def work() -> None:
        archive = Archive(tmp_path, evidence=evidence, storage=feed.storage_at(tmp_path))
        await archive.open()
        studio = await asyncio.to_thread(erasing, tmp_path, evidence)
        recording = studio.recording.id
        await archive.index(recording)
        await archive.place_hold(recording, reason="court", by="law", at_us=WALL_START)
        await archive.mark_withdrawn(recording)
        assert await archive.erase_withdrawn(recording, WALL_START) == [], "a hold is stronger"
        assert (studio.path / "us-1.webm").exists()
        assert await archive.lift_hold(recording, by="law", at_us=WALL_START) == 1
        assert not (studio.path / "us-1.webm").exists()
        assert await archive.erase_withdrawn(recording, WALL_START) == [], "once"
        report = await archive.verify(recording)
        assert report.ok, report.problems
        assert [note for note in report.notes if "us-1.webm was erased" in note]
        kept = await archive.get(recording)
        track = next(track for track in kept.tracks if track.id == "us")
        assert [segment.file for segment in track.segments] == ["us-2.webm"]
        assert "withdrawn" in [gap.cause for gap in track.gaps]
        assert manifest.decode(await archive.manifest_bytes(recording)).tracks[1].segments[0].file == "us-1.webm"
        async with archive.export(recording, "zip") as path:
            names = [Path(name).name for name in zipfile.ZipFile(path).namelist()]
            assert "us-1.webm" not in names
            assert {"us-2.webm", withdrawn.NAME, "manifest.json"} <= set(names)
        async with archive.export(recording, "mkv") as path:
            assert path.stat().st_size > 1000
        # Somebody puts it back, forges the list, or lists what was never withdrawn.
        (studio.path / "us-1.webm").write_bytes(b"again")
        assert [problem.name for problem in (await archive.verify(recording)).problems] == ["us-1.webm"]
        (studio.path / "us-1.webm").unlink()
        listed = json.loads((studio.path / withdrawn.NAME).read_bytes())
        listed["files"][0]["file"] = "us-2.webm"
        (studio.path / withdrawn.NAME).write_text(json.dumps(listed))
        named = {problem.name for problem in (await archive.verify(recording)).problems}
        assert {withdrawn.NAME, "us-1.webm", "us-2.webm"} <= named
        await archive.close()

    asyncio.run(work())


def test_a_withdrawal_after_the_end_is_written_down_and_erases(tmp_path: Path) -> None:
    async def work() -> None:
        archive = Archive(tmp_path)
        await archive.open()
        studio = await asyncio.to_thread(erasing, tmp_path)
        recording = studio.recording.id
        await archive.index(recording)
        gone = {}
        for source in ("microphone", "camera"):
            gone[source] = await archive.withdraw(
                recording, "nurse", by="participant", at_us=WALL_START, note="withdrawn", erase=True, sources=[source]
            )
        assert gone["microphone"] == [], "another source of hers stays"
        assert sorted(gone["camera"]) == ["camera-1.webm", "us-1.webm"], "with what was to go anyway"
        facts = (await archive.added(recording)).consents
        assert [(one.scope, one.given, one.subject, one.sources) for one in facts] == [
            ("recording", False, "nurse", ["microphone"]), ("recording", False, "nurse", ["camera"]),
        ]  # fmt: skip
        assert (await archive.verify(recording)).ok
        await archive.close()

    asyncio.run(work())


def test_an_erasure_that_was_interrupted_is_done_at_the_next_start(tmp_path: Path) -> None:
    async def work() -> None:
        archive = Archive(tmp_path)
        await archive.open()
        studio = await asyncio.to_thread(erasing, tmp_path)
        await archive.mark_withdrawn(studio.recording.id)
        await archive.close()
        again = Archive(tmp_path)
        await again.open(WALL_START)
        assert again.erased == [(studio.recording.id, ["us-1.webm"])]
        assert not (studio.path / "us-1.webm").exists()
        await again.close()

    asyncio.run(work())


@pytest.mark.usefixtures("kept")
def test_holds_that_cannot_be_trusted_stop_an_erasure(tmp_path: Path) -> None:
    """Who takes the hold's file away has not lifted it, neither for an erasure nor for one that was put off."""
    evidence = evidence_of(tmp_path, make_key())

    async def work() -> None:
        archive = Archive(tmp_path, evidence=evidence, storage=feed.storage_at(tmp_path))
        await archive.open()
        studio = await asyncio.to_thread(erasing, tmp_path, evidence)
        recording = studio.recording.id
        await archive.index(recording)
        await archive.place_hold(recording, reason="court", by="law", at_us=WALL_START)
        await archive.mark_withdrawn(recording)
        holds = studio.path / "holds.json"
        data = holds.read_bytes()
        holds.unlink()
        with pytest.raises(ValueError, match=r"can't be trusted: holds\.json is missing"):
            await archive.erase_withdrawn(recording, WALL_START)
        await archive.close()
        again = Archive(tmp_path, evidence=evidence, storage=feed.storage_at(tmp_path))
        await again.open(WALL_START)
        assert again.erased == []
        (failure,) = again.failures
        assert "could not be erased" in failure
        assert (studio.path / "us-1.webm").exists()
        holds.write_bytes(data)
        assert await again.lift_hold(recording, by="law", at_us=WALL_START) == 1
        assert not (studio.path / "us-1.webm").exists()
        assert (await again.verify(recording)).ok
        await again.close()

    asyncio.run(work())


def test_a_hold_that_a_command_lifts_beside_a_server_lets_go_at_the_next_start(tmp_path: Path) -> None:
    key = make_key()
    evidence = evidence_of(tmp_path, key)

    async def work() -> None:
        archive = Archive(tmp_path, evidence=evidence)
        await archive.open()
        studio = await asyncio.to_thread(erasing, tmp_path, evidence)
        recording = studio.recording.id
        await archive.index(recording)
        await archive.place_hold(recording, reason="court", by="law", at_us=WALL_START)
        await archive.mark_withdrawn(recording)
        command = Archive(tmp_path, evidence=evidence_of(tmp_path, key))
        await command.open_to_read()
        assert await command.lift_hold(recording, by="law", at_us=WALL_START) == 1
        await command.close()
        assert (studio.path / "us-1.webm").exists(), "only who has the register can vouch for it"
        await archive.close()
        again = Archive(tmp_path, evidence=evidence_of(tmp_path, key))
        await again.open(WALL_START)
        assert (again.failures, again.erased) == ([], [(recording, ["us-1.webm"])])
        assert (await again.verify(recording)).ok
        await again.close()

    asyncio.run(work())


def test_a_disposal_takes_what_a_withdrawal_has_left(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, make_key())
    policy = Policy((RetentionClass(name="standard", days=10),), default="standard")

    async def work() -> None:
        archive = Archive(tmp_path, evidence=evidence, retention=policy, wall_us=lambda: WALL_START)
        await archive.open()
        studio = await asyncio.to_thread(erasing, tmp_path, evidence)
        recording = studio.recording.id
        await archive.index(recording)
        await archive.mark_withdrawn(recording)
        assert await archive.erase_withdrawn(recording, WALL_START) == ["us-1.webm"]
        await archive.mark_withdrawn(recording)
        left = sum(path.stat().st_size for path in studio.path.glob("*.webm"))
        report = await archive.disposals.run(by="Eve", reason="over", now_us=WALL_START + 11 * DAY_US)
        assert [(case.state, case.files, case.bytes) for case in report.cases] == [("disposed", 2, left)]
        assert [path.name for path in studio.path.iterdir()] == ["disposed.json"]
        assert await archive.erase_withdrawn(recording, WALL_START) == [], "nothing is left to be erased"
        await archive.close()
        again = Archive(tmp_path, evidence=evidence, retention=policy)
        await again.open(WALL_START)
        assert (again.failures, again.erased) == ([], [])
        assert not list((tmp_path / ".withdrawn").iterdir())
        assert (await again.verify(recording)).ok
        await again.close()

    asyncio.run(work())


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "waiting"])
def test_what_is_withdrawn_goes_from_the_bucket_too(tmp_path: Path, bucket: S3Settings, sent: bool) -> None:
    """Whether its files were there already or still waited to be sent."""
    storage = Driven(tmp_path, bucket)
    evidence = evidence_of(tmp_path, make_key())
    assert evidence.register is not None
    evidence.register.open()
    studio = erasing(tmp_path, evidence, storage)
    name = studio.recording.id
    if sent:
        storage.settle()
    gone = f"{studio.path.relative_to(tmp_path).as_posix()}/us-1.webm"
    assert (storage.bucket.size(gone) is not None) == sent
    withdrawals = Withdrawals(storage, evidence, signed=True, distrust=lambda folder, entry: "")
    withdrawals.mark(name)
    assert withdrawals.carry_out(name, WALL_START) == ["us-1.webm"]
    assert withdrawals.marked() == []
    storage.closed(name)
    storage.settle()
    assert storage.bucket.size(gone) is None
    assert storage.bucket.size(gone.replace("us-1.webm", withdrawn.NAME)) is not None
    assert not list(studio.path.glob("*.webm")), "the bucket has the others"
    report = verify(studio.path, Checks(evidence.trusted, signed=True), storage)
    assert report.ok, report.problems
    assert report.files == 2
    evidence.shut()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.floats(0.01, 1.2), st.booleans()), min_size=1, max_size=6),
    st.booleans(),
)
@example([(0.015, True)], False)
@example([(1.0, False), (0.015, True), (0.03, False)], False)
def test_no_packet_from_without_consent_is_kept(steps: list[tuple[float, bool]], withheld: bool) -> None:
    """Packets that nobody can mux are kept as they came, each with its arrival: all lie within the consent."""
    with tempfile.TemporaryDirectory(dir=feed.MEMORY) as name:
        studio = Studio(Path(name), storage=Unsynced(Path(name)))
        room = Room(studio, video=False)
        spans: list[list[float]] = []
        gaps, emptied = int(withheld), 0.0
        if withheld:
            studio.recording.withhold_track(room.meta)
            room.run(0.1 * SECOND)
        room.agree()
        spans.append([studio.now, studio.now])
        for length, agrees in steps:
            room.run(studio.now + length * SECOND)
            if agrees and room.open is None:
                room.agree()
                spans.append([studio.now, studio.now])
            elif not agrees and room.open is not None:
                room.withdraw()
                spans[-1][1] = studio.now
                if studio.now >= emptied:  # else what was agreed to meanwhile has never begun
                    gaps, emptied = gaps + 1, studio.now + PLANE_US
        if room.open is not None:
            spans[-1][1] = studio.now + SECOND
        ended = studio.now
        kept = room.stop()
        count = 0
        for segment in kept.tracks[0].segments:
            data = (studio.path / segment.file).read_bytes()
            for packet in raw.read(data, 0, raw.started_us(data)):
                at = packet[1] - WALL_START
                assert any(begin <= at < end for begin, end in spans), (at, spans)
                count += 1
        if any(min(end, ended) - begin > 0.2 * SECOND for begin, end in spans):
            assert count, "what was agreed to is kept"
        assert [gap.cause for gap in kept.tracks[0].gaps].count("consent") == gaps
        assert not (studio.path / journal.NAME).exists()
