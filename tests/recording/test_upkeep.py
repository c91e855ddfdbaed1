"""The catalog follows the folders: rebuilt it is what it was, upgraded it has all that it had, and a database that goes
away loses nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, Table, create_engine, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from typer.testing import CliRunner

from mediaserver.recording import manifest, sidecars
from mediaserver.recording.archive import Archive, ArchiveUnusable
from mediaserver.recording.catalog import CatalogError, CatalogUnreachable, Query, schema
from mediaserver.recording.cli import app
from mediaserver.recording.sidecars import Identifiers
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.upkeep import Progress
from mediaserver.recording.verify import verify
from tests.postgres import Cluster
from tests.recording.test_catalog import START, recording
from tests.recording.test_search import numbers

MIGRATIONS = Path(sidecars.__file__).parent / "migrations"
ANNA = Identifiers(patient_id="MRN-1", patient_name="Anna", encounter="V1", accession="A1", modality="US")


def lay(root: Path, number: int) -> Path:
    """A recording's folder with its manifest, as a recorder leaves it."""
    made = recording(number, f"ward-{number % 3}", label=f"Label {number}")
    folder = LocalStorage(root).folder(made.id)
    folder.mkdir(parents=True)
    (folder / manifest.NAME).write_bytes(manifest.encode(made))
    return folder


def with_archive(root: Path, url: str, work: Callable[[Archive], Awaitable[None]]) -> None:
    async def run() -> None:
        archive = Archive(root, catalog=url)
        await archive.open()
        try:
            await work(archive)
        finally:
            await archive.close()

    asyncio.run(run())


async def dump(archive: Archive) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    rows = {}
    async with archive._catalog._engine.connect() as connection:
        for table in schema.meta.sorted_tables:
            found = await connection.execute(select(table))
            rows[table.name] = sorted(map(tuple, found), key=repr)
    return rows


async def add_everything(archive: Archive, one: str, other: str) -> None:
    await archive.set_identifiers(one, ANNA)
    await archive.set_identifiers(other, Identifiers(patient_id="MRN-2"))
    mark = await archive.add_bookmark(one, at_us=START + 5, by="Dr. A", now_us=START + 6, text="here")
    await archive.add_bookmark(one, at_us=START + 7, by="Dr. A", now_us=START + 8, track="1")
    await archive.remove_bookmark(one, mark.id)
    seen = ("ultrasound", "stethoscope")
    consent = {"scope": "teaching", "given": True, "subject": "patient", "by": "Dr. A"}
    await archive.add_consent(one, **consent, at_us=START + 9, sources=seen)  # type: ignore[arg-type]
    await archive.place_hold(one, reason="claim 7", by="lawyer", at_us=START + 10)
    await archive.place_hold(other, reason="claim 8", by="lawyer", at_us=START + 11)
    assert await archive.lift_hold(other, by="judge", at_us=START + 12) == 1
    assert await archive.lift_hold(other, by="judge", at_us=START + 13) == 0


def test_rebuilt_it_is_what_it_was(tmp_path: Path, catalog_url: str) -> None:
    folders = [lay(tmp_path, number) for number in range(7)]
    one, other = folders[2].name, folders[5].name
    before: dict[str, list[tuple[Any, ...]]] = {}

    async def fill(archive: Archive) -> None:
        await add_everything(archive, one, other)
        assert [found.id for found in (await archive.find(Query(on_hold=True))).recordings] == [one]
        before.update(await dump(archive))
        assert before["bookmarks"]
        assert "ultrasound stethoscope" in next(iter(before["consents"]))
        # What stands there now is wrong in every way: rows that nothing stands for, missing ones, altered ones.
        async with archive._catalog._engine.begin() as connection:
            await connection.execute(text("UPDATE recordings SET room = 'nowhere', held = NOT held"))
            await connection.execute(text("DELETE FROM tracks"))
            await connection.execute(text("DELETE FROM holds"))
            await connection.execute(text("UPDATE identifiers SET patient_id = 'somebody'"))
        await archive._catalog.put(recording(99))

    async def rebuild(archive: Archive) -> None:
        seen: list[Progress] = []
        for _ in range(2):
            assert await archive.rebuild(seen.append) == len(folders)
            assert await dump(archive) == before
        assert seen[-1] == Progress(len(folders), len(folders))
        assert all(verify(folder).problems[-1].name == "1-1.mp4" for folder in folders), "only the media are missing"

    with_archive(tmp_path, catalog_url, fill)
    with_archive(tmp_path, catalog_url, rebuild)


