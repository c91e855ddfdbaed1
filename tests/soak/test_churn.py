"""Dozens of people who come and go leave nothing behind: no memory, no threads, no descriptors, no tasks."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mediaserver.loadtest.swarm import Swarm
from tests.soak.crowd import VISITS, Crowd, streams

ROOT = Path(__file__).parents[2]
PEOPLE = 24
EMPTY = {"rooms": 0, "ids": 0, "sockets": 0, "resources": 0, "recordings": 0, "packets_held": 0}
"""What must be left of it all when nobody is there any more; and as many tasks as before anybody came."""
DRAIN_SECONDS = 60.0

SLACK = {
    "threads": 6,
    "descriptors": 16,
    "objects": 3000,
    "blocks": 10_000,
    "allocated": 2 << 20,
    "resident": 16 << 20,
}
"""What may be in use more than before: pools of threads, database connections and packets fill as they are needed."""

Usage = dict[str, Any]


class Probe:
    """Asks `tests.soak.served` what it uses."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.tasks = 0

    async def read(self) -> Usage:
        assert self._process.stdout is not None
        usage: Usage = json.loads(await self._process.stdout.readline())
        return usage

    async def usage(self) -> Usage:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return await self.read()

    async def empty(self) -> Usage:
        """What is used once everybody has gone or was removed, and what they left was let go of."""
        nothing = EMPTY | {"tasks": self.tasks}
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not nothing.items() <= (usage := await self.usage()).items():  # noqa: ASYNC110
                    await asyncio.sleep(0.5)
        except TimeoutError:
            left = {name: usage[name] for name, least in nothing.items() if usage[name] != least}
            raise AssertionError(f"{left} is left {DRAIN_SECONDS:g} s after the last has gone") from None
        return usage


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Probe, Usage]]:
    """The server process, its probe and where it is; it must end well and have reported no error of its own."""
    command = [sys.executable, "-m", "tests.soak.served", str(folder / "data")]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=log)
        try:
            probe = Probe(process)
            where = await probe.read()
            probe.tasks = where["tasks"]
            yield probe, where
            assert process.stdin is not None
            process.stdin.close()
            assert await asyncio.wait_for(process.wait(), DRAIN_SECONDS) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    said = (folder / "log").read_text()
    assert "Traceback" not in said, said[-4000:]
    assert "rror" not in said, said[-4000:]


def churn(
    folder: Path, rounds: int, seconds: float, record_property: Callable[[str, object], None]
) -> tuple[list[Usage], Crowd]:
    """What is used after each round of churn, when all have gone."""
    made = streams()
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")

    async def main() -> tuple[list[Usage], Crowd]:
        usages = []
        swarm = Swarm()
        swarm.start()
        try:
            async with served(folder) as (probe, where):
                crowd = Crowd(where["url"], tuple(where["media"]), swarm, made, seed)
                try:
                    for _ in range(rounds):
                        await crowd.churn(seconds, PEOPLE)
                        usages.append(await probe.empty())
                        print(json.dumps(usages[-1]), flush=True)
                finally:
                    await crowd.close()
        finally:
            swarm.close()
        return usages, crowd

    usages, crowd = asyncio.run(main())
    print(f"visits {dict(crowd.visits)}\nfailures {dict(crowd.failures)} {crowd.reasons}\nHTTP {dict(crowd.statuses)}")
    record_property("usages", usages)
    record_property("visits", dict(crowd.visits))
    return usages, crowd


def check_crowd(crowd: Crowd) -> None:
    """They came, in every way that there is."""
    tried = crowd.visits.total() + crowd.failures.total()
    assert crowd.failures.total() <= tried / 10, crowd.reasons
    assert all(status < 500 for status in crowd.statuses)


def check_same(before: Usage, after: Usage) -> None:
    for name, slack in SLACK.items():
        assert after[name] <= before[name] + slack, f"{name}: {before[name]}, then {after[name]}"


def test_a_few_seconds(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    usages, crowd = churn(tmp_path, 3, 4.0, record_property)
    check_crowd(crowd)
    check_same(usages[1], usages[-1])


@pytest.mark.soak
def test_ten_minutes(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    usages, crowd = churn(tmp_path, 12, 50.0, record_property)
    check_crowd(crowd)
    assert min(crowd.visits[visit.__name__] for visit, _ in VISITS) > 0
    check_same(usages[3], usages[-1])
    # Nor slowly: what the last four rounds show at the least is no more than what the four before them did.
    for name, slack in (("allocated", 512 << 10), ("resident", 4 << 20)):
        earlier, later = (min(usage[name] for usage in part) for part in (usages[4:8], usages[8:12]))
        assert later - earlier < slack, f"{name}: {earlier}, then {later}"
