"""The recorder: one writer thread that takes what the taps collect to disk.

Composition, on the event loop's side::

    recorder = Recorder(settings, monotonic=clock.monotonic_us, wall=clock.wall_us,
                        on_state=..., request_keyframe=...)
    recorder.open()                                  # starts the writer thread
    recording = recorder.start("room-1")             # state: starting
    recording.add_participant(ParticipantMeta("p1", "Dr. A", "doctor"))
    recording.add_track(TrackMeta(...), ring)        # after plane.add_tap(tap, track, ring)
    ...                                              # state: on, once data is on disk
    recording.remove_track("7")                      # after plane.remove_tap: drains the ring, closes the file
    future = recording.stop()                        # concurrent.futures.Future[Manifest]; asyncio.wrap_future it
    recorder.close()                                 # stops all recordings and joins the thread

No method blocks except `close`. Both callbacks are called on the writer thread: hand over with
`loop.call_soon_threadsafe`.
"""

from __future__ import annotations

import secrets
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor

from mediaserver.recording.evidence import NOTHING, Evidence
from mediaserver.recording.manifest import ConsentFact, Manifest
from mediaserver.recording.session import Hooks, RecordingState, Session
from mediaserver.recording.settings import ParticipantMeta, RecordingSettings, Ring, TrackMeta
from mediaserver.recording.storage import LocalStorage
from mediaserver.sfu.stream.params import PayloadParams

__all__ = ["ParticipantMeta", "Recorder", "Recording", "RecordingSettings", "RecordingState", "Ring", "TrackMeta"]

WRITERS = 4
"""Threads that wait for the disk: a file system syncs several files at once for little more than one."""

STALL_US = 2_000_000
SYNC_BOUNDS_US = (500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000)


class Recording:
    """One consultation being recorded. Made by `Recorder.start`; its methods may be called from any thread."""

    def __init__(self, session: Session, submit: Callable[[Callable[[], None]], None]) -> None:
        self._session = session
        self._submit = submit
        self._tracks: set[str] = set()
        self._withheld: set[str] = set()

    @property
    def id(self) -> str:
        return self._session.id

    @property
    def room(self) -> str:
        return self._session.room

    @property
    def state(self) -> RecordingState:
        return self._session.state

    @property
    def detail(self) -> str:
        """Why it is in alarm, in words; empty otherwise."""
        return self._session.detail

    def snapshot(self) -> Manifest:
        """The manifest as it stands; times are those of arrival, files have no hash yet."""
        return self._session.snapshot()

    def add_participant(self, participant: ParticipantMeta) -> None:
        self._submit(lambda: self._session.add_participant(participant))

    def add_track(self, meta: TrackMeta, ring: Ring) -> None:
        """Record what the ring gives, from now on.

        Raises ValueError for an id that this recording has had before, unless it was withheld or withdrawn: a track
        that comes back takes another.
        """
        if meta.id in self._tracks and meta.id not in self._withheld:
            raise ValueError(f"recording {self.id} has had a track {meta.id} before")
        self._tracks.add(meta.id)
        self._withheld.discard(meta.id)
        self._submit(lambda: self._session.add_track(meta, ring))

    def rule(self, whose: str, withdrawal: str, version: str, text: str) -> None:
        """Whose tracks go in from now on, for the manifest; fields as in `manifest.ConsentRule`."""
        self._submit(lambda: self._session.rule(whose, withdrawal, version, text))

    def consent(self, fact: ConsentFact) -> None:
        """What a participant has said, for the manifest. Where `fact.erase`, the files until now of those of its tracks
        that the fact is about are in the manifest's list of what is to be erased."""
        self._submit(lambda: self._session.consent(fact))

    def withhold_track(self, meta: TrackMeta) -> None:
        """There is a track of which nothing is kept, as its participant has not agreed. `add_track` when it does."""
        self._tracks.add(meta.id)
        self._withheld.add(meta.id)
        self._submit(lambda: self._session.withhold_track(meta))

    def withdraw_track(self, track: str, at_us: int) -> None:
        """Nothing that arrives at `at_us` (on the clock of the rings) or later is kept; what came before is written and
        the file closed. `add_track` with another ring when its participant agrees again."""
        self._withheld.add(track)
        self._submit(lambda: self._session.withdraw_track(track, at_us))

    def update_track(self, track: str, payloads: tuple[PayloadParams, ...]) -> None:
        """The publisher has made another offer: how each payload type is to be read from now on."""
        self._submit(lambda: self._session.update_track(track, payloads))

    def mute_track(self, track: str, muted: bool) -> None:
        """What is missing while a track is muted is no loss."""
        self._submit(lambda: self._session.mute_track(track, muted))

    def remove_track(self, track: str) -> None:
        """The publisher has gone: write what the ring still holds, then close the track's file."""
        self._submit(lambda: self._session.remove_track(track))

    def stop(self) -> Future[Manifest]:
        """Write what is there, close all files, write the manifest. A second call gives the same future.

        When the disk refuses for `patience_us` the future ends with the OSError, and what is on the disk is closed
        when the archive is opened next.
        """
        self._submit(self._session.stop)
        return self._session.done


