"""How long the catalog takes to find a page among many recordings.

    python -m tests.bench.catalog [--rows 1000000] [--url postgresql+asyncpg://...] [--runs 40] [--json FILE]

Fills an empty database (a temporary SQLite file by default) by the way that a rebuild takes, then asks each kind of
question again and again with other values, one after the other, and prints p50, p95 and p99, and what this process
spent on it: with SQLite that is all there is, and on a busy machine it says more than the clock on the wall. A database
that has rows already is taken as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import track as progress
from rich.table import Table

from mediaserver.recording.catalog import Catalog, Entry, Query
from mediaserver.recording.catalog.search import COUNTED
from mediaserver.recording.manifest import Gap, Manifest, Participant, Segment, Track
from mediaserver.recording.sidecars import Hold, Identifiers, Sidecars

START_US = 1_500_000_000_000_000
EVERY_US = 300_000_000
"""A recording begins every five minutes: a million of them are nine and a half years."""
BATCH = 1000
ROOMS = 2000
PATIENTS_EACH = 5
"""Recordings of one patient."""
FAMILY = ["Ivanov", "Petrov", "Smirnova", "Müller", "Okafor", "García", "Nguyen", "Kowalska", "Haddad", "Lindqvist"]
GIVEN = ["Anna", "Boris", "Chidi", "Dana", "Elif", "Farid", "Greta", "Hiro", "Ines", "Jonas", "Katya", "Liam"]
SYLLABLES = ["ka", "lo", "mi", "ra", "su", "te", "vo", "ny", "pe", "du", "zi", "ho", "be", "ga", "fu", "xe"]


def surname(patient: int) -> str:
    """One of 65,536 made-up names, or a common one for every tenth patient."""
    if patient % 10 == 0:
        return FAMILY[patient // 10 % len(FAMILY)]
    return "".join(SYLLABLES[patient >> shift & 15] for shift in (0, 4, 8, 12)).capitalize()


def entry(number: int, rows: int) -> Entry:
    """The recording with this number, always the same."""
    dice = random.Random(number)
    started = START_US + number * EVERY_US + dice.randrange(1_000_000)
    ended = started + dice.randrange(60_000_000, 2_400_000_000)
    patient = dice.randrange(max(1, rows // PATIENTS_EACH))
    sources = ["camera", *dice.sample(["ultrasound", "microphone", "stethoscope"], dice.choice((0, 1, 1)))]
    if number % 1000 == 7:
        sources.append("dermatoscope")
    gaps = [Gap("lost", 1, 5, 6, 2, 0, started, started + 10)] if number % 50 == 0 else []
    doctor = f"Dr. {GIVEN[number % 12]} {surname(dice.randrange(3000) * 10 + 1)}"
    manifest = Manifest(
        version=1, software="bench", id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(started / 1e6))}-{number:08x}",
        room=f"ward-{number % ROOMS}", state="recovered" if number % 200 == 0 else "complete", started_us=started,
        ended_us=ended,
        participants=[Participant("p1", "Cart", "cart", started), Participant("p2", doctor, "doctor", started)],
        tracks=[_track(str(n), source, started, ended, gaps if n == 0 else []) for n, source in enumerate(sources)],
        notes=[], digest=f"{number:064x}",
    )  # fmt: skip
    known = Identifiers(
        patient_id=f"MRN-{patient:08}",
        patient_name=f"{surname(patient)} {GIVEN[patient % 12]}",
        encounter=f"V{number:09}",
        accession=f"A{number // 2:09}",
        modality="US",
        study_description="Remote consultation",
    )
    holds = [Hold(id="h", reason="claim", by="archivist", placed_us=ended)] if number % 2500 == 3 else []
    return Entry(manifest, Sidecars(identifiers=known, holds=holds))


def _track(name: str, source: str, started: int, ended: int, gaps: list[Gap]) -> Track:
    sound = source in ("microphone", "stethoscope")
    segment = Segment(
        file=f"{name}-1.mp4", container="mp4", codec="opus" if sound else "H264", clock_rate=90_000, ssrc=1, width=1280,
        height=720, reason="start", bytes=10_000_000, sha256="0" * 64, first_rtp=0, last_rtp=0, first_us=started,
        last_us=ended, units=100, keyframes=10, mapping=[],
    )  # fmt: skip
    label = "Vivid S70 probe" if source == "ultrasound" else "Room camera" if source == "camera" else source
    return Track(name, source, "audio" if sound else "video", segment.codec, label, "p1", [segment], gaps)


def kinds(rows: int) -> dict[str, Callable[[random.Random], Query]]:
    """What is asked: a name, and a question with other values each time."""
    end = START_US + rows * EVERY_US
    day, month = 86_400_000_000, 30 * 86_400_000_000

    def any_entry(dice: random.Random) -> Entry:
        return entry(dice.randrange(rows), rows)

    def known(dice: random.Random) -> Identifiers:
        identifiers = any_entry(dice).sidecars.identifiers
        assert identifiers is not None
        return identifiers

    def between(dice: random.Random, length: int) -> dict[str, int]:
        start = dice.randrange(START_US, max(START_US + 1, end - length))
        return {"from_us": start, "to_us": start + length}

    return {
        "newest page": lambda dice: Query(),
        "one room (a doctor's list)": lambda dice: Query(rooms=[f"ward-{dice.randrange(ROOMS)}"]),
        "200 rooms": lambda dice: Query(rooms=[f"ward-{n}" for n in dice.sample(range(ROOMS), 200)]),
        "patient's id": lambda dice: Query(patient_id=known(dice).patient_id),
        "patient's id in one room": lambda dice: Query(patient_id=known(dice).patient_id, rooms=["ward-7"]),
        "patient's full name": lambda dice: Query(patient_name=known(dice).patient_name),
        "patient's name, 3 letters": lambda dice: Query(patient_name=known(dice).patient_name[:3]),
        "encounter": lambda dice: Query(encounter=known(dice).encounter),
        "accession": lambda dice: Query(accession=known(dice).accession),
        "a day": lambda dice: Query(**between(dice, day)),  # type: ignore[arg-type]
        "a month": lambda dice: Query(**between(dice, month)),  # type: ignore[arg-type]
        "a month, one room": lambda dice: Query(rooms=["ward-7"], **between(dice, month)),  # type: ignore[arg-type]
        "source, in all rows": lambda dice: Query(source="camera"),
        "source, in 1 of 1000": lambda dice: Query(source="dermatoscope"),
        "source, in none": lambda dice: Query(source="otoscope"),
        "rare source, a month": lambda dice: Query(source="dermatoscope", **between(dice, month)),  # type: ignore[arg-type]
        "participant": lambda dice: Query(participant=any_entry(dice).manifest.participants[1].name),
        "word in all rows": lambda dice: Query(text="consultation"),
        "word in all rows, 1 letter": lambda dice: Query(text="c"),
        "word in all rows, one room": lambda dice: Query(text="consultation", rooms=[f"ward-{dice.randrange(ROOMS)}"]),
        "rare word": lambda dice: Query(text=known(dice).encounter.lower()),
        "word in no row": lambda dice: Query(text="zzyzx"),
        "3 words: all rows, 1 of 3, rare": lambda dice: Query(
            text=f"remote probe {known(dice).patient_name.split()[0]}"
        ),
        "2 common words, never together": lambda dice: Query(text="stethoscope microphone"),
        "state: recovered": lambda dice: Query(state="recovered"),
        "with gaps": lambda dice: Query(has_gaps=True),
        "without gaps, source": lambda dice: Query(has_gaps=False, source="ultrasound"),
        "on hold": lambda dice: Query(on_hold=True),
        "on hold, one room": lambda dice: Query(on_hold=True, rooms=["ward-3"]),
        "page 1000 by offset": lambda dice: Query(offset=50_000),
        "page 1000 by cursor": lambda dice: Query(cursor=str(START_US + (rows - 50_000) * EVERY_US >> 4)),
        "page 1000, common word, offset": lambda dice: Query(text="consultation", offset=50_000),
        "page 1000, common word, cursor": lambda dice: Query(
            text="consultation", cursor=str(START_US + (rows - 50_000) * EVERY_US >> 4)
        ),
    }


async def fill(catalog: Catalog, rows: int) -> float:
    """Recordings entered each second."""
    numbers = iter(range(rows))
    start = time.perf_counter()
    for _ in progress(range(0, rows, BATCH), "Filling", console=Console(stderr=True)):
        await catalog.put_many([entry(number, rows) for number in islice(numbers, BATCH)])
    return rows / (time.perf_counter() - start)


async def measure(
    catalog: Catalog, rows: int, runs: int, only: str
) -> Iterator[tuple[str, int, bool, list[float], float]]:
    """Of each kind: its name, the last total, whether that is a least one, sorted times in ms, the CPU's median."""
    results = []
    for name, ask in kinds(rows).items():
        if only not in name:
            continue
        times, spent = [], []
        for run in range(runs):
            query = ask(random.Random(run + 1))
            start, used = time.perf_counter(), time.process_time()
            page = await catalog.find(query)
            spent.append((time.process_time() - used) * 1e3)
            times.append((time.perf_counter() - start) * 1e3)
        results.append((name, page.total, page.at_least, sorted(times), statistics.median(spent)))
    return iter(results)


