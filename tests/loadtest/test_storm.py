"""A storm of joins: everybody waits for everybody, and the figures say what the publisher and the viewers met."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mediaserver.loadtest.connect import Holds
from mediaserver.loadtest.peers import SenderStats
from mediaserver.loadtest.report import judge
from mediaserver.loadtest.storm import Storm, StormFigures
from tests.loadtest.running import asynchronous
from tests.loadtest.test_report import broken, outcome
from tests.loadtest.test_swarm import until

GOOD = StormFigures(
    viewers=3,
    signalling_seconds=1.0,
    handshake_seconds=2.0,
    up_after_ms=[5.0, 6.0, 7.0],
    up_within_ms=900.0,
    first_frame_ms=[100.0, 200.0, 300.0],
    without_picture=0,
    requests=[100.0, 600.0, 1100.0, 1700.0],
    request_gap_ms=500.0,
    keyframes=4,
    keyframe_bytes=20_000.0,
    frame_bytes={"before": 4000.0, "storm": 4500.0},
    kbit_per_second={"before": 960.0, "storm": 1080.0},
)


class Publisher:
    """Sends a frame of 1,000 bytes whenever somebody looks, or a keyframe of 9,000."""

    def __init__(self) -> None:
        self.frames = self.keyframes = 0
        self.requested: list[int] = []

    async def send(self, frames: int) -> None:
        """Wait until it has sent so many more."""
        wanted = self.frames + frames
        await until(lambda: self.frames >= wanted)

    def look(self) -> SenderStats:
        self.frames += 1
        octets = 1000 * self.frames + 8000 * self.keyframes
        return SenderStats(
            source=0,
            frames=self.frames,
            packets=self.frames,
            octets=octets,
            retransmitted=0,
            forgotten=0,
            keyframe_requests=self.keyframes,
            request_times=tuple(self.requested),
            keyframes=self.keyframes,
            keyframe_octets=9000 * self.keyframes,
            fraction_lost=0,
            reported_lost=0,
            last_stamp=0,
        )


@asynchronous
async def test_all_wait_for_the_slowest_and_leave_one_after_another() -> None:
    storm = Storm(viewers=4, at_once=2, seconds=0.2)
    order: list[tuple[str, int]] = []

    async def enter(number: int, holds: Holds) -> int:
        order.append(("asked", number))
        await asyncio.sleep(0)
        await holds.answered()
        order.append(("answered", number))
        await holds.almost_up()
        order.append(("up", number))
        return number

    tasks = [storm.admit(lambda holds, number=number: enter(number, holds)) for number in range(4)]
    done = await asyncio.gather(*tasks)
    assert [step for step, _ in order] == ["asked"] * 4 + ["answered"] * 4 + ["up"] * 4
    assert [number for number, _ in done] == [0, 1, 2, 3]
    left = sorted(at for _, at in done)
    assert left[-1] - left[0] >= 140_000_000
    assert storm.stages[0].passed <= storm.stages[1].passed <= time.monotonic()


@pytest.mark.parametrize("stage", ["asking", "answered", "almost up"])
@asynchronous
async def test_who_fails_is_not_waited_for(stage: str) -> None:
    storm = Storm(viewers=3, at_once=1, seconds=0.0)

    async def enter(holds: Holds, fails: bool) -> None:
        if fails and stage == "asking":
            raise OSError(stage)
        await holds.answered()
        if fails and stage == "answered":
            raise OSError(stage)
        await holds.almost_up()
        if fails:
            raise OSError(stage)

    tasks = [storm.admit(lambda holds, fails=number == 1: enter(holds, fails)) for number in range(3)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, OSError) for result in results] == [False, True, False]


@asynchronous
async def test_the_publisher_is_followed_from_before_the_release() -> None:
    storm = Storm(viewers=1, at_once=1, seconds=0.0)
    publisher = Publisher()
    watch = asyncio.create_task(storm.watch(publisher.look))

    async def enter(holds: Holds) -> None:
        await holds.answered()
        await publisher.send(5)
        await holds.almost_up()

    _, left = await storm.admit(enter)
    for wanted in (1, 2):
        publisher.keyframes = wanted
        publisher.requested.append(time.monotonic_ns())
        await publisher.send(3)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    figures = storm.figures([(left, left + 5_000_000, left + 105_000_000), (left, left + 7_000_000, 0)])
    assert figures.up_after_ms == [5.0, 7.0]
    assert figures.first_frame_ms == [100.0]
    assert figures.without_picture == 1
    assert len(figures.requests) == 2
    assert figures.requests_per_second == 2
    assert figures.keyframes == 2
    assert figures.keyframe_bytes == 9000
    assert figures.frame_bytes["before"] == 1000
    assert figures.frame_bytes["storm"] > 1000


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, []),
        ({"requests": [100.0, 400.0, 700.0, 1000.0, 1300.0]}, ["storm: keyframe requests"]),
        ({"requests": [5.0], "request_gap_ms": 0.0}, []),
        ({"requests": [], "request_gap_ms": 0.0}, []),
        ({"first_frame_ms": [100.0, 1001.0]}, ["storm: last first frame"]),
        ({"without_picture": 1}, ["storm: all have a picture"]),
    ],
)
def test_what_a_storm_may_cost(changes: dict[str, object], names: list[str]) -> None:
    figures = StormFigures(**{**{name: getattr(GOOD, name) for name in GOOD.__struct_fields__}, **changes})
    assert broken(outcome(storm=figures)) == names
    assert judge(outcome(storm=figures)).storm is not None


@pytest.mark.parametrize("join", ["ws", "whip"])
def test_a_small_storm(tmp_path: Path, join: str) -> None:
    file = tmp_path / "report.json"
    command = [sys.executable, "-m", "mediaserver", "loadtest", "--storm", "--viewers", "12", "--seconds", "1"]
    finished = subprocess.run(
        [*command, "--join", join, "--json", str(file)], capture_output=True, text=True, timeout=110, check=False
    )
    assert finished.returncode in (0, 1), finished.stdout + finished.stderr
    report = json.loads(file.read_bytes())
    assert report["refused"] == []
    storm = report["storm"]
    assert storm["without_picture"] == 0
    assert storm["first_frame_ms"]["count"] == storm["up_after_ms"]["count"] == 12
    assert storm["frame_bytes"]["storm"] > 0
    # Viewers may all have begun at the keyframe that the server still had (docs/joining.md).
    if storm["requests"]:
        assert storm["keyframe_bytes"] > 2 * storm["frame_bytes"]["storm"]
    else:
        assert storm["keyframe_bytes"] == 0
    assert "checks and handshakes before it" in finished.stdout
