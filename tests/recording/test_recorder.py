"""Real media through the recorder, in virtual time: what is on disk is what was sent."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.recording import journal, manifest
from mediaserver.recording.recorder import ParticipantMeta, RecordingState
from mediaserver.sfu.stream.params import PayloadParams
from tests.recording import feed
from tests.recording.feed import FRAME_US, WALL_START, Item, Source, Studio

VIDEO = [Codec.CODEC_VP8, Codec.CODEC_VP9, Codec.CODEC_H264, Codec.CODEC_H265, Codec.CODEC_AV1]


@pytest.mark.parametrize("codec", VIDEO)
def test_every_picture_is_kept(tmp_path: Path, codec: Codec) -> None:
    studio = Studio(tmp_path)
    studio.track("us")
    studio.feed("us", feed.deliver([Source(codec, feed.video(codec, 90))], feed.jitter(1)))
    studio.run()
    kept = studio.stop()
    (segment,) = kept.tracks[0].segments
    assert kept.tracks[0].gaps == []
    shown = feed.watch(studio.path, segment)
    assert [picture.code for picture in shown] == list(range(90))
    assert segment.units == 90
    assert segment.keyframes == 3
    assert (segment.width, segment.height) == (320, 240)
    assert segment.last_rtp - segment.first_rtp == pytest.approx(90 * 3000, abs=2)
    assert all(abs(p.wall_us - (WALL_START + p.code * FRAME_US)) < 50_000 for p in shown if p.code is not None)


def test_sound_and_two_pictures_are_in_sync(tmp_path: Path) -> None:
    """Clocks that start anywhere, tracks that start at different times, networks of different delay."""
    studio = Studio(tmp_path)
    hour = 3_600_000_000
    for name, kind in (("camera", "video"), ("us", "video"), ("mic", "audio")):
        studio.track(name, kind)
    camera = Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 150), clock_us=hour, ssrc=1)
    scan = Source(
        Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 120), clock_us=hour, ssrc=2, rtp_start=77, start_us=1e6
    )
    voice = Source(
        Codec.CODEC_OPUS, feed.sound(5), clock_us=hour, ssrc=3, rtp_start=3_000_000_000, unit_us=20_000, sequence=1
    )
    studio.feed("camera", feed.deliver([camera], feed.jitter(1, 10_000, 60_000)))
    studio.feed("us", feed.deliver([scan], feed.jitter(2, 60_000, 90_000)))
    studio.feed("mic", feed.deliver([voice], feed.jitter(3, 5_000, 25_000)))
    studio.run()
    kept = studio.stop()
    tracks = {track.id: track for track in kept.tracks}
    offsets: list[float] = []
    for name, start in (("camera", 0.0), ("us", 1e6)):
        shown = feed.watch(studio.path, tracks[name].segments[0])
        offsets += [p.wall_us - (WALL_START + start + (p.code or 0) * FRAME_US) for p in shown]
    bursts, samples = feed.listen(studio.path, tracks["mic"].segments[0])
    assert samples == 5 * 48_000
    assert len(bursts) == 5
    offsets += [wall - (WALL_START + second * 1_000_000) for second, wall in enumerate(bursts)]
    assert len(offsets) == 150 + 120 + 5
    assert max(offsets) - min(offsets) < 20_000


def test_a_loss_is_a_gap_and_what_follows_decodes(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("us")
    source = Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 120, gop=30))
    sequences = [item[2] for _, item in source.sent() if item[0] == 0]
    timestamps = {item[2]: item[3] for _, item in source.sent() if item[0] == 0}
    lost = {s for s in sequences if timestamps[s] == (source.rtp_start + 40 * 3000) & 0xFFFFFFFF}
    network = lambda time, item: [] if item[0] == 0 and item[2] in lost else [time + 20_000]  # noqa: E731
    studio.feed("us", feed.deliver([source], network))
    studio.run()
    kept = studio.stop()
    (segment,) = kept.tracks[0].segments
    (gap,) = kept.tracks[0].gaps
    assert (gap.cause, gap.first, gap.last, gap.packets) == ("lost", min(lost), max(lost), len(lost))
    assert gap.skipped == 19
    assert gap.from_us == pytest.approx(WALL_START + 39 * FRAME_US + 20_000, abs=2)
    assert gap.to_us == pytest.approx(WALL_START + 60 * FRAME_US + 20_000, abs=2)
    codes = [picture.code for picture in feed.watch(studio.path, segment)]
    assert codes == [*range(40), *range(60, 120)]
    assert "us" in studio.keyframes


def test_a_late_retransmission_leaves_no_gap(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("us")
    source = Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 60))
    chance = random.Random(5)

    def network(time: float, item: Item) -> list[float]:
        if item[0] == 0 and chance.random() < 0.1:
            return [time + 20_000 + chance.uniform(50_000, 450_000)]
        return [time + 20_000] * (2 if chance.random() < 0.05 else 1)

    studio.feed("us", feed.deliver([source], network))
    studio.run()
    kept = studio.stop()
    assert kept.tracks[0].gaps == []
    assert [p.code for p in feed.watch(studio.path, kept.tracks[0].segments[0])] == list(range(60))


def test_lost_sound_goes_on_behind_the_hole(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("mic", "audio")
    source = Source(Codec.CODEC_OPUS, feed.sound(4), unit_us=20_000, sequence=10)
    network = lambda time, item: [] if item[0] == 0 and 70 <= item[2] < 80 else [time + 20_000]  # noqa: E731
    studio.feed("mic", feed.deliver([source], network))
    studio.run()
    kept = studio.stop()
    (gap,) = kept.tracks[0].gaps
    assert (gap.first, gap.last, gap.packets, gap.cause) == (70, 79, 10, "lost")
    assert gap.to_us - gap.from_us == pytest.approx(220_000, abs=2)
    bursts, _ = feed.listen(studio.path, kept.tracks[0].segments[0])
    assert [round((wall - WALL_START) / 1e6) for wall in bursts] == [0, 1, 2, 3]


def test_another_picture_size_opens_another_file(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("camera")
    small = feed.video(Codec.CODEC_VP8, 30)
    large = feed.video(Codec.CODEC_VP8, 30, 30, 640, 480)
    first = Source(Codec.CODEC_VP8, small)
    used = sum(1 for _, item in first.sent() if item[0] == 0)
    second = Source(
        Codec.CODEC_VP8, large, rtp_start=(first.rtp_start + 90_000) & 0xFFFFFFFF, start_us=1e6,
        sequence=first.sequence + used, size=(640, 480),
    )  # fmt: skip
    studio.feed("camera", feed.deliver([first, second]))
    studio.run()
    kept = studio.stop()
    segments = kept.tracks[0].segments
    assert [(s.width, s.height, s.reason) for s in segments] == [(320, 240, "start"), (640, 480, "size")]
    assert kept.tracks[0].gaps == []
    shown = [picture for segment in segments for picture in feed.watch(studio.path, segment)]
    assert [picture.code for picture in shown] == list(range(60))
    walls = [picture.wall_us for picture in shown]
    assert all(20_000 < after - before < 50_000 for before, after in pairwise(walls))


def test_a_publisher_that_restarts_opens_another_file(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("camera")
    first = Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 45))
    second = Source(
        Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 45, 45), ssrc=2222, rtp_start=12, sequence=9, start_us=4e6
    )
    studio.feed("camera", feed.deliver([first, second]))
    studio.run()
    kept = studio.stop()
    segments = kept.tracks[0].segments
    assert [(s.ssrc, s.reason) for s in segments] == [(1111, "start"), (2222, "ssrc")]
    shown = [picture for segment in segments for picture in feed.watch(studio.path, segment)]
    assert [picture.code for picture in shown] == list(range(90))
    assert all(
        abs(p.wall_us - (WALL_START + (p.code or 0) * FRAME_US + (2_500_000 if (p.code or 0) >= 45 else 0))) < 50_000
        for p in shown
    )


def test_an_encoding_that_comes_back_is_recorded_again(tmp_path: Path) -> None:
    """A publisher of simulcast switches its highest encoding off and on: the SSRC is one that was there before."""
    studio = Studio(tmp_path)
    studio.track("us")
    high = Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 90), ssrc=3)
    low = Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 90), ssrc=1, rtp_start=9)
    items = [pair for pair in feed.deliver([high]) if not 1_020_000 <= pair[0] < 2_020_000]
    items += [pair for pair in feed.deliver([low]) if 1_020_000 <= pair[0] < 2_020_000]
    studio.feed("us", items)
    studio.run()
    kept = studio.stop()
    assert [s.ssrc for s in kept.tracks[0].segments] == [3, 1, 3]
    shown = [picture for segment in kept.tracks[0].segments for picture in feed.watch(studio.path, segment)]
    assert [picture.code for picture in shown] == list(range(90))
    assert kept.tracks[0].gaps == []


def test_another_codec_opens_another_file(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("camera")
    first = Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 30))
    used = sum(1 for _, item in first.sent() if item[0] == 0)
    second = Source(
        Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 30, 30), rtp_start=(first.rtp_start + 90_000) & 0xFFFFFFFF,
        sequence=first.sequence + used, start_us=1e6,
    )  # fmt: skip
    studio.feed("camera", feed.deliver([first, second]))
    studio.run()
    kept = studio.stop()
    assert [(s.codec, s.reason) for s in kept.tracks[0].segments] == [("VP8", "start"), ("H264", "codec")]
    shown = [picture for segment in kept.tracks[0].segments for picture in feed.watch(studio.path, segment)]
    assert [picture.code for picture in shown] == list(range(60))


def test_payload_types_that_a_later_offer_brings(tmp_path: Path) -> None:
    """The same stream goes on under another number."""
    studio = Studio(tmp_path)
    studio.track("us")
    source = Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 90))
    renamed = [
        (time, (*item[:5], 35, *item[6:]) if item[0] == 0 and time >= 1_500_000 else item)
        for time, item in feed.deliver([source])
    ]
    studio.feed("us", renamed)
    studio.run(1_450_000)
    studio.recording.update_track("us", (PayloadParams(35, int(Codec.CODEC_VP8), 90_000),))
    studio.run()
    kept = studio.stop()
    (segment,) = kept.tracks[0].segments
    assert kept.tracks[0].gaps == []
    assert [picture.code for picture in feed.watch(studio.path, segment)] == list(range(90))


def test_recording_begins_at_the_first_keyframe(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("us")
    source = Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 90, gop=30))
    late = [pair for pair in feed.deliver([source]) if pair[0] > 10 * FRAME_US + 25_000]
    studio.feed("us", late)
    studio.run()
    kept = studio.stop()
    assert [p.code for p in feed.watch(studio.path, kept.tracks[0].segments[0])] == list(range(30, 90))
    assert studio.keyframes


def test_a_track_that_falls_silent_is_on_disk_within_two_seconds(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("screen")
    studio.feed("screen", feed.deliver([Source(Codec.CODEC_VP9, feed.video(Codec.CODEC_VP9, 1))]))
    studio.run(2_000_000)
    lines = list(journal.read(studio.path / journal.NAME))
    assert [line.units for line in lines if isinstance(line, journal.Written)] == [1]
    kept = studio.stop()
    assert [p.code for p in feed.watch(studio.path, kept.tracks[0].segments[0])] == [0]


def test_on_means_that_data_is_on_disk(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("us")
    studio.feed("us", feed.deliver([Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 60))]))
    studio.run(600_000)
    assert studio.recording.state is RecordingState.STARTING
    studio.run(1_200_000)
    assert studio.states == [(RecordingState.ON, "")]
    assert studio.recording.snapshot().tracks[0].segments[0].units > 0
    studio.stop()
    assert studio.states[-1][0] is RecordingState.STOPPED
    assert studio.recorder.recordings() == []


def test_the_manifest_is_sealed_and_alone(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.recording.add_participant(ParticipantMeta("p1", "Dr. Ada", "doctor"))
    studio.track("us", participant="p1")
    studio.feed("us", feed.deliver([Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 60))]))
    studio.run()
    kept = studio.stop()
    data = (studio.path / manifest.NAME).read_bytes()
    assert manifest.decode(data) == kept
    assert manifest.is_genuine(data, kept)
    assert not manifest.is_genuine(data.replace(b"Ada", b"Eve"), kept)
    assert sorted(path.name for path in studio.path.iterdir()) == [manifest.NAME, "us-1.webm"]
    assert kept.participants[0].name == "Dr. Ada"
    assert kept.ended_us > kept.started_us


def test_nothing_recorded_leaves_nothing(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.run(100_000)
    assert studio.stop().tracks == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_hostile_payloads_do_not_stop_the_writer(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("us")
    chance = random.Random(3)
    source = Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 120, gop=30))
    items = []
    for arrival, item in feed.deliver([source]):
        if item[0] == 0 and 500_000 < arrival < 1_500_000:
            item = (*item[:7], chance.randbytes(chance.randrange(1, 400)))
        items.append((arrival, item))
    studio.feed("us", items)
    studio.run()
    kept = studio.stop()
    codes = [p.code for s in kept.tracks[0].segments for p in feed.watch(studio.path, s)]
    assert codes[-60:] == list(range(60, 120))


def test_a_muted_track_names_its_gap_so(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("mic", "audio")
    source = Source(Codec.CODEC_OPUS, feed.sound(4), unit_us=20_000, sequence=10)
    network = lambda time, item: [] if 1e6 <= time < 2e6 else [time + 20_000]  # noqa: E731
    studio.feed("mic", feed.deliver([source], network))
    studio.run(1_000_000)
    studio.recording.mute_track("mic", True)
    studio.run(2_000_000)
    studio.recording.mute_track("mic", False)
    studio.run()
    kept = studio.stop()
    assert [gap.cause for gap in kept.tracks[0].gaps] == ["muted"]


def test_a_full_ring_is_named_and_asks_for_a_keyframe(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    ring = studio.track("us")
    source = Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 90))
    network = lambda time, item: [] if item[0] == 0 and 1.1e6 <= time < 1.3e6 else [time + 20_000]  # noqa: E731
    studio.feed("us", feed.deliver([source], network))
    studio.run(1_200_000)
    ring.dropped = 7
    studio.run()
    kept = studio.stop()
    assert [gap.cause for gap in kept.tracks[0].gaps] == ["overflow"]
    assert studio.keyframes


def test_rtp_time_that_jumps_opens_another_file(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("us")
    first = Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 30), reports=False)
    used = sum(1 for _ in first.sent())
    second = Source(
        Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 30, 30), rtp_start=500, sequence=first.sequence + used,
        start_us=1e6, reports=False,
    )  # fmt: skip
    first.rtp_start = 1_000_000_000
    studio.feed("us", feed.deliver([first, second]))
    studio.run()
    kept = studio.stop()
    assert [s.reason for s in kept.tracks[0].segments] == ["start", "timestamps"]
    shown = [picture for segment in kept.tracks[0].segments for picture in feed.watch(studio.path, segment)]
    assert [picture.code for picture in shown] == list(range(60))


def test_a_track_goes_on_until_its_tap_is_closed(tmp_path: Path) -> None:
    """Between the end of a track and that of its tap packets still come: they are kept, and none stays in the ring."""
    studio = feed.Studio(tmp_path)
    ring = studio.track("us")
    studio.feed("us", feed.deliver([feed.Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 60))]))
    studio.run(1_000_000)
    studio.recording.remove_track("us")
    studio.run(1_500_000)
    studio.coming.clear()
    ring.gone = True
    studio.run(1_600_000)
    assert ring.closed
    kept = studio.stop()
    (segment,) = kept.tracks[0].segments
    assert segment.units == 45
