"""Disposal: what is over its time by its retention class goes, unless something keeps it, and can still be explained.

The decision is laid into the recording's folder as `disposed.json`, signed; then the register has it, then everything
else goes: from another store, then here, the key first and the manifest last. So a crash leaves a folder with both a
decision and a manifest, and the next start carries on. What is left in the end is the decision. A hold beats all of it,
also a disposal that was interrupted.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from mediaserver.recording import additions, journal, manifest, sidecars, signed, withdrawn
from mediaserver.recording import decision as decisions
from mediaserver.recording.catalog import Catalog
from mediaserver.recording.decision import Decision
from mediaserver.recording.evidence import Evidence
from mediaserver.recording.keys import Trust
from mediaserver.recording.manifest import Manifest
from mediaserver.recording.register import Entry
from mediaserver.recording.retention import DAY_US, Policy
from mediaserver.recording.settings import DICOM_OUTBOX
from mediaserver.recording.sidecars import Retention, Sidecars
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.storage.keys import DISPOSED
from mediaserver.recording.upkeep import BATCH, Upkeep
from mediaserver.recording.views import iso

BY_POLICY = "policy"

_TRUSTED = frozenset({"holds.json", "retention.json", sidecars.ADDITIONS})

State = Literal["due", "review", "kept", "disposed", "failed"]
"""due: nothing keeps it; review: somebody has to name it; kept: `reason` says by what; failed: it goes on later."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A recording whose time is over. `ended` and `due` are RFC 3339 in UTC, `files` and `bytes` its media."""

    recording: str
    room: str
    ended: str
    retention: str
    due: str
    state: State
    reason: str = ""
    files: int = 0
    bytes: int = 0


class DisposalReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a disposal has done, or would do. `bytes` are those of what went, or would go."""

    made: str
    by: str
    dry_run: bool
    counts: dict[str, int]
    bytes: int
    cases: list[Case]


class ClassView(msgspec.Struct, frozen=True, kw_only=True):
    """A class and how many recordings were put into it."""

    name: str
    days: float
    at_end: str
    recordings: int


class Disposals:
    """What becomes of the recordings of one archive when their time is over. On the event loop."""

    def __init__(
        self,
        storage: LocalStorage,
        evidence: Evidence,
        catalog: Catalog,
        upkeep: Upkeep,
        policy: Policy,
        signed: bool,
    ) -> None:
        """With `signed`, a decision that no trusted key has signed is none."""
        self.policy = policy
        self.users: list[Callable[[str], str]] = []
        """Each is asked whether it uses a recording, and says in words for what; an empty string: it does not."""
        self._storage = storage
        self._evidence = evidence
        self._catalog = catalog
        self._upkeep = upkeep
        self._signed = signed
        self._turn = asyncio.Lock()
        self._entries: dict[str, Entry] | None = None
        """What the register says, once a look at what is due has needed it."""

    # To look

    async def classes(self) -> list[ClassView]:
        """The classes; "" is of the recordings that were given none. Raises `CatalogError`."""
        counts = await self._catalog.retained()
        known = [
            ClassView(name=one.name, days=one.days, at_end=one.at_end, recordings=counts.pop(one.name, 0))
            for one in self.policy.classes
        ]
        others = [ClassView(name=name, days=-1, at_end="keep", recordings=count) for name, count in counts.items()]
        return known + sorted(others, key=lambda view: view.name)

    async def due(self, now_us: int) -> list[Case]:
        """What is over its time at `now_us`, and what keeps it. Raises `CatalogError` and OSError."""
        found: list[Case] = []
        self._entries = None
        cutoffs = self._cutoffs(now_us)
        after = ""
        while ids := await self._catalog.due(cutoffs, after, BATCH):
            after = ids[-1]
            cases = await asyncio.to_thread(lambda batch: [self._judge(one, now_us) for one in batch], ids)
            found += [case for case in cases if case is not None]
        return found

    # To do

    async def run(
        self,
        *,
        by: str,
        reason: str,
        now_us: int,
        only: Collection[str] = (),
        dry_run: bool = False,
        tell: Callable[[str, Mapping[str, str]], None] = lambda recording, facts: None,
    ) -> DisposalReport:
        """Dispose of what is due, or of those named: only these, if they are due, and also such as are to be reviewed.
        `tell` is called before each, and puts it on record.

        Raises `CatalogError` and OSError; what fails in a single recording is in the report.
        """
        async with self._turn:
            if not dry_run:
                for recording in (await asyncio.to_thread(self.resume))[0]:
                    await self._upkeep.enter(recording)
            if only:
                self._entries = None
                cases = await asyncio.to_thread(lambda: [self._named(one, now_us) for one in only])
            else:
                cases = await self.due(now_us)
            if not dry_run:
                cases = [
                    await self._carried_out(case, by, reason, now_us, tell) if case.state == "due" else case
                    for case in cases
                ]
        counts: dict[str, int] = {}
        for case in cases:
            counts[case.state] = counts.get(case.state, 0) + 1
        went = sum(case.bytes for case in cases if case.state in ("due", "disposed"))
        return DisposalReport(made=iso(now_us), by=by, dry_run=dry_run, counts=counts, bytes=went, cases=cases)

    def resume(self) -> tuple[list[str], list[str]]:
        """Carry on with what was interrupted. Gives the recordings that are gone now, and in words what can't go on.
        Blocks; nothing else may dispose."""
        gone, failures = [], []
        for recording in self._upkeep.marked():
            folder = self._storage.find(recording)
            if folder is None:
                continue
            try:
                with sidecars.alone(folder):
                    for beside in folder.glob(".*.new"):  # of a change that never came to its end
                        beside.unlink()
                    self._evidence.settle(self._storage, folder)
                    if not self._storage.is_leaving(folder):
                        self._storage.release(folder)
                    elif (folder / manifest.NAME).exists():
                        self._resume(folder)
                        gone.append(recording)
            except (OSError, ValueError) as error:
                failures.append(f"what was interrupted in recording {recording} does not go on: {error}")
        return gone, failures

    def classify(self, folder: Path, now_us: int) -> bool:
        """Put a recording that was closed into the class that the policy says, unless somebody has chosen one. Blocks.
        Raises OSError and ValueError."""
        kept = _manifest(folder)
        if kept is None:
            return False
        name = self.policy.choose(kept.room, {track.source for track in kept.tracks})
        if not name:
            return False

        def how(was: Sidecars) -> Sidecars:
            if was.retention is not None:
                return was
            return msgspec.structs.replace(was, retention=Retention(into=name, by=BY_POLICY, set_us=now_us))

        sidecars.change(self._storage, folder, "retention.json", how, self._evidence)
        return True

    def _cutoffs(self, now_us: int) -> dict[str, int]:
        lengths = {one.name: one.length_us for one in self.policy.classes}
        cutoffs = {name: now_us - length for name, length in lengths.items()}
        reached = [rule.into for rule in self.policy.rules] + [self.policy.default]
        by_policy = [lengths[name] for name in reached if name in lengths]
        return cutoffs | ({"": now_us - min(by_policy)} if by_policy else {})

    def _judge(self, recording: str, now_us: int, named: bool = False) -> Case | None:
        """None: it is not due. Raises OSError."""
        folder = self._storage.find(recording)
        kept = _manifest(folder) if folder else None
        if folder is None or kept is None:
            return None
        added = sidecars.load(folder, self._storage.read)
        name = self._class_of(kept, added)
        found = self.policy.find(name)
        due_us = kept.ended_us + found.length_us if found else None
        if not named and (due_us is None or due_us > now_us):
            return None
        state, reason = self._state(folder, added, due_us, now_us, found is not None and found.at_end == "review")
        if named and state == "review":
            state = "due"
        left = withdrawn.what_is_left(kept, folder)
        media = [segment for track in left.tracks for segment in track.segments]
        return Case(
            recording=recording,
            room=kept.room,
            ended=iso(kept.ended_us),
            retention=name,
            due="" if due_us is None else iso(due_us),
            state=state,
            reason=reason,
            files=len(media),
            bytes=sum(segment.bytes for segment in media),
        )

    def distrust(self, folder: Path, entry: Callable[[str], Entry | None]) -> str:
        """Why what was added to a recording can't be trusted, in words; empty when it can. Who could change or remove a
        file could so lift a hold, or shorten its time. `entry` is what the register has. Blocks. Raises OSError."""
        if not self._signed:
            return ""
        registered = entry(folder.name)
        wrong = additions.problems(
            folder, self._evidence.trusted, signs=True, registered=registered.additions if registered else None
        )
        said = "; ".join(f"{one.name} is {one.kind}" for one in wrong if one.name in _TRUSTED)
        return f"what was added to it can't be trusted: {said}" if said else ""

    def _registered(self, recording: str) -> Entry | None:
        if self._entries is None:
            self._entries = self._evidence.entries(self._storage.root)
        return self._entries.get(recording)

    def _named(self, recording: str, now_us: int) -> Case:
        case = self._judge(recording, now_us, named=True)
        if case is not None:
            return case
        reason = "there is no such recording"
        return Case(recording=recording, room="", ended="", retention="", due="", state="failed", reason=reason)

    def _class_of(self, kept: Manifest, added: Sidecars) -> str:
        if added.retention is not None:
            return added.retention.into
        return self.policy.choose(kept.room, {track.source for track in kept.tracks})

    def _state(self, folder: Path, added: Sidecars, due_us: int | None, now_us: int, review: bool) -> tuple[State, str]:
        if (folder / journal.NAME).exists():
            return "kept", "it is not closed"
        if self._storage.is_leaving(folder):
            return "failed", "its disposal was interrupted; it goes on when a server starts"
        if due_us is None:
            return "kept", "it is in no class of retention"
        if due_us > now_us:
            return "kept", f"it is not due before {iso(due_us)}"
        if said := self.distrust(folder, self._registered):
            return "kept", said
        holds = [hold for hold in added.holds if hold.lifted_us is None]
        if holds:
            said = "; ".join(f"{one.by or 'somebody'} since {iso(one.placed_us)[:10]}: {one.reason}" for one in holds)
            return "kept", f"held by {said}"
        if (self._storage.root.parent / DICOM_OUTBOX / folder.name).exists():
            return "kept", f"in use: DICOM objects of it wait to be sent (archive dicom {folder.name})"
        for user in self.users:
            if use := user(folder.name):
                return "kept", f"in use: {use}"
        try:
            if kept_by := self._storage.kept_by(folder):
                return "kept", kept_by
        except OSError as error:
            return "failed", str(error)
        tombstone = self._storage.tombstone(folder)
        erased = f"its key was destroyed on {iso(tombstone.erased_us)[:10]}: {tombstone.reason}" if tombstone else ""
        days = (now_us - due_us) // DAY_US
        return ("review" if review else "due"), "; ".join(filter(None, (f"over its time by {days} days", erased)))

    async def _carried_out(
        self, case: Case, by: str, reason: str, now_us: int, tell: Callable[[str, Mapping[str, str]], None]
    ) -> Case:
        facts = {"by": by, "class": case.retention, "reason": reason}
        try:
            tell(case.recording, facts)
            await asyncio.to_thread(self._upkeep.mark, case.recording)
            done = await asyncio.to_thread(self._dispose, case, by, reason, now_us)
            await self._upkeep.enter(case.recording)
        except (OSError, ValueError) as error:
            done = msgspec.structs.replace(case, state="failed", reason=str(error))
        if done.state != "disposed":
            tell(case.recording, facts | {"failed": done.reason})
        return done

    def _dispose(self, case: Case, by: str, reason: str, now_us: int) -> Case:
        folder = self._storage.folder(case.recording)
        with sidecars.alone(folder):  # nobody places a hold meanwhile
            now = self._judge(case.recording, now_us, named=True)
            if now is None or now.state != "due":
                return now or msgspec.structs.replace(case, state="failed", reason="it is gone")
            if kept_by := self._storage.claim(folder):
                return msgspec.structs.replace(now, state="kept", reason=kept_by)
            data = self._decide(folder, case, by, reason, now_us)
            self._carry_out(folder, decisions.decode(data), data)
        return msgspec.structs.replace(case, state="disposed", reason=reason)

    def _decide(self, folder: Path, case: Case, by: str, reason: str, now_us: int) -> bytes:
        """Lay the decision into the folder; from here on it goes. Raises OSError, and then nothing is decided."""
        try:
            decision = Decision(
                version=decisions.VERSION,
                recording=case.recording,
                retention=case.retention,
                disposed_us=now_us,
                by=by,
                reason=reason,
                manifest=hashlib.sha256((folder / manifest.NAME).read_bytes()).hexdigest(),
                files=case.files,
                bytes=case.bytes,
            )
            data = signed.encode(signed.sign(decision, self._evidence.signer))
            self._storage.write_atomic(folder / DISPOSED, data)
            return data
        except BaseException:
            if not self._storage.is_leaving(folder):
                self._storage.release(folder)
            raise

    def _carry_out(self, folder: Path, decision: Decision, data: bytes) -> None:
        facts = {"by": decision.by, "class": decision.retention, "reason": decision.reason}
        digest = hashlib.sha256(data).hexdigest()
        self._evidence.note("recording-disposed", folder.name, **facts, sha256=digest)
        self._storage.dispose(folder, data)

    def _resume(self, folder: Path) -> None:
        data = (folder / DISPOSED).read_bytes()
        decision = decisions.decode(data)
        if decision.recording != folder.name:
            raise ValueError(f"its {DISPOSED} is of recording {decision.recording}")
        if self._signed and signed.check(decision, self._evidence.trusted) is not Trust.GOOD:
            raise ValueError(f"no trusted key has signed its {DISPOSED}")
        if sidecars.load(folder, self._storage.read).held:
            raise ValueError("it is on hold")
        entry = self._evidence.entry(folder.name)
        if entry is not None and entry.disposed == hashlib.sha256(data).hexdigest():
            self._storage.dispose(folder, data)
        else:
            self._carry_out(folder, decision, data)


def _manifest(folder: Path) -> Manifest | None:
    try:
        return manifest.decode((folder / manifest.NAME).read_bytes())
    except (OSError, ValueError):
        return None
