"""Journals that are long, and publishers who would make them long."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.codecs.payload import Codec
from mediaserver.recording import journal, pipeline
from mediaserver.recording.allowance import Allowance
from mediaserver.recording.keys import TrustedKeys, make_key
from mediaserver.recording.ledger import Ledger
from mediaserver.recording.recovery import recover_all
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.verify import verify
from tests.recording import feed
from tests.recording.feed import Source, Studio

FILES = 20_000
RECORDING = "20260921-141320-0000"
KEY = make_key()
MIB = 1 << 20


def long_lines() -> Iterator[bytes]:
    """A track that has begun and completed a file twice a second for hours."""
    yield journal.encode(journal.Begun(journal.VERSION, "test", RECORDING, "room-1", 0))
    yield journal.encode(journal.Added("us", "ultrasound", "video", "VP8", "", "cart"))
    for number in range(FILES):
        name, at = f"us-{number}.webm", number * 500_000
        opened = journal.Opened("us", name, "webm", "VP8", 90_000, 0, 1, 320, 240, at * 9 // 100, "size", 300)
        yield journal.encode(opened)
        for part in range(5):
            rtp = at * 9 // 100 + part * 9000
            written = journal.Written("us", name, 9000, part * 9000, 9000, 3, 1, True, rtp, at, "0" * 64, number)
            yield journal.encode(written)
        yield journal.encode(journal.Closed("us", name))
        yield journal.encode(journal.Sealed("us", name, 45_300, "0" * 64))


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed journal of 20,000 files: some 36 MB."""
    path = tmp_path_factory.mktemp("long") / journal.NAME
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as stream:
        for count, line in enumerate(long_lines()):
            for text in (line,) if count % 100 else (line, head(size + len(line), digest, line)):
                digest.update(text)
                size += len(text)
                stream.write(text)
        stream.write(head(size, digest, b""))
    return path


def head(size: int, digest: hashlib._Hash, line: bytes) -> bytes:
    here = digest.copy()
    here.update(line)
    return journal.encode(journal.sign_head(RECORDING, size, here.hexdigest(), KEY))


def peak(work: Callable[[], object]) -> float:
    """The most memory in use meanwhile, MiB."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


def test_a_long_journal_is_read_line_by_line(long: Path) -> None:
    assert long.stat().st_size > 34 * MIB
    trusted = TrustedKeys([KEY.public])

    def check() -> None:
        with long.open("rb") as stream:
            assert journal.check(stream, RECORDING, trusted) == ""
            stream.seek(0)
            assert journal.behind_head(stream) == 0

    assert peak(check) < 2
    assert peak(lambda: sum(1 for _ in journal.read(long))) < 2


def test_of_complete_files_little_is_kept(long: Path) -> None:
    """The manifest has a segment for each, so memory grows with their number, and with nothing else."""
    ledgers: list[Ledger] = []
    assert peak(lambda: ledgers.append(Ledger.fold(journal.read(long)))) < FILES * 6 / 1024
    (ledger,) = ledgers
    assert sum(len(file.fragments) for file in ledger.tracks["us"].files.values()) == FILES
    kept = ledger.manifest("recovered", 1)
    assert len(kept.tracks[0].segments) == FILES
    assert {segment.units for segment in kept.tracks[0].segments} == {15}


@pytest.mark.parametrize("end", [b'{"what":"note","tra', b"garbage\n", b'{"what":"end"}\n', b"x" * 3_000_000])
def test_what_is_not_understood_ends_it(long: Path, end: bytes) -> None:
    lines = long.read_bytes()[:100_000].rpartition(b"\n")[0] + b"\n"
    reading = journal.Reading(io.BytesIO(lines + end))
    assert sum(1 for _ in reading) == lines.count(b"\n")
    assert not reading.is_whole


def restless(count: int) -> Iterator[Source]:
    """An encoder that takes another size with every picture, each a keyframe, 30 a second."""
    vp8 = Codec.CODEC_VP8
    coded = (feed.video(vp8, 1), feed.video(vp8, 1, 0, 640, 480))
    sequence = 1000
    for number in range(count):
        source = Source(
            vp8, coded[number % 2], ssrc=1, rtp_start=number * 3000, start_us=number * 33_333, sequence=sequence,
            size=((320, 240), (640, 480))[number % 2],
        )  # fmt: skip
        sequence += sum(1 for _, item in source.sent() if item[0] == 0)
        yield source


def test_who_changes_with_every_picture_does_not_fill_the_folder(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("us")
    seconds = 20
    studio.feed("us", feed.deliver(restless(30 * seconds)))
    studio.run()
    kept = studio.stop()
    segments = kept.tracks[0].segments
    most = pipeline.FILES_AT_ONCE + seconds * 1_000_000 // pipeline.FILE_EVERY_US
    assert pipeline.FILES_AT_ONCE <= len(segments) <= most + 1
    gaps = [gap for gap in kept.tracks[0].gaps if gap.cause == "files"]
    assert gaps
    assert len(gaps) <= len(segments)
    assert any("changed too often" in note.text for note in kept.notes)
    # To the end something is kept now and then, and everything is accounted for.
    assert segments[-1].first_us > kept.ended_us - 4_000_000
    assert sum(segment.units for segment in segments) + sum(gap.skipped for gap in gaps) == 30 * seconds
    assert verify(studio.path).ok


def test_packets_of_strange_types_between_pictures_do_not_either(tmp_path: Path) -> None:
    """Each keyframe ends a file of packets, each strange packet would begin another one."""
    studio = Studio(tmp_path)
    studio.track("us")
    vp8 = Codec.CODEC_VP8
    items = feed.deliver([Source(vp8, feed.video(vp8, 300, gop=1))])
    seen: set[int] = set()
    odd = []
    for at, item in items:
        if item[0] == 0:
            odd.append((at, (*item[:5], 42 if item[3] in seen else item[5], *item[6:])))
            seen.add(item[3])
        else:
            odd.append((at, item))
    studio.feed("us", odd)
    studio.run()
    kept = studio.stop()
    assert len(kept.tracks[0].segments) <= pipeline.FILES_AT_ONCE + 10
    (found,) = (kept,)
    assert verify(studio.path).ok
    assert recover_all(LocalStorage(tmp_path)) == ([], [])
    assert found.state == "complete"


def test_reports_that_rain_are_thinned_out(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("us")
    source = Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 90))
    rain = [source.report(number / 1000) for number in range(3000)]
    studio.feed("us", sorted([*feed.deliver([source]), *rain], key=lambda item: item[0]))
    studio.run()
    records = list(journal.read(studio.path / journal.NAME))
    assert 3 <= sum(isinstance(record, journal.Reported) for record in records) <= 17
    assert studio.stop().tracks[0].segments[0].units == 90


@given(st.lists(st.integers(0, 5_000_000), max_size=60))
def test_an_allowance_keeps_what_it_says(steps: list[int]) -> None:
    allowance = Allowance(5, 1_000_000)
    now, times = 10_000_000, []
    for step in steps:
        now += step
        if allowance.take(now):
            times.append(now)
    for first, begin in enumerate(times):
        for last in range(first, len(times)):
            assert last - first + 1 <= 5 + (times[last] - begin) // 1_000_000 + 1
