"""The audit trail's files: the chain, its seals, its parts, and every way of tampering with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediaserver.recording.keys import TrustedKeys, make_key
from mediaserver.recording.problem import Verdict
from mediaserver.recording.register import Register
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.trail import BEFORE, HEAD, NAME, Limits, Trail, parts, verify_trail

KEY = make_key()
TRUSTED = TrustedKeys([KEY.public])
LIMITS = Limits(part_bytes=4000, seal_lines=10, seal_us=60_000_000)


def opened(folder: Path, limits: Limits = LIMITS) -> Trail:
    trail = Trail(folder / NAME, KEY, limits, lambda: "2026-11-29T12:00:00.000Z")
    trail.open()
    return trail


def put(trail: Trail, count: int, *, now: int = 0, first: int = 0) -> None:
    """One write a line, as when lines come one by one."""
    for number in range(first, first + count):
        trail.held.append({"time": "2026-11-29T12:00:00.000Z", "event": "join", "name": f"Dr. {number}"})
        trail.write(now)


def ended(trail: Trail) -> None:
    trail.write(0, closing=True)
    trail.close()


def written(folder: Path, count: int = 25, limits: Limits = LIMITS) -> Path:
    """A trail of one run that was ended in order."""
    folder.mkdir(parents=True, exist_ok=True)
    trail = opened(folder, limits)
    put(trail, count)
    ended(trail)
    return folder


def verdict(folder: Path, trusted: TrustedKeys = TRUSTED) -> Verdict:
    return verify_trail(folder, trusted)


def named(found: Verdict) -> set[tuple[str, str]]:
    return {(problem.kind, problem.name) for problem in found.problems}


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_genuine(tmp_path: Path) -> None:
    found = verdict(written(tmp_path))
    assert found.ok, found
    assert found.notes == []
    assert found.sealed == found.entries


def test_parts_hold_one_chain(tmp_path: Path) -> None:
    written(tmp_path, 40)
    written(tmp_path, 40)  # another run goes on where the first has ended
    assert len(parts(tmp_path)) > 3
    found = verdict(tmp_path)
    assert found.ok, found
    numbers = [json.loads(line)["seq"] for path in parts(tmp_path) for line in lines(path)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_when_it_is_sealed(tmp_path: Path) -> None:
    trail = opened(tmp_path, Limits(seal_lines=10, seal_us=60_000_000))
    put(trail, 25)
    sealed = [number for number, line in enumerate(lines(tmp_path / NAME), 1) if b'"signature"' in line]
    assert sealed == [1, 11, 21]
    assert verdict(tmp_path).notes == ["the last 4 entries are not sealed yet"]
    assert trail.wait_us(40_000_000) == 20_000_000
    trail.write(59_999_999)
    assert len(lines(tmp_path / NAME)) == 25
    trail.write(60_000_000)
    assert json.loads(lines(tmp_path / NAME)[-1])["event"] == "trail-sealed"
    assert trail.wait_us(61_000_000) is None
    ended(trail)
    assert len(lines(tmp_path / NAME)) == 26
    assert (tmp_path / HEAD).read_bytes() == lines(tmp_path / NAME)[-1]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_flipped_bit_anywhere(tmp_path: Path, data: st.DataObject) -> None:
    if not parts(tmp_path):
        written(tmp_path, 40)
    path = data.draw(st.sampled_from([*parts(tmp_path), tmp_path / HEAD]))
    genuine = path.read_bytes()
    spoilt = bytearray(genuine)
    position = data.draw(st.integers(0, len(genuine) - 1))
    spoilt[position] ^= 1 << data.draw(st.integers(0, 7))
    if path.name == HEAD and position == len(genuine) - 1:
        return  # the end of the only line
    path.write_bytes(spoilt)
    try:
        assert not verdict(tmp_path).ok
    finally:
        path.write_bytes(genuine)


@pytest.mark.parametrize("left", [0, 1, 5, 10, 24])
def test_a_cut_tail(tmp_path: Path, left: int) -> None:
    path = written(tmp_path, limits=Limits(seal_lines=10)) / NAME
    path.write_bytes(b"".join(lines(path)[:left]))
    assert ("missing", NAME) in named(verdict(tmp_path))
    path.unlink()
    assert ("missing", NAME) in named(verdict(tmp_path))


def test_a_cut_tail_is_told_by_the_next_run(tmp_path: Path) -> None:
    path = written(tmp_path, limits=Limits(seal_lines=10)) / NAME
    path.write_bytes(b"".join(lines(path)[:7]))
    trail = Trail(path, KEY, LIMITS, lambda: "2026-11-29T12:00:00.000Z")
    (told,) = trail.open()
    assert told == "audit.head has sealed entry 26, and the trail ends with 7: it was cut"
    put(trail, 40)
    ended(trail)
    assert any("it was cut" in problem.detail for problem in verdict(tmp_path).problems)


def test_a_removed_entry_part_and_head(tmp_path: Path) -> None:
    written(tmp_path, 40)
    first, second, *_ = parts(tmp_path)
    kept = lines(second)
    second.write_bytes(b"".join(kept[:2] + kept[3:]))
    assert named(verdict(tmp_path)) == {("missing", second.name)}
    second.write_bytes(b"".join([*kept[:2], kept[3], kept[2], *kept[4:]]))
    assert ("swapped", second.name) in named(verdict(tmp_path))
    second.write_bytes(b"".join(kept))
    first.rename(tmp_path / "x")
    assert named(verdict(tmp_path)) == {("missing", second.name)}
    (tmp_path / "x").rename(first)
    (tmp_path / HEAD).unlink()
    assert named(verdict(tmp_path)) == {("missing", HEAD)}


def test_a_forged_chain_without_the_key(tmp_path: Path) -> None:
    """Everything is chained anew by somebody who knows how, and sealed with another key."""
    genuine, forged = written(tmp_path / "a"), tmp_path / "b"
    forged.mkdir()
    stranger = Trail(forged / NAME, make_key(), LIMITS, lambda: "2026-11-29T12:00:00.000Z")
    put(stranger, 25)
    ended(stranger)
    for path in forged.iterdir():
        shutil.copy(path, genuine / path.name)
    assert {kind for kind, _ in named(verdict(genuine))} >= {"unknown-key"}


def test_a_torn_last_line(tmp_path: Path) -> None:
    """As after kill -9: tolerated, named, and kept in the next run's first line."""
    path = tmp_path / NAME
    put(opened(tmp_path, Limits()), 5)
    with path.open("ab") as stream:
        stream.write(b'{"seq":6,"prev":"half a li')
    found = verdict(tmp_path)
    assert found.ok
    assert "line 6 was not written to its end" in found.notes[0]
    trail = Trail(path, KEY, LIMITS, lambda: "2026-11-29T12:00:00.000Z")
    assert trail.open() == ["trail-torn"]
    ended(trail)
    assert verdict(tmp_path).ok
    assert json.loads(lines(path)[5])["text"] == '{"seq":6,"prev":"half a li'


