"""What is asked of the catalog is answered alike by both databases, and by what goes on and is not in them yet."""

from __future__ import annotations

import asyncio
import re
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.recording.archive import Archive
from mediaserver.recording.catalog import BadCursor, Catalog, Entry, Query, Veil, patterns, terms
from mediaserver.recording.catalog.query import matches
from mediaserver.recording.catalog.search import COUNTED
from mediaserver.recording.sidecars import Hold, Identifiers, Sidecars
from tests.recording.test_catalog import HOUR, START, recording, with_catalog

HELD = Sidecars(holds=[Hold(id="1", reason="claim", by="archivist", placed_us=START)])
RELEASED = Sidecars(holds=[Hold(id="1", reason="claim", by="a", placed_us=START, lifted_by="b", lifted_us=START + 1)])


def of_patient(**known: str) -> Sidecars:
    return Sidecars(identifiers=Identifiers(**known))


ENTRIES = [
    Entry(recording(0, "ward-1"), of_patient(patient_id="MRN-1", patient_name="Łukasz Żółć", accession="A.7")),
    Entry(recording(1, "ward-1", "ultrasound"), of_patient(patient_id="mrn 1", patient_name="Ёлкина Анна")),
    Entry(recording(2, "Ward-1"), of_patient(patient_id="MRN-10", encounter="V/55", study_description="Lung")),
    Entry(recording(3, "ward 1", label="Köln 4711"), HELD),
    Entry(recording(4, "ward-2", label="x" * 50), RELEASED),
    Entry(recording(5, "ward-2", label="'; DROP TABLE recordings; -- \" * ( ) : & | ! NOT")),
]
QUESTIONS: list[tuple[Query, list[int]]] = [
    (Query(), [5, 4, 3, 2, 1, 0]),
    (Query(room="ward-1"), [1, 0]),
    (Query(room="Ward-1"), [2]),
    (Query(rooms=["ward-2", "ward 1"]), [5, 4, 3]),
    (Query(rooms=[]), []),
    (Query(room="ward-1", rooms=["ward-2"]), []),
    (Query(patient_id="MRN-1"), [0]),
    (Query(patient_id="mrn 1"), [1]),
    (Query(patient_id="MRN"), []),
    (Query(patient_name="zolc"), []),  # ł and ż differ: the one has no accent that could be left out
    (Query(patient_name="Zoł luk"), []),
    (Query(patient_name="żó łu"), [0]),
    (Query(patient_name="елк"), [1]),
    (Query(patient_name="ЁЛКИНА анна"), [1]),
    (Query(patient_name="kina"), []),
    (Query(encounter="V/55"), [2]),
    (Query(encounter="v/55"), []),
    (Query(accession="A.7"), [0]),
    (Query(accession="A7"), []),
    (Query(participant="ad"), [5, 4, 3, 2, 1, 0]),
    (Query(participant="ada o"), [5, 4, 3, 2, 1, 0]),
    (Query(participant="room"), []),
    (Query(veil=Veil(["ward-[1]"]), room="ward-1"), [1, 0]),
    (Query(veil=Veil(["ward-[1]"]), text="ward"), [5, 4, 3, 2]),
    (Query(veil=Veil(["ward-[1]"], "ward-1"), text="ward"), [5, 4, 3, 2, 1, 0]),
    (Query(veil=Veil(["[!x]ard?2", "[W-W]*"]), participant="ada"), [3, 1, 0]),
    (Query(veil=Veil(["ward-*"]), patient_id="MRN-1"), []),
    (Query(veil=Veil(["ward-*"]), patient_name="żó łu"), []),
    (Query(veil=Veil(["Ward-*"]), encounter="V/55"), []),
    (Query(veil=Veil(["ward-*"]), accession="A.7"), []),
    (Query(veil=Veil(["ward-*", "Ward-*"]), text="lung", source="camera"), []),
    (Query(veil=Veil(["*"]), source="ultrasound", has_gaps=True), [1]),
    (Query(source="ultrasound"), [1]),
    (Query(source="ultra"), []),
    (Query(state="complete", source="camera"), [5, 4, 3, 2, 0]),
    (Query(state="recovered"), []),
    (Query(has_gaps=True), [5, 4, 3, 2, 1, 0]),
    (Query(has_gaps=False), []),
    (Query(on_hold=True), [3]),
    (Query(on_hold=False), [5, 4, 2, 1, 0]),
    (Query(text="mrn"), [2, 1, 0]),
    (Query(text="mrn 1"), [2, 1, 0]),
    (Query(text="mrn-10"), [2]),
    (Query(text="KOLN 47"), [3]),
    (Query(text="köln 471"), [3]),
    (Query(text="köln 4712"), []),
    (Query(text="lung v 55"), [2]),
    (Query(text="x" * 31), [4]),
    (Query(text="x" * 60), [4]),
    (Query(text="'; drop table"), [5]),
    (Query(text='" OR 1=1'), []),
    (Query(text="not *"), [5]),
    (Query(text="%"), [5, 4, 3, 2, 1, 0]),
    (Query(text="·"), [5, 4, 3, 2, 1, 0]),
    (Query(text="v·complete"), []),
    (Query(from_us=START + 2 * HOUR, to_us=START + 3 * HOUR), [3, 2]),
    (Query(from_us=START + 2 * HOUR + 2_000_000, to_us=START + 3 * HOUR - 1), [2]),
    (Query(from_us=START + 2 * HOUR + 2_000_001, to_us=START + 3 * HOUR - 1), []),
    (Query(text="camera", rooms=["ward-2"], to_us=START + 4 * HOUR), []),
    (Query(text="camera", rooms=["ward-1"], to_us=START + 4 * HOUR), [1, 0]),
]


