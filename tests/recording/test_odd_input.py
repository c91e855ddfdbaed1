"""Whatever a publisher sends, the writer goes on: what is valid is in the files and decodes, the rest is kept."""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediaserver.codecs.payload import Codec
from mediaserver.loadtest.raster import read_code
from mediaserver.recording import raw
from mediaserver.recording.export.join import join
from mediaserver.recording.manifest import Manifest
from mediaserver.recording.recorder import RecordingState
from mediaserver.recording.recovery import recover_all
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.verify import verify
from tests.codecs import media
from tests.recording import feed
from tests.recording.feed import Item, Source, Studio


def describes(payload: bytes) -> bool:
    """An H.264 packet with parameter sets, by themselves or in front of others (STAP-A)."""
    return bool(payload) and (payload[3] if payload[0] & 31 == 24 else payload[0]) & 31 in (7, 8)


def stripped(items: list[tuple[float, Item]], until: float) -> list[tuple[float, Item]]:
    """Up to that time no parameter sets come: their packets are empty, as padding is."""
    return [
        (at, (*item[:7], b"") if item[0] == 0 and at < until and describes(item[7]) else item) for at, item in items
    ]


def packets_in(studio: Studio, kept: Manifest) -> list[bytes]:
    return [
        packet[7]
        for segment in kept.tracks[0].segments
        if segment.container == raw.CONTAINER
        for packet in raw.read((studio.path / segment.file).read_bytes(), 65_500, 0)
    ]


def test_what_cannot_be_muxed_is_kept_as_packets(tmp_path: Path) -> None:
    """Pictures that do not describe themselves, until they do."""
    studio = Studio(tmp_path)
    studio.track("us")
    items = stripped(feed.deliver([Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 150, gop=30))]), 2_950_000)
    studio.feed("us", items)
    studio.run()
    kept = studio.stop()
    assert [(s.container, s.reason) for s in kept.tracks[0].segments] == [("rtp", "packets"), ("mp4", "start")]
    sent = [item[7] for at, item in items if item[0] == 0 and at < 2_950_000 and item[7]]
    assert packets_in(studio, kept)[: len(sent)] == sent
    assert [p.code for p in feed.watch(studio.path, kept.tracks[0].segments[1])] == list(range(90, 150))
    assert any("kept as packets" in note.text for note in kept.notes)
    assert verify(studio.path).ok
    join(studio.path, kept, tmp_path / "exam.mkv", "mkv")
    with av.open(tmp_path / "exam.mkv") as container:
        assert sum(1 for _ in container.decode(video=0)) == 60


def test_payload_types_that_nobody_has_named_are_kept_as_packets(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("us")
    items = feed.deliver([Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 60))])
    odd = [(at, (*item[:5], 42, *item[6:]) if item[0] == 0 and item[2] % 3 == 0 else item) for at, item in items]
    studio.feed("us", odd)
    studio.run()
    kept = studio.stop()
    assert packets_in(studio, kept) == [item[7] for _, item in odd if item[0] == 0 and item[5] == 42]
    assert studio.recorder.counters()["ignored"] == len(packets_in(studio, kept))
    assert verify(studio.path).ok


def test_packets_survive_a_crash(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.track("us")
    items = feed.deliver([Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 90))])
    studio.feed("us", [(at, (*item[:5], 42, *item[6:]) if item[0] == 0 else item) for at, item in items])
    studio.run()
    (kept,), failures = recover_all(LocalStorage(tmp_path))
    assert failures == []
    assert verify(studio.path).ok
    assert len(packets_in(studio, kept)) >= len(items) // 2


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    """Nothing is lost, and yet a picture cannot be put together."""
    studio = Studio(tmp_path)
    studio.track("us")
    items = feed.deliver([Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 120, gop=30))])
    last = [item[2] for at, item in items if item[0] == 0 and 2_010_000 < at < 2_040_000][-1]  # the end of a keyframe
    broken = [(at, (*item[:7], b"\x1c") if item[0] == 0 and item[2] == last else item) for at, item in items]
    studio.feed("us", broken)
    studio.run()
    kept = studio.stop()
    (gap,) = kept.tracks[0].gaps
    assert (gap.cause, gap.packets) == ("broken", 0)
    assert gap.skipped in (29, 30)
    codes = [p.code for s in kept.tracks[0].segments for p in feed.watch(studio.path, s)]
    assert codes == [*range(60), *range(90, 120)]


