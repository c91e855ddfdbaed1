"""The files of the audit trail: a chained log in parts, the newest under its own name.

audit.log                the part that grows
audit-<number>.log       full parts, each by the number of its last line
audit.head               the last sealed line once more: a trail that ends before it was cut
audit-before.log         what an earlier version wrote, without a chain; its SHA-256 is in the first line
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from mediaserver.recording import chained, register
from mediaserver.recording.chained import Head, Line, Walk
from mediaserver.recording.keys import SigningKey, TrustedKeys
from mediaserver.recording.problem import Problem, Verdict
from mediaserver.recording.register import anchor_of
from mediaserver.recording.storage import LocalStorage, StoredFile

NAME = "audit.log"
HEAD = "audit.head"
BEFORE = "audit-before.log"
BATCH = 100

Facts = dict[str, Any]


class Limits(msgspec.Struct, frozen=True):
    """When a part is full, and after how many lines or µs the head is signed."""

    part_bytes: int = 64 << 20
    seal_lines: int = 1000
    seal_us: int = 60_000_000


class Trail:
    """Writes it; used by one thread. Every method but `head` raises OSError; what was given is then still held."""

    def __init__(self, path: Path, signer: SigningKey | None, limits: Limits, time: Callable[[], str]) -> None:
        """`time` is the wall clock's, for lines of its own. Without a `signer` nothing is sealed."""
        self.path = path
        self.held: deque[Facts] = deque()
        """Lines that are not on their way yet."""
        self.anchor: Callable[[], Head] = lambda: chained.ORIGIN
        """The head of the archive's register, which sealed lines hold."""
        self._signer = signer
        self._limits = limits
        self._time = time
        self._storage = LocalStorage(path.parent)
        self._file: StoredFile | None = None
        self._size = 0
        self._head = chained.ORIGIN
        self._unsealed = 0
        self._unsealed_since = 0
        self._fresh = True
        self._to_publish = b""

    @property
    def head(self) -> Head:
        return self._head

    def open(self) -> list[str]:
        """Go on where it ends; gives in words what was found wrong with the end."""
        found: list[Facts] = []
        end = chained.find_end(self.path)
        if end.head != chained.ORIGIN and end.head.seq == 0:
            before = self.path.with_name(BEFORE)
            self.path.rename(before)
            digest = hashlib.sha256(before.read_bytes()).hexdigest()
            found.append({"event": "trail-adopted", "file": before.name, "sha256": digest})
            end = chained.End(chained.ORIGIN, 0, b"")
        self._head, self._size = end.head, end.size
        if not end.size:
            parts = _full_parts(self.path.parent)
            self._head = chained.find_end(parts[-1]).head if parts else chained.ORIGIN
        if end.torn:  # the next line takes its place
            found.append({"event": "trail-torn", "text": end.torn.decode("utf-8", "backslashreplace")})
        cut = _cut(self.path.parent, self._head)
        if cut:
            found.append({"event": "trail-cut", "reason": cut})
        self.held.extend({"time": self._time()} | facts for facts in found)
        return [str(facts.get("reason") or facts["event"]) for facts in found]

    def wait_us(self, now: int) -> int | None:
        """After how long the head is to be signed; None when it is."""
        if self._signer is None or not self._unsealed:
            return None
        return max(0, self._unsealed_since + self._limits.seal_us - now)

    def write(self, now: int, *, closing: bool = False) -> None:
        """What is held, to the disk. The last line at closing is sealed, and on the disk for good."""
        self._publish()
        while self.held:
            batch = [self.held[at] for at in range(min(BATCH, len(self.held)))]
            self._append(batch, now, seal_last=closing and len(batch) == len(self.held))
            for _ in batch:
                self.held.popleft()
            self._publish()
            if self._size >= self._limits.part_bytes:
                self._rotate(now)
        if self._signer and self._unsealed and (closing or self.wait_us(now) == 0):
            self._append([self._own("trail-sealed")], now, seal_last=True)
            self._publish()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _own(self, event: str) -> Facts:
        return {"time": self._time(), "event": event}

    def _append(self, batch: list[Facts], now: int, *, seal_last: bool) -> None:
        """Compose the lines and write them all, or none."""
        head, unsealed, fresh = self._head, self._unsealed, self._fresh
        lines: list[bytes] = []
        sealed = b""
        for number, facts in enumerate(batch, 1):
            due = fresh or unsealed + 1 >= self._limits.seal_lines or (seal_last and number == len(batch))
            if due and self._signer is not None:
                line, head = chained.compose(head, facts | self._anchored(), self._signer)
                sealed, unsealed, fresh = line, 0, False
            else:
                line, head = chained.compose(head, facts)
                unsealed += 1
            lines.append(line)
        data = b"".join(lines)
        file = self._opened()
        if file.size > self._size:  # what a failed call has left
            file.truncate(self._size)
        file.write(data, self._size)
        if unsealed and not self._unsealed:
            self._unsealed_since = now
        self._size += len(data)
        self._head, self._unsealed, self._fresh = head, unsealed, fresh
        self._to_publish = sealed or self._to_publish

    def _opened(self) -> StoredFile:
        if self._file is None:
            self._file = self._storage.open(self.path)
            self._storage.sync_folder(self.path.parent)
        return self._file

    def _anchored(self) -> Facts:
        seen = self.anchor()
        return {} if seen == chained.ORIGIN else {"register": {"seq": seen.seq, "digest": seen.digest}}

    def _publish(self) -> None:
        """The sealed line is on the disk before its copy says that it is."""
        if self._to_publish:
            self._opened().sync()
            self._storage.write_atomic(self.path.with_name(HEAD), self._to_publish)
            self._to_publish = b""

    def _rotate(self, now: int) -> None:
        self._append([self._own("trail-rotated")], now, seal_last=True)
        self._publish()
        self._opened().sync()
        self.path.rename(self.path.with_name(f"audit-{self._head.seq:012}.log"))
        self.close()
        self._size = 0