class Recorder:
    """Owns the writer thread and all recordings of this process."""

    def __init__(
        self,
        settings: RecordingSettings,
        *,
        monotonic: Callable[[], int],
        wall: Callable[[], int],
        on_state: Callable[[Recording, RecordingState, str], None] = lambda recording, state, detail: None,
        request_keyframe: Callable[[Recording, str], None] = lambda recording, track: None,
        storage: LocalStorage | None = None,
        executor: Executor | None = None,
        evidence: Evidence = NOTHING,
    ) -> None:
        """`monotonic` and `wall` give µs: CLOCK_MONOTONIC as in the rings' arrival times, and Unix time.

        `executor` does what waits for the disk, by default threads of its own. It is shut down with the recorder.
        """
        self._settings = settings
        self._monotonic = monotonic
        self._wall = wall
        self._on_state = on_state
        self._request_keyframe = request_keyframe
        self._storage = storage or LocalStorage(settings.folder)
        self._evidence = evidence
        self._commands: deque[tuple[Session, Callable[[], None]]] = deque()
        self._wake = threading.Event()
        self._sessions: dict[str, Session] = {}
        self._recordings: dict[str, Recording] = {}
        self._thread: threading.Thread | None = None
        self._closing = False
        self._writers = executor or ThreadPoolExecutor(WRITERS, thread_name_prefix="recorder-disk")
        self._sealers = executor or ThreadPoolExecutor(1, thread_name_prefix="recorder-seal")
        self._stepped_at = monotonic()
        self._sync_lock = threading.Lock()
        self._sync_counts = [0] * (len(SYNC_BOUNDS_US) + 1)
        self._sync_us = 0
        self._totals = {"packets": 0, "bytes": 0, "gaps": 0, "lost_packets": 0, "dropped": 0, "ignored": 0}
        self._totals |= {"fragments": 0, "fragment_bytes": 0, "write_errors": 0, "alarms": 0, "failed": 0}

    def open(self) -> None:
        """Start the writer thread."""
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def start(self, room: str) -> Recording:
        """Begin a recording. Its folder is made by the writer thread."""
        monotonic, wall = self._monotonic(), self._wall()
        identifier = self._storage.identifier(wall, secrets.token_hex(4))
        hooks = Hooks(
            now=self._monotonic,
            to_wall=lambda arrival: arrival - monotonic + wall,
            state=self._changed,
            keyframe=self._keyframe,
            sync=self._sync,
            writers=self._writers,
            sealers=self._sealers,
            count=self._count,
            evidence=self._evidence,
        )
        session = Session(identifier, room, self._settings, self._storage, hooks)
        recording = Recording(session, lambda command: self._submit(session, command))
        self._recordings[identifier] = recording
        self._submit(session, lambda: self._sessions.__setitem__(identifier, session))
        return recording

    def recordings(self) -> list[Recording]:
        """Those that are not stopped."""
        return list(self._recordings.values())

    def counters(self) -> dict[str, int]:
        """Totals since the start (packets, bytes, gaps, lost_packets, dropped, ignored, fragments, fragment_bytes,
        write_errors, alarms, failed) and what is now (recordings, tracks, backlog, held_bytes)."""
        sessions = list(self._sessions.values())
        now = dict(self._totals) | {"tracks": 0, "backlog": 0, "held_bytes": 0}
        for session in sessions:
            for name, value in session.counters().items():
                now[name] = now.get(name, 0) + value
        return now | {"recordings": len(self._recordings)}

    def fsync_histogram(self) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """Upper bounds in µs, the count of syncs within each (not cumulative; one more than bounds), and their time in
        µs."""
        with self._sync_lock:
            return SYNC_BOUNDS_US, tuple(self._sync_counts), self._sync_us

    def check(self) -> None:
        """To be called about once a second from another thread: raises the alarm when the writer does not move."""
        if self._monotonic() - self._stepped_at > STALL_US:
            for session in list(self._sessions.values()):
                session.alarm("the recorder does not move")

    def close(self, timeout: float = 15.0) -> None:
        """Stop all recordings, end the thread, wait for it for at most `timeout` seconds."""
        for recording in self.recordings():
            recording.stop()
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None
        for pool in (self._writers, self._sealers):
            pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, session: Session, command: Callable[[], None]) -> None:
        self._commands.append((session, command))
        self._wake.set()

    def _run(self) -> None:
        while not (self._closing and not self._sessions and not self._commands):
            more = self.step()
            if not more:
                self._wake.wait(self._settings.poll_us / 1_000_000)
            self._wake.clear()

    def step(self) -> bool:
        """One round of the writer: commands, rings, disk. True when rings hold more. For the writer's thread only,
        or for a test that drives the recorder itself instead of `open`."""
        self._stepped_at = self._monotonic()
        more = False
        # One recording's trouble must not end the others'.
        while self._commands:
            session, command = self._commands.popleft()
            try:
                command()
            except Exception as error:
                session.alarm(f"{type(error).__name__}: {error}")
        for identifier, session in list(self._sessions.items()):
            try:
                more = session.step() or more
            except Exception as error:
                session.alarm(f"{type(error).__name__}: {error}")
            if session.state is RecordingState.STOPPED:
                self._retire(identifier, session)
        return more

    def _retire(self, identifier: str, session: Session) -> None:
        for name, value in session.counters().items():
            if name in self._totals:
                self._totals[name] += value
        del self._sessions[identifier]
        self._recordings.pop(identifier, None)

    def _changed(self, identifier: str, state: RecordingState, detail: str) -> None:
        if state is RecordingState.ALARM:
            self._totals["alarms"] += 1
        recording = self._recordings.get(identifier)
        if recording is not None:
            self._on_state(recording, state, detail)

    def _keyframe(self, identifier: str, track: str) -> None:
        recording = self._recordings.get(identifier)
        if recording is not None:
            self._request_keyframe(recording, track)

    def _count(self, name: str, value: int) -> None:
        self._totals[name] += value

    def _sync(self, sync: Callable[[], None]) -> None:
        started = self._monotonic()
        try:
            sync()
        finally:
            took = self._monotonic() - started
            with self._sync_lock:
                self._sync_us += took
                self._sync_counts[bisect_left(SYNC_BOUNDS_US, took)] += 1
