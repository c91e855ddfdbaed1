"""The two containers at their edges, and redundant audio."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.codecs.payload import Codec
from mediaserver.recording import mp4, muxer, red, webm
from mediaserver.recording.sample import Fragment, Sample
from tests.codecs import media
from tests.recording import feed


def build(codec: Codec, coded: tuple[bytes, ...], step: int, rate: int) -> tuple[bytes, bytes, list[Fragment]]:
    """A file with one unit in each fragment: as it grows, complete, and its index."""
    made = muxer.Muxer(muxer.FORMATS[codec], rate)
    header = made.header(coded[0], 320, 240)
    growing = bytearray(header)
    index = []
    for number, data in enumerate(coded):
        key = codec == Codec.CODEC_OPUS or number % 30 == 0
        part = made.fragment([Sample(data, number * step, number * step, step, key)])
        index.append(Fragment(len(growing), len(part), number * step, step, key))
        growing += part
    complete = bytearray(growing)
    patches, tail = muxer.complete(muxer.FORMATS[codec].container, header, rate, index)
    for patch in patches:
        complete[patch.offset : patch.offset + len(patch.data)] = patch.data
    return bytes(growing), bytes(complete + tail), index


@pytest.mark.parametrize(
    "codec", [Codec.CODEC_VP8, Codec.CODEC_VP9, Codec.CODEC_H264, Codec.CODEC_H265, Codec.CODEC_AV1]
)
def test_growing_and_complete_files_decode(codec: Codec) -> None:
    growing, complete, _ = build(codec, feed.video(codec, 90), 3000, 90_000)
    for data in (growing, complete):
        with av.open(io.BytesIO(data)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 90
    with av.open(io.BytesIO(complete)) as container:
        assert container.duration == 3_000_000
        container.seek(2_500_000)
        assert next(container.decode(video=0)).time == pytest.approx(2, abs=0.001)


def test_completing_twice_changes_nothing() -> None:
    for codec in (Codec.CODEC_VP8, Codec.CODEC_H264):
        _, complete, index = build(codec, feed.video(codec, 60), 3000, 90_000)
        head = complete[: index[0].offset]
        patches, tail = muxer.complete(muxer.FORMATS[codec].container, head, 90_000, index)
        assert all(complete[p.offset : p.offset + len(p.data)] == p.data for p in patches)
        assert complete.endswith(tail)


def test_an_index_of_many_hours_fits() -> None:
    part = [Fragment(20_000 + n * 100, 100, n * 38_400, 38_400, True) for n in range(40_000)]
    pad, index = mp4.finish(20_000, 48_000, part)
    assert pad.offset + int.from_bytes(pad.data[:4]) == index.offset
    assert index.offset + len(index.data) == 20_000
    count = int.from_bytes(index.data[38:40])
    entries = [index.data[40 + 12 * n : 52 + 12 * n] for n in range(count)]
    assert sum(int.from_bytes(entry[:4]) for entry in entries) == 4_000_000
    assert sum(int.from_bytes(entry[4:8]) for entry in entries) == 40_000 * 38_400


def test_a_picture_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter sets"):
        mp4.header("h264", 90_000, b"\0\0\0\1nothing of the kind", 320, 240)


def test_sizes_of_elements() -> None:
    assert webm._element(0xEC, bytes(126))[1] == 0x80 | 126
    assert webm._element(0xEC, bytes(127))[1:3] == b"\x40\x7f"
    assert webm._element(0xEC, bytes(16_383))[1:4] == b"\x20\x3f\xff"


def test_pictures_out_of_order(tmp_path: Path) -> None:
    """B-pictures, which browsers never send: decoding order on the line, presentation time in the timestamps.

    Nothing is lost; FFmpeg shows all of them later by the depth of the reordering.
    """
    frames = list(media.pictures(320, 240, 60))
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = 320, 240, "yuv420p"
    context.time_base = media.FRAME_TIME
    context.options = {"preset": "ultrafast", "x264-params": "bframes=2:b-adapt=0:keyint=30:scenecut=0"}
    packets = [packet for frame in [*frames, None] for packet in context.encode(frame)]
    order = [packet.pts for packet in packets]
    assert order != sorted(order)
    coded = tuple(bytes(packet) for packet in packets)
    source = feed.Source(Codec.CODEC_H264, coded, reports=False)
    items = []
    for arrival, item in feed.deliver([source]):
        number = round(((item[3] - source.rtp_start) & 0xFFFFFFFF) / 3000)
        items.append((arrival, (*item[:3], (source.rtp_start + order[number] * 3000) & 0xFFFFFFFF, *item[4:])))
    studio = feed.Studio(tmp_path)
    studio.track("us")
    studio.feed("us", items)
    studio.run()
    kept = studio.stop()
    with av.open(studio.path / kept.tracks[0].segments[0].file) as container:
        shown = [(round(frame.time * 30), media.planes(frame)[0].tobytes()) for frame in container.decode(video=0)]
    expected = [media.planes(frame)[0].tobytes() for frame in media.decode_frames(Codec.CODEC_H264, coded)]
    assert [number - shown[0][0] for number, _ in shown] == list(range(60))
    assert shown[0][0] <= 2
    assert [picture for _, picture in shown] == expected


def test_redundant_audio() -> None:
    two = bytes((0x80 | 111, 0, 10 << 2, 3)) + bytes((0x80 | 111, 0, 5 << 2 | 0, 2)) + bytes((111,)) + b"abcdePRIMARY"
    assert red.primary(two) == (111, b"PRIMARY")
    assert red.primary(bytes((111,)) + b"x") == (111, b"x")
    assert red.primary(b"") is None
    assert red.primary(b"\xef\0\0") is None
    assert red.primary(b"\xef\0\0\x09\x6f123") is None


@given(st.binary(max_size=64))
def test_redundant_audio_takes_anything(payload: bytes) -> None:
    found = red.primary(payload)
    assert found is None or payload.endswith(found[1])
