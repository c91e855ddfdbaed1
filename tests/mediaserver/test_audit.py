"""The audit trail as an operator meets it: written by a server, printed, verified, exported; killed, cut, and full."""

from __future__ import annotations

import asyncio
import errno
import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from fhir.resources.auditevent import AuditEvent

from mediaserver.audit import HELD_LINES, Audit
from mediaserver.clock import Clock
from mediaserver.recording.keys import TrustedKeys, make_key
from mediaserver.recording.trail import HEAD, NAME, Limits, parts, verify_trail
from tests.mediaserver.conftest import Open, run
from tests.mediaserver.test_command_line import SECONDS, called, read_until, running

KEY = make_key()
TRUSTED = TrustedKeys([KEY.public])


def test_lines_come_from_many_parts_of_the_server(tmp_path: Path) -> None:
    trail = Audit(tmp_path / NAME, Clock(), KEY, Limits(part_bytes=10_000, seal_lines=50))
    for number in range(2000):
        trail.write("join", name=f"Dr. {number}")
    trail.close()
    assert len(parts(tmp_path)) > 3
    found = verify_trail(tmp_path, TRUSTED)
    assert found.ok, found
    assert found.entries >= 2000
    assert trail.failures == 0


def test_what_can_not_be_written_is_held_and_told(tmp_path: Path) -> None:
    trail = Audit(tmp_path / NAME, Clock(), KEY)
    trail.write("server-started")
    end = time.monotonic() + SECONDS
    while not (tmp_path / NAME).stat().st_size and time.monotonic() < end:
        time.sleep(0.01)
    opened = trail._trail._opened

    def refuse() -> object:
        raise OSError(28, "No space left on device")

    trail._trail._opened = refuse  # type: ignore[method-assign, assignment]
    trail.write("join", name="Dr. A")
    while not trail.trouble and time.monotonic() < end:
        time.sleep(0.01)
    assert trail.trouble == "No space left on device"
    assert trail.held == 1
    trail._trail._opened = opened  # type: ignore[method-assign]
    trail.close()
    assert (trail.trouble, trail.held, trail.failures) == ("", 0, 0)
    assert verify_trail(tmp_path, TRUSTED).ok
    assert '"name":"Dr. A"' in (tmp_path / NAME).read_text()


def test_what_memory_does_not_hold_is_counted(tmp_path: Path) -> None:
    trail = Audit(tmp_path / NAME, Clock(), KEY)
    trail.close()
    writer = trail._writer
    for _ in range(HELD_LINES + 5):
        writer._hold({"time": "2026-11-29T12:00:00.000Z", "event": "join"})
    assert trail.failures == 5
    trail._trail.held.clear()
    writer._hold({"time": "2026-11-29T12:00:00.000Z", "event": "join"})
    assert [facts["event"] for facts in trail._trail.held] == ["trail-lost", "join"]
    assert trail._trail.held[0]["lines"] == 5


def test_a_trail_that_can_not_be_written_makes_the_server_unready(site: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with site() as s:

            def refuse(*arguments: object, **named: object) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            with monkeypatch.context() as full:
                full.setattr(s.server.audit._trail, "write", refuse)
                s.server.audit.write("removed")
                while not s.server.audit.trouble:  # noqa: ASYNC110 - a thread says so
                    await asyncio.sleep(0.01)
                async with s.http.get(f"{s.url}/readyz") as response:
                    assert response.status == 503
                    assert (await response.json())["reasons"] == [
                        "the audit trail can't be written: No space left on device"
                    ]
                async with s.http.get(f"{s.url}/metrics") as response:
                    assert "mediaserver_audit_held_lines" in await response.text()

    run(main())


def archive(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return called("archive", "--data", "d", *arguments, cwd=tmp_path)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} was not made"
        time.sleep(0.02)


def test_a_killed_server_and_its_trail(tmp_path: Path) -> None:
    """kill -9 in the middle of everything: what is there verifies, torn line or not, and the next run goes on."""
    arguments = ["serve", "--http", "127.0.0.1:0", "--udp", ":0", "--data", "d", "--workers", "1", "--record", "off"]
    with running(*arguments, cwd=tmp_path) as server:
        text = read_until(server, "make tokens with")
        url = text[text.index("http://127") :].split("/viewer")[0]
        for _ in range(5):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(f"{url}/api/archive/recordings", timeout=SECONDS)
        wait_for(tmp_path / "d" / HEAD)
        server.send_signal(signal.SIGKILL)
        server.wait(timeout=SECONDS)
    path = tmp_path / "d" / NAME
    with path.open("ab") as stream:
        stream.write(b'{"seq":')
    done = archive(tmp_path, "audit", "--verify")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "note: audit.log: line " in done.stdout
    with running(*arguments, cwd=tmp_path) as server:
        read_until(server, "make tokens with")
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=SECONDS)
    done = archive(tmp_path, "audit", "--verify")
    assert done.stdout.startswith("audit trail: genuine, "), done.stdout
    events = [json.loads(line)["event"] for line in archive(tmp_path, "audit", "--json").stdout.splitlines()]
    assert events.count("server-started") == 2
    assert "trail-torn" in events
    resources = archive(tmp_path, "audit", "--fhir", "ndjson").stdout.splitlines()
    assert len(resources) == len(events)
    for resource in resources:
        AuditEvent.model_validate_json(resource)
    assert archive(tmp_path, "audit", "--since", "2099-01-01").stdout == ""
    assert archive(tmp_path, "audit", "--since", "soon").returncode == 2
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    done = archive(tmp_path, "audit", "--verify", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["problems"][0]["kind"] == "missing"
    done = archive(tmp_path, "verify", "--all")
    assert done.returncode == 1
    assert "audit trail: missing: audit.log: audit.head has sealed entry" in done.stdout