ODDITIES = ("drop", "repeat", "garbage", "cut", "ssrc", "time", "type", "marker", "empty", "swap")


def spoil(chance: random.Random, kinds: list[str], items: list[tuple[float, Item]]) -> list[tuple[float, Item]]:
    """Items of a second in which all of these go wrong now and then."""
    out: list[tuple[float, Item]] = []
    for at, item in items:
        kind = chance.choice(kinds) if item[0] == 0 and chance.random() < 0.3 else ""
        match kind:
            case "drop":
                continue
            case "repeat":
                out.append((at, item))
            case "garbage":
                item = (*item[:7], chance.randbytes(chance.randrange(1, 900)))
            case "cut":
                item = (*item[:7], item[7][: chance.randrange(1, len(item[7]) + 1)])
            case "ssrc":
                item = (*item[:4], chance.randrange(1 << 32), *item[5:])
            case "time":
                item = (*item[:3], chance.randrange(1 << 32), *item[4:])
            case "type":
                item = (*item[:5], chance.randrange(128), *item[6:])
            case "marker":
                item = (*item[:6], 1 - item[6], item[7])
            case "empty":
                item = (*item[:7], b"")
            case "swap":
                at += 100_000
        out.append((at, item))
    return sorted(out, key=lambda pair: pair[0])


def codes(folder: Path, kept: Manifest) -> list[int]:
    """Of the pictures that a decoder makes of the files, whatever it says of the others."""
    found = []
    for segment in kept.tracks[0].segments:
        if segment.container == raw.CONTAINER:
            continue
        with av.open(folder / segment.file) as container:
            # One that a hostile picture has begun may describe nothing; what came after it is in another.
            for packet in container.demux(container.streams.video) if container.streams.video else ():
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    continue
                for frame in frames:
                    assert isinstance(frame, av.VideoFrame)
                    code = read_code(media.planes(frame)[0]) if (frame.width, frame.height) == (320, 240) else None
                    found += [] if code is None else [code]
    return found


@settings(max_examples=40)
@pytest.mark.parametrize("codec", [Codec.CODEC_H264, Codec.CODEC_VP8, Codec.CODEC_AV1])
@given(seed=st.integers(0, 1 << 32), kinds=st.lists(st.sampled_from(ODDITIES), min_size=1, max_size=4))
def test_nothing_stops_the_writer(codec: Codec, seed: int, kinds: list[str]) -> None:
    """A second that is good, one in which anything may come, and three that are good again."""
    chance = random.Random(seed)
    items = feed.deliver([Source(codec, feed.video(codec, 150, gop=30))])
    good = [pair for pair in items if pair[0] < 1_015_000]
    odd = spoil(chance, kinds, [pair for pair in items if 1_015_000 <= pair[0] < 2_015_000])
    rest = [pair for pair in items if pair[0] >= 2_015_000]
    with TemporaryDirectory(dir=feed.MEMORY) as name:
        studio = Studio(Path(name), storage=feed.Unsynced(Path(name)))
        studio.track("us")
        studio.feed("us", good + odd + rest)
        studio.run()
        kept = studio.stop()
        assert RecordingState.ALARM not in [state for state, _ in studio.states]
        assert not any("Error" in note.text for note in kept.notes), kept.notes
        assert verify(studio.path).ok
        found = codes(studio.path, kept)
        assert found[:30] == list(range(30))
        # Whatever the odd second has left, a keyframe on ends it.
        assert found[-60:] == list(range(90, 150))
