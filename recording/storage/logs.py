"""The chained logs of an archive in its bucket, in pieces that nobody writes again.

A piece is some whole lines, and its name says which: `logs/register/000000000001-000000000057.jsonl`. It is locked as
media are, read back, and never replaced; so what a log once said stands there, whatever becomes of the log here.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mediaserver.recording import chained
from mediaserver.recording.chained import Head
from mediaserver.recording.problem import Problem
from mediaserver.recording.storage.face import Unreadable
from mediaserver.recording.storage.locks import Locks
from mediaserver.recording.storage.s3 import Bucket

FOLDER = "logs"
REGISTER = "register"
AUDIT = "audit"
PIECE_BYTES = 4 << 20
_NAME = re.compile(r"(\d{12})-(\d{12})\.jsonl")


class Piece(NamedTuple):
    """The lines from number `first` to `last`."""

    first: int
    last: int
    name: str


class LogCopy:
    """One log's copy. Its methods block, are used by one thread at a time, and raise OSError with a sentence."""

    def __init__(
        self,
        name: str,
        bucket: Bucket,
        locks: Locks,
        files: Callable[[], list[Path]],
        head: Callable[[], Head] = lambda: chained.ORIGIN,
    ) -> None:
        """`files` are the log's in the order of their lines. `head` is the last line that counts as written: what
        stands behind it may be of a write that failed."""
        self.name = name
        self._bucket = bucket
        self._locks = locks
        self._files = files
        self._head = head
        self._sent: Head | None = None

    @property
    def is_here(self) -> bool:
        """There is something of it in the data folder."""
        return any(path.exists() and path.stat().st_size for path in self._files())

    @property
    def behind(self) -> int:
        """How many lines the bucket lacks."""
        return self._head().seq - (self._sent.seq if self._sent else 0)

    def send(self) -> int:
        """What is new; gives how many lines."""
        sent = self._sent = self._sent or self._last_sent()
        upto = self._head().seq
        for data, first, last in self._unsent(sent, upto):
            target = f"{FOLDER}/{self.name}/{first:012}-{last.seq:012}.jsonl"
            self._bucket.put(target, data)
            if self._bucket.sha256(target) != hashlib.sha256(data).hexdigest():
                raise OSError(f"S3: {target} does not come back as it was sent")
            self._protect(target)
            self._sent = last
        return self._sent.seq - sent.seq

    def check(self) -> list[Problem]:
        """What the bucket has and the log here has not, or has otherwise."""
        problems = []
        for piece in self.pieces():
            here = [raw for number, raw in self._lines(piece.first - 1) if number <= piece.last]
            count = piece.last - piece.first + 1
            if len(here) < count:
                lost = f"{count - len(here)} of the entries {piece.first} to {piece.last}, which the bucket has"
                problems.append(Problem("missing", self.name, lost))
            elif hashlib.sha256(b"".join(here)).hexdigest() != self._bucket.sha256(piece.name):
                other = f"entries {piece.first} to {piece.last} are not those that the bucket has"
                problems.append(Problem("altered", self.name, other))
        return problems

    def fetch(self) -> bytes:
        """All lines that the bucket has, from the first on."""
        lines, following = [], 1
        for piece in self.pieces():
            if piece.first != following:
                raise Unreadable(f"the bucket lacks entries {following} to {piece.first - 1} of {self.name}")
            lines.append(b"".join(self._bucket.chunks(piece.name)))
            following = piece.last + 1
        return b"".join(lines)

    def pieces(self) -> list[Piece]:
        """Those in the bucket, in order. Of two that begin with the same line the longer one counts."""
        found: dict[int, Piece] = {}
        for name in self._bucket.names(f"{FOLDER}/{self.name}"):
            match = _NAME.fullmatch(Path(name).name)
            if match:
                piece = Piece(int(match[1]), int(match[2]), name)
                if piece.first not in found or piece.last > found[piece.first].last:
                    found[piece.first] = piece
        return sorted(found.values())

    def _last_sent(self) -> Head:
        pieces = self.pieces()
        if not pieces:
            return chained.ORIGIN
        self._protect(pieces[-1].name)  # a crash may have come between
        last = b"".join(self._bucket.chunks(pieces[-1].name)).removesuffix(b"\n").rpartition(b"\n")[2]
        return Head(pieces[-1].last, hashlib.sha256(last).hexdigest())

    def _protect(self, target: str) -> None:
        if self._locks.wanted:
            self._locks.lock(self._bucket.key(target))

    def _unsent(self, sent: Head, upto: int) -> Iterator[tuple[bytes, int, Head]]:
        """Pieces: the data, the number of its first line, and its last."""
        data, first, head = b"", sent.seq + 1, sent
        for number, raw in self._lines(sent.seq):
            if number > upto:
                break
            if number != head.seq + 1 or _prev(raw) != head.digest:
                raise Unreadable(f"entry {number} of {self.name} does not follow what the bucket has of it")
            data += raw
            head = Head(number, hashlib.sha256(raw[:-1]).hexdigest())
            if len(data) >= PIECE_BYTES:
                yield data, first, head
                data, first = b"", head.seq + 1
        if data:
            yield data, first, head

    def _lines(self, after: int) -> Iterator[tuple[int, bytes]]:
        """The whole lines whose numbers are more than `after`, with their ends."""
        for path in self._files():
            with path.open("rb") as stream:
                stream.seek(_offset(stream, after))
                for raw in stream:
                    if raw.endswith(b"\n"):
                        yield _number(raw), raw


def _offset(stream: BinaryIO, after: int) -> int:
    """Where the first line stands whose number is more than `after`; found by halving."""
    low, high = 0, stream.seek(0, io.SEEK_END)
    while low < high:
        middle = (low + high) // 2
        stream.seek(max(0, middle - 1))
        if middle:
            stream.readline()
        start = stream.tell()
        line = stream.readline()
        if start >= high or not line.endswith(b"\n") or _number(line) > after:
            high = middle
        else:
            low = start + len(line)
    return low


def _number(raw: bytes) -> int:
    members = chained.decode(raw)
    if members is None:
        raise Unreadable(f"a line is no entry of the chain: {raw[:40]!r}")
    return int(members["seq"])


def _prev(raw: bytes) -> str:
    return str((chained.decode(raw) or {}).get("prev"))
