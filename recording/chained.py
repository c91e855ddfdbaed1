"""Append-only logs whose lines are chained: the register of recordings and the audit trail.

A line is a JSON object. Its `seq` counts from 1, its `prev` is the SHA-256 of the line before it without the line's
end (64 zeros for the first). A sealed line ends with the members `key` and `signature`; the Ed25519 signature is over
the line without `signature`, so that it covers all lines up to there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mediaserver.recording.keys import SIGNATURE_BYTES, SigningKey, Trust, TrustedKeys
from mediaserver.recording.problem import Problem

MAX_LINE = 1 << 20
_MARK = b',"signature":"'
_TAIL = 64 << 10


class Head(NamedTuple):
    """The last line: its number and its SHA-256."""

    seq: int
    digest: str


ORIGIN = Head(0, "0" * 64)


class End(NamedTuple):
    """Where a log ends: its last whole line, the bytes up to there, and what stands torn behind it."""

    head: Head
    size: int
    torn: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """A whole line; `facts` has all its members."""

    file: str
    seq: int
    facts: dict[str, Any]


def compose(head: Head, facts: dict[str, Any], signer: SigningKey | None = None) -> tuple[bytes, Head]:
    """The line that follows `head`, with its end, and the head that it makes. With `signer` it is sealed."""
    members = {"seq": head.seq + 1, "prev": head.digest} | facts
    if signer is not None:
        members["key"] = signer.id
    # A lone surrogate from a client is no reason to end; the escape is JSON's own.
    text = json.dumps(members, ensure_ascii=False, separators=(",", ":"), default=str)
    line = text.encode("utf-8", "backslashreplace")
    if signer is not None:
        line = line[:-1] + _MARK + signer.sign(line).hex().encode() + b'"}'
    return line + b"\n", Head(head.seq + 1, hashlib.sha256(line).hexdigest())


def find_end(path: Path) -> End:
    """The end of the log at `path`; the origin where there is none. Reads no more than its tail. Raises OSError."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            back = _TAIL
            while True:
                stream.seek(max(0, size - back))
                tail = stream.read()
                whole, newline, torn = tail.rpartition(b"\n")
                before, _, last = whole.rpartition(b"\n")
                if before or back >= size:
                    break
                back *= 4
    except FileNotFoundError:
        return End(ORIGIN, 0, b"")
    if not newline:
        return End(ORIGIN, 0, torn)
    members = decode(last)
    seq = members["seq"] if members else 0
    return End(Head(seq, hashlib.sha256(last).hexdigest()), size - len(torn), torn)


def decode(line: bytes) -> dict[str, Any] | None:
    """The members of a line of the chain; None where it is none."""
    try:
        members = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if not isinstance(members, dict) or not isinstance(members.get("prev"), str):
        return None
    return members if type(members.get("seq")) is int else None


@dataclass
class Walk:
    """Follows a chain through its files, from `head` on, and collects what is wrong.

    Where the chain breaks it says so once and goes on from there. Without `every` only what `signed` asks for is
    checked of the signatures: the last one covers all lines before it.
    """

    trusted: TrustedKeys
    head: Head = ORIGIN
    every: bool = True
    problems: list[Problem] = field(default_factory=list)
    torn: str = ""
    """What was found of a last line that was never written to its end, in words."""
    sealed: int = 0
    """The number of the last sealed line."""
    at: dict[int, str] = field(default_factory=dict)
    """The SHA-256 of the lines whose numbers were asked for by being keys here."""

    def lines(self, paths: Sequence[Path]) -> Iterator[Line]:
        """Every line that is one, in order. Raises OSError."""
        last = b""
        for path in paths:
            with path.open("rb") as stream:
                for number, raw in enumerate(iter(lambda: stream.readline(MAX_LINE), b""), 1):
                    if not raw.endswith(b"\n"):
                        self._end(path, paths, number, raw)
                        continue
                    line = self._line(path.name, number, raw[:-1])
                    if line is not None:
                        if b'"signature":' in raw:
                            last = raw[:-1]
                        yield line
        if not self.every and last:
            self._signature(paths[-1].name, "the last sealed line", last, decode(last) or {})

    def _end(self, path: Path, paths: Sequence[Path], number: int, raw: bytes) -> None:
        if path == paths[-1] and len(raw) < MAX_LINE:
            self.torn = f"{path.name}: line {number} was not written to its end ({len(raw)} bytes), as after a crash"
        else:
            self.problems.append(Problem("altered", path.name, f"line {number} does not end"))

    def _line(self, file: str, number: int, raw: bytes) -> Line | None:
        members = decode(raw)
        if members is None:
            self.problems.append(Problem("altered", file, f"line {number} is no entry of the chain"))
            # The next line follows it by its bytes, altered or not; its number is one more.
            self.head = Head(self.head.seq + 1, hashlib.sha256(raw).hexdigest())
            return None
        seq = members["seq"]
        self._follow(file, number, seq, members["prev"])
        self.head = Head(seq, hashlib.sha256(raw).hexdigest())
        if seq in self.at:
            self.at[seq] = self.head.digest
        if "signature" in members:
            self.sealed = seq
            if self.every:
                self._signature(file, f"line {number}", raw, members)
        return Line(file, seq, members)

    def _follow(self, file: str, number: int, seq: int, prev: str) -> None:
        expected = self.head.seq + 1
        if seq > expected:
            entries = f"entry {expected}" if seq == expected + 1 else f"entries {expected} to {seq - 1}"
            self.problems.append(Problem("missing", file, f"{entries} before line {number}"))
        elif seq < expected:
            self.problems.append(Problem("swapped", file, f"entry {seq} stands in line {number}, after {expected - 1}"))
        elif prev != self.head.digest:
            said = f"line {number} does not follow from what stands before it: one of the two was changed"
            self.problems.append(Problem("altered", file, said))

    def _signature(self, file: str, where: str, raw: bytes, members: dict[str, Any]) -> None:
        body, mark, rest = raw.rpartition(_MARK)
        try:
            signature = bytes.fromhex(rest.removesuffix(b'"}').decode())
        except ValueError:
            signature = b""
        trust = Trust.BAD
        if mark and len(signature) == SIGNATURE_BYTES and rest == signature.hex().encode() + b'"}':
            trust = self.trusted.check(str(members.get("key")), signature, body + b"}")
        if trust is Trust.UNKNOWN:
            key = members.get("key")
            self.problems.append(Problem("unknown-key", file, f"{where} is sealed by {key}, which is not trusted"))
        elif trust is Trust.BAD:
            self.problems.append(Problem("altered", file, f"{where}: its signature is not that of its content"))
