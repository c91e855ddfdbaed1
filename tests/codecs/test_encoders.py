"""Real encoder output, packetised by FFmpeg's RTP muxer and by aiortc, assembled here, decodes to the same pictures."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder

from mediaserver.codecs.payload import AccessUnit, Codec, codec_name, facts
from tests.codecs import media
from tests.codecs.media import Packet

X264 = {
    "baseline": (("profile", "baseline"),),
    "main": (("profile", "main"), ("preset", "veryfast")),
    "high": (("profile", "high"), ("preset", "veryfast")),
    "slices": (("x264-params", "slices=4"),),
    "sliced-threads": (("x264-params", "sliced-threads=1:threads=3"),),
    "short-gop": (("x264-params", "keyint=4"),),
    "open-gop": (("x264-params", "open-gop=1:keyint=4"),),
    "intra-refresh": (("x264-params", "intra-refresh=1"),),
    "slice-max": (("x264-params", "slice-max-size=700"),),
}
X265 = {
    "main": (),
    "slices": (("x265-params", "log-level=none:slices=3"),),
    "short-gop": (("x265-params", "log-level=none:keyint=4:repeat-headers=1"),),
    "open-gop": (("x265-params", "log-level=none:keyint=4:open-gop=1:repeat-headers=1"),),
    "temporal": (("x265-params", "log-level=none:temporal-layers=2:bframes=0"),),
}
# Multiples of 16, of 8 alone, of 2 alone, and odd.
SIZES = [(320, 240), (360, 200), (322, 178), (177, 145)]
VIDEO = [Codec.CODEC_VP8, Codec.CODEC_VP9, Codec.CODEC_H264, Codec.CODEC_H265, Codec.CODEC_AV1]


def check(codec: Codec, coded: tuple[bytes, ...], packets: list[Packet], width: int, height: int) -> list[AccessUnit]:
    """The units made of `packets` decode to what `coded` decodes to, and tell its size."""
    units = media.assemble(codec, packets)
    assert all(unit.complete for unit in units)
    assert [(unit.width, unit.height) for unit in units] == [(width, height)] * len(coded)
    assert units[0].keyframe
    expected = media.decode(codec, coded)
    actual = media.decode(codec, [unit.data for unit in units])
    assert len(expected) == len(coded)
    assert actual == expected
    found = [facts(codec, packet.payload) for packet in packets]
    assert all(fact.valid for fact in found)
    assert found[0].keyframe
    assert found[0].start
    assert next((fact.width, fact.height) for fact in found if fact.width) == (width, height)
    return units


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("codec", VIDEO, ids=codec_name)
def test_sizes(codec: Codec, size: tuple[int, int]) -> None:
    width, height = size
    if codec in (Codec.CODEC_H264, Codec.CODEC_H265, Codec.CODEC_AV1) and width % 2:
        # These encoders take no odd 4:2:0 picture.
        width, height = width + 1, height + 1
    coded = media.encode(codec, width, height)
    check(codec, coded, media.packetise(codec, coded, width, height), width, height)


@pytest.mark.parametrize("packet_size", [100, 500, 1400, 60000])
@pytest.mark.parametrize("codec", VIDEO, ids=codec_name)
def test_packet_sizes(codec: Codec, packet_size: int) -> None:
    coded = media.encode(codec)
    check(codec, coded, media.packetise(codec, coded, packet_size=packet_size), 320, 240)


@pytest.mark.parametrize("options", X264.values(), ids=X264.keys())
def test_x264(options: tuple[tuple[str, str], ...]) -> None:
    coded = media.encode(Codec.CODEC_H264, 354, 290, 10, options)
    check(Codec.CODEC_H264, coded, media.packetise(Codec.CODEC_H264, coded, 354, 290), 354, 290)


def test_x264_interlaced() -> None:
    """Pictures of two fields are counted in pairs of macroblock rows."""
    coded = media.encode(Codec.CODEC_H264, 354, 292, 10, (("flags", "+ildct"), ("preset", "veryfast")))
    check(Codec.CODEC_H264, coded, media.packetise(Codec.CODEC_H264, coded, 354, 292), 354, 292)


@pytest.mark.parametrize("options", X265.values(), ids=X265.keys())
def test_x265(options: tuple[tuple[str, str], ...]) -> None:
    coded = media.encode(Codec.CODEC_H265, 354, 290, 10, options)
    check(Codec.CODEC_H265, coded, media.packetise(Codec.CODEC_H265, coded, 354, 290), 354, 290)


def test_vp9_profile_1_has_a_longer_header() -> None:
    context = av.CodecContext.create("libvpx-vp9", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = 150, 101, "yuv444p"
    context.framerate, context.time_base = Fraction(30), media.FRAME_TIME
    context.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
    coded = [
        bytes(packet)
        for frame in media.pictures(150, 101, 3)
        for packet in context.encode(frame.reformat(format="yuv444p"))
    ]
    units = media.assemble(Codec.CODEC_VP9, media.packetise(Codec.CODEC_VP9, coded, 150, 101))
    assert [unit.data for unit in units] == coded
    assert (units[0].width, units[0].height) == (150, 101)


@pytest.mark.parametrize("repeated", [True, False], ids=["repeated", "once"])
@pytest.mark.parametrize("codec", VIDEO, ids=codec_name)
def test_a_decoder_starts_at_any_keyframe_from_its_config(codec: Codec, repeated: bool) -> None:
    """Every keyframe gives the parameter sets, also where they came once, before the first picture."""
    options = {
        Codec.CODEC_H264: X264["short-gop"],
        Codec.CODEC_H265: X265["short-gop"],
    }.get(codec, (("g", "4"),))
    coded = media.encode(codec, 320, 240, 12, options)
    if not repeated and codec in (Codec.CODEC_H264, Codec.CODEC_H265):
        coded = (coded[0], *(media.without_parameter_sets(codec, data) for data in coded[1:]))
    units = media.assemble(codec, media.packetise(codec, coded))
    keys = [i for i, unit in enumerate(units) if unit.keyframe]
    assert keys == [0, 4, 8]
    expected = media.decode(codec, coded)
    for key in keys:
        config = units[key].config
        assert (config is None) == (codec in (Codec.CODEC_VP8, Codec.CODEC_VP9))
        assert config == units[0].config
        rest = [(config or b"") + units[key].data, *(unit.data for unit in units[key + 1 :])]
        assert media.decode(codec, rest) == expected[key:]


@pytest.mark.parametrize("codec", [Codec.CODEC_H264, Codec.CODEC_H265, Codec.CODEC_AV1], ids=codec_name)
def test_config_is_extradata_for_a_muxer(codec: Codec) -> None:
    """Annex B parameter sets or a sequence header as extradata give a decoder the size before any picture."""
    coded = media.encode(codec, 354, 290, 2)
    unit = media.assemble(codec, media.packetise(codec, coded, 354, 290))[0]
    context = av.CodecContext.create(media.DECODERS[codec], "r")
    context.extradata = unit.config
    frames = context.decode(av.Packet(unit.data)) + context.decode(None)
    assert [(frame.width, frame.height) for frame in frames] == [(354, 290)]


@pytest.mark.parametrize("codec", [Codec.CODEC_VP8, Codec.CODEC_H264], ids=codec_name)
def test_aiortc(codec: Codec) -> None:
    """aiortc packetises its own encoders' output: FU-A and STAP-A, and VP8 with picture ids."""
    machine = Vp8Encoder() if codec == Codec.CODEC_VP8 else H264Encoder()
    packets: list[Packet] = []
    for i, frame in enumerate(media.pictures(322, 178, 8)):
        frame.time_base = media.FRAME_TIME
        payloads, timestamp = machine.encode(frame, force_keyframe=i == 5)
        packets += [Packet(payload, timestamp, n == len(payloads) - 1) for n, payload in enumerate(payloads)]
    units = media.assemble(codec, packets)
    assert [unit.keyframe for unit in units] == [i in (0, 5) for i in range(8)]
    assert all(unit.complete and (unit.width, unit.height) == (322, 178) for unit in units)
    decoded = media.decode_frames(codec, [unit.data for unit in units])
    for actual, expected in zip(decoded, media.pictures(322, 178, 8), strict=True):
        error = np.mean((actual.to_ndarray().astype(float) - expected.to_ndarray()) ** 2)
        assert 10 * np.log10(255**2 / error) > 20


