"""The catalog: what is put in is found, and the schema is what the steps make."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from mediaserver.recording.catalog import Catalog, Query, schema
from mediaserver.recording.manifest import Gap, Manifest, Participant, Segment, Track, seal
from mediaserver.recording.views import view

HOUR = 3_600_000_000
START = 1_790_000_000_000_000


def recording(number: int, room: str = "room", source: str = "camera", label: str = "Room camera") -> Manifest:
    begin = START + number * HOUR
    segment = Segment(
        file="1-1.mp4", container="mp4", codec="H264", clock_rate=90_000, ssrc=1, width=640, height=480, reason="start",
        bytes=1000, sha256="0" * 64, first_rtp=0, last_rtp=90_000, first_us=begin + 500_000, last_us=begin + 1_500_000,
        units=30, keyframes=1, mapping=[],
    )  # fmt: skip
    gap = Gap("lost", 1, 5, 6, 2, 0, begin, begin + 10)
    track = Track("1", source, "video", "H264", label, "p1", [segment], [gap])
    return seal(
        Manifest(
            version=1, software="mediaserver", id=f"20260921-{number:06}-00000000", room=room, state="complete",
            started_us=begin, ended_us=begin + 2_000_000, participants=[Participant("p1", "Ada Ö", "doctor", begin)],
            tracks=[track], notes=[],
        )
    )  # fmt: skip


def with_catalog(url: str, work: Callable[[Catalog], Awaitable[None]]) -> None:
    async def run() -> None:
        found = Catalog(url)
        await found.open()
        try:
            await work(found)
        finally:
            await found.close()

    asyncio.run(run())


def test_lists_the_newest_first_in_pages(catalog_url: str) -> None:
    async def work(found: Catalog) -> None:
        for number in range(7):
            await found.put(recording(number))
        page = await found.find(Query(limit=3, offset=2))
        assert page.total == 7
        assert [r.id for r in page.recordings] == [recording(n).id for n in (4, 3, 2)]
        assert page.recordings[0] == view(recording(4))

    with_catalog(catalog_url, work)


def test_finds_by_everything(catalog_url: str) -> None:
    async def ids(found: Catalog, **query: object) -> list[int]:
        page = await found.find(Query(**query))  # type: ignore[arg-type]
        assert page.total == len(page.recordings)
        return sorted(int(r.id.split("-")[1]) for r in page.recordings)

    async def work(found: Catalog) -> None:
        await found.put(recording(0, "cardio"))
        await found.put(recording(1, "cardio", "ultrasound", "Heart 100%"))
        await found.put(recording(2, "derma", "dermatoscope", "Left_arm"))
        assert await ids(found, room="cardio") == [0, 1]
        assert await ids(found, source="ultrasound") == [1]
        assert await ids(found, rooms=["derma", "x"]) == [2]
        assert await ids(found, rooms=[]) == []
        assert await ids(found, from_us=START + HOUR) == [1, 2]
        assert await ids(found, from_us=START + HOUR + 1_000_000, to_us=START + HOUR + 1_500_000) == [1]
        assert await ids(found, to_us=START + HOUR) == [0, 1]
        assert await ids(found, text="heart CARDIO") == [1]
        assert await ids(found, text="100%") == [1]
        assert await ids(found, text="left_arm") == [2]
        assert await ids(found, text="leftxarm") == []
        assert await ids(found, text="ada ö") == [0, 1, 2]
        assert await ids(found, text="000002") == [2]

    with_catalog(catalog_url, work)


def test_putting_again_replaces(catalog_url: str) -> None:
    async def work(found: Catalog) -> None:
        await found.put(recording(1))
        await found.put(recording(1, room="other"))
        page = await found.find(Query())
        assert [r.room for r in page.recordings] == ["other"]
        assert await found.room(recording(1).id) == "other"
        assert await found.known("20260921") == {recording(1).id}
        await found.remove(recording(1).id)
        assert (await found.find(Query())).total == 0

    with_catalog(catalog_url, work)


def test_the_steps_make_the_schema(catalog_url: str) -> None:
    async def work(found: Catalog) -> None:
        async with found._engine.connect() as connection:
            difference = await connection.run_sync(
                lambda sync: compare_metadata(MigrationContext.configure(sync), schema.meta)
            )
        if catalog_url.startswith("sqlite"):
            # Its index of terms is a table with others behind it.
            others = ("found", "found_config", "found_data", "found_idx", "recordings_terms")
            difference = [step for step in difference if step[1].name not in others]
        assert difference == []

    with_catalog(catalog_url, work)
    with_catalog(catalog_url, work)
