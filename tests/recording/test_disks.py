"""Real file systems that are full, frozen or broken. They are mounted for the test, which needs root."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.recording.recorder import RecordingState
from mediaserver.recording.verify import verify
from tests.recording import feed
from tests.recording.feed import Source, Studio


def command(*words: str) -> None:
    """Run it, or skip the test where that is not allowed."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except (FileNotFoundError, PermissionError) as error:
        pytest.skip(f"{words[0]} can't be used here: {error}")
    if done.returncode:
        pytest.skip(f"{' '.join(words)} can't be used here: {done.stderr.strip()}")


@contextmanager
def mounted(folder: Path, *words: str) -> Iterator[Path]:
    """A file system of its own while the block lasts."""
    if os.geteuid():
        pytest.skip("only root can mount file systems")
    folder.mkdir()
    command("mount", *words, str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], timeout=60, check=False)


@contextmanager
def ext4(base: Path, megabytes: int) -> Iterator[Path]:
    image = base / "image"
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    command("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,nodiscard", str(image))
    with mounted(base / "disk", "-o", "loop", str(image)) as folder:
        yield folder


def fill(path: Path) -> None:
    """Take all the room that is left."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


class Disk(Executor):
    """Works at once on the caller's thread, and when it is told to on one of its own, as the recorder's does."""

    def __init__(self) -> None:
        self.apart = False
        self._inline, self._threads = feed.Inline(), ThreadPoolExecutor(2)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return (self._threads if self.apart else self._inline).submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._threads.shutdown(wait, cancel_futures=cancel_futures)


def studio_on(folder: Path, executor: Executor | None = None, seconds: int = 12, **settings: Any) -> Studio:
    studio = Studio(folder, executor=executor, **settings)
    studio.track("us")
    studio.feed("us", feed.deliver([Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, seconds * 30))]))
    return studio


def codes(studio: Studio) -> list[int | None]:
    kept = studio.stop()
    assert verify(studio.path).ok
    assert kept.tracks[0].gaps == []
    return [p.code for s in kept.tracks[0].segments for p in feed.watch(studio.path, s)]


def test_a_full_disk_is_told_and_costs_nothing_when_there_is_room_again(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=2m", "tmpfs") as folder:
        studio = studio_on(folder)
        studio.run(2_000_000)
        assert studio.recording.state is RecordingState.ON
        filler = folder / "filler"
        fill(filler)
        studio.run(4_000_000)
        assert studio.states[-1] == (RecordingState.ALARM, os.strerror(errno.ENOSPC))
        studio.run(6_000_000)
        counted = studio.recorder.counters()
        assert counted["backlog"] == 0
        assert 0 < counted["held_bytes"] < 1 << 20
        assert counted["write_errors"] >= 3
        filler.unlink()
        studio.run()
        assert studio.recording.state is RecordingState.ON
        assert codes(studio) == list(range(360))


def test_a_frozen_file_system_is_told_and_costs_nothing_when_it_thaws(tmp_path: Path) -> None:
    disk = Disk()
    with ext4(tmp_path, 32) as folder:
        studio = studio_on(folder, disk)
        studio.run(2_000_000)
        assert studio.recording.state is RecordingState.ON
        disk.apart = True
        command("fsfreeze", "--freeze", str(folder))
        try:
            studio.run(4_000_000)
            assert studio.states[-1] == (RecordingState.ALARM, "the disk does not answer")
            studio.run(6_000_000)
            counted = studio.recorder.counters()
            assert counted["backlog"] == 0
            assert 0 < counted["held_bytes"] < 1 << 20
        finally:
            command("fsfreeze", "--unfreeze", str(folder))
        end = time.monotonic() + 60
        while studio.recorder.counters()["held_bytes"] and time.monotonic() < end:
            studio.recorder.step()
            time.sleep(0.01)
        assert studio.recording.state is RecordingState.ON
        disk.apart = False
        studio.run()
        assert codes(studio) == list(range(360))
    disk.shutdown()


def test_a_disk_that_breaks_is_told(tmp_path: Path) -> None:
    """Its blocks lie on a file system that has no more room: what is written to it meets errors of the device."""
    with mounted(tmp_path / "below", "-t", "tmpfs", "-o", "size=12m", "tmpfs") as below, ext4(below, 64) as folder:
        studio = studio_on(folder)
        studio.run(2_000_000)
        assert studio.recording.state is RecordingState.ON
        fill(below / "filler")
        studio.run(4_000_000)
        state, detail = studio.states[-1]
        assert state is RecordingState.ALARM
        assert detail in (os.strerror(errno.EIO), os.strerror(errno.EROFS), os.strerror(errno.ENOSPC))
        with pytest.raises(OSError, match="could not be closed"):
            studio.stop()
        assert studio.recorder.counters()["failed"] == 1
