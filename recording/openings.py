"""Who opened a recording in an emergency: the lines of `break-glass.jsonl` in the data folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

NAME = "break-glass.jsonl"


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag_field="what", tag="opened"):
    """`token` is the SHA-256 of the one that it is open to, until `until_us`. Times are Unix times in µs."""

    id: str
    recording: str
    who: str
    role: str
    reason: str
    address: str
    at_us: int
    until_us: int
    token: str


class Alerted(msgspec.Struct, frozen=True, kw_only=True, tag_field="what", tag="alerted"):
    """The webhook has taken the alert."""

    id: str
    at_us: int


class Reviewed(msgspec.Struct, frozen=True, kw_only=True, tag_field="what", tag="reviewed"):
    """Somebody has looked into it."""

    id: str
    by: str
    note: str
    at_us: int


@dataclass(slots=True)
class Opening:
    """What there is to know of one."""

    opened: Opened
    alerted: bool = False
    reviewed: Reviewed | None = None

    def refusal(self, by: str) -> str:
        """Why `by` can't review it, in words; empty when he can."""
        if self.reviewed is not None:
            return f"{self.reviewed.by} has reviewed it"
        return "nobody reviews what he has opened himself" if by == self.opened.who else ""


_decoder = msgspec.json.Decoder(Opened | Alerted | Reviewed)


def fold(path: Path) -> list[Opening]:
    """In the order of their making; a line that a crash has torn says nothing. Raises OSError."""
    found: dict[str, Opening] = {}
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    for text in data.splitlines():
        try:
            line = _decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if isinstance(line, Opened):
            found[line.id] = Opening(line)
        elif line.id in found and isinstance(line, Alerted):
            found[line.id].alerted = True
        elif line.id in found and isinstance(line, Reviewed):
            found[line.id].reviewed = line
    return list(found.values())


def append(path: Path, line: Opened | Alerted | Reviewed) -> None:
    """On the disk when it returns. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    try:
        end = os.fstat(fd).st_size
        data = msgspec.json.encode(line) + b"\n"
        if end and os.pread(fd, 1, end - 1) != b"\n":  # a line that a crash has torn
            data = b"\n" + data
        if os.write(fd, data) != len(data):
            raise OSError("the disk is full")
        os.fsync(fd)
    finally:
        os.close(fd)
