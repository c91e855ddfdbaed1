"""What is over its time goes, nothing else does, and what has gone can be explained, whenever the process dies."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from mediaserver import archive_command
from mediaserver.recording import manifest, register, sidecars
from mediaserver.recording.archive import Archive, Disposed, Held
from mediaserver.recording.catalog import Query
from mediaserver.recording.disposal import Case, DisposalReport
from mediaserver.recording.evidence import Evidence
from mediaserver.recording.keys import TrustedKeys, make_key
from mediaserver.recording.retention import DAY_US, Policy, RetentionClass, RetentionRule
from mediaserver.recording.settings import DICOM_OUTBOX
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.storage.keys import DISPOSED
from mediaserver.recording.storage.s3 import S3Settings
from tests.recording import feed
from tests.recording.bucketed import Driven
from tests.recording.conftest import StorageAt
from tests.recording.test_evidence import evidence_of

POLICY = Policy(
    classes=(
        RetentionClass(name="standard", days=10),
        RetentionClass(name="teaching", days=100, at_end="review"),
        RetentionClass(name="short", days=1),
    ),
    rules=(RetentionRule(into="teaching", room="teach-*"), RetentionRule(into="short", source="screen")),
    default="standard",
)
LATER = feed.WALL_START + 11 * DAY_US
SECONDS = 120

Work = Callable[["Kept"], Awaitable[None]]


class Kept:
    """An archive with a signed register, and what was recorded into it."""

    def __init__(self, root: Path, storage: LocalStorage, policy: Policy = POLICY, url: str = "") -> None:
        self.root = root
        self.storage = storage
        self.key = make_key()
        self.policy = policy
        self.url = url
        self.told: list[tuple[str, dict[str, str]]] = []

    def run(self, work: Work) -> None:
        async def main() -> None:
            self.evidence = evidence_of(self.root, self.key)
            self.evidence.register = register.Register(self.storage, self.key, lambda: feed.WALL_START)
            self.archive = Archive(
                self.root,
                evidence=self.evidence,
                storage=self.storage,
                catalog=self.url,
                retention=self.policy,
                wall_us=lambda: feed.WALL_START,
            )
            await self.archive.open()
            try:
                await work(self)
            finally:
                await self.archive.close()

        asyncio.run(main())

    async def record(self, room: str = "room-1", source: str = "camera") -> str:
        def make() -> str:
            studio = feed.Studio(self.root, self.storage, evidence=self.evidence, room=room)
            studio.track(source)
            source_of = feed.Source(feed.Codec.CODEC_VP8, feed.video(feed.Codec.CODEC_VP8, 15))
            studio.feed(source, feed.deliver([source_of]))
            studio.run()
            studio.stop()
            self.storage.closed(studio.recording.id)
            return studio.recording.id

        name = await asyncio.to_thread(make)
        await self.archive.index(name)
        self.settle()
        return name

    def settle(self) -> None:
        if isinstance(self.storage, Driven):
            self.storage.settle()

    async def dispose(self, *only: str, now_us: int = LATER, dry_run: bool = False) -> DisposalReport:
        return await self.archive.disposals.run(
            by="Eve",
            reason="its time is over",
            now_us=now_us,
            only=only,
            dry_run=dry_run,
            tell=lambda name, facts: self.told.append((name, dict(facts))),
        )

    async def found(self, **query: Any) -> list[str]:
        return [one.id for one in (await self.archive.find(Query(**query))).recordings]

    async def gone(self, name: str) -> None:
        """Nothing of it is left but the decision, and everybody can say so."""
        assert [path.name for path in self.storage.folder(name).iterdir()] == [DISPOSED]
        if isinstance(self.storage, Driven):
            self.storage.settle()
            assert [one for one in self.storage.bucket.names() if name in one] == []
        report = await self.archive.verify(name)
        assert report.ok, report.problems
        assert "by Eve: its time is over" in report.notes[0]
        assert (await self.archive.verify_register()).ok
        with pytest.raises(Disposed, match="by Eve: its time is over"):
            await self.archive.get(name)
        assert name not in await self.found()


def one(report: DisposalReport) -> Case:
    (case,) = report.cases
    return case


def test_a_policy_chooses() -> None:
    assert POLICY.choose("teach-1", {"screen"}) == "teaching"
    assert POLICY.choose("r", {"camera", "screen"}) == "short"
    assert POLICY.choose("r", {"camera"}) == "standard"
    assert Policy().choose("r", {"camera"}) == ""
    with pytest.raises(ValueError, match='no retention class "long"; there are: standard, teaching, short'):
        POLICY.need("long")
    for wrong, said in (
        (Policy(default="x"), 'no retention class "x"'),
        (Policy(classes=POLICY.classes * 2), "two retention classes"),
        (Policy(rules=POLICY.rules), "there are: none"),
    ):
        with pytest.raises(ValueError, match=said):
            wrong.check()
    with pytest.raises(ValueError, match="no name"):
        RetentionClass(name="a b", days=1)


def test_what_is_over_its_time_goes_and_can_be_explained(tmp_path: Path, storage_at: StorageAt) -> None:
    async def work(kept: Kept) -> None:
        goes, stays, screen = await kept.record(), await kept.record("teach-2"), await kept.record(source="screen")
        classes = {view.name: view.recordings for view in await kept.archive.disposals.classes()}
        assert classes == {"standard": 1, "teaching": 1, "short": 1}
        assert await kept.found(retention="short") == [screen]
        assert await kept.archive.disposals.due(feed.WALL_START) == []
        early = await kept.dispose(now_us=feed.WALL_START + 2 * DAY_US, dry_run=True)
        assert (one(early).recording, one(early).state, early.counts) == (screen, "due", {"due": 1})
        assert set(await kept.found()) == {goes, stays, screen}, "a dry run changes nothing"
        assert kept.told == []
        report = await kept.dispose()
        assert {case.recording: case.state for case in report.cases} == {goes: "disposed", screen: "disposed"}
        assert {name for name, _ in kept.told} == {goes, screen}
        for name in (goes, screen):
            await kept.gone(name)
        assert await kept.found() == [stays]
        assert (await kept.dispose()).cases == []
        assert await kept.archive.rebuild() == 1
        assert await kept.found() == [stays]

    Kept(tmp_path, storage_at(tmp_path)).run(work)


def test_both_catalogs_say_what_is_due(tmp_path: Path, catalog_url: str) -> None:
    kept = Kept(tmp_path, LocalStorage(tmp_path), Policy(), catalog_url)
    names: list[str] = []

    async def before(kept: Kept) -> None:
        names.append(await kept.record())
        assert await kept.archive.disposals.due(LATER) == []

    async def after(kept: Kept) -> None:
        (old,) = names
        new = await kept.record("teach-2")
        case = one(await kept.dispose(dry_run=True))
        assert (case.recording, case.retention) == (old, "standard"), "given none, it is the policy that counts"
        was = await kept.archive.set_retention(new, into="short", by="Eve", reason="asked for", at_us=1)
        assert was == "teaching"
        assert await kept.found(retention="short") == [new]
        due = await kept.archive.disposals.due(LATER)
        assert {case.recording: case.retention for case in due} == {old: "standard", new: "short"}
        with pytest.raises(ValueError, match="no retention class"):
            await kept.archive.set_retention(new, into="long", by="Eve", reason="x", at_us=1)
        await kept.dispose()
        assert await kept.found() == []

    kept.run(before)
    kept.policy = POLICY
    kept.run(after)


def test_what_keeps_it(tmp_path: Path) -> None:
    root = tmp_path / "archive"

    async def work(kept: Kept) -> None:
        name = await kept.record()
        await kept.archive.place_hold(name, reason="a lawsuit", by="Dr. Law", at_us=feed.WALL_START)
        held = one(await kept.dispose())
        assert (held.state, held.reason) == ("kept", "held by Dr. Law since 2026-09-21: a lawsuit")
        assert one(await kept.dispose(name)).state == "kept", "named or not"
        with pytest.raises(Held, match=r"Dr\. Law: a lawsuit"):
            await kept.archive.erase(name, "the patient has asked for it", 1)
        genuine = (kept.storage.folder(name) / "holds.json").read_bytes()
        (kept.storage.folder(name) / "holds.json").write_bytes(b"{")
        assert "can't be trusted: holds.json is altered" in one(await kept.dispose()).reason
        (kept.storage.folder(name) / "holds.json").write_bytes(genuine)
        await kept.archive.lift_hold(name, by="Dr. Law", at_us=feed.WALL_START)
        async with kept.archive.export(name, "mkv"):
            assert one(await kept.dispose()).reason == "in use: it is being exported"
        outbox = kept.root.parent / DICOM_OUTBOX / name
        outbox.mkdir(parents=True)
        assert "DICOM objects of it wait" in one(await kept.dispose()).reason
        outbox.rmdir()
        assert "not due before 2026-10-01" in one(await kept.dispose(name, now_us=feed.WALL_START)).reason
        assert one(await kept.dispose("20260921-000000-none")).state == "failed"
        await kept.archive.set_retention(name, into="teaching", by="Eve", reason="a rare case", at_us=1)
        later = feed.WALL_START + 101 * DAY_US
        assert one(await kept.dispose(now_us=later)).state == "review"
        assert one(await kept.dispose(name, now_us=later)).state == "disposed"
        await kept.gone(name)

    Kept(root, LocalStorage(root)).run(work)


def test_a_lock_of_the_bucket_is_kept_and_told(tmp_path: Path, bucket: S3Settings) -> None:
    locked = msgspec.structs.replace(bucket, retention_days=10_000)

    async def work(kept: Kept) -> None:
        name = await kept.record()
        case = one(await kept.dispose())
        assert case.state == "kept"
        assert "the bucket keeps it until" in case.reason
        assert "governance retention" in case.reason
        assert (kept.storage.folder(name) / manifest.NAME).exists()

    Kept(tmp_path, Driven(tmp_path, locked)).run(work)


def test_a_legal_hold_of_the_bucket_is_kept_until_it_is_off(tmp_path: Path, bucket: S3Settings) -> None:
    async def work(kept: Kept) -> None:
        name = await kept.record()
        storage = kept.storage
        assert isinstance(storage, Driven)
        assert "the bucket has a legal hold on" in one(await kept.dispose()).reason
        below = storage.bucket.key(storage._object(storage.folder(name), ""))

        async def off(client: Any) -> None:
            page = await client.list_object_versions(Bucket=bucket.bucket, Prefix=below)
            for version in page["Versions"]:
                target = {key: version[key] for key in ("Key", "VersionId")}
                await client.put_object_legal_hold(Bucket=bucket.bucket, **target, LegalHold={"Status": "OFF"})

        await asyncio.to_thread(storage._locks._call, off)
        assert one(await kept.dispose()).state == "disposed"
        await kept.gone(name)

    held = msgspec.structs.replace(bucket, legal_hold=True)
    Kept(tmp_path, Driven(tmp_path, held)).run(work)


def test_a_bucket_that_does_not_answer(tmp_path: Path, bucket: S3Settings) -> None:
    """Before: nothing happens. In the middle: it is told, and goes on."""

    async def work(kept: Kept) -> None:
        name = await kept.record()
        storage = kept.storage
        assert isinstance(storage, Driven)
        good = storage._locks
        away = msgspec.structs.replace(bucket, endpoint="http://127.0.0.1:9")
        storage._locks = Driven(tmp_path / "other", away)._locks
        assert one(await kept.dispose()).state == "failed"
        assert not (storage.folder(name) / DISPOSED).exists()

        class HalfWay:
            kept_by = staticmethod(good.kept_by)
            delete_all = staticmethod(storage._locks.delete_all)

        bad, storage._locks = storage._locks, HalfWay()  # type: ignore[assignment]
        assert one(await kept.dispose()).state == "failed"
        report = await kept.archive.verify(name)
        assert [problem.kind for problem in report.problems] == ["open"]
        with pytest.raises(LookupError, match="disposed of"):
            await kept.archive.place_hold(name, reason="too late", by="Eve", at_us=1)
        storage.sweep()
        storage._locks = bad
        storage.drain()  # nothing of it is sent any more
        storage._locks = good
        await kept.dispose()
        await kept.gone(name)

    Kept(tmp_path, Driven(tmp_path, bucket)).run(work)


def test_a_decision_that_nobody_made_is_none(tmp_path: Path) -> None:
    kept = Kept(tmp_path, LocalStorage(tmp_path))
    names: list[str] = []

    async def fill(kept: Kept) -> None:
        names.extend([await kept.record(), await kept.record()])
        await kept.dispose(names[0])
        decision = (kept.storage.folder(names[0]) / DISPOSED).read_bytes()
        (kept.storage.folder(names[1]) / DISPOSED).write_bytes(decision.replace(names[0].encode(), names[1].encode()))
        await asyncio.to_thread(kept.archive._upkeep.mark, names[1])

    async def look(kept: Kept) -> None:
        assert ["no trusted key has signed" in failure for failure in kept.archive.failures] == [True]
        assert (kept.storage.folder(names[1]) / manifest.NAME).exists()
        kinds = {problem.kind for problem in (await kept.archive.verify(names[1])).problems}
        assert "altered" in kinds
        decision = kept.storage.folder(names[0]) / DISPOSED
        decision.unlink()
        assert (await kept.archive.verify_register()).ok, "the register explains it alone"
        stranger = msgspec.json.encode({"version": 1})
        decision.write_bytes(stranger)
        assert not (await kept.archive.verify(names[0])).ok

    kept.run(fill)
    kept.run(look)


def killed(tmp_path: Path, kind: str, action: str) -> Iterator[tuple[Kept, str]]:
    """Archives with a recording, in which a process was killed before its first change of the disk, its second, and so
    on, until it was not killed any more."""
    masters = feed.MASTERS if kind == "encrypted" else None
    pristine = tmp_path / "0"
    kept = Kept(pristine, LocalStorage(pristine, masters))
    names: list[str] = []

    async def fill(kept: Kept) -> None:
        names.append(await kept.record())

    kept.run(fill)
    key = tmp_path / "key"
    key.write_bytes(kept.key.pem())
    command = [sys.executable, "-m", "tests.recording.disposer", str(tmp_path), str(key), names[0], kind, action]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout.splitlines()[-1])
    assert len(runs) > 10
    assert runs[-1] == 0, "at last nothing killed it"
    for number in range(1, len(runs) + 1):
        root = tmp_path / str(number)
        again = Kept(root, LocalStorage(root, masters))
        again.key = kept.key
        yield again, names[0]


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_killed_at_every_step_it_is_untouched_or_gone(tmp_path: Path, kind: str) -> None:
    for kept, name in killed(tmp_path, kind, "dispose"):

        async def look(kept: Kept, name: str = name) -> None:
            assert (await kept.archive.verify_register()).ok
            if (kept.storage.folder(name) / manifest.NAME).exists():
                report = await kept.archive.verify(name)
                assert report.ok, report
                assert await kept.found() == [name]
                assert one(await kept.dispose()).state == "disposed"
            await kept.gone(name)

        kept.run(look)


def test_killed_at_every_step_a_hold_stands_or_not(tmp_path: Path) -> None:
    stood = []
    for kept, name in killed(tmp_path, "plain", "hold"):

        async def look(kept: Kept, name: str = name) -> None:
            report = await kept.archive.verify(name)
            assert report.ok, report
            held = (await kept.archive.added(name)).held
            stood.append(held)
            assert await kept.found(on_hold=True) == ([name] if held else [])
            assert one(await kept.dispose()).state == ("kept" if held else "disposed")

        kept.run(look)
    assert stood == sorted(stood)
    assert not stood[0]
    assert stood[-1]


def spoil_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda folder, old: spoil_byte(folder / "holds.json"), ("altered", "holds.json")),
        (lambda folder, old: spoil_byte(folder / "identifiers.json"), ("altered", "identifiers.json")),
        (lambda folder, old: spoil_byte(folder / "bookmarks.json"), ("altered", "bookmarks.json")),
        (lambda folder, old: spoil_byte(folder / "retention.json"), ("altered", "retention.json")),
        (lambda folder, old: spoil_byte(folder / "additions.json"), ("altered", "additions.json")),
        (lambda folder, old: (folder / "holds.json").unlink(), ("missing", "holds.json")),
        (lambda folder, old: (folder / "additions.json").unlink(), ("missing", "additions.json")),
        (lambda folder, old: (folder / "consents.json").write_bytes(b"{}"), ("added", "consents.json")),
        (lambda folder, old: shutil.copytree(old, folder, dirs_exist_ok=True), ("altered", "additions.json")),
    ],
)
def test_an_edit_of_what_people_added_is_named_and_changes_nothing(
    tmp_path: Path, spoil: Callable[[Path, Path], None], named: tuple[str, str]
) -> None:
    async def work(kept: Kept) -> None:
        name = await kept.record()
        archive, folder = kept.archive, kept.storage.folder(name)
        hold = await archive.place_hold(name, reason="a lawsuit", by="Eve", at_us=1)
        await archive.set_identifiers(name, sidecars.Identifiers(patient_id="MRN-1"))
        await archive.add_bookmark(name, at_us=1, by="Eve", now_us=1, text="here")
        old = tmp_path / "old"
        await archive.lift_hold(name, by="Eve", at_us=2, hold=hold.id)
        shutil.copytree(folder, old)  # as it was while no hold stood
        await archive.place_hold(name, reason="another lawsuit", by="Eve", at_us=3)
        report = await archive.verify(name)
        assert report.ok, report
        spoil(folder, old)
        report = await archive.verify(name)
        assert named in {(problem.kind, problem.name) for problem in report.problems}, report
        assert one(await kept.dispose()).state == "kept"
        with pytest.raises(Held):
            await archive.erase(name, "the patient has asked for it", 1)
        if named in (("altered", "holds.json"), ("missing", "holds.json")):
            with pytest.raises(ValueError, match=r"holds\.json"):
                await archive.lift_hold(name, by="Eve", at_us=4)

    Kept(tmp_path / "archive", LocalStorage(tmp_path / "archive")).run(work)


def test_what_a_command_changes_beside_a_server_is_registered_later(tmp_path: Path) -> None:
    kept = Kept(tmp_path, LocalStorage(tmp_path))

    async def beside(kept: Kept) -> None:
        name = await kept.record()
        trusted = TrustedKeys([kept.key.public])
        closed = register.Register(kept.storage, kept.key, lambda: 1)
        other = Archive(tmp_path, evidence=Evidence(trusted, kept.key, closed, lambda: 1), storage=kept.storage)
        await other.open_to_read()
        await other.place_hold(name, reason="a lawsuit", by="Eve", at_us=1)
        await other.close()
        keyless = Archive(tmp_path, evidence=Evidence(trusted), storage=kept.storage)
        await keyless.open_to_read()
        with pytest.raises(ValueError, match="the key that signs is not here"):
            await keyless.place_hold(name, reason="a lawsuit", by="Eve", at_us=1)
        with pytest.raises(ValueError, match="the key that signs is not here"):
            await keyless.erase_identifiers(name)
        await keyless.close()
        assert (await kept.archive.verify(name)).ok
        assert "held by Eve" in one(await kept.dispose()).reason

    async def after(kept: Kept) -> None:
        (name,) = await kept.found()
        entry = kept.evidence.entry(name)
        assert entry is not None
        assert entry.additions is not None
        assert entry.additions[0] == 2, "the class, then the hold"
        assert (await kept.archive.verify(name)).ok

    kept.run(beside)
    kept.run(after)


def test_by_command(tmp_path: Path) -> None:
    root = tmp_path / "data" / "archive"
    config = tmp_path / "mediaserver.toml"
    config.write_text(
        f'[data]\ndir = "{tmp_path / "data"}"\n[retention]\ndefault = "standard"\n'
        '[[retention.classes]]\nname = "standard"\ndays = 0\n[[retention.classes]]\nname = "long"\ndays = 70000\n'
    )
    kept = Kept(
        root, LocalStorage(root), Policy(classes=(RetentionClass(name="standard", days=0),), default="standard")
    )
    names: list[str] = []

    async def fill(kept: Kept) -> None:
        names.extend([await kept.record() for _ in range(3)])

    kept.run(fill)
    (tmp_path / "data" / "keys").mkdir()
    (tmp_path / "data" / "keys" / "signing.key").write_bytes(kept.key.pem())
    TrustedKeys([kept.key.public]).save(tmp_path / "data" / "keys")

    def called(*arguments: str, status: int = 0) -> str:
        done = CliRunner().invoke(archive_command.app, ["--config", str(config), *arguments])
        assert done.exit_code == status, done.output
        return done.output

    goes, long, held = names
    assert "before: standard" in called("retain", long, "--class", "long", "--reason", "a rare case", "--by", "Eve")
    assert "no retention class" in called("retain", long, "--class", "x", "--reason", "y", status=2)
    called("hold", held, "--reason", "a lawsuit", "--by", "Dr. Law")
    shown = called("retention")
    assert goes in shown
    assert long not in shown
    dry = json.loads(called("dispose", "--dry-run", "--json"))
    assert dry["counts"] == {"due": 1, "kept": 1}
    assert "held by Dr. Law" in called("dispose", "--dry-run")
    done = json.loads(called("dispose", "--by", "Eve", "--reason", "its time is over", "--json"))
    assert {case["recording"]: case["state"] for case in done["cases"]} == {goes: "disposed", held: "kept"}
    assert "by Eve: its time is over" in called("verify", goes)
    assert "disposed of" in called("show", goes, status=2)
    assert "genuine" in called("verify", "--all")
    trail = called("audit", "--json")
    assert '"event":"archive-delete"' in trail
    assert '"event":"archive-retention"' in trail
    assert '"by":"Eve"' in trail
