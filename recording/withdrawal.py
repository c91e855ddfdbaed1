"""Carries out what a withdrawn consent asks for: the media of its participant go, for good, once the recording is
closed.

An empty or listing file in `<archive>/.withdrawn` stands for each recording of which something has to go, from the
moment of the withdrawal on, so that a crash, a hold or a disk that refuses only puts it off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from mediaserver.recording import journal, manifest, sidecars, withdrawn
from mediaserver.recording.evidence import Evidence
from mediaserver.recording.manifest import Manifest
from mediaserver.recording.register import Entry
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.withdrawn import Erasure, Withdrawn

REASON = "consent was withdrawn"


class Withdrawals:
    """Those of one archive. Every method may block, and raises OSError."""

    def __init__(
        self,
        storage: LocalStorage,
        evidence: Evidence,
        signed: bool,
        distrust: Callable[[Path, Callable[[str], Entry | None]], str],
    ) -> None:
        """`signed`: without a key at hand, or while the register is another's, nothing is erased, as nobody could vouch
        for it. `distrust` says why holds can't be trusted (`disposal.Disposals.distrust`)."""
        self._storage = storage
        self._evidence = evidence
        self._signed = signed
        self._distrust = distrust
        self._marks = storage.root / ".withdrawn"

    def mark(self, recording: str, files: Iterable[str] = ()) -> None:
        """Something of it has to go: what its manifest says or will say, and these files."""
        self._marks.mkdir(exist_ok=True)
        wanted = sorted({*self._marked(recording), *files})
        self._storage.write_atomic(self._marks / recording, "".join(f"{name}\n" for name in wanted).encode())

    def marked(self) -> list[str]:
        """The recordings of which something has to go."""
        with suppress(FileNotFoundError):
            return sorted(path.name for path in self._marks.iterdir() if not path.name.startswith("."))
        return []

    def carry_out(self, recording: str, now_us: int) -> list[str]:
        """Erase what has to go; gives the names of the files that went now. Nothing goes of a recording that goes on,
        or is held: a hold is stronger, also than an erasure that was interrupted. It can be done again. Raises
        ValueError for a list that can't be read, and for holds that can't be trusted.
        """
        folder = self._storage.find(recording)
        if folder is None or (folder / journal.NAME).exists() or not self._is_able:
            return []
        with sidecars.alone(folder):  # nobody places a hold meanwhile, or disposes of it
            if self._storage.is_leaving(folder):
                if not (folder / manifest.NAME).exists():
                    self._unmark(recording)
                return []
            return self._carry_out(folder, now_us)

    def _carry_out(self, folder: Path, now_us: int) -> list[str]:
        recording = folder.name
        kept = manifest.decode((folder / manifest.NAME).read_bytes())
        wanted = {*withdrawn.to_erase(kept), *self._marked(recording)}
        done = withdrawn.load(folder)
        fresh = _erasures(kept, wanted - {one.file for one in done}, now_us)
        if fresh or done:
            if sidecars.load(folder, self._storage.read).held:
                return []
            if said := self._distrust(folder, self._evidence.entry):
                raise ValueError(said)
        if fresh:
            listed = Withdrawn(withdrawn.VERSION, recording, [*done, *fresh])
            # The list first: whatever happens then, it is known that they were to go and why.
            self._evidence.supplement(self._storage, folder, withdrawn.NAME, withdrawn.encode(listed))
        self._remove(folder, [*done, *fresh])
        self._unmark(recording)
        return [one.file for one in fresh]

    @property
    def _is_able(self) -> bool:
        register = self._evidence.register
        return not self._signed or (self._evidence.signer is not None and (register is None or register.is_open))

    def _remove(self, folder: Path, erasures: Iterable[Erasure]) -> None:
        for one in erasures:
            self._storage.erase_media(folder, one.file, one.sha256)

    def _unmark(self, recording: str) -> None:
        (self._marks / recording).unlink(missing_ok=True)

    def _marked(self, recording: str) -> list[str]:
        with suppress(FileNotFoundError):
            return (self._marks / recording).read_text().split()
        return []


def _erasures(kept: Manifest, files: set[str], now_us: int) -> list[Erasure]:
    return [
        Erasure(segment.file, segment.sha256, now_us, REASON)
        for track in kept.tracks
        for segment in track.segments
        if segment.file in files
    ]