def test_an_interrupted_rebuild_goes_on(tmp_path: Path, catalog_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediaserver.recording.upkeep.BATCH", 2)
    folders = [lay(tmp_path, number) for number in range(7)]

    class Interrupted(Exception):
        pass

    def stop_at_four(progress: Progress) -> None:
        if progress.done >= 4:
            raise Interrupted

    async def work(archive: Archive) -> None:
        whole = await dump(archive)
        async with archive._catalog._engine.begin() as connection:
            await connection.execute(text("UPDATE recordings SET room = 'nowhere'"))
        with pytest.raises(Interrupted):
            await archive.rebuild(stop_at_four)
        rooms = [row[2] for row in (await dump(archive))["recordings"]]
        assert rooms.count("nowhere") == 3
        seen: list[Progress] = []
        assert await archive.rebuild(seen.append) == len(folders)
        assert [progress.done for progress in seen] == [4, 6, 7]
        assert await dump(archive) == whole

    with_archive(tmp_path, catalog_url, work)


def upgrade_to(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def old_rows(number: int) -> dict[str, dict[str, Any]]:
    """A recording as the first step's tables hold it."""
    made = recording(number, f"ward-{number % 3}", label=f"Label {number}")
    (track,), (person,) = made.tracks, made.participants
    (segment,), (gap,) = track.segments, track.gaps
    own = {"recording": made.id}

    def fields(struct: Any, *names: str) -> dict[str, Any]:
        return {name: getattr(struct, name) for name in names}

    sizes = ("file", "container", "codec", "width", "height", "bytes", "sha256", "first_us", "last_us")
    return {
        "recordings": fields(made, "id", "room", "state", "started_us", "ended_us", "digest") | {"words": "old words"},
        "participants": own | fields(person, "id", "name", "role", "joined_us"),
        "tracks": own | {"position": 0} | fields(track, "id", "source", "kind", "codec", "label", "participant"),
        "segments": own | {"track": "1", "position": 0} | fields(segment, *sizes),
        "gaps": own | {"track": "1", "position": 0} | fields(gap, "cause", "packets", "skipped", "from_us", "to_us"),
    }


def test_a_database_from_before_is_taken_over(tmp_path: Path, catalog_url: str) -> None:
    def make_old(connection: Connection) -> None:
        upgrade_to(connection, "0001")
        tables = MetaData()
        tables.reflect(connection)
        for number in range(3):
            for name, row in old_rows(number).items():
                connection.execute(Table(name, tables).insert().values(row))

    async def prepare() -> None:
        engine = create_async_engine(catalog_url)
        async with engine.begin() as connection:
            await connection.run_sync(make_old)
        await engine.dispose()

    async def without_folders(archive: Archive) -> None:
        page = await archive.find(Query())
        assert numbers([one.id for one in page.recordings]) == [2, 1, 0]
        (track,) = page.recordings[0].tracks
        assert (track.label, track.duration_ms, track.bytes, track.width, track.gaps, track.segments) == (
            "Label 2", 1000, 1000, 640, 1, 1,
        )  # fmt: skip
        assert (await archive.find(Query(room="ward-1"))).total in (0, 1)

    async def with_folders(archive: Archive) -> None:
        assert numbers([one.id for one in (await archive.find(Query(text="label", room="ward-1"))).recordings]) == [1]
        before = await dump(archive)
        await archive.rebuild()
        assert await dump(archive) == before

    asyncio.run(prepare())
    with_archive(tmp_path / "elsewhere", catalog_url, without_folders)
    for number in range(3):
        lay(tmp_path, number)
    with_archive(tmp_path, catalog_url, with_folders)


def test_identifiers_are_erased_everywhere(tmp_path: Path, catalog_url: str) -> None:
    folder = lay(tmp_path, 1)
    signed = (folder / manifest.NAME).read_bytes()

    async def work(archive: Archive) -> None:
        await archive.set_identifiers(folder.name, Identifiers(patient_id="MRN-77", patient_name="Anna Karenina"))
        assert json.loads((folder / "identifiers.json").read_bytes())["identifiers"]["patient_id"] == "MRN-77"
        assert (await archive.find(Query(text="karen"))).total == 1
        await archive.erase_identifiers(folder.name)
        for query in (Query(text="karen"), Query(patient_name="anna"), Query(patient_id="MRN-77")):
            assert (await archive.find(query)).total == 0
        assert "arenina" not in repr(await dump(archive)).lower()

    with_archive(tmp_path, catalog_url, work)
    assert [path.name for path in folder.iterdir()] == [manifest.NAME]
    assert (folder / manifest.NAME).read_bytes() == signed
    assert not any((tmp_path / ".behind").iterdir())


def test_a_hold_that_can_not_be_read_still_counts(tmp_path: Path) -> None:
    folder = lay(tmp_path, 1)
    (folder / "holds.json").write_text("{")
    (folder / "bookmarks.json").write_text('{"version": 2, "bookmarks": []}')

    async def work(archive: Archive) -> None:
        (found,) = (await archive.find(Query(on_hold=True))).recordings
        assert found.id == folder.name
        with pytest.raises(ValueError, match=r"holds\.json can't be read"):
            await archive.lift_hold(folder.name, by="x", at_us=1)
        with pytest.raises(ValueError, match="version 2"):
            await archive.add_bookmark(folder.name, at_us=1, by="x", now_us=1)

    with_archive(tmp_path, "", work)
    assert (folder / "holds.json").read_text() == "{"


def test_a_database_that_goes_away_loses_nothing(
    tmp_path: Path, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediaserver.recording.upkeep.RETRY_SECONDS", 0.1)
    url = postgres.database()
    first = lay(tmp_path, 1)
    told: list[str] = []

    async def work() -> None:
        back = asyncio.Event()

        def on_catalog(trouble: str) -> None:
            told.append(trouble)
            if not trouble:
                back.set()

        archive = Archive(tmp_path, catalog=url, on_catalog=on_catalog)
        await archive.open()
        assert (await archive.find(Query())).total == 1
        postgres.stop()
        with pytest.raises(CatalogUnreachable):
            await archive.find(Query())
        await archive.get(first.name)
        await archive.index(lay(tmp_path, 2).name)
        await archive.set_identifiers(first.name, ANNA)
        await archive.record_access(first.name, who="x", action="show", at_us=1)
        assert archive.catalog_trouble
        # A server that is started now does without it, and so does its next start.
        await archive.close()
        archive = Archive(tmp_path, catalog=url, on_catalog=on_catalog)
        await archive.open()
        assert archive.catalog_trouble
        await archive.index(lay(tmp_path, 3).name)
        postgres.start()
        await back.wait()
        assert numbers([one.id for one in (await archive.find(Query())).recordings]) == [3, 2, 1]
        assert numbers([one.id for one in (await archive.find(Query(patient_id="MRN-1"))).recordings]) == [1]
        assert not any((tmp_path / ".behind").iterdir())
        before = await dump(archive)
        await archive.rebuild()
        assert await dump(archive) == before
        await archive.close()

    asyncio.run(work())
    assert [bool(trouble) for trouble in told] == [True, True, False]


def test_urls_that_can_not_be_used_are_told(tmp_path: Path, postgres: Cluster) -> None:
    for url in ("nonsense", "mysql://x/y", "postgresql+psycopg://x/y"):
        with pytest.raises(CatalogError):
            Archive(tmp_path, catalog=url)

    async def newer() -> None:
        archive = Archive(tmp_path, catalog=postgres.database())
        await archive.open()
        async with archive._catalog._engine.begin() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        await archive.close()
        with pytest.raises(ArchiveUnusable, match="its schema is not one of this version"):
            await Archive(tmp_path, catalog=str(archive._catalog._engine.url)).open()

    asyncio.run(newer())
    secret = Archive(tmp_path, catalog="postgresql://me:secret@localhost/x")
    assert "secret" not in secret._catalog.address


def test_what_was_erased_is_overwritten(tmp_path: Path) -> None:
    folder = lay(tmp_path, 1)

    async def work(archive: Archive) -> None:
        await archive.set_identifiers(folder.name, Identifiers(patient_name="Xanthippe"))
        await archive.erase_identifiers(folder.name)
        await archive.rebuild()

    with_archive(tmp_path, "", work)
    database = tmp_path / "catalog.sqlite"
    with create_engine(f"sqlite:///{database}").connect() as connection:
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    assert b"anthippe" not in database.read_bytes()


def test_commands(tmp_path: Path) -> None:
    names = [lay(tmp_path / "archive", number).name for number in range(3)]

    def call(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["--data", str(tmp_path), *arguments])
        assert result.exit_code == code, result.output
        return result.output

    def found(*arguments: str) -> list[int]:
        return numbers([one["id"] for one in json.loads(call("list", "--json", *arguments))["recordings"]])

    call(
        "identify",
        names[1],
        "--patient-id",
        "MRN-1",
        "--patient-name",
        "Anna",
        "--accession",
        "A1",
        "--encounter",
        "V1",
    )
    call("identify", names[1], "--modality", "US")
    assert json.loads(call("identify", names[1]))["modality"] == "US"
    for arguments in (["--patient", "MRN-1"], ["--name", "an"], ["--accession", "A1"], ["--encounter", "V1"]):
        assert found(*arguments) == [1]
    assert found("--patient", "MRN-2") == []
    assert found("--from", "2026-09-21T15:00:00Z", "--to", "2026-09-21T15:30:00Z") == [1]
    assert found("--from", "2026-09-21", "--to", "2026-09-21") == [2, 1, 0]
    assert "MRN-1" in call("list")
    call("hold", names[2], "--reason", "claim", "--by", "lawyer")
    assert found("--held") == [2]
    assert "held" in call("list")
    assert call("release", names[2], "--by", "judge") == "1 holds lifted\n"
    (hold,) = sidecars.load(LocalStorage(tmp_path / "archive").folder(names[2])).holds
    assert (hold.reason, hold.by, hold.lifted_by) == ("claim", "lawyer", "judge")
    call("identify", names[1], "--erase")
    assert found("--patient", "MRN-1") == []
    page = call("list", "--limit", "2")
    assert "There are more: go on with --cursor " in page
    assert found("--cursor", page.split()[-1]) == [0]
    assert call("rebuild") == "3 recordings\n"
    call("list", "--from", "yesterday", code=2)
    call("list", "--cursor", "x", code=2)
    call("hold", "no-such", "--reason", "x", code=2)
    call("identify", names[0], "--patient-id", "x" * 300, code=2)
    call("--catalog", "mysql://x/y", "list", code=2)
