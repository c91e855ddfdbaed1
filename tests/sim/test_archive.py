"""What a recorder has of a bad line: all that the publisher can still give, however late, and the rest is named."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.recording.manifest import Manifest, Track
from mediaserver.recording.verify import verify
from tests.sim.archive import UNIX_START, Archive
from tests.sim.consultation import CAMERA, STETHOSCOPE, VOICE, SourceSpec, with_codec
from tests.sim.encoder import Encoding, VideoSpec
from tests.sim.network import MS, SECOND, BurstLoss, LinkSpec

PICTURE = SourceSpec(
    "ultrasound",
    VideoSpec(Codec.CODEC_VP8, (Encoding(640, 480, 300_000, 800_000, "f"),)),
    floor_kbps=300,
    alarm_kbps=400,
    rank=2,
)
SOURCES = (PICTURE, STETHOSCOPE, VOICE)


def tracks(kept: Manifest) -> dict[str, Track]:
    return {track.source: track for track in kept.tracks}


def missing(numbers: list[int]) -> int:
    return sum(after - before - 1 for before, after in pairwise(numbers))


def check_whole(archive: Archive, kept: Manifest) -> None:
    """From the first to the last picture, and every packet of sound."""
    for source, track in tracks(kept).items():
        numbers = [truth.unit for truth in archive.truths(track)]
        assert missing(numbers) == 0, source
        assert track.gaps == [], source
        assert len(track.segments) == 1, source
    assert verify(archive.folder).ok


def test_what_viewers_do_without_is_in_the_archive(tmp_path: Path) -> None:
    """Five minutes of 3 % loss on a long line: too slow for whoever watches, not for a recorder."""
    archive = Archive(tmp_path, SOURCES, LinkSpec(delay=100 * MS, loss=0.03))
    before = archive.laboratory.engine.counters()["given_up"]
    doctor = archive.consultation.join(LinkSpec())
    archive.run(300 * SECOND)
    kept = archive.stop()
    check_whole(archive, kept)
    heard = doctor.sounds[archive.consultation.ssrc(doctor, "stethoscope")]
    assert missing(sorted(heard.numbers)) > 5
    counted = archive.laboratory.engine.counters()
    assert counted["recovered_late"] > 5
    assert counted["given_up"] == before
    assert kept.ended_us - kept.started_us > 300 * SECOND
    assert kept.started_us >= UNIX_START


@pytest.mark.parametrize("length", [5.0, 20.0])
def test_bursts_are_repaired(tmp_path: Path, length: float) -> None:
    archive = Archive(tmp_path, SOURCES, LinkSpec(delay=50 * MS, burst=BurstLoss(0.05, length)))
    archive.run(60 * SECOND)
    check_whole(archive, archive.stop())


def test_an_outage_is_one_gap_of_its_length(tmp_path: Path) -> None:
    outage = (20 * SECOND, 50 * SECOND)
    archive = Archive(tmp_path, SOURCES, LinkSpec(delay=50 * MS, loss=0.01, outages=(outage,)))
    begun = archive.laboratory.now
    archive.run(75 * SECOND)
    kept = archive.stop()
    start = UNIX_START + archive.consultation.cart.up.start
    assert begun - archive.consultation.cart.up.start < outage[0]
    for source, track in tracks(kept).items():
        (gap,) = track.gaps
        numbers = [truth.unit for truth in archive.truths(track)]
        (hole,) = [after - before - 1 for before, after in pairwise(numbers) if after != before + 1]
        assert gap.cause == "lost", source
        assert gap.from_us == pytest.approx(start + outage[0], abs=300 * MS), source
        # Sound goes on at once, a picture with the keyframe that is asked for when it is clear that it is needed.
        late = 1_500 * MS if track.kind == "video" else 300 * MS
        assert start + outage[1] - 300 * MS <= gap.to_us <= start + outage[1] + late, source
        interval = (SECOND // 30) if track.kind == "video" else 20 * MS
        assert hole * interval == pytest.approx(gap.to_us - gap.from_us, abs=300 * MS), source
        assert len(track.segments) == 1
    assert verify(archive.folder).ok


def test_the_highest_encoding_is_kept_whenever_it_is_there(tmp_path: Path) -> None:
    """The publisher stops its higher encodings for a while, and sends them again."""
    archive = Archive(tmp_path, (CAMERA,), LinkSpec(loss=0.02))
    encoder = archive.consultation.cart.tracks[0].encoder
    assert encoder is not None
    start, allot = archive.laboratory.now, encoder.allot
    off = range(start + 10 * SECOND, start + 20 * SECOND)
    encoder.allot = lambda bps: allot(150_000 if archive.laboratory.now in off else bps)  # type: ignore[method-assign]
    archive.run(40 * SECOND)
    kept = archive.stop()
    (track,) = kept.tracks
    heights = [segment.height for segment in track.segments]
    assert (heights[:2], heights[-1]) == ([720, 180], 720)
    assert track.segments[0].ssrc == track.segments[-1].ssrc
    assert {segment.reason for segment in track.segments[1:]} == {"ssrc"}
    shown = {truth.captured: truth.height for truth in archive.truths(track)}
    # It turns when nothing has come of an encoding for a second, and at the first keyframe of a higher one.
    for at, encoding, _ in encoder.made:
        if start + SECOND < at < off[0] or off[-1] + 3 * SECOND < at < archive.laboratory.now - 8 * SECOND:
            assert shown[at] == 720, (at - start) / SECOND
        if off[0] + 2 * SECOND < at < off[-1]:
            assert (shown[at], encoding) == (180, 0), (at - start) / SECOND
    # What of the old encoding is lost just before it turns is not waited for: some frames at most.
    turns = [segment.first_us for segment in track.segments[1:]]
    assert all(any(abs(gap.to_us - turn) < SECOND // 2 for turn in turns) for gap in track.gaps), track.gaps
    assert sum(gap.to_us - gap.from_us for gap in track.gaps) < SECOND // 2
    assert verify(archive.folder).ok


def test_all_spatial_layers_are_kept(tmp_path: Path) -> None:
    archive = Archive(tmp_path, (with_codec(CAMERA, Codec.CODEC_VP9),), LinkSpec())
    archive.run(10 * SECOND)
    kept = archive.stop()
    (track,) = kept.tracks
    assert len(track.segments) == 1
    layers = [truth.spatial for truth in archive.truths(track)]  # of the last payload of each picture
    assert set(layers[-100:]) == {2}