def test_a_run_that_was_killed_right_after_it_had_a_new_part(tmp_path: Path) -> None:
    written(tmp_path, 40)
    ends = parts(tmp_path)
    (tmp_path / NAME).unlink(missing_ok=True)
    (tmp_path / HEAD).write_bytes(lines(ends[-2] if ends[-1].name == NAME else ends[-1])[-1])
    written(tmp_path, 3)
    assert verdict(tmp_path).ok


def test_what_was_there_before_the_chain_is_kept(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"time": "2026-01-01T00:00:00.000Z", "event": "join"}\n')
    written(tmp_path)
    assert verdict(tmp_path).ok
    (tmp_path / BEFORE).write_text("{}\n")
    assert named(verdict(tmp_path)) == {("altered", BEFORE)}
    (tmp_path / BEFORE).unlink()
    assert named(verdict(tmp_path)) == {("missing", BEFORE)}


def both(tmp_path: Path) -> tuple[Trail, Register]:
    """The trail and the register, each a witness of the other."""
    (tmp_path / "archive").mkdir()
    trail = opened(tmp_path, Limits(seal_lines=3))
    register = Register(LocalStorage(tmp_path / "archive"), KEY, lambda: 0, lambda: trail.head)
    trail.anchor = lambda: register.head
    register.open()
    for number in range(5):
        put(trail, 2, first=number)
        register.append("recording-begun", f"r{number}")
        register.append("recording-discarded", f"r{number}")
    ended(trail)
    register.close()
    return trail, register


def test_neither_log_can_be_cut_alone(tmp_path: Path) -> None:
    _, register = both(tmp_path)
    assert verdict(tmp_path).ok
    path = tmp_path / NAME
    trail, entries = path.read_bytes(), register.path.read_bytes()
    # The tail goes, and an older head that somebody has kept comes back.
    shorter = lines(path)[:4]
    path.write_bytes(b"".join(shorter))
    (tmp_path / HEAD).write_bytes(shorter[3])
    assert b'"signature"' in shorter[3]
    (problem,) = verdict(tmp_path).problems
    assert (problem.kind, problem.name) == ("missing", NAME)
    assert "the register of the archive has seen entry" in problem.detail
    path.write_bytes(trail)
    (tmp_path / HEAD).write_bytes(trail.splitlines(keepends=True)[-1])
    register.path.write_bytes(b"".join(entries.splitlines(keepends=True)[:3]))
    assert ("missing", "archive/register.jsonl") in named(verdict(tmp_path))


class FailingDisk:
    """Stands in front of a file and refuses while it is told to, after half of the data."""

    refuse = False

    def __init__(self, file: object) -> None:
        self.file = file

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def write(self, data: bytes, offset: int) -> None:
        if FailingDisk.refuse:
            self.file.write(data[: len(data) // 2], offset)  # type: ignore[attr-defined]
            raise OSError(28, "No space left on device")
        self.file.write(data, offset)  # type: ignore[attr-defined]


def test_a_full_disk_costs_no_line(tmp_path: Path) -> None:
    trail = opened(tmp_path, Limits())
    put(trail, 3)
    trail._file = FailingDisk(trail._file)  # type: ignore[assignment]
    FailingDisk.refuse = True
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            put(trail, 1)
    assert len(trail.held) == 2
    FailingDisk.refuse = False
    ended(trail)
    found = verdict(tmp_path)
    assert (found.ok, found.entries) == (True, 5)
