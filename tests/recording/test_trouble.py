"""Disks that are full, broken or slow: told, tried again, and never more lost than must be."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.recording.recorder import RecordingState
from mediaserver.recording.recovery import recover_all
from mediaserver.recording.storage import LocalStorage, StoredFile
from mediaserver.recording.storage.local import Sealing
from mediaserver.recording.verify import verify
from tests.recording import feed
from tests.recording.feed import WALL_START, Source, Studio

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
BROKEN = OSError(errno.EIO, os.strerror(errno.EIO))


pytestmark = pytest.mark.usefixtures("kept")


class SickFile(StoredFile):
    """Fails as its storage says; a write that fails has written half."""

    def __init__(self, path: Path, storage: SickStorage) -> None:
        super().__init__(path)
        self._storage = storage

    def write(self, data: bytes, offset: int) -> None:
        if self._storage.write_error:
            super().write(data[: len(data) // 2], offset)
            raise self._storage.write_error
        super().write(data, offset)

    def sync(self) -> None:
        if self._storage.sync_error:
            raise self._storage.sync_error
        super().sync()


class SickStorage(LocalStorage):
    write_error: OSError | None = None
    sync_error: OSError | None = None
    folder_error: OSError | None = None
    seal_error: OSError | None = None

    def open(self, path: Path) -> StoredFile:
        return SickFile(path, self)

    def make_folder(self, folder: Path) -> None:
        if self.folder_error:
            raise self.folder_error
        super().make_folder(folder)

    def seal(self, *arguments: Any) -> Sealing:
        if self.seal_error:
            raise self.seal_error
        return super().seal(*arguments)


def studio_on(storage: SickStorage, seconds: int = 6, **settings: Any) -> Studio:
    studio = Studio(storage.root, storage, **settings)
    studio.track("us")
    studio.feed("us", feed.deliver([Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, seconds * 30))]))
    return studio


def codes(studio: Studio) -> list[int | None]:
    kept = studio.stop()
    assert verify(studio.path, storage=studio.storage).ok
    return [p.code for track in kept.tracks for s in track.segments for p in feed.watch(studio.path, s)]


@pytest.mark.parametrize("kind", ["write_error", "sync_error"])
@pytest.mark.parametrize("error", [FULL, BROKEN], ids=["full", "broken"])
def test_a_disk_that_recovers_costs_nothing(tmp_path: Path, kind: str, error: OSError) -> None:
    storage = SickStorage(tmp_path, feed.MASTERS if feed.encrypted else None)
    studio = studio_on(storage)
    studio.run(2_000_000)
    setattr(storage, kind, error)
    studio.run(3_900_000)
    assert studio.recording.state is RecordingState.ALARM
    assert studio.recording.detail == error.strerror
    setattr(storage, kind, None)
    studio.run()
    assert studio.recording.state is RecordingState.ON
    assert [state for state, _ in studio.states] == [RecordingState.ON, RecordingState.ALARM, RecordingState.ON]
    assert codes(studio) == list(range(180))
    assert studio.recorder.counters()["write_errors"] >= 2


def test_a_folder_that_cannot_be_made_is_an_alarm(tmp_path: Path) -> None:
    storage = SickStorage(tmp_path, feed.MASTERS if feed.encrypted else None)
    storage.folder_error = BROKEN
    studio = studio_on(storage)
    studio.run(1_000_000)
    assert studio.states == [(RecordingState.ALARM, BROKEN.strerror)]
    storage.folder_error = None
    studio.run()
    assert codes(studio) == list(range(180))


def test_the_alarm_comes_within_two_seconds(tmp_path: Path) -> None:
    storage = SickStorage(tmp_path, feed.MASTERS if feed.encrypted else None)
    studio = studio_on(storage)
    studio.run(2_500_000)
    storage.write_error = FULL
    studio.run(4_500_000)
    assert studio.recording.state is RecordingState.ALARM


def test_what_does_not_fit_into_memory_is_a_gap(tmp_path: Path) -> None:
    storage = SickStorage(tmp_path, feed.MASTERS if feed.encrypted else None)
    studio = studio_on(storage, hold_bytes=20_000)
    studio.run(1_900_000)
    storage.write_error = FULL
    studio.run(4_100_000)
    held = studio.recorder.counters()["held_bytes"]
    assert held < 40_000
    storage.write_error = None
    studio.run()
    kept = studio.stop()
    assert verify(studio.path, storage=studio.storage).ok
    (gap,) = kept.tracks[0].gaps
    assert gap.cause == "disk"
    assert gap.from_us < WALL_START + 3_000_000
    assert gap.to_us > WALL_START + 3_500_000
    shown = [p.code or 0 for s in kept.tracks[0].segments for p in feed.watch(studio.path, s)]
    assert shown == sorted(shown)
    assert shown[0] == 0
    assert shown[-1] == 179
    assert [s.reason for s in kept.tracks[0].segments] == ["start", "disk"]


def test_stopping_on_a_dead_disk_gives_up_and_a_start_closes_it(tmp_path: Path) -> None:
    storage = SickStorage(tmp_path, feed.MASTERS if feed.encrypted else None)
    studio = studio_on(storage)
    studio.run(3_000_000)
    storage.write_error = FULL
    with pytest.raises(OSError, match="could not be closed: No space left"):
        studio.stop()
    assert studio.recording.state is RecordingState.STOPPED
    assert studio.recorder.counters()["failed"] == 1
    (kept,), _ = recover_all(feed.storage_at(tmp_path))
    shown = [p.code for p in feed.watch(studio.path, kept.tracks[0].segments[0])]
    assert shown == list(range(len(shown)))
    assert len(shown) >= 60


def test_a_file_that_cannot_be_completed_is_tried_again(tmp_path: Path) -> None:
    storage = SickStorage(tmp_path, feed.MASTERS if feed.encrypted else None)
    studio = studio_on(storage)
    studio.run()
    storage.seal_error = BROKEN
    studio.recording.stop()
    studio.run(studio.now + 2_000_000)
    assert studio.recording.state is RecordingState.ALARM
    storage.seal_error = None
    assert codes(studio) == list(range(180))


class Slow(Executor):
    """Does the work when it is told to."""

    def __init__(self) -> None:
        self.hold = False
        self.held: list[Callable[[], None]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            future.set_result(fn(*args, **kwargs))

        if self.hold:
            self.held.append(work)
        else:
            work()
        return future


def test_a_disk_that_does_not_answer_is_noticed_and_costs_nothing(tmp_path: Path) -> None:
    disk = Slow()
    studio = Studio(tmp_path, executor=disk)
    studio.track("us")
    studio.feed("us", feed.deliver([Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 180))]))
    studio.run(2_000_000)
    disk.hold = True
    studio.run(4_000_000)
    assert studio.states[-1] == (RecordingState.ALARM, "the disk does not answer")
    assert studio.recorder.counters()["backlog"] == 0
    disk.hold = False
    for work in disk.held:
        work()
    studio.run()
    assert studio.recording.state is RecordingState.ON
    assert codes(studio) == list(range(180))


def test_a_disk_that_hangs_for_long_is_a_gap(tmp_path: Path) -> None:
    disk = Slow()
    studio = Studio(tmp_path, executor=disk, hold_bytes=60_000)
    studio.track("us")
    studio.feed("us", feed.deliver([Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 300))]))
    studio.run(2_000_000)
    disk.hold = True
    studio.run(7_000_000)
    disk.hold = False
    for work in disk.held:
        work()
    studio.run()
    kept = studio.stop()
    assert verify(studio.path, storage=studio.storage).ok
    assert [gap.cause for gap in kept.tracks[0].gaps] == ["disk"]
    shown = [p.code or 0 for s in kept.tracks[0].segments for p in feed.watch(studio.path, s)]
    assert shown == sorted(shown)
    assert shown[-1] == 299


class Late(Executor):
    """Each batch takes so long, in virtual time."""

    def __init__(self, latency_us: int, us_per_kb: int = 0) -> None:
        self.latency_us = latency_us
        self.us_per_kb = us_per_kb
        self.now: Callable[[], float] = lambda: 0.0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        entries = args[0] if args and isinstance(args[0], tuple) else ()
        size = sum(len(entry.data) for entry in entries)
        ready = self.now() + self.latency_us + size * self.us_per_kb // 1000
        return Due(self.now, ready, fn, args, kwargs)


class Due(Future[Any]):
    """Done at a moment of virtual time."""

    def __init__(self, now: Callable[[], float], ready: float, fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
        super().__init__()
        self._clock, self._ready, self._work = now, ready, lambda: fn(*args, **kwargs)

    def done(self) -> bool:
        if not super().done() and self._clock() >= self._ready:
            self.set_result(self._work())
        return super().done()


def slow_studio(folder: Path, disk: Late, **settings: Any) -> Studio:
    studio = Studio(folder, executor=disk, **settings)
    disk.now = lambda: studio.now
    studio.track("us")
    studio.feed("us", feed.deliver([Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 360))]))
    return studio


def test_a_disk_that_is_slow_is_told_once_and_costs_nothing(tmp_path: Path) -> None:
    """Each batch is answered within a second, but what comes meanwhile waits for more than one."""
    disk = Late(0)
    studio = slow_studio(tmp_path, disk)
    studio.run(2_000_000)
    assert studio.recording.state is RecordingState.ON
    disk.latency_us = 900_000
    studio.run(5_500_000)
    assert studio.states[-1] == (RecordingState.ALARM, "the disk is too slow")
    told = len(studio.states)
    studio.run(8_000_000)
    assert len(studio.states) == told
    disk.latency_us = 100_000
    studio.run()
    assert studio.recording.state is RecordingState.ON
    assert codes(studio) == list(range(360))


def test_a_disk_that_takes_less_than_comes_is_told_and_bounded(tmp_path: Path) -> None:
    disk = Late(0)
    studio = slow_studio(tmp_path, disk, hold_bytes=60_000)
    studio.run(2_000_000)
    disk.us_per_kb = 100_000
    studio.run(4_000_000)
    assert studio.states[-1][0] is RecordingState.ALARM
    studio.run()
    assert studio.recorder.counters()["held_bytes"] < 120_000
    kept = studio.stop()  # slow, but it goes on: nothing is given up
    assert verify(studio.path, storage=studio.storage).ok
    assert {gap.cause for gap in kept.tracks[0].gaps} == {"disk"}
    shown = [p.code or 0 for s in kept.tracks[0].segments for p in feed.watch(studio.path, s)]
    assert shown == sorted(shown)


def test_a_writer_that_does_not_move_is_noticed(tmp_path: Path) -> None:
    studio = studio_on(SickStorage(tmp_path, feed.MASTERS if feed.encrypted else None))
    studio.run(2_000_000)
    studio.now += 2_500_000
    studio.recorder.check()
    assert studio.states[-1] == (RecordingState.ALARM, "the recorder does not move")
    studio.run()
    assert studio.recording.state is RecordingState.ON


def test_one_recording_in_trouble_leaves_the_others_alone(tmp_path: Path) -> None:
    studio = studio_on(SickStorage(tmp_path, feed.MASTERS if feed.encrypted else None))
    other = studio.recorder.start("room-2")

    def explode() -> bool:
        raise RuntimeError("a defect")

    studio.run(500_000)
    studio.recorder._sessions[other.id].step = explode  # type: ignore[method-assign]
    studio.run()
    assert (RecordingState.ALARM, "RuntimeError: a defect") in studio.states
    assert codes(studio) == list(range(180))


def test_what_can_not_be_carried_out_raises_the_alarm_and_ends_nothing(tmp_path: Path) -> None:
    studio = studio_on(SickStorage(tmp_path, feed.MASTERS if feed.encrypted else None))
    studio.run(2_000_000)
    nonsense: Any = None
    studio.recording.consent(nonsense)
    other = studio.recorder.start("room-2")
    studio.run(2_050_000)
    assert [state for state, _ in studio.states].count(RecordingState.ALARM) == 1
    assert "TypeError" in next(detail for state, detail in studio.states if state is RecordingState.ALARM)
    assert other in studio.recorder.recordings()
    studio.run()
    assert codes(studio) == list(range(180))
