"""The register and the audit trail in the bucket, against a real S3 server."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.recording import chained, register
from mediaserver.recording.chained import Head
from mediaserver.recording.keys import SigningKey, TrustedKeys
from mediaserver.recording.register import Register
from mediaserver.recording.storage import Unreadable, logs
from mediaserver.recording.storage.logs import LogCopy, _offset
from mediaserver.recording.storage.s3 import S3Settings
from mediaserver.recording.trail import Limits, Trail, verify_trail
from tests.recording.bucketed import Driven

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
BY_CHAIN = ("seq", "prev", "key", "signature")


class Data:
    """A server's data folder with both logs."""

    def __init__(self, folder: Path, settings: S3Settings) -> None:
        self.folder = folder
        self.storage = Driven(folder / "archive", settings)
        (folder / "archive").mkdir(parents=True, exist_ok=True)
        self.register = Register(self.storage, KEY, lambda: 1_790_000_000_000_000)
        self.trail = Trail(folder / "audit.log", KEY, Limits(part_bytes=2000), lambda: "2026-01-01T00:00:00Z")
        self.trail.open()
        self.register.open()

    def write(self, count: int) -> None:
        for number in range(count):
            self.register.append("recording-begun", f"recording-{number}")
            self.trail.held.append({"event": "join", "number": number})
            self.trail.write(0)

    def copies(self) -> list[LogCopy]:
        return self.storage.logs(self.folder, lambda: self.register.head, lambda: self.trail.head)

    def close(self) -> None:
        self.trail.write(0, closing=True)
        self.trail.close()
        self.register.close()

    def lines(self) -> dict[str, bytes]:
        kept = (self.folder / "archive" / register.NAME).read_bytes()
        trail = [path for path in sorted(self.folder.glob("audit*.log")) if path.name != "audit.log"]
        return {"register": kept, "audit": b"".join(p.read_bytes() for p in [*trail, self.folder / "audit.log"])}


@pytest.fixture
def data(tmp_path: Path, bucket: S3Settings) -> Iterator[Data]:
    made = Data(tmp_path / "data", bucket)
    yield made
    made.close()


def test_what_is_new_goes_in_pieces_that_nobody_writes_again(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PIECE_BYTES", 1000)
    data.write(20)
    copies = data.copies()
    assert [copy.send() for copy in copies] == [21, data.trail.head.seq]
    before = [copy.pieces() for copy in copies]
    assert all(len(pieces) > 1 for pieces in before)
    assert [copy.send() for copy in copies] == [0, 0]
    data.write(5)
    again = data.copies()  # another run of the server goes on where the first was
    assert again[0].send() == 5
    assert again[1].send() > 0
    for copy, pieces, name in zip(again, before, ("register", "audit"), strict=True):
        assert copy.pieces()[: len(pieces)] == pieces
        assert copy.fetch() == data.lines()[name]
        assert copy.behind == 0
        assert copy.check() == []


def test_a_lost_data_folder_comes_back(data: Data, tmp_path: Path, bucket: S3Settings) -> None:
    data.write(30)
    data.close()
    for copy in data.copies():
        copy.send()
    other = tmp_path / "other"
    storage = Driven(other / "archive", bucket)
    other.mkdir()
    assert storage.restore_logs(other) == ["register", "audit"]
    assert storage.restore_logs(other) == []
    assert (other / "archive" / register.NAME).read_bytes() == data.lines()["register"]
    trusted = TrustedKeys()
    trusted.add(KEY.public)
    assert verify_trail(other, trusted).ok
    later = Data(other, bucket)
    later.write(3)
    assert [copy.send() > 0 for copy in later.copies()] == [True, True]
    later.close()
    assert verify_trail(other, trusted).ok


def test_a_log_that_was_cut_or_changed_and_signed_anew_is_named(data: Data) -> None:
    """Whoever has the key can make a genuine chain of what he likes: the bucket still has the other one."""
    data.write(10)
    data.copies()[0].send()
    path = data.folder / "archive" / register.NAME
    kept = path.read_bytes().splitlines(keepends=True)
    forged, head = [], chained.ORIGIN
    for raw in kept:
        facts = {
            name: value for name, value in json.loads(raw).items() if name not in ("seq", "prev", "key", "signature")
        }
        if facts.get("recording") == "recording-4":
            facts["recording"] = "recording-5"
        line, head = chained.compose(head, facts, KEY)
        forged.append(line)
    path.write_bytes(b"".join(forged))
    assert [(p.kind, p.name) for p in data.storage.check_logs(data.folder)["register"]] == [("altered", "register")]
    path.write_bytes(b"".join(kept[:6]))
    assert [(p.kind, p.name) for p in data.storage.check_logs(data.folder)["register"]] == [("missing", "register")]
    copy = LogCopy("register", data.storage.bucket, data.storage._locks, lambda: [path], lambda: Head(12, ""))
    line, _ = chained.compose(Head(11, "0" * 64), {"event": "recording-begun"}, KEY)
    path.write_bytes(b"".join(kept) + line)
    with pytest.raises(Unreadable, match="entry 12 of register does not follow"):
        copy.send()


def test_a_line_that_does_not_count_as_written_stays_here(data: Data) -> None:
    data.write(3)
    path = data.folder / "archive" / register.NAME
    line, _ = chained.compose(data.register.head, {"event": "recording-begun", "recording": "failed"}, KEY)
    with path.open("ab") as stream:
        stream.write(line + line[:20])
    copy = data.copies()[0]
    assert copy.send() == 4
    assert b"failed" not in copy.fetch()


@given(st.integers(0, 60), st.integers(0, 70), st.integers(0, 1 << 30))
def test_a_line_is_found_by_halving(
    tmp_path_factory: pytest.TempPathFactory, count: int, after: int, seed: int
) -> None:
    dice = random.Random(seed)
    head, lines = chained.ORIGIN, []
    for _ in range(count):
        line, head = chained.compose(head, {"text": "x" * dice.choice((0, 1, 5, 300))})
        lines.append(line)
    stream = io.BytesIO(b"".join(lines))
    assert _offset(stream, after) == sum(len(line) for line in lines[:after])
