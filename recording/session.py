"""One recording on the writer's thread: its tracks' pipelines, the queue for the disk, and its state."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from mediaserver import __version__
from mediaserver.recording import journal, manifest
from mediaserver.recording.disk import DiskQueue
from mediaserver.recording.entry import Entry
from mediaserver.recording.evidence import Evidence
from mediaserver.recording.files import RecordingFiles
from mediaserver.recording.ledger import FileState, Ledger
from mediaserver.recording.pipeline import TrackPipeline
from mediaserver.recording.seal import seal_file
from mediaserver.recording.settings import ParticipantMeta, RecordingSettings, Ring, TrackMeta
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.withheld import Withheld
from mediaserver.sfu.stream.params import PayloadParams

LEAVE_US = 1_000_000
"""How long a tap is waited for that the data plane should have closed."""


class RecordingState(StrEnum):
    """What participants are told. `ON` means that data is on disk; `ALARM` that writing fails."""

    STARTING = "starting"
    ON = "on"
    ALARM = "alarm"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a session needs from its recorder. `now` and `to_wall` are in µs."""

    now: Callable[[], int]
    to_wall: Callable[[int], int]
    state: Callable[[str, RecordingState, str], None]
    keyframe: Callable[[str, str], None]
    sync: Callable[[Callable[[], None]], None]
    writers: Executor
    sealers: Executor
    count: Callable[[str, int], None]
    evidence: Evidence


@dataclass(slots=True)
class _Next:
    """A track whose participant has agreed again before the tap before was empty."""

    meta: TrackMeta
    ring: Ring
    muted: bool = False


@dataclass(slots=True)
class _Tap:
    pipeline: TrackPipeline
    ring: Ring
    leaving_us: int | None = None
    """Since when its track is to end."""
    until_us: int | None = None
    """Consent was withdrawn then: what arrives later is not kept."""
    ended: bool = False
    """The track is gone, not its consent alone."""
    then: _Next | None = None

    def is_over(self, now: int) -> bool:
        """Nothing more comes. What arrives until the data plane has taken the tap off belongs to the track, and what
        stays unread would be held for good."""
        return self.leaving_us is not None and (self.ring.closed or now - self.leaving_us >= LEAVE_US)


