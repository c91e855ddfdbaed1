"""`kill -9` of a server that records: two seconds at most are lost, and the rest plays and verifies."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import SECRET, Server
from tests.interop import consultation as c

LOST_SECONDS = 2.0
SOUND_RATE = 50

pytestmark = pytest.mark.timeout(300)


Sent = dict[str, dict[str, int]]
"""By room and source, how much had left when the server ended."""


def consult(data: Path, rooms: Sequence[str], seconds: float, end: Callable[[Server], None]) -> Sent:
    """Consultations at once on a server of their own that ends with `end(server)`."""
    server = Server(data, "--record", "on")

    async def main() -> Sent:
        async with asyncio.timeout(c.PATIENCE), contextlib.AsyncExitStack() as stack:
            carts = {room: await stack.enter_async_context(c.publishing(server, room)) for room in rooms}
            for cart in carts.values():
                await cart.until(seconds)
            sent = {room: cart.sent() for room, cart in carts.items()}
            end(server)
            return sent

    try:
        return asyncio.run(main())
    finally:
        server.stop()


def kill(server: Server) -> None:
    server.process.kill()
    server.process.wait()


def recover(data: Path) -> None:
    """A server starts on the folder and ends again."""
    Server(data).stop()


def lost_seconds(data: Path, recording: dict[str, Any], sent: dict[str, int]) -> dict[str, float]:
    """Checks a recording from its first to its last frame; what is missing at its end, by source."""
    assert recording["state"] == "recovered"
    verified = c.command(data, "verify", recording["id"])
    assert verified.returncode == 0, verified.stdout
    manifest, folder = c.kept(data, recording["id"]), c.folder_of(data, recording["id"])
    assert manifest.notes == []
    lost = {}
    for track in manifest.tracks:
        assert track.gaps == []
        if track.kind == "audio":
            assert len(c.listen(folder, track)) >= sum(segment.units for segment in track.segments) // SOUND_RATE
            kept = sum(segment.units for segment in track.segments)
            lost[track.source] = (sent[track.source] - kept) / SOUND_RATE
        else:
            shown = c.watch(folder, track)
            assert [after - before for before, after in pairwise(shown.numbers)] == [1] * (len(shown.numbers) - 1)
            assert shown.numbers[0] < c.RATE
            lost[track.source] = (sent[track.source] - 1 - shown.numbers[-1]) / c.RATE
    assert set(lost) == set(sent)
    return lost


def check_kills(
    data: Path,
    count: int,
    longest: float,
    record_property: Callable[[str, object], None],
    *,
    at_once: int = 1,
) -> None:
    """So many kills at random moments of `at_once` consultations, each server starting on what the one before has
    left."""
    chance = random.Random()
    c.streams()
    sent: Sent = {}
    for number in range(count):
        rooms = [f"exam-{number}-{room}" for room in range(at_once)]
        sent |= consult(data, rooms, chance.uniform(2.0, longest), kill)
    recover(data)
    recordings = {recording["room"]: recording for recording in c.listed(data)}
    lost = {room: lost_seconds(data, recordings[room], sent[room]) for room in sent}
    worst = max(max(of_one.values()) for of_one in lost.values())
    figures = {room: {source: round(value, 2) for source, value in of_one.items()} for room, of_one in lost.items()}
    record_property("lost_seconds", figures)
    mean = statistics.mean(value for of_one in lost.values() for value in of_one.values())
    print(
        f"{count} kills, {len(figures)} recordings: lost at the most {worst:.2f} s, {mean:.2f} s in the mean: {figures}"
    )
    assert worst <= LOST_SECONDS


def test_a_kill_loses_two_seconds_at_most(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    check_kills(tmp_path, 2, 5.0, record_property)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_twenty_kills_of_four_consultations(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    check_kills(tmp_path, 20, 8.0, record_property, at_once=4)


@pytest.mark.soak
def test_kills_while_recordings_are_closed(tmp_path: Path) -> None:
    """Killed while it ends a recording, and again and again while it recovers: nothing that was kept gets lost."""
    chance = random.Random()
    c.streams()

    def end(server: Server) -> None:
        server.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(chance.uniform(0.0, 0.4))
        kill(server)

    rooms = [f"exam-{number}" for number in range(8)]
    sent: Sent = {}
    for room in rooms:
        sent |= consult(tmp_path, [room], chance.uniform(2.0, 5.0), end)
        for _ in range(3):
            start_and_kill(tmp_path, chance.uniform(0.3, 2.5))
    recover(tmp_path)
    recordings = {one["room"]: one for one in c.listed(tmp_path)}
    assert set(recordings) == set(rooms)
    for room, recording in recordings.items():
        assert recording["state"] in ("complete", "recovered")
        verified = c.command(tmp_path, "verify", recording["id"])
        assert verified.returncode == 0, verified.stdout
        manifest, folder = c.kept(tmp_path, recording["id"]), c.folder_of(tmp_path, recording["id"])
        for track in manifest.tracks:
            if track.kind == "video":
                shown = c.watch(folder, track)
                assert sent[room][track.source] - len(shown.numbers) <= LOST_SECONDS * c.RATE


def start_and_kill(data: Path, seconds: float) -> None:
    """A server that is killed so soon that it may not have started yet."""
    command = [sys.executable, "-m", "mediaserver", "serve", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "--data", str(data), "--secret", SECRET], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
