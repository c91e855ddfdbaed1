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

from collections.abc import Callable
from concurrent.futures import Future
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from mediaserver.recording.settings import ParticipantMeta, RecordingSettings, TrackMeta

if TYPE_CHECKING:
    from mediaserver.recording.manifest import Manifest

__all__ = ["ParticipantMeta", "Recorder", "Recording", "RecordingSettings", "RecordingState", "Ring", "TrackMeta"]


class RecordingState(StrEnum):
    """What participants are told. `ON` means that data is on disk; `ALARM` that writing fails."""

    STARTING = "starting"
    ON = "on"
    ALARM = "alarm"
    STOPPED = "stopped"


class Ring(Protocol):
    """The consumer's face of `mediaserver.sfu.stream.tap.TapRing`."""

    dropped: int
    closed: bool
    backlog: int

    def read(self, limit: int) -> list[tuple[object, ...]]: ...


class Recording:
    """One consultation being recorded. Made by `Recorder.start`."""

    id: str
    room: str
    state: RecordingState
    detail: str
    """Why it is in alarm, in words; empty otherwise."""
    snapshot: Manifest
    """The manifest as it stands, renewed at least once a second while data comes in."""

    def add_participant(self, participant: ParticipantMeta) -> None: ...

    def add_track(self, meta: TrackMeta, ring: Ring) -> None: ...

    def remove_track(self, track: str) -> None:
        """The publisher has gone: write what the ring still holds, then close the track's file."""

    def stop(self) -> Future[Manifest]:
        """Write what is there, close all files, write the manifest. A second call gives the same future."""
        raise RuntimeError


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
    ) -> None:
        """`monotonic` and `wall` give µs: CLOCK_MONOTONIC as in the rings' arrival times, and Unix time."""

    def open(self) -> None:
        """Start the writer thread."""

    def start(self, room: str) -> Recording:
        """Begin a recording. Its folder is made by the writer thread."""
        raise RuntimeError

    def recordings(self) -> list[Recording]:
        """Those that are not stopped."""
        return []

    def counters(self) -> dict[str, int]:
        """packets, bytes, fragments, gaps, lost_packets, dropped, backlog, held_bytes, write_errors, fsyncs, fsync_us
        (sum), recordings, tracks, alarms. See `fsync_histogram` for the distribution."""
        return {}

    def fsync_histogram(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Upper bounds in µs and the count of syncs within each (not cumulative); one more count than bounds."""
        return (), (0,)

    def close(self, timeout: float = 10.0) -> None:
        """Stop all recordings, end the thread, wait for it for at most `timeout` seconds."""
