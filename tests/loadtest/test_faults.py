"""A server that is made worse on purpose is found out, and so is how: the relay before it does not tell the load test.

The faults are far above what a busy machine does to packets by itself; the verdict on times is not looked at.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

RELAY = "127.0.0.2"
"""The address that the server announces, and at which the relay listens."""


class Server(NamedTuple):
    url: str
    secret: str
    port: int
    pid: int


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@contextlib.contextmanager
def started(command: list[str], word: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process for as long as it is needed, from the line on in which it says `word`."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            line = next(line for line in process.stdout if re.search(word, line))
            yield process, line
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port, secret = free_port(), secrets.token_urlsafe(32)
    command = [sys.executable, "-u", "-m", "mediaserver", "serve", "--http", "127.0.0.1:0", "--workers", "1"]
    command += ["--udp", f"127.0.0.1:{port}", "--tcp", "off", "--announce", RELAY, "--secret", secret]
    command += ["--data", str(tmp_path_factory.mktemp("data")), "--record", "off"]
    with started(command, "https?://") as (process, line):
        found = re.search(r"https?://[^\s/]+", line)
        assert found is not None
        yield Server(found[0], secret, port, process.pid)


def findings(server: Server, folder: Path, fault: tuple[str, ...]) -> list[dict[str, Any]]:
    """What a load test says of the server with a fault before it, beside what it says of itself."""
    relay = [sys.executable, "-u", "-m", "mediaserver.loadtest.lines", "--server", f"127.0.0.1:{server.port}"]
    report = folder / "report.json"
    load = [sys.executable, "-m", "mediaserver", "loadtest", "--url", server.url, "--secret", server.secret]
    load += ["--pid", str(server.pid), "--carts", "1", "--viewers", "4", "--seconds", "2", "--json", str(report)]
    with started([*relay, "--listen", f"{RELAY}:{server.port}", *fault], "relaying"):
        done = subprocess.run(load, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    told: list[dict[str, Any]] = json.loads(report.read_bytes())["findings"]
    return [finding for finding in told if finding["segment"] != "generator"]


def test_one_packet_in_a_hundred_that_is_late(server: Server, tmp_path: Path) -> None:
    found = findings(server, tmp_path, ("--late-every", "100", "--late-ms", "80"))
    late = next(finding for finding in found if finding["kind"] == "late-packets")
    assert late["segment"] == "server"
    figures = re.search(r"([\d.]+)% of the packets took about ([\d.]+) ms longer", late["text"])
    assert figures is not None
    assert 0.5 < float(figures[1]) < 2
    assert 40 < float(figures[2]) < 200
    assert not [finding for finding in found if finding["kind"] == "lost-packets"]


def test_packets_that_are_dropped(server: Server, tmp_path: Path) -> None:
    found = findings(server, tmp_path, ("--loss", "0.005"))
    lost = next(finding for finding in found if finding["kind"] == "lost-packets")
    assert lost["segment"] == "server egress"
    share = re.search(r"([\d.]+)% of the packets", lost["text"])
    assert share is not None
    assert 0.2 < float(share[1]) < 1
    assert not [finding for finding in found if finding["kind"] == "starved-viewer"]


def test_a_viewer_that_is_starved(server: Server, tmp_path: Path) -> None:
    # The cart comes to the relay first, then the viewers.
    found = findings(server, tmp_path, ("--loss", "0.6", "--victim", "2"))
    starved = [finding for finding in found if finding["kind"] == "starved-viewer"]
    assert len({finding["viewer"] for finding in starved}) == 1
    assert starved[0]["segment"] == "server egress"
    assert "was starved" in starved[0]["text"]
    assert not [finding for finding in found if finding["kind"] == "lost-packets"]