@pytest.mark.parametrize("codec", VIDEO, ids=codec_name)
def test_a_missing_marker_is_made_up_for_by_the_next_timestamp(codec: Codec) -> None:
    coded = media.encode(codec)
    packets = media.packetise(codec, coded)
    whole = media.assemble(codec, packets)
    units = media.assemble(codec, [packet._replace(marker=False) for packet in packets])
    assert [unit.data for unit in units] == [unit.data for unit in whole]
    assert [unit.complete for unit in units] == [True] * (len(units) - 1) + [False]


@pytest.mark.parametrize("codec", VIDEO, ids=codec_name)
def test_each_lost_packet_shows(codec: Codec) -> None:
    """Whichever packet is lost: no unit claims to be complete that is not, and all others arrive."""
    coded = media.encode(codec)
    packets = media.packetise(codec, coded)
    whole = {unit.timestamp: unit.data for unit in media.assemble(codec, packets)}
    for lost in range(len(packets)):
        machine = media.assembler(codec)
        units = []
        for i, packet in enumerate(packets):
            if i != lost:
                units += machine.push(*packet, lost_before=i == lost + 1)
        units += machine.flush()
        for unit in units:
            if unit.complete:
                assert unit.data == whole[unit.timestamp]
        complete = {unit.timestamp for unit in units if unit.complete}
        # Next to a loss the neighbour may be in doubt too.
        assert len(complete) >= len(whole) - 2
        assert packets[lost].timestamp not in complete


@pytest.mark.parametrize("options", [(), (("application", "voip"),), (("frame_duration", "60"),)], ids=str)
@pytest.mark.parametrize("channels", [1, 2])
def test_opus(options: tuple[tuple[str, str], ...], channels: int) -> None:
    coded = media.encode_sound(12, options, channels)
    packets = media.packetise(Codec.CODEC_OPUS, coded)
    units = media.assemble(Codec.CODEC_OPUS, packets)
    assert [unit.data for unit in units] == list(coded)
    assert all(unit.complete and unit.keyframe and unit.config is None for unit in units)
