"""What waits for a packet that is still asked for: on the disk meanwhile, in its place when that comes."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.recording import journal, raw
from mediaserver.recording.manifest import Manifest
from mediaserver.recording.recovery import recover_all
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.storage.sealed import MAGIC
from mediaserver.recording.verify import verify
from tests.recording import feed
from tests.recording.feed import FRAME_US, Item, Source, Studio

pytestmark = pytest.mark.usefixtures("kept")

LOST_AT = 1_500_000
LOST = LOST_AT + 20_000


def late(comes_at: float | None) -> feed.Network:
    """The first packet that is sent after `LOST_AT` comes at that time, None: never; all others after 20 ms."""
    found: dict[int, int] = {}

    def network(time: float, item: Item) -> list[float]:
        if item[0] == 0 and time >= LOST_AT and found.setdefault(item[4], item[2]) == item[2]:
            return [comes_at] if comes_at else []
        return [time + 20_000]

    return network


def waiting(folder: Path, comes_at: float | None, until: float, gop: int = 30) -> Studio:
    """A picture (H.264) and a sound of which a packet each is awaited; the recorder has run until then."""
    studio = Studio(folder)
    video = Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 240, gop=gop))
    sound = Source(Codec.CODEC_OPUS, feed.sound(8), unit_us=20_000, ssrc=3)
    for name, source in (("us", video), ("mic", sound)):
        ring = studio.track(name, "audio" if name == "mic" else "video")
        studio.feed(name, feed.deliver([source], late(comes_at)))
        ring.awaited = 1
    studio.run(until)
    return studio


def shown(studio: Studio, kept: Manifest) -> list[int | None]:
    track = next(track for track in kept.tracks if track.id == "us")
    return [p.code for segment in track.segments for p in feed.watch(studio.path, segment)]


def heard(kept: Manifest) -> int:
    return sum(segment.units for track in kept.tracks if track.id == "mic" for segment in track.segments)


def recovered(folder: Path) -> Manifest:
    storage = feed.storage_at(folder)
    (kept,), failures = recover_all(storage)
    assert failures == []
    found = storage.find(kept.id)
    assert found is not None
    report = verify(found, storage=storage)
    assert report.ok, report
    assert report.opened == (report.files if feed.encrypted else 0)
    return kept


def test_a_packet_that_comes_after_seconds_has_its_place(tmp_path: Path) -> None:
    studio = waiting(tmp_path, 6_000_000, 5_950_000)
    spills = list(studio.path.glob("*-spill-*.rtp"))
    assert spills
    assert all(path.read_bytes().startswith(MAGIC) == feed.encrypted for path in spills)
    studio.run(6_100_000)
    for ring in studio.rings.values():
        ring.awaited = 0
    studio.run()
    kept = studio.stop()
    assert shown(studio, kept) == list(range(240))
    assert heard(kept) == 400
    assert all(len(track.segments) == 1 and track.gaps == [] for track in kept.tracks)
    assert verify(studio.path, storage=studio.storage).ok
    assert not list(studio.path.glob("*.rtp"))


def test_what_is_not_asked_for_any_more_is_a_gap(tmp_path: Path) -> None:
    studio = waiting(tmp_path, None, 4_000_000)
    for ring in studio.rings.values():
        ring.awaited = 0
    studio.run()
    kept = studio.stop()
    codes = shown(studio, kept)
    assert [(before, after) for before, after in pairwise(codes) if after != (before or 0) + 1] == [(44, 60)]
    assert [len(track.gaps) for track in kept.tracks] == [1, 1]
    assert {gap.cause for track in kept.tracks for gap in track.gaps} == {"lost"}
    assert not list(studio.path.glob("*.rtp"))


@pytest.mark.parametrize("until", [2_600_000, 4_000_000, 6_900_000])
def test_a_crash_while_a_packet_is_awaited_costs_two_seconds_at_most(tmp_path: Path, until: float) -> None:
    studio = waiting(tmp_path, None, until)
    kept = recovered(tmp_path)
    codes = shown(studio, kept)
    assert codes == [*range(45), *range(60, 60 + len(codes) - 45)]
    assert until / FRAME_US - (codes[-1] or 0) <= 60
    assert heard(kept) >= until / 20_000 - 100
    for track in kept.tracks:
        (gap,) = track.gaps
        assert (gap.cause, gap.packets) == ("lost", 1)
        assert [segment.reason for segment in track.segments] == ["start", "crash"][: len(track.segments)]
        assert gap.from_us == pytest.approx(feed.WALL_START + LOST, abs=FRAME_US + 1_000)
    assert not list(studio.path.glob("*.rtp"))


def test_a_crash_right_after_the_packet_has_come_costs_no_more(tmp_path: Path) -> None:
    """It is on its way to the disk in its place; what it was waited for is there already."""
    studio = waiting(tmp_path, 5_000_000, 4_990_000, gop=240)
    for ring in studio.rings.values():
        ring.awaited = 0
    before = studio.path.joinpath(journal.NAME).read_bytes()
    sizes = {path: path.stat().st_size for path in studio.path.iterdir()}
    studio.run(5_600_000)
    for path in list(studio.path.iterdir()):
        if path not in sizes:
            path.unlink()
    for path, size in sizes.items():
        if path.exists() and path.name != journal.NAME:
            os.truncate(path, size)
    assert shown(studio, recovered(tmp_path))[-1] or before


def test_a_recovery_that_is_interrupted_can_be_done_again(tmp_path: Path) -> None:
    studio = waiting(tmp_path, None, 4_000_000)

    class Failing(LocalStorage):
        def write_atomic(self, path: Path, data: bytes) -> None:
            raise OSError("the lights went out again")

    _, failures = recover_all(Failing(tmp_path, feed.MASTERS if feed.encrypted else None))
    assert failures
    codes = shown(studio, recovered(tmp_path))
    assert codes == [*range(45), *range(60, 60 + len(codes) - 45)]


def test_packets_are_as_they_were() -> None:
    """The file's format, there and back: over wraps, out of order, torn at its end."""
    packets = [
        (0, 5_000 + n * 3_000, 65_530 + n, n * 3000 & 0xFFFFFFFF, 77, 96, n & 1, bytes([n]) * n) for n in range(20)
    ]
    packets[3], packets[4] = packets[4], packets[3]
    data = raw.header(5_000) + b"".join(raw.record(packet, packet[1] - 5_000) for packet in packets)
    assert raw.started_us(data) == 5_000
    assert list(raw.read(data, 65_530, 5_000)) == packets
    assert list(raw.read(data[:-1], 65_530, 5_000)) == packets[:-1]
    assert list(raw.read(data + b"\0\x14\0", 65_530, 5_000)) == packets
