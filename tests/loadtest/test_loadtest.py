"""Small real runs of the command against a server of its own, and against one that is named."""

from __future__ import annotations

import asyncio
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
TIMED = (" p99", " p95", "frames/s", "a floor", "freezes")


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
        (("--url", "http://127.0.0.1:9", "--secret", "x" * 32, "--pid", "4194305"), "--pid"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments: tuple[str, ...], words: str) -> None:
    assert words in run(*arguments, expect=(2,)).stderr


def test_processes_measure_as_one_and_write_every_report(tmp_path: Path) -> None:
    files = {kind: tmp_path / f"report.{kind}" for kind in ("json", "html", "junit")}
    arguments = [word for kind, file in files.items() for word in (f"--{kind}", str(file))]
    run("--processes", "2", "--carts", "2", "--viewers", "1", "--profile", "plain", "--seconds", "1", *arguments)
    report = json.loads(files["json"].read_bytes())
    assert report["processes"] == 2
    assert {source["source"]: source["legs"] for source in report["sources"]} == {"camera": 2, "microphone": 2}
    assert checks(report)["everyone joined"]
    [glass] = report["glass"]
    assert glass["pictures"] > 5
    assert glass["unread"] == 0
    assert report["server_timeline"]
    assert "Load test: flags" in files["html"].read_text()
    assert b"<testsuite " in files["junit"].read_bytes()


LINES = """
name = "lines"
consultations = 1
seconds = 5
[lines.far]
delay_ms = 60
[lines.gone]
delay_ms = 1
[outage]
at_seconds = 1
seconds = 1
lines = ["gone"]
[[groups]]
name = "home"
[groups.sources]
ultrasound = { codec = "AV1", kbit = 1000, width = 320, height = 240 }
microphone = {}
[[groups.viewers]]
line = "far"
[[groups.viewers]]
line = "gone"
[[groups.viewers]]
stay_seconds = 1
away_seconds = 0.5
"""


@pytest.mark.soak
def test_lines_outages_and_comings_and_goings_are_played(tmp_path: Path) -> None:
    scenario, file = tmp_path / "lines.toml", tmp_path / "report.json"
    scenario.write_text(LINES)
    run("--scenario", str(scenario), "--json", str(file))
    report = json.loads(file.read_bytes())
    ultrasound = next(source for source in report["sources"] if source["source"] == "ultrasound")
    assert report["refused"] == []
    assert ultrasound["lined_ms"]["p50"] >= 1
    assert ultrasound["lined_ms"]["p99"] >= 60
    assert report["lines"]["cut"] > 20
    assert ultrasound["recovered_ms"]["count"] >= 1
    assert ultrasound["legs"] >= 3
    [glass] = report["glass"]
    assert glass["p50_ms"] >= 60


@pytest.mark.soak
def test_a_search_ends_with_what_was_carried(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    finished = run(
        *("--search", "consultations", "--search-limit", "2", "--carts", "1", "--viewers", "1"),
        *("--profile", "audio", "--seconds", "1", "--json", str(file)),
    )
    found = json.loads(file.read_bytes())["search"]
    assert found["steps"][0]["consultations"] == 1
    assert found["most"] <= 2
    assert "consultations within budget" in finished.stdout


@pytest.mark.soak
@asynchronous
async def test_any_server_with_whip_and_whep_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    async with own_server(1, "off") as target:
        token = target.token("load-0", "cart")
        command = [sys.executable, "-m", "mediaserver", "loadtest", "--target", "whip", "--token", token]
        # Neither address names the sources, as those of other servers do not.
        command += [
            "--whip",
            f"{target.url}/whip/{{room}}?source=camera,microphone",
            "--whep",
            f"{target.url}/whep/{{room}}",
        ]
        command += ["--profile", "plain", "--carts", "1", "--viewers", "2", "--seconds", "1", "--json", str(file)]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
    assert process.returncode in (0, 1), output.decode()
    report = json.loads(file.read_bytes())
    assert checks(report)["everyone joined"], report["refused"]
    assert {source["source"]: source["legs"] for source in report["sources"]} == {"camera": 2, "microphone": 2}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scenario", "no-such"), "city-evening"),
        (("--target", "whip", "--whip", "http://127.0.0.1:9/whip"), "{room}"),
        (("--storm", "--processes", "2"), "one process"),
    ],
)
def test_what_can_not_be_played_is_explained(arguments: tuple[str, ...], words: str) -> None:
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
