"""What shows that recordings are what was recorded: verification, and what is laid beside the media for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mediaserver.recording import manifest
from mediaserver.recording import register as registers
from mediaserver.recording.amending import Live
from mediaserver.recording.chained import Walk
from mediaserver.recording.evidence import SIGNATURE, TIME_STAMP, Evidence
from mediaserver.recording.problem import Problem, Verdict
from mediaserver.recording.refusals import StillRecording, UnknownRecording
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.verify import REPORT, Checks, Report, verify


class Proving:
    """A part of `archive.Archive`, which makes what it stands on."""

    folder: Path
    _storage: LocalStorage
    _evidence: Evidence
    _signed: bool
    _live: Callable[[], Sequence[Live]]

    if TYPE_CHECKING:

        def _folder(self, recording: str) -> Path | None: ...

    async def verify(self, recording: str) -> Report:
        """Read every byte. Raises `UnknownRecording` and `StillRecording`."""
        if any(live.id == recording for live in self._live()):
            raise StillRecording(f"recording {recording} goes on; it can be verified when it is closed")
        return await asyncio.to_thread(self._verify, recording)

    async def verify_all(self) -> AsyncIterator[Report]:
        """Every recording that is closed, the oldest first. Raises OSError."""
        folders = await asyncio.to_thread(lambda: list(self._storage.folders()))
        register = self.folder / registers.NAME
        entries: dict[str, registers.Entry] | None = None
        if register.exists():
            walk = Walk(self._evidence.trusted, every=False)
            entries, _ = await asyncio.to_thread(registers.read_all, self.folder, walk)
        going = {live.id for live in self._live()}
        for folder in folders:
            if folder.name not in going:
                entry = entries.get(folder.name) if entries else None
                checks = Checks(self._evidence.trusted, self._signed, entry, entries is not None)
                yield await asyncio.to_thread(verify, folder, checks, self._storage)

    async def verify_register(self) -> Verdict:
        """The register itself, and whether all that it has is there. Raises OSError."""
        return await asyncio.to_thread(self._verify_register)

    def _verify_register(self) -> Verdict:
        if not (self.folder / registers.NAME).exists():
            problems = [Problem("missing", registers.NAME, "the archive has no register")] if self._signed else []
            return Verdict(not problems, 0, 0, problems)
        walk = Walk(self._evidence.trusted)
        entries, _ = registers.read_all(self.folder, walk)
        problems = walk.problems + registers.absent({folder.name for folder in self._storage.folders()}, entries)
        return Verdict(not problems, walk.head.seq, walk.sealed, problems, [walk.torn] if walk.torn else [])

    def _verify(self, recording: str) -> Report:
        trusted = self._evidence.trusted
        entry, broken = None, list[Problem]()
        registered = (self.folder / registers.NAME).exists()
        if registered:
            entry, broken = registers.look_up(self.folder, recording, trusted)
        folder = self._folder(recording)
        if folder is not None:
            report = verify(folder, Checks(trusted, self._signed, entry, registered), self._storage)
        elif entry is not None:
            gone = registers.absent([], {recording: entry})
            report = Report(recording, not gone, 0, 0, gone, notes=[entry.gone] if entry.gone else [])
        else:
            raise UnknownRecording(f"there is no recording {recording}")
        return replace(report, ok=report.ok and not broken, problems=report.problems + broken)

    async def keep_report(self, recording: str, data: bytes) -> bool:
        """Lay a session report beside the media, in place of an earlier one; False when there is no such recording.
        Raises OSError."""
        return await self._supplement(recording, REPORT, data)

    async def keep_time_stamp(self, recording: str, data: bytes) -> bool:
        """As `keep_report`: the time stamp of its manifest."""
        return await self._supplement(recording, TIME_STAMP, data)

    async def _supplement(self, recording: str, name: str, data: bytes) -> bool:
        folder = self._folder(recording)
        if folder is None or not (folder / manifest.NAME).exists():
            return False
        await asyncio.to_thread(self._evidence.supplement, self._storage, folder, name, data)
        return True

    async def unstamped(self) -> list[str]:
        """The recordings that are signed and have no time stamp."""

        def look() -> list[str]:
            signed = [folder for folder in self._storage.folders() if (folder / SIGNATURE).exists()]
            return [folder.name for folder in signed if not (folder / TIME_STAMP).exists()]

        return await asyncio.to_thread(look)

    async def manifest_bytes(self, recording: str) -> bytes:
        """The manifest as it is on the disk. Raises `UnknownRecording` and OSError."""
        folder = self._folder(recording)
        try:
            if folder is not None:
                return await asyncio.to_thread((folder / manifest.NAME).read_bytes)
        except FileNotFoundError:
            pass
        raise UnknownRecording(f"there is no manifest of a recording {recording}")

    async def report(self, recording: str) -> bytes:
        """The session report that was laid there. Raises `UnknownRecording` and `Unreadable`."""
        folder = self._folder(recording)
        try:
            if folder is not None:
                return await asyncio.to_thread(self._storage.read, folder / REPORT)
        except FileNotFoundError:
            pass
        raise UnknownRecording(f"there is no report with recording {recording}")
