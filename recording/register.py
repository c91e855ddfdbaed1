"""The register of an archive: which recordings it has had, each line chained and sealed, so that none goes unnoticed.

recording-begun         its folder is on the disk
recording-closed        `sha256` is that of its manifest's bytes
recording-supplemented  `sha256` is that of its supplement
recording-amended       what people added has changed: `number` of the change, `sha256` of the list (`additions`)
recording-discarded     nothing of it had reached the disk
recording-disposed      it goes by right: `by` whom, `class` and `reason`; `sha256` is that of what is left (`disposal`)
recording-adopted       it was there before the register was
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mediaserver.recording import chained, manifest
from mediaserver.recording.chained import Head, Walk
from mediaserver.recording.keys import SigningKey, TrustedKeys
from mediaserver.recording.problem import Problem
from mediaserver.recording.storage import LocalStorage, StoredFile
from mediaserver.recording.views import iso

NAME = "register.jsonl"

Event = Literal[
    "register-begun",
    "register-torn",
    "recording-begun",
    "recording-closed",
    "recording-supplemented",
    "recording-amended",
    "recording-discarded",
    "recording-disposed",
    "recording-adopted",
]


class Register:
    """Writes it. From any thread; each line is on the disk when the call returns."""

    def __init__(
        self,
        storage: LocalStorage,
        signer: SigningKey,
        wall_us: Callable[[], int],
        anchor: Callable[[], Head] = lambda: chained.ORIGIN,
    ) -> None:
        """`anchor` is the head of another chained log, the audit trail: each line holds it, so that neither of the two
        can be cut alone."""
        self.path = storage.root / NAME
        self._storage = storage
        self._signer = signer
        self._wall_us = wall_us
        self._anchor = anchor
        self._lock = threading.Lock()
        self._file: StoredFile | None = None
        self._size = 0
        self._head = chained.ORIGIN
        self.is_new = False
        """It has begun when it was opened."""

    @property
    def head(self) -> Head:
        return self._head

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def open(self) -> None:
        """Go on where it ends. A new one takes in what the archive holds. Raises OSError."""
        end = chained.find_end(self.path)
        self._head, self._size = end.head, end.size
        self._file = self._storage.open(self.path)
        if end.torn:
            # Nobody was told that this line stands; what there is of it is kept in the one that takes its place.
            self._file.truncate(end.size)
            self._append("register-torn", text=end.torn.decode("utf-8", "backslashreplace"))
        if end.head == chained.ORIGIN and not end.torn:
            self._storage.sync_folder(self.path.parent)
            self._append("register-begun")
            self.is_new = True
            for folder in self._storage.folders():
                path = folder / manifest.NAME
                if path.is_file():
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()
                    self._append("recording-adopted", recording=folder.name, sha256=digest)

    def append(self, event: Event, recording: str, **facts: str) -> None:
        """Raises OSError; then it may be called again."""
        self._append(event, recording=recording, **facts)

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _append(self, event: Event, **facts: str) -> None:
        with self._lock:
            if self._file is None:
                raise OSError("the register is not open")
            audit = self._anchor()
            members: dict[str, Any] = {"time": iso(self._wall_us()), "event": event} | facts
            if audit != chained.ORIGIN:
                members["audit"] = {"seq": audit.seq, "digest": audit.digest}
            line, head = chained.compose(self._head, members, self._signer)
            if self._file.size > self._size:  # of a call that failed
                self._file.truncate(self._size)
            self._file.write(line, self._size)
            self._file.sync()
            self._size += len(line)
            self._head = head


@dataclass(slots=True)
class Entry:
    """What the register says of one recording. Times are RFC 3339."""

    begun: str = ""
    closed: str = ""
    manifest: str = ""
    """The SHA-256 of the manifest's bytes."""
    supplement: str = ""
    """The SHA-256 of the supplement's bytes."""
    adopted: str = ""
    additions: tuple[int, str] | None = None
    """Number and SHA-256 of the last list of additions."""
    disposed: str = ""
    """The SHA-256 of what a disposal leaves, `disposed.json`."""
    gone: str = ""
    """When it was disposed of or discarded, by whom and why, in words."""

    def take(self, facts: dict[str, Any]) -> None:
        time, sha256 = str(facts.get("time", "")), str(facts.get("sha256", ""))
        match facts.get("event"):
            case "recording-begun":
                self.begun = time
            case "recording-closed":
                self.closed, self.manifest = time, sha256
            case "recording-adopted":
                self.adopted, self.manifest = time, sha256
            case "recording-supplemented":
                self.supplement = sha256
            case "recording-amended" if str(facts.get("number")).isdigit():
                self.additions = int(facts["number"]), sha256
            case "recording-discarded":
                self.gone = f"discarded at {time}: nothing of it had reached the disk"
            case "recording-disposed":
                self.disposed = sha256
                self.gone = f"disposed of at {time} by {facts.get('by')}: {facts.get('reason')}"


def look_up(root: Path, recording: str, trusted: TrustedKeys) -> tuple[Entry | None, list[Problem]]:
    """What the register of the archive at `root` says of one recording, and what is wrong with the register. No entry:
    it does not know the recording. Raises OSError."""
    walk = Walk(trusted, every=False)
    entry: Entry | None = None
    for line in walk.lines([root / NAME]):
        if line.facts.get("recording") == recording:
            entry = entry or Entry()
            entry.take(line.facts)
    return entry, walk.problems


def read_all(root: Path, walk: Walk) -> tuple[dict[str, Entry], dict[int, str]]:
    """All entries by recording, and the heads of the audit trail that the lines hold. Raises OSError."""
    entries: dict[str, Entry] = {}
    anchors: dict[int, str] = {}
    for line in walk.lines([root / NAME]):
        recording = line.facts.get("recording")
        if isinstance(recording, str):
            entries.setdefault(recording, Entry()).take(line.facts)
        anchors |= anchor_of(line.facts, "audit")
    return entries, anchors


def anchor_of(facts: dict[str, Any], name: str) -> dict[int, str]:
    """The head of another log that a line holds: number and SHA-256."""
    held = facts.get(name)
    if isinstance(held, dict) and isinstance(held.get("seq"), int) and isinstance(held.get("digest"), str):
        return {held["seq"]: held["digest"]}
    return {}


def absent(there: Collection[str], entries: dict[str, Entry]) -> list[Problem]:
    """What the register has and is not `there`, without leave."""
    return [
        Problem("missing", name, _last_seen(entry))
        for name, entry in entries.items()
        if name not in there and not entry.gone
    ]


def _last_seen(entry: Entry) -> str:
    if entry.closed:
        return f"the register has it since {entry.begun or entry.closed}, and no disposal of it"
    if entry.adopted:
        return f"the register has it since {entry.adopted}, and no disposal of it"
    return f"it was begun at {entry.begun}; what there was of it is gone"