async def run(arguments: argparse.Namespace, url: str) -> None:
    catalog = Catalog(url)
    await catalog.open()
    console = Console(width=120)
    present = (await catalog.find(Query(limit=1))).total
    if present < min(arguments.rows, COUNTED):
        rate = await fill(catalog, arguments.rows)
        console.print(f"{arguments.rows} recordings entered, {rate:.0f} a second")
        await catalog.tidy()
    table = Table("question", *(f"{name} ms" for name in ("p50", "p95", "p99")), "own CPU ms", "found")
    kept = {}
    for name, total, at_least, times, spent in await measure(catalog, arguments.rows, arguments.runs, arguments.only):
        figures = [times[min(len(times) - 1, int(len(times) * share))] for share in (0.5, 0.95, 0.99)]
        table.add_row(
            name, *(f"{figure:.1f}" for figure in figures), f"{spent:.1f}", f"{total}{'+' if at_least else ''}"
        )
        kept[name] = dict(zip(("p50", "p95", "p99"), figures, strict=True)) | {"cpu": spent, "found": total}
    console.print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(kept, indent=1))
    await catalog.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--url", default="")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--only", default="", help="only kinds with this in their name")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(arguments, arguments.url or f"sqlite+aiosqlite:///{folder}/catalog.sqlite"))


if __name__ == "__main__":
    main()