def restore(folder: Path, lines: bytes) -> None:
    """Lay the whole trail into a folder that has none. Raises OSError."""
    storage = LocalStorage(folder)
    whole = lines.splitlines(keepends=True)
    sealed = [line for line in whole if b'"signature":' in line]
    last = chained.decode(whole[-1]) or {}
    if sealed:
        storage.write_atomic(folder / HEAD, sealed[-1])
    storage.write_atomic(folder / f"audit-{last.get('seq', 0):012}.log", lines)


def parts(folder: Path) -> list[Path]:
    """The files of the trail in the order of their lines."""
    newest = folder / NAME
    return [*_full_parts(folder), *([newest] if newest.exists() else [])]


def _full_parts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("audit-*.log") if path.stem.removeprefix("audit-").isdigit())


def _published(folder: Path) -> tuple[Head, bytes] | None:
    """What `audit.head` says, where it is one."""
    try:
        line = (folder / HEAD).read_bytes().removesuffix(b"\n")
        seq = msgspec.json.decode(line)["seq"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (Head(seq, hashlib.sha256(line).hexdigest()), line) if isinstance(seq, int) else None


def _cut(folder: Path, head: Head) -> str:
    """Why the trail ends too early, in words; empty when it does not."""
    published = _published(folder)
    if published is None or published[0].seq <= head.seq:
        return ""
    last = published[0].seq
    return f"{HEAD} has sealed entry {last}, and the trail ends with {head.seq or 'nothing'}: it was cut"


class Reading:
    """Goes through the trail in `folder` and holds it against its seals; what is wrong is known when `lines` has ended.

    `anchors` are heads of the trail that the archive's register holds, by number.
    """

    def __init__(self, folder: Path, trusted: TrustedKeys, anchors: dict[int, str] | None = None) -> None:
        self._folder = folder
        self._anchors = anchors or {}
        self._published = _published(folder)
        self.walk = Walk(trusted)
        self.walk.at = dict.fromkeys(self._anchors, "")
        if self._published is not None:
            self.walk.at[self._published[0].seq] = ""
        self.registers: dict[int, str] = {}
        """Heads of the archive's register that the trail holds, by number."""
        self.count = 0

    @property
    def problems(self) -> list[Problem]:
        return self.walk.problems

    def lines(self) -> Iterator[Line]:
        """Raises OSError."""
        paths = parts(self._folder)
        for line in self.walk.lines(paths):
            self.count += 1
            self.registers |= anchor_of(line.facts, "register")
            if line.facts.get("event") == "trail-adopted":
                self._before(line)
            elif line.facts.get("event") == "trail-cut":
                self.problems.append(Problem("missing", line.file, f"entry {line.seq}: {line.facts.get('reason')}"))
            yield line
        self._end()

    def _before(self, line: Line) -> None:
        try:
            digest = hashlib.sha256((self._folder / BEFORE).read_bytes()).hexdigest()
        except OSError as error:
            self.problems.append(Problem("missing", BEFORE, error.strerror or str(error)))
            return
        if digest != line.facts.get("sha256"):
            self.problems.append(Problem("altered", BEFORE, f"entry {line.seq} has another SHA-256 of it"))

    def _end(self) -> None:
        head = self.walk.head
        if self._published is None:
            # A server that was killed before its first sealed line was on the disk for good has published none.
            if self.walk.sealed > 1:
                self.problems.append(Problem("missing", HEAD, "there is none, or it can't be read"))
        elif (cut := _cut(self._folder, head)) and not self._is_told():
            self.problems.append(Problem("missing", NAME, cut))
        elif self.walk.at[self._published[0].seq] != self._published[0].digest and not cut:
            self.problems.append(Problem("altered", HEAD, f"it is not entry {self._published[0].seq} of the trail"))
        self.problems.extend(unmatched(NAME, "the register of the archive", self._anchors, self.walk))

    def _is_told(self) -> bool:
        """A line of the trail has told it already."""
        return any("it was cut" in problem.detail for problem in self.problems)


def unmatched(name: str, witness: str, anchors: dict[int, str], walk: Walk) -> list[Problem]:
    """What another log has seen of this one's heads and is no longer so; `walk` was asked for them."""
    lost = [seq for seq in sorted(anchors) if seq > walk.head.seq]
    changed = [seq for seq, digest in anchors.items() if seq <= walk.head.seq and walk.at.get(seq) != digest]
    problems = []
    if lost:
        problems.append(Problem("missing", name, f"{witness} has seen entry {lost[-1]}, it ends with {walk.head.seq}"))
    if changed:
        problems.append(Problem("altered", name, f"entry {min(changed)} is not the one that {witness} has seen"))
    return problems


def verify_trail(data: Path, trusted: TrustedKeys) -> Verdict:
    """The trail in the data folder, held against its seals and against the archive's register. Raises OSError."""
    archive = data / "archive"
    known = (archive / register.NAME).exists()
    anchors = register.read_all(archive, Walk(trusted, every=False))[1] if known else {}
    reading = Reading(data, trusted, anchors)
    for _ in reading.lines():
        pass
    problems = list(reading.problems)
    if not reading.count:
        problems.append(Problem("missing", NAME, "there is no entry"))
    if reading.registers:
        problems += _held_against(archive, reading.registers, trusted)
    notes = [reading.walk.torn] if reading.walk.torn else []
    late = reading.walk.head.seq - reading.walk.sealed
    if late and reading.count:
        notes.append(f"the last {late} entries are not sealed yet")
    return Verdict(not problems, reading.count, reading.walk.sealed, problems, notes)


def _held_against(archive: Path, seen: dict[int, str], trusted: TrustedKeys) -> list[Problem]:
    """The register, by what the trail has seen of it."""
    walk = Walk(trusted, every=False, at=dict.fromkeys(seen, ""))
    paths = [archive / register.NAME]
    for _ in walk.lines([path for path in paths if path.exists()]):
        pass
    return unmatched(f"archive/{register.NAME}", "the audit trail", seen, walk)
