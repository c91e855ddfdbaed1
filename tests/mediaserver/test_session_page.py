"""The page of a consultation: from a report that has everything, and of a real one, on the command line and by HTTP."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import msgspec
import pytest

from mediaserver.auth import mint
from mediaserver.reports.files import find_report
from mediaserver.reports.loss import LossSection, TrackLoss, ViewLoss
from mediaserver.reports.page import ReportError, read_report, session_page
from mediaserver.reports.session import ParticipantEntry, SessionReport, TrackEntry, ViewEntry
from mediaserver.sfu.session.model import Role
from tests.loadtest.test_faults import started
from tests.loadtest.test_report import Links

OPENED = "2026-01-02T10:00:00.000Z"
PERCENTILES = {"count": 9, "mean_ms": 5.0, "p50_ms": 4.0, "p95_ms": 8.0, "p99_ms": 9.0, "max_ms": 12.0}
REPORT = SessionReport(
    version=1,
    room="ward-7",
    opened=OPENED,
    closed="2026-01-02T10:01:00.000Z",
    recordings=["rec-1"],
    participants=[
        ParticipantEntry("p-1", "<b>Cart</b>", "cart", OPENED),
        ParticipantEntry("p-2", "Dr. A", "doctor", OPENED, "2026-01-02T10:00:59.000Z", "left"),
    ],
    tracks=[TrackEntry("t-1", "p-1", "ultrasound", "video", "H264", "", 640, 480, OPENED)],
    views=[ViewEntry("p-2", "t-1", "ultrasound", OPENED, 80.0, {"ok": 50.0, "below-floor:line": 9.5}, {}, 6.5)],
    omitted=0,
    sections={
        "latency": {
            "tracks": [{"track": "t-1", "source": "ultrasound", "capture_to_server": None, "server": PERCENTILES}],
            "views": [
                {
                    "participant": "p-2",
                    "track": "t-1",
                    "source": "ultrasound",
                    "paced": None,
                    "shown": PERCENTILES | {"p95_ms": 400.0},
                    "budget_ms": 300.0,
                }
            ],
        },
        "loss": msgspec.to_builtins(
            LossSection(
                [TrackLoss("t-1", "ultrasound", 1000, 7, 5, 2)], [ViewLoss("p-2", "t-1", "ultrasound", 990, 4, 3, 1)]
            )
        ),
        "freshness": {
            "spells": [
                {
                    "track": "t-1",
                    "source": "ultrasound",
                    "state": "stale",
                    "cause": "publisher",
                    "began": "2026-01-02T10:00:10.000Z",
                    "ended": None,
                    "seconds": 2.5,
                    "removed": False,
                }
            ],
            "omitted": 0,
        },
    },
)


def test_a_page_tells_all_that_a_report_has() -> None:
    page = session_page(read_report(msgspec.json.encode(REPORT)))
    links = Links()
    links.feed(page)
    assert links.loads == []
    assert "<b>Cart</b>" in links.text
    assert "<b>Cart" not in page
    for words in (
        "Dr. A was without what the ultrasound asks for 6.5 s at a stretch",
        "A floor was broken",
        "below-floor:line 9.5",
        "publisher",
        "60 s; recordings rec-1",
        "400 ms",
        "lost on the way to the server",
    ):
        assert words in " ".join(links.text.split()), words
    assert page.count("<svg") == 3


def test_a_report_without_sections_is_a_page_too() -> None:
    bare = msgspec.structs.replace(REPORT, sections={}, views=[], closed=None)
    page = session_page(bare)
    assert "No floor was broken" in page
    assert "(goes on)" in page


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "no session report"),
        (b'{"version": 1}', "no session report"),
        (msgspec.json.encode(msgspec.structs.replace(REPORT, version=2)), "version 2"),
    ],
)
def test_what_is_no_report_is_said_so(data: bytes, words: str) -> None:
    with pytest.raises(ReportError, match=words):
        read_report(data)


def test_reports_are_found_by_room_recording_and_file(tmp_path: Path) -> None:
    reports, recorded = tmp_path / "reports", tmp_path / "archive" / "2026" / "rec-1"
    for folder in (reports, recorded):
        folder.mkdir(parents=True)
    older, newer, other = "20260101T0000Z-ward-7", "20260102T0000Z-ward-7", "20260103T0000Z-my-ward-7"
    for name in (older, newer, other):
        (reports / f"{name}.json").write_text("{}")
    (recorded / "report.json").write_text("{}")
    assert find_report("ward-7", tmp_path) == reports / f"{newer}.json"
    assert find_report(older, tmp_path) == reports / f"{older}.json"
    assert find_report(f"{older}.json", tmp_path) == reports / f"{older}.json"
    assert find_report("rec-1", tmp_path) == recorded / "report.json"
    assert find_report(str(recorded / "report.json"), Path("nowhere")) == recorded / "report.json"
    assert find_report("../archive", tmp_path) is None
    assert find_report("ward-8", tmp_path) is None


def test_a_real_consultation_has_its_page(tmp_path: Path) -> None:
    secret, data = secrets.token_urlsafe(32), tmp_path / "data"
    run = [sys.executable, "-u", "-m", "mediaserver"]
    serve = [
        "env",
        "MEDIASERVER_RECORDING_SETTLE_SECONDS=0.2",
        *run,
        "serve",
        "--http",
        "127.0.0.1:0",
        "--workers",
        "1",
    ]
    serve += ["--udp", "127.0.0.1:0", "--data", str(data), "--secret", secret, "--record", "on"]
    with started(serve, "https?://") as (_, line):
        found = re.search(r"https?://[^\s/]+", line)
        assert found is not None
        load = [*run, "loadtest", "--url", found[0], "--secret", secret, "--carts", "1", "--viewers", "2"]
        done = subprocess.run([*load, "--seconds", "2"], capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        kept = wait_for(data / "archive", "**/report.json")
        wait_for(data / "reports", "*-load-0.json")
        token = mint(secret, room="*", role=Role.ARCHIVIST, now=time.time())
        address = f"{found[0]}/api/archive/recordings/{kept.parent.name}/report.html"
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.headers["Content-Type"].startswith("text/html")
            pages = [answer.read().decode()]
    for session in (kept.parent.name, "load-0"):
        out = tmp_path / f"{session}.html"
        subprocess.run([*run, "report", session, "--data", str(data), "--out", str(out)], check=True, timeout=60)
        pages.append(out.read_text())
    for page in pages:
        for words in ("Latency by segment", "lost on the way to the server", "stethoscope", "Floors"):
            assert words in page
    lost = json.loads(kept.read_bytes())["sections"]["loss"]
    assert all(track["packets"] > 50 for track in lost["tracks"])
    assert {view["source"] for view in lost["views"]} == {"ultrasound", "camera", "microphone", "stethoscope"}
    nobody = subprocess.run(
        [*run, "report", "nobody", "--data", str(data)], capture_output=True, text=True, check=False
    )
    assert nobody.returncode == 2
    assert "no recording or session" in nobody.stderr


def wait_for(folder: Path, pattern: str) -> Path:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for found in folder.glob(pattern):
            return found
        time.sleep(0.1)
    raise AssertionError(f"no {pattern} in {folder}")
