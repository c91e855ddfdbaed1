"""What a crash leaves is closed, and what is there plays and verifies."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.recording import journal, manifest
from mediaserver.recording.recovery import recover_all
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.storage.local import Sealing
from mediaserver.recording.verify import verify
from tests.recording import feed
from tests.recording.feed import Source, Studio

pytestmark = pytest.mark.usefixtures("kept")


def crashed(folder: Path, until: float = 3_000_000) -> Studio:
    """A recording of two tracks whose writer has stopped in the middle, without a word."""
    studio = Studio(folder)
    studio.track("us")
    studio.track("mic", "audio")
    studio.feed("us", feed.deliver([Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 120))], feed.jitter(1)))
    sound = Source(Codec.CODEC_OPUS, feed.sound(4), unit_us=20_000, ssrc=3)
    studio.feed("mic", feed.deliver([sound], feed.jitter(2)))
    studio.run(until)
    return studio


def test_closes_what_was_open(tmp_path: Path) -> None:
    studio = crashed(tmp_path)
    (kept,), _ = recover_all(feed.storage_at(tmp_path))
    assert kept.state == "recovered"
    assert kept.notes == []
    assert verify(studio.path, storage=studio.storage).ok
    tracks = {track.id: track for track in kept.tracks}
    codes = [p.code for p in feed.watch(studio.path, tracks["us"].segments[0])]
    assert codes == list(range(len(codes)))
    assert len(codes) >= 30  # two seconds of three at most are lost
    bursts, _ = feed.listen(studio.path, tracks["mic"].segments[0])
    assert len(bursts) >= 2
    assert recover_all(feed.storage_at(tmp_path)) == ([], [])


def test_drops_what_the_journal_does_not_vouch_for(tmp_path: Path) -> None:
    studio = crashed(tmp_path)
    path = studio.path
    with (path / "us-1.mp4").open("ab") as stream:
        stream.write(b"half a fragment")
    with (path / journal.NAME).open("ab") as stream:
        stream.write(b'{"what":"fragment","track":"us"')
    (path / "us-2.mp4").write_bytes(b"never journaled")
    (kept,), _ = recover_all(feed.storage_at(tmp_path))
    assert verify(path, storage=studio.storage).ok
    assert not (path / "us-2.mp4").exists()
    codes = [p.code for p in feed.watch(path, kept.tracks[0].segments[0])]
    assert codes == list(range(len(codes)))


def test_tells_what_the_disk_has_lost(tmp_path: Path) -> None:
    studio = crashed(tmp_path)
    path = studio.path
    os.truncate(path / "us-1.mp4", (path / "us-1.mp4").stat().st_size - 100)
    (kept,), _ = recover_all(feed.storage_at(tmp_path))
    assert ["1 fragments are missing" in note.text for note in kept.notes] == [True]
    codes = [p.code for p in feed.watch(path, kept.tracks[0].segments[0])]
    assert codes == list(range(len(codes)))
    assert verify(path, storage=studio.storage).ok


def test_tells_what_was_changed_meanwhile(tmp_path: Path) -> None:
    studio = crashed(tmp_path)
    path = studio.path / "us-1.mp4"
    data = bytearray(path.read_bytes())
    data[-50] ^= 1
    path.write_bytes(data)
    (kept,), _ = recover_all(feed.storage_at(tmp_path))
    # Of a sealed file nothing behind the change can be opened any more.
    text = "fragments are missing" if feed.encrypted else "not what was written"
    assert any(text in note.text for note in kept.notes)
    assert verify(studio.path, storage=studio.storage).ok


@pytest.mark.parametrize("cut", range(8))
def test_can_be_interrupted_itself(tmp_path: Path, cut: int) -> None:
    """Every step of a recovery fails once; the next one does it."""
    studio = crashed(tmp_path)

    class Failing(LocalStorage):
        left = cut

        def seal(self, *args: object) -> Sealing:
            self.spend()
            result = super().seal(*args)  # type: ignore[arg-type]
            self.spend()
            return result

        def write_atomic(self, path: Path, data: bytes) -> None:
            self.spend()
            super().write_atomic(path, data)
            self.spend()

        def spend(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise OSError("the lights went out again")

    _, failures = recover_all(Failing(tmp_path, feed.MASTERS if feed.encrypted else None))
    assert all("the lights went out again" in failure for failure in failures)
    if failures:
        assert recover_all(feed.storage_at(tmp_path))[1] == []
    data = (studio.path / manifest.NAME).read_bytes()
    kept = manifest.decode(data)
    assert verify(studio.path, storage=studio.storage).ok
    codes = [p.code for p in feed.watch(studio.path, kept.tracks[0].segments[0])]
    assert codes == list(range(len(codes)))


def test_an_empty_journal_goes(tmp_path: Path) -> None:
    folder = tmp_path / "2026" / "11" / "23" / "20261123-000000-00000000"
    folder.mkdir(parents=True)
    (folder / journal.NAME).write_bytes(b"")
    assert recover_all(feed.storage_at(tmp_path)) == ([], [])
    assert not folder.exists()


@pytest.mark.parametrize("seed", range(2))
def test_kill_in_the_middle_loses_two_seconds_at_most(tmp_path: Path, kept: str, seed: int) -> None:
    """A process that records in real time, killed at a random moment after it has said which pictures have arrived."""
    command = [sys.executable, "-m", "tests.recording.victim", str(tmp_path), kept]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as child:
        assert child.stdout is not None
        stop_after = random.Random(seed).randrange(70, 150)
        arrived = -1
        while arrived < stop_after:
            assert select.select([child.stdout], [], [], 60)[0]
            line = child.stdout.readline()
            assert line, "the recording process has died by itself"
            arrived = int(line)
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        arrived = int(rest[-1]) if rest else arrived
    storage = feed.storage_at(tmp_path)
    (closed,), _ = recover_all(storage)
    folder = storage.find(closed.id)
    assert folder is not None
    report = verify(folder, storage=storage)
    assert report.ok, report
    assert report.opened == (report.files if feed.encrypted else 0)
    for track in closed.tracks:
        codes = [p.code for segment in track.segments for p in feed.watch(folder, segment)]
        assert codes == list(range(len(codes)))
        assert arrived - len(codes) <= 60, f"lost {(arrived - len(codes)) / 30:.2f} s"
