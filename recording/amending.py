"""What people change of recordings: whom they are about, bookmarks, consents, holds, how long they are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from mediaserver.recording import decision as decisions
from mediaserver.recording import sidecars
from mediaserver.recording.catalog import Access, Catalog, CatalogError
from mediaserver.recording.disposal import Disposals
from mediaserver.recording.evidence import Evidence
from mediaserver.recording.manifest import Manifest
from mediaserver.recording.refusals import Disposed, UnknownRecording
from mediaserver.recording.sidecars import Bookmark, Consent, Hold, Identifiers, Retention, Sidecars
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.upkeep import Upkeep
from mediaserver.recording.withdrawal import Withdrawals


class Live(Protocol):
    """A recording that goes on, such as `recorder.Recording`."""

    @property
    def id(self) -> str: ...

    @property
    def room(self) -> str: ...

    def snapshot(self) -> Manifest: ...


class Amending:
    """A part of `archive.Archive`, which makes what it stands on."""

    disposals: Disposals
    failures: list[str]
    erased: list[tuple[str, list[str]]]
    _storage: LocalStorage
    _evidence: Evidence
    _catalog: Catalog
    _upkeep: Upkeep
    _live: Callable[[], Sequence[Live]]
    _changing: asyncio.Lock
    _withdrawals: Withdrawals

    if TYPE_CHECKING:

        async def get(self, recording: str) -> Manifest: ...

    async def added(self, recording: str) -> Sidecars:
        """What was added to a recording. Raises `UnknownRecording`."""
        folder = await asyncio.to_thread(self._folder_to_change, recording)
        return await asyncio.to_thread(sidecars.load, folder, self._storage.read)

    async def set_identifiers(self, recording: str, identifiers: Identifiers) -> None:
        """Say whom and what a recording is about, in the place of what was said before.

        This and what follows raise `UnknownRecording`, OSError when the disk refuses, and ValueError when the file that
        is to be changed can't be read; the recording may go on.
        """
        known = identifiers if identifiers != Identifiers() else None
        await self._change(recording, "identifiers.json", lambda was: replace(was, identifiers=known))

    async def fill_identifiers(self, recording: str, identifiers: Identifiers) -> None:
        """Add what is not known yet of whom and what a recording is about."""

        def how(was: Sidecars) -> Sidecars:
            return replace(was, identifiers=sidecars.filled(was.identifiers or Identifiers(), identifiers))

        await self._change(recording, "identifiers.json", how)

    async def erase_identifiers(self, recording: str) -> None:
        """Forget whom a recording is about, on the disk and in the catalog."""
        folder = await asyncio.to_thread(self._folder_to_change, recording)
        async with self._changing:
            await asyncio.to_thread(self._upkeep.mark, recording)
            with self._gone_meanwhile(recording, folder):
                await asyncio.to_thread(sidecars.erase, self._storage, folder, "identifiers.json", self._evidence)
            await self._upkeep.enter(recording)

    async def add_bookmark(
        self, recording: str, *, at_us: int, by: str, now_us: int, text: str = "", track: str = ""
    ) -> Bookmark:
        """Mark a moment, a Unix time in µs."""
        made = Bookmark(id=token_hex(4), at_us=at_us, track=track, text=text, by=by, made_us=now_us)
        await self._change(recording, "bookmarks.json", lambda was: replace(was, bookmarks=[*was.bookmarks, made]))
        return made

    async def remove_bookmark(self, recording: str, bookmark: str) -> None:
        """One that is not there is no error."""

        def without(was: Sidecars) -> Sidecars:
            return replace(was, bookmarks=[one for one in was.bookmarks if one.id != bookmark])

        await self._change(recording, "bookmarks.json", without)

    async def add_consent(
        self,
        recording: str,
        *,
        scope: str,
        given: bool,
        subject: str,
        by: str,
        at_us: int,
        note: str = "",
        sources: Sequence[str] = (),
    ) -> Consent:
        """Write down what was allowed, refused or taken back, for some `sources` or for all; earlier ones stay, and the
        last one of a scope counts."""
        made = Consent(
            id=token_hex(4),
            scope=scope,
            given=given,
            subject=subject,
            by=by,
            at_us=at_us,
            note=note,
            sources=list(sources),
        )
        await self._change(recording, "consents.json", lambda was: replace(was, consents=[*was.consents, made]))
        return made

    # Withdrawn consent

    async def mark_withdrawn(self, recording: str) -> None:
        """What its manifest will list has to go: `erase_withdrawn` does it, at the latest when the archive is opened
        next. Raises OSError."""
        await asyncio.to_thread(self._withdrawals.mark, recording)

    async def erase_withdrawn(self, recording: str, now_us: int) -> list[str]:
        """Erase what of a closed recording has to go as consent was withdrawn; gives the files that went now. Nothing
        goes while it is held. Raises OSError and ValueError, and is done again when the archive is opened next."""
        erased = await asyncio.to_thread(self._withdrawals.carry_out, recording, now_us)
        if erased:
            await self._upkeep.enter(recording)
        return erased

    async def withdraw(
        self,
        recording: str,
        participant: str,
        *,
        by: str,
        at_us: int,
        note: str,
        erase: bool,
        sources: Sequence[str] | None = None,
    ) -> list[str]:
        """A participant withdraws its consent, to these `sources` or to all, when the recording is closed already;
        gives what was erased. Raises as `add_consent` and `erase_withdrawn` do."""
        kept = await self.get(recording)
        subject = next((one.name for one in kept.participants if one.id == participant), "") or participant
        await self.add_consent(
            recording,
            scope="recording",
            given=False,
            subject=subject,
            by=by,
            at_us=at_us,
            note=note,
            sources=list(map(str, sources or ())),
        )
        own = [
            segment.file
            for track in kept.tracks
            if track.participant == participant and (sources is None or track.source in sources)
            for segment in track.segments
        ]
        if not erase or not own:
            return []
        await asyncio.to_thread(self._withdrawals.mark, recording, own)
        return await self.erase_withdrawn(recording, at_us)

    async def _erase_left_over(self, recovered: list[str], now_us: int) -> None:
        marked = await asyncio.to_thread(self._withdrawals.marked)
        for recording in dict.fromkeys([*recovered, *marked]):
            try:
                erased = await asyncio.to_thread(self._withdrawals.carry_out, recording, now_us)
                if erased:
                    self.erased.append((recording, erased))
                    await asyncio.to_thread(self._upkeep.mark, recording)
            except (OSError, ValueError) as error:
                self.failures.append(f"what was withdrawn of recording {recording} could not be erased: {error}")

    async def place_hold(self, recording: str, *, reason: str, by: str, at_us: int) -> Hold:
        """Keep a recording from being disposed of until the hold is lifted."""
        made = Hold(id=token_hex(4), reason=reason, by=by, placed_us=at_us)
        await self._change(recording, "holds.json", lambda was: replace(was, holds=[*was.holds, made]))
        return made

    async def lift_hold(self, recording: str, *, by: str, at_us: int, hold: str = "") -> int:
        """Lift one hold, or all; gives how many that were. It stays on record who lifted them. What was withdrawn and
        held goes with the last one."""
        count = 0

        def lifted(one: Hold) -> Hold:
            nonlocal count
            if one.lifted_us is not None or hold not in ("", one.id):
                return one
            count += 1
            return replace(one, lifted_by=by, lifted_us=at_us)

        await self._change(recording, "holds.json", lambda was: replace(was, holds=list(map(lifted, was.holds))))
        if recording in await asyncio.to_thread(self._withdrawals.marked):
            # The hold is lifted whatever comes of it; what can't go now goes, or is named, when the archive is opened.
            with suppress(OSError, ValueError):
                await self.erase_withdrawn(recording, at_us)
        return count

    async def set_retention(self, recording: str, *, into: str, by: str, reason: str, at_us: int) -> str:
        """Put a recording into another class of retention; gives the one that it was in, empty for none.
        Raises ValueError for a class that there is not."""
        self.disposals.policy.need(into)
        before = ""

        def how(was: Sidecars) -> Sidecars:
            nonlocal before
            before = was.retention.into if was.retention else ""
            return replace(was, retention=Retention(into=into, by=by, reason=reason, set_us=at_us))

        await self._change(recording, "retention.json", how)
        return before

    async def record_access(self, recording: str, *, who: str, action: str, at_us: int) -> None:
        """Count a look at a recording, for the desk's summary. The audit trail is the evidence, so this one may be
        missing where the catalog can't be used."""
        with suppress(CatalogError):
            await self._catalog.record_access(recording, who, action, at_us)

    async def accesses(self, recording: str) -> list[Access]:
        """Who looked at a recording, the last one first."""
        return await self._catalog.accesses(recording)

    async def _change(self, recording: str, name: str, how: Callable[[Sidecars], Sidecars]) -> Sidecars:
        folder = await asyncio.to_thread(self._folder_to_change, recording)
        async with self._changing:
            await asyncio.to_thread(self._upkeep.mark, recording)
            with self._gone_meanwhile(recording, folder):
                changed = await asyncio.to_thread(sidecars.change, self._storage, folder, name, how, self._evidence)
            await self._upkeep.enter(recording)
        return changed

    def _folder(self, recording: str) -> Path | None:
        return self._storage.find(recording)

    def _folder_to_change(self, recording: str) -> Path:
        if any(live.id == recording for live in self._live()):
            self._storage.begin(self._storage.folder(recording))  # the recorder may be a moment behind
        folder = self._folder(recording)
        if folder is None or self._storage.is_leaving(folder):
            raise self._unknown(recording, folder)
        return folder

    @contextmanager
    def _gone_meanwhile(self, recording: str, folder: Path) -> Iterator[None]:
        """A disposal came first, and has had the folder to itself."""
        try:
            yield
        except ValueError:
            if self._storage.is_leaving(folder):
                raise self._unknown(recording, folder) from None
            raise

    @staticmethod
    def _unknown(recording: str, folder: Path | None) -> UnknownRecording:
        try:
            left = decisions.read(folder) if folder else None
        except (OSError, ValueError):
            left = None
        if left is not None:
            return Disposed(f"recording {recording} was {left.words}")
        return UnknownRecording(f"there is no recording {recording}")
