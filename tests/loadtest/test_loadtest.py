"""Small real runs of the command against a server of its own, and against one that is named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mediaserver.loadtest.target import Target, TargetError, own_server
from tests.loadtest.running import asynchronous

# What depends on how busy the machine is that runs the tests; the rest must hold anywhere.
TIMED = ("server p99", "jitter p99", "first frame p95")


def run(*arguments: str, expect: tuple[int, ...] = (0, 1)) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mediaserver", "loadtest", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert finished.returncode in expect, finished.stdout + finished.stderr
    return finished


def checks(report: Mapping[str, Any]) -> dict[str, bool]:
    return {check["name"]: check["holds"] for check in report["checks"] if not check["name"].endswith(TIMED)}


@pytest.mark.parametrize("join", ["ws", "whip"])
def test_consultations_are_carried_without_loss(tmp_path: Path, join: str) -> None:
    file = tmp_path / "report.json"
    finished = run("--carts", "2", "--viewers", "2", "--seconds", "2", "--join", join, "--json", str(file))
    report = json.loads(file.read_bytes())
    if not report["generator"]["dropped_at_own_sockets"]:
        assert all(checks(report).values()), finished.stdout
    assert {source["source"]: source["legs"] for source in report["sources"]} == {
        "ultrasound": 4,
        "camera": 4,
        "microphone": 4,
        "stethoscope": 4,
    }
    assert all(source["stamped"] > 50 for source in report["sources"])
    assert report["packets_per_second"]["out"] > report["packets_per_second"]["in"] > 1000
    assert report["server"]["cpu_us_per_forwarded_packet"] > 0
    assert report["join_ms"]["viewer"]["count"] == 4
    assert "cpu us per forwarded packet" in finished.stdout
    assert finished.returncode == (0 if all(check["holds"] for check in report["checks"]) else 1)


def test_a_server_that_is_not_there_breaks_every_budget(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    url = ("--url", "http://127.0.0.1:9", "--secret", "x" * 32)
    run(
        *url, "--carts", "1", "--viewers", "1", "--seconds", "1", "--profile", "audio", "--json", str(file), expect=(1,)
    )
    report = json.loads(file.read_bytes())
    assert len(report["refused"]) == 2
    assert not checks(report)["everyone joined"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--url", "http://127.0.0.1:9"), "--secret"),
        (("--url", "http://127.0.0.1:9", "--token", "x", "--carts", "1"), "--room"),
        (("--carts", "0"), "--carts"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments: tuple[str, ...], words: str) -> None:
    assert words in run(*arguments, expect=(2,)).stderr


@asynchronous
async def test_a_server_of_our_own_starts_and_ends() -> None:
    async with own_server(1, "off") as target:
        assert isinstance(target, Target)
        assert target.process is not None
        assert target.process.sample().threads > 1
    with pytest.raises(OSError, match="proc"):
        target.process.sample()


@asynchronous
async def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(TargetError, match="did not start"):
        async with own_server(-1, "off"):
            pass