class Session:
    """The state of one recording. Everything but `snapshot`, `counters` and `alarm` belongs to the writer's thread."""

    def __init__(
        self, identifier: str, room: str, settings: RecordingSettings, storage: LocalStorage, hooks: Hooks
    ) -> None:
        self.id = identifier
        self.room = room
        self.state = RecordingState.STARTING
        self.detail = ""
        self.done: Future[manifest.Manifest] = Future()
        self._settings = settings
        self._storage = storage
        self._hooks = hooks
        self._ledger = Ledger()
        self._taps: dict[str, _Tap] = {}
        self._withheld = Withheld()
        self._abandoned: list[tuple[Ring, int]] = []
        self._gone = {"packets": 0, "bytes": 0, "gaps": 0, "lost_packets": 0, "dropped": 0, "ignored": 0}
        self._stopping = False
        self._has_end = False
        self._end_after = 0
        self._to_seal: dict[str, tuple[FileState, int]] = {}
        self._sealing: dict[str, tuple[FileState, Future[journal.Sealed]]] = {}
        self._started_us = hooks.to_wall(hooks.now())
        begun = journal.Begun(
            version=journal.VERSION,
            software=f"mediaserver {__version__}",
            id=identifier,
            room=room,
            started_us=self._started_us,
        )
        self._begun = begun
        self._folder = storage.folder(identifier)
        self._files = RecordingFiles(
            storage, self._folder, self._ledger, hooks.sync, self._register, hooks.evidence.signer
        )
        self._disk = DiskQueue(self._files.commit, hooks.writers, settings.retry_us)
        self._disk.put([Entry(begun)])
        self._ending: Future[manifest.Manifest] | None = None

    def snapshot(self) -> manifest.Manifest:
        """As it stands, from any thread."""
        ledger = self._ledger
        if ledger.begun is None:
            ledger = Ledger.fold([self._begun])
        return ledger.manifest("recording", self._hooks.to_wall(self._hooks.now()), exact=False)

    def counters(self) -> dict[str, int]:
        taps = list(self._taps.values())
        totals = {name: base + sum(_counted(tap, name) for tap in taps) for name, base in self._gone.items()}
        return totals | {
            "tracks": len(taps),
            "backlog": sum(tap.ring.backlog for tap in taps),
            "held_bytes": self._disk.held_bytes,
            "write_errors": self._disk.errors,
        }

    def add_participant(self, participant: ParticipantMeta) -> None:
        joined = journal.Joined(participant.id, participant.name, participant.role, self._wall())
        self._disk.put([Entry(joined)])

    def rule(self, whose: str, withdrawal: str, version: str, text: str) -> None:
        self._disk.put([Entry(journal.Ruled(whose, withdrawal, version, text, self._wall()))])

    def consent(self, fact: manifest.ConsentFact) -> None:
        self._disk.put([Entry(journal.Consented(**msgspec.structs.asdict(fact)))])

    def withhold_track(self, meta: TrackMeta) -> None:
        if self._stopping or meta.id in self._taps or meta.id in self._withheld:
            return
        self._disk.put([*_added(meta), *self._withheld.begin(meta.id, self._wall())])

    def withdraw_track(self, track: str, at_us: int) -> None:
        if track in self._taps:
            tap = self._taps[track]
            self._abandon(tap)
            if tap.until_us is None:
                tap.leaving_us = tap.until_us = at_us

    def add_track(self, meta: TrackMeta, ring: Ring) -> None:
        if self._stopping:
            return
        if meta.id in self._taps:
            self._taps[meta.id].then = _Next(meta, ring)
            return
        pipeline = TrackPipeline(
            meta,
            self._settings,
            to_wall=self._hooks.to_wall,
            request_keyframe=lambda: self._hooks.keyframe(self.id, meta.id),
        )
        self._taps[meta.id] = _Tap(pipeline, ring)
        self._disk.put(_added(meta))
        if meta.id in self._withheld:
            entries, position = self._withheld.end(meta.id, self._wall())
            self._disk.put([*entries, Entry(journal.Admitted(meta.id, self._wall()))])
            pipeline.go_on(position, "consent")
        if meta.kind == "video":
            self._hooks.keyframe(self.id, meta.id)

    def update_track(self, track: str, payloads: tuple[PayloadParams, ...]) -> None:
        if track in self._taps:
            tap = self._taps[track]
            tap.pipeline.update(payloads)
            self._disk.put([Entry(_payloads(track, payloads))])
            if tap.then is not None:
                tap.then.meta = msgspec.structs.replace(tap.then.meta, payloads=payloads)

    def mute_track(self, track: str, muted: bool) -> None:
        if track in self._taps:
            tap = self._taps[track]
            if tap.then is not None:
                tap.then.muted = muted
            else:
                tap.pipeline.mute(muted, self._hooks.now())

    def remove_track(self, track: str) -> None:
        if track in self._withheld:
            self._disk.put(self._withheld.end(track, self._wall())[0])
        elif track in self._taps:
            tap = self._taps[track]
            tap.ended = True
            self._abandon(tap)
            if tap.leaving_us is None:
                tap.leaving_us = self._hooks.now()

    def stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        for track in self._taps:
            self.remove_track(track)
        self._disk.put(self._withheld.close(self._wall()))

    def alarm(self, detail: str) -> None:
        """Something is being lost. From any thread."""
        if self.state is not RecordingState.STOPPED:
            self._become(RecordingState.ALARM, detail)

    def step(self) -> bool:
        """Rings, disk, state. True when a ring holds more than one round takes."""
        now = self._hooks.now()
        more = False
        for track, tap in list(self._taps.items()):
            more = self._pump(track, tap, now) or more
        self._drain(now)
        self._seal(now)
        if self._stopping and not self._taps and not self._has_end:
            self._has_end = True
            self._disk.put([Entry(journal.Ended(self._hooks.to_wall(now)))])
        self._written(self._disk.step(now))
        if self._stopping:
            self._conclude(now)
        if self._disk.trouble:
            self.alarm(self._disk.trouble)
        return more

    def _pump(self, track: str, tap: _Tap, now: int) -> bool:
        """From one ring through its pipeline into the queue."""
        pipeline = tap.pipeline
        awaited = tap.ring.awaited
        items = tap.ring.read(self._settings.read_limit)
        full = len(items) == self._settings.read_limit
        if tap.until_us is not None:
            items = [item for item in items if item[1] < tap.until_us]
        over = not full and tap.is_over(now)
        try:
            pipeline.feed(items, tap.ring.dropped)
            pipeline.tick(now, 1 if full else awaited)  # what is not awaited any more may lie unread
            if over:
                pipeline.finish()
        except Exception as error:  # whatever a publisher sends, the writer goes on
            pipeline.restart(now, f"{type(error).__name__}: {error}")
        if pipeline.out:
            self._disk.put(pipeline.out)
            pipeline.out = []
        if self._disk.trouble and self._disk.held_bytes > self._settings.hold_bytes:
            self._overflow(now)
        if over:
            for name in self._gone:
                self._gone[name] += _counted(tap, name)
            del self._taps[track]
            if tap.until_us is not None:
                self._disk.put(self._withheld.begin(track, self._hooks.to_wall(tap.until_us), pipeline.position))
                if tap.ended:
                    self._disk.put(self._withheld.end(track, self._wall())[0])
                else:
                    self._go_on(tap.then)
        return full

    def _go_on(self, then: _Next | None) -> None:
        if then is not None:
            self.add_track(then.meta, then.ring)
            self.mute_track(then.meta.id, then.muted)

    def _abandon(self, tap: _Tap) -> None:
        """Consent to what was to follow is withdrawn too, or the track is gone."""
        if tap.then is not None:
            self._abandoned.append((tap.then.ring, self._hooks.now()))
            tap.then = None

    def _drain(self, now: int) -> None:
        """Give back what rings hold that nobody will read."""
        for ring, since in list(self._abandoned):
            while ring.read(self._settings.read_limit):
                pass
            if ring.closed or now - since >= LEAVE_US:
                self._abandoned.remove((ring, since))

    def _overflow(self, now: int) -> None:
        """The disk has refused for too long: let go of the media that waits, and keep nothing until it takes some."""
        since = self._disk.drop_media(now)
        for tap in self._taps.values():
            tap.pipeline.suspend(now, since)
            self._disk.put(tap.pipeline.out)
            tap.pipeline.out = []

    def _written(self, entries: list[Entry]) -> None:
        """These are on the disk."""
        if not entries:
            return
        for tap in self._taps.values():
            tap.pipeline.resume(self._hooks.now())
        fragments = 0
        for record, data in entries:
            if isinstance(record, journal.Written):
                fragments += 1
                self._hooks.count("fragment_bytes", len(data))
            elif isinstance(record, journal.Sealed):
                self._storage.sealed(self.id, record.file, record.bytes, record.sha256)
            elif isinstance(record, journal.Closed):
                self._to_seal[record.file] = self._ledger.file(record.track, record.file), 0
        self._hooks.count("fragments", fragments)
        if not self._disk.trouble and (fragments or self.state is RecordingState.ALARM):
            has_media = fragments or any(track.files for track in self._ledger.tracks.values())
            self._become(RecordingState.ON if has_media else RecordingState.STARTING, "")

    def _seal(self, now: int) -> None:
        """Hand closed files to the sealer, and take back what it has done."""
        for name, (file, not_before) in list(self._to_seal.items()):
            if now >= not_before:
                del self._to_seal[name]
                future = self._hooks.sealers.submit(seal_file, self._storage, self._folder, file)
                self._sealing[name] = file, future
        for name, (file, future) in list(self._sealing.items()):
            if not future.done():
                continue
            del self._sealing[name]
            error = future.exception()
            if error is None:
                self._disk.put([Entry(future.result())])
            else:
                self._disk.fail(now, error)
                self._to_seal[name] = file, now + self._settings.retry_us

    def _conclude(self, now: int) -> None:
        """At the end: the manifest, and the journal goes."""
        disk = self._disk
        if disk.trouble and now - disk.trouble_since >= self._settings.patience_us:
            self._end()
            self._hooks.count("failed", 1)
            self.done.set_exception(OSError(f"recording {self.id} could not be closed: {disk.trouble}"))
        elif self._ending is not None and self._ending.done():
            ending, self._ending = self._ending, None
            error = ending.exception()
            if error is None:
                self._end()
                self.done.set_result(ending.result())
            else:
                disk.fail(now, error)
                self._end_after = now + self._settings.retry_us
        elif self._ending is None and now >= self._end_after and self._is_idle():
            self._ending = self._hooks.sealers.submit(self._write_manifest)

    def _is_idle(self) -> bool:
        """Nothing is left to be written but the manifest."""
        return not (self._taps or self._abandoned or self._to_seal or self._sealing) and self._disk.is_idle

    def _write_manifest(self) -> manifest.Manifest:
        """On the sealers' thread, when nothing else touches the recording any more."""
        kept = self._ledger.manifest("complete", self._ledger.ended_us)
        if kept.tracks:
            kept = self._hooks.evidence.close(self._storage, self._folder, kept)
        else:
            self._hooks.evidence.note("recording-discarded", self.id)
        self._storage.discard_journal(self._folder, whole=not kept.tracks)
        return kept

    def _wall(self) -> int:
        return self._hooks.to_wall(self._hooks.now())

    def _register(self) -> None:
        """On a writers' thread, when the folder is on the disk. What this costs is never media: when the register
        can't be written the recording goes on, and says so at its end."""
        try:
            self._hooks.evidence.note("recording-begun", self.id)
        except OSError:
            self._hooks.count("write_errors", 1)

    def _end(self) -> None:
        self._disk.end(self._files.close)
        self._become(RecordingState.STOPPED, self.detail)

    def _become(self, state: RecordingState, detail: str) -> None:
        if (state, detail) != (self.state, self.detail):
            self.state, self.detail = state, detail
            self._hooks.state(self.id, state, detail)


def _added(meta: TrackMeta) -> list[Entry]:
    added = journal.Added(meta.id, meta.source, meta.kind, meta.codec, meta.label, meta.participant)
    return [Entry(added), Entry(_payloads(meta.id, meta.payloads))]


def _payloads(track: str, payloads: tuple[PayloadParams, ...]) -> journal.Payloads:
    return journal.Payloads(track, [(one.payload_type, int(one.codec), one.clock_rate) for one in payloads])


def _counted(tap: _Tap, name: str) -> int:
    return tap.ring.dropped if name == "dropped" else int(getattr(tap.pipeline, name))