def numbers(ids: list[str]) -> list[int]:
    return [int(name.split("-")[1]) for name in ids]


def test_both_databases_answer_alike(catalog_url: str) -> None:
    async def work(found: Catalog) -> None:
        await found.put_many(ENTRIES)
        for query, expected in QUESTIONS:
            page = await found.find(query)
            assert numbers([one.id for one in page.recordings]) == expected, query
            assert (page.total, page.at_least, page.cursor) == (len(expected), False, ""), query

    with_catalog(catalog_url, work)


@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_what_goes_on_is_found_alike(number: int) -> None:
    query, expected = QUESTIONS[number]
    assert [n for n in reversed(range(len(ENTRIES))) if matches(ENTRIES[n], query)] == expected


def test_pages_by_cursor_meet_every_recording_once(catalog_url: str) -> None:
    async def work(found: Catalog) -> None:
        await found.put_many([Entry(recording(n, f"ward-{n % 2}")) for n in range(25)])
        for query in (Query(limit=4), Query(limit=4, text="ward"), Query(limit=4, rooms=["ward-1"])):
            every = [one.id for one in (await found.find(msgspec.structs.replace(query, limit=100))).recordings]
            seen: list[str] = []
            page = await found.find(query)
            while True:
                seen += [one.id for one in page.recordings]
                if not page.cursor:
                    break
                # What comes meanwhile is newer, and moves nothing.
                await found.put(recording(100 + len(seen), "ward-1"))
                page = await found.find(msgspec.structs.replace(query, cursor=page.cursor))
            assert seen == every
        for cursor in ("x", "-1", "1" * 19, "1; DROP", "٣"):
            with pytest.raises(BadCursor):
                await found.find(Query(cursor=cursor))

    with_catalog(catalog_url, work)


def test_totals_stop_counting(catalog_url: str) -> None:
    async def work(found: Catalog) -> None:
        await found.put_many([Entry(recording(n)) for n in range(COUNTED)])
        page = await found.find(Query(limit=1, text="room"))
        assert (page.total, page.at_least) == (COUNTED, False)
        await found.put(recording(COUNTED))
        for query in (Query(limit=1), Query(limit=1, text="room"), Query(limit=1, offset=COUNTED)):
            page = await found.find(query)
            assert (page.total, page.at_least, len(page.recordings)) == (COUNTED, True, 1)

    with_catalog(catalog_url, work)


def test_recordings_of_one_moment_keep_apart(catalog_url: str) -> None:
    async def work(found: Catalog) -> None:
        same = [msgspec.structs.replace(recording(n), started_us=START) for n in range(5)]
        await found.put_many([Entry(one) for one in same[:3]])
        await found.put_many([Entry(one) for one in same])
        await found.put(msgspec.structs.replace(same[0], started_us=START + 1))
        page = await found.find(Query(to_us=START + 1))
        assert {one.id for one in page.recordings} == {one.id for one in same}

    with_catalog(catalog_url, work)


def test_who_looked_is_counted(catalog_url: str) -> None:
    async def work(found: Catalog) -> None:
        await found.put(recording(1))
        for at_us, action in ((1, "show"), (2, "play"), (3, "show")):
            await found.record_access(recording(1).id, "Dr. A", action, at_us)
        await found.put(recording(1))
        seen = await found.accesses(recording(1).id)
        times = [(one.action, one.first_us, one.last_us, one.times) for one in seen]
        assert times == [("show", 1, 3, 2), ("play", 2, 2, 1)]
        await found.remove(recording(1).id)
        assert await found.accesses(recording(1).id) == []

    with_catalog(catalog_url, work)


class Going:
    """A recording that goes on."""

    def __init__(self, number: int) -> None:
        self.manifest = msgspec.structs.replace(recording(number), state="recording")
        self.id, self.room = self.manifest.id, self.manifest.room

    def snapshot(self) -> object:
        return self.manifest


def test_pages_go_on_from_what_is_recorded_now(tmp_path: Path) -> None:
    async def work() -> None:
        live = [Going(number) for number in range(100, 105)]
        archive = Archive(tmp_path, live=lambda: live)  # type: ignore[arg-type,return-value]
        await archive.open()
        await archive._catalog.put_many([Entry(recording(n)) for n in range(6)])
        for by_cursor in (True, False):
            seen: list[str] = []
            page = await archive.find(Query(limit=3))
            while page.recordings:
                assert page.total == 11
                seen += [one.id for one in page.recordings]
                if by_cursor and not page.cursor:
                    break
                place = Query(limit=3, cursor=page.cursor) if by_cursor else Query(limit=3, offset=len(seen))
                page = await archive.find(place)
            assert numbers(seen) == [104, 103, 102, 101, 100, 5, 4, 3, 2, 1, 0]
        await archive.close()

    asyncio.run(work())


@given(st.text())
def test_words_are_safe_to_put_into_a_query(text: str) -> None:
    for word in terms.words(text):
        assert 0 < len(word) <= terms.LONGEST
        assert all(char.isalnum() for char in word)
        assert terms.words(word) == [word]


@given(st.text("ab[]!-*?^\\.\n&|", max_size=8), st.text("ab[]!-*?^\\.\n&|", max_size=5))
def test_patterns_of_rooms_are_as_everywhere(pattern: str, room: str) -> None:
    assert (re.search(patterns.regex(pattern), room) is not None) == fnmatchcase(room, pattern)
