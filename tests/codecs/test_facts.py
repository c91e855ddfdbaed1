"""Single payloads, written by hand after the RFCs, and what they tell."""

from __future__ import annotations

from typing import Any

import pytest

from mediaserver.codecs import av1, h264, h265, payload
from mediaserver.codecs.payload import Codec, Facts, facts
from tests.codecs import media
from tests.codecs.samples import (
    AV1_INTER,
    AV1_KEY,
    H265_PPS,
    H265_SPS,
    H265_VPS,
    IDR,
    IDR_SECOND_SLICE,
    PPS,
    SLICE,
    SLICE_UNREFERENCED,
    SPS,
    VP8_KEY,
    VP9_INTER,
    VP9_KEY,
    VP9_STRUCTURE,
    stap,
)

NOTHING = Facts(False, False, False, False, False, False, -1, -1, -1, -1, -1, 0, 0, 0, 0, False, False, 0)


def expect(codec: Codec, data: bytes, **fields: Any) -> None:
    """What `data` tells is what a valid payload of no properties does, but for `fields`."""
    if "picture_id" in fields and "picture_id_bits" not in fields:
        fields["picture_id_bits"] = 7 if fields["picture_id"] < 128 else 15
    assert facts(codec, data) == NOTHING._replace(valid=True, **fields)


class TestH264:
    def test_parameter_sets(self) -> None:
        expect(Codec.CODEC_H264, SPS, keyframe=True, start=True, width=320, height=240)
        expect(Codec.CODEC_H264, PPS, start=True)

    def test_slices(self) -> None:
        expect(Codec.CODEC_H264, IDR, keyframe=True, start=True)
        expect(Codec.CODEC_H264, IDR_SECOND_SLICE)
        expect(Codec.CODEC_H264, SLICE, start=True)
        expect(Codec.CODEC_H264, SLICE_UNREFERENCED, start=True, discardable=True)

    def test_aggregates(self) -> None:
        size = {"width": 320, "height": 240}
        expect(Codec.CODEC_H264, stap(SPS, PPS), keyframe=True, start=True, descriptor_size=1, **size)
        expect(Codec.CODEC_H264, stap(SPS, PPS, IDR), keyframe=True, start=True, descriptor_size=1, **size)
        expect(Codec.CODEC_H264, stap(PPS, SLICE), start=True, descriptor_size=1)
        expect(Codec.CODEC_H264, stap(SLICE_UNREFERENCED), start=True, discardable=True, descriptor_size=1)
        expect(Codec.CODEC_H264, stap(SLICE_UNREFERENCED, SLICE), start=True, descriptor_size=1)

    def test_fragments(self) -> None:
        expect(Codec.CODEC_H264, b"\x7c\x85" + IDR[1:], keyframe=True, start=True, descriptor_size=2)
        expect(Codec.CODEC_H264, b"\x7c\x85" + IDR_SECOND_SLICE[1:], descriptor_size=2)
        expect(Codec.CODEC_H264, b"\x7c\x05" + IDR[1:], descriptor_size=2)
        expect(Codec.CODEC_H264, b"\x7c\x45" + IDR[1:], descriptor_size=2)
        expect(Codec.CODEC_H264, b"\x1c\x81" + SLICE[1:], start=True, discardable=True, descriptor_size=2)
        expect(Codec.CODEC_H264, b"\x1c\x01" + SLICE[1:], discardable=True, descriptor_size=2)

    def test_recovery_point_is_where_a_decoder_can_start(self) -> None:
        expect(Codec.CODEC_H264, b"\x06\x06\x01\xc4\x80", keyframe=True, start=True)
        # Behind another message, and one that takes 14 frames to recover.
        expect(Codec.CODEC_H264, b"\x06\x05\x03abc\x06\x01\xc4\x80", keyframe=True, start=True)
        expect(Codec.CODEC_H264, b"\x06\x06\x02\x1e\xc4\x80", start=True)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x67",
            b"\xe5\x88\x84",  # forbidden_zero_bit
            b"\x00\x88\x84",  # type 0
            b"\x1e\x88\x84",  # type 30
            b"\x79\x00\x00" + stap(SPS)[1:],  # STAP-B
            b"\x7a" + SPS,  # MTAP16
            b"\x7d\x85" + IDR[1:],  # FU-B
            b"\x7c\x85",  # a fragment of nothing
            b"\x7c\x9c" + IDR[1:],  # FU-A of an FU-A
            stap(SPS) + b"\x00",
            stap(SPS) + b"\x00\x00",
            stap(SPS, PPS)[:-1],
            stap(stap(SPS)),
        ],
    )
    def test_malformed(self, data: bytes) -> None:
        assert facts(Codec.CODEC_H264, data) == NOTHING

    def test_sps(self) -> None:
        assert h264.parse_sps(SPS) == h264.Sps(66, 0xC0, 31, 320, 240, 1, 8)
        for cut in range(8):  # the size ends in the eighth byte
            with pytest.raises(ValueError, match=r"H\.264"):
                h264.parse_sps(SPS[:cut])

    @pytest.mark.parametrize(
        ("profile", "idc", "chroma", "pixel_format"),
        [
            ("baseline", 66, 1, "yuv420p"),
            ("main", 77, 1, "yuv420p"),
            ("high", 100, 1, "yuv420p"),
            ("high10", 110, 1, "yuv420p10le"),
            ("high422", 122, 2, "yuv422p"),
            ("high444", 244, 3, "yuv444p"),
        ],
    )
    @pytest.mark.parametrize("size", [(2, 2), (16, 16), (352, 288), (1918, 1082), (4096, 2304)], ids=str)
    def test_sps_of_every_profile(
        self, profile: str, idc: int, chroma: int, pixel_format: str, size: tuple[int, int]
    ) -> None:
        sps = media.parameter_sets("libx264", size, pixel_format, {"profile": profile, "preset": "veryfast"})[0]
        assert sps[0] & 0x1F == 7
        found = h264.parse_sps(sps)
        assert (found.profile_idc, found.width, found.height, found.chroma_format) == (idc, *size, chroma)
        assert found.bit_depth == (10 if "10" in pixel_format else 8)

    def test_sps_with_scaling_lists_and_odd_crop(self) -> None:
        sps = media.parameter_sets("libx264", (321, 239), "yuv444p", {"profile": "high444", "x264-params": "cqm=jvt"})[
            0
        ]
        assert h264.parse_sps(sps)[3:6] == (321, 239, 3)


class TestH265:
    def test_parameter_sets(self) -> None:
        layer = {"temporal_id": 0, "spatial_id": 0}
        expect(Codec.CODEC_H265, H265_VPS, keyframe=True, start=True, **layer)
        expect(Codec.CODEC_H265, H265_SPS, keyframe=True, start=True, width=320, height=240, **layer)
        expect(Codec.CODEC_H265, H265_PPS, start=True, **layer)

    def test_slices(self) -> None:
        layer = {"temporal_id": 0, "spatial_id": 0}
        expect(Codec.CODEC_H265, b"\x26\x01\xaf\x09\x40", keyframe=True, start=True, **layer)  # IDR_W_RADL
        expect(Codec.CODEC_H265, b"\x26\x01\x2f\x09\x40", **layer)  # not its first slice
        expect(Codec.CODEC_H265, b"\x2a\x01\xaf\x09\x40", keyframe=True, start=True, **layer)  # CRA
        expect(Codec.CODEC_H265, b"\x02\x01\xd0\x09\x40", start=True, **layer)  # TRAIL_R
        expect(Codec.CODEC_H265, b"\x00\x01\xd0\x09\x40", start=True, discardable=True, **layer)  # TRAIL_N
        tsa = {"temporal_id": 1, "spatial_id": 0, "switch_up": True}
        expect(Codec.CODEC_H265, b"\x04\x02\xd0\x09\x40", start=True, discardable=True, **tsa)  # TSA_N

    def test_aggregates_and_fragments(self) -> None:
        layer = {"temporal_id": 0, "spatial_id": 0}
        both = b"\x60\x01" + b"".join(len(nal).to_bytes(2) + nal for nal in (H265_VPS, H265_SPS))
        size = {"width": 320, "height": 240}
        expect(Codec.CODEC_H265, both, keyframe=True, start=True, descriptor_size=2, **size, **layer)
        expect(Codec.CODEC_H265, b"\x62\x01\x93\xaf\x09", keyframe=True, start=True, descriptor_size=3, **layer)
        expect(Codec.CODEC_H265, b"\x62\x01\x13\xaf\x09", descriptor_size=3, **layer)
        assert facts(Codec.CODEC_H265, both[:-1]) == NOTHING

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x26\x01",
            b"\xa6\x01\xaf",  # forbidden_zero_bit
            b"\x26\x00\xaf",  # temporal id -1
            b"\x64\x01\xaf\x00",  # PACI
            b"\x66\x01\xaf\x00",  # type 51
            b"\x62\x01\x93",  # a fragment of nothing
            b"\x62\x01\xb1\xaf",  # a fragment of a fragment
            b"\x60\x01\x00\x01\x40",  # a NAL unit without its header
        ],
    )
    def test_malformed(self, data: bytes) -> None:
        assert facts(Codec.CODEC_H265, data) == NOTHING

    @pytest.mark.parametrize(
        ("pixel_format", "profile", "chroma"),
        [("yuv420p", 1, 1), ("yuv420p10le", 2, 1), ("yuv422p", 4, 2), ("yuv444p", 4, 3)],
    )
    @pytest.mark.parametrize("size", [(64, 64), (322, 178), (1918, 1082)], ids=str)
    def test_sps_of_every_profile(self, pixel_format: str, profile: int, chroma: int, size: tuple[int, int]) -> None:
        vps, sps, _ = media.parameter_sets("libx265", size, pixel_format, {"preset": "ultrafast"})[:3]
        assert vps[0] >> 1 == 32
        found = h265.parse_sps(sps)
        assert (found.profile_idc, found.width, found.height, found.chroma_format) == (profile, *size, chroma)
        assert found.bit_depth == (10 if "10" in pixel_format else 8)
        for cut in range(len(sps) // 2):
            with pytest.raises(ValueError, match=r"H\.265"):
                h265.parse_sps(sps[:cut])


class TestVp8:
    def test_descriptors(self) -> None:
        expect(Codec.CODEC_VP8, b"\x10\x01", start=True, descriptor_size=1)
        expect(Codec.CODEC_VP8, b"\x00\x01", descriptor_size=1)
        expect(Codec.CODEC_VP8, b"\x11\x00", descriptor_size=1)  # the second partition
        expect(Codec.CODEC_VP8, b"\x30\x01", start=True, discardable=True, descriptor_size=1)
        expect(Codec.CODEC_VP8, b"\x90\x80\x11\x01", start=True, picture_id=17, descriptor_size=3)
        expect(Codec.CODEC_VP8, b"\x90\x80\x92\x34\x01", start=True, picture_id=0x1234, descriptor_size=4)
        expect(
            Codec.CODEC_VP8,
            b"\x90\xf0\x80\x05\x07\x6c\x01",
            start=True,
            picture_id=5,
            picture_id_bits=15,
            tl0_pic_idx=7,
            temporal_id=1,
            switch_up=True,
            key_idx=12,
            descriptor_size=6,
        )
        expect(Codec.CODEC_VP8, b"\x90\x10\x0c\x01", start=True, key_idx=12, descriptor_size=3)
        expect(Codec.CODEC_VP8, b"\x90\x20\x8c\x01", start=True, temporal_id=2, descriptor_size=3)

    def test_keyframe(self) -> None:
        expect(Codec.CODEC_VP8, b"\x10" + VP8_KEY, start=True, keyframe=True, width=320, height=240, descriptor_size=1)
        expect(Codec.CODEC_VP8, b"\x10" + VP8_KEY[:9], start=True, keyframe=True, descriptor_size=1)
        expect(Codec.CODEC_VP8, b"\x00" + VP8_KEY, descriptor_size=1)
        # The scaling bits are no part of the size.
        scaled = VP8_KEY[:7] + b"\x41\xf0\x80"
        expect(Codec.CODEC_VP8, b"\x10" + scaled, start=True, keyframe=True, width=320, height=240, descriptor_size=1)

    @pytest.mark.parametrize(
        "data",
        [b"", b"\x10", b"\x90\x00", b"\x90\x80", b"\x90\x80\x80", b"\x90\x80\x80\x01", b"\x90\xf0\x05\x07\x6c"],
    )
    def test_truncated(self, data: bytes) -> None:
        assert facts(Codec.CODEC_VP8, data) == NOTHING

    def test_wrong_start_code(self) -> None:
        assert facts(Codec.CODEC_VP8, b"\x10" + VP8_KEY.replace(b"\x9d", b"\x9e")) == NOTHING


class TestVp9:
    def test_keyframe(self) -> None:
        size = {"width": 320, "height": 240}
        expect(Codec.CODEC_VP9, b"\x0c" + VP9_KEY, start=True, end=True, keyframe=True, descriptor_size=1, **size)
        expect(Codec.CODEC_VP9, b"\x08" + VP9_KEY, start=True, keyframe=True, descriptor_size=1, **size)
        expect(Codec.CODEC_VP9, b"\x04" + VP9_KEY, end=True, descriptor_size=1)
        # Neither the P bit alone nor its absence makes a keyframe.
        expect(Codec.CODEC_VP9, b"\x48" + VP9_KEY, start=True, inter_predicted=True, descriptor_size=1)
        expect(Codec.CODEC_VP9, b"\x08" + VP9_INTER, start=True, descriptor_size=1)

    def test_layers(self) -> None:
        base = {"temporal_id": 0, "spatial_id": 0}
        expect(
            Codec.CODEC_VP9,
            b"\xa8\x81\x02\x00\x09" + VP9_KEY,
            start=True,
            keyframe=True,
            picture_id=258,
            tl0_pic_idx=9,
            width=320,
            height=240,
            descriptor_size=5,
            **base,
        )
        # The upper layer of the same picture, and a picture of the second temporal layer.
        expect(
            Codec.CODEC_VP9,
            b"\xac\x07\x03\x09" + VP9_INTER,
            start=True,
            end=True,
            picture_id=7,
            tl0_pic_idx=9,
            temporal_id=0,
            spatial_id=1,
            inter_layer=True,
            descriptor_size=4,
        )
        expect(
            Codec.CODEC_VP9,
            b"\xec\x07\x30\x09" + VP9_INTER,
            start=True,
            end=True,
            picture_id=7,
            tl0_pic_idx=9,
            temporal_id=1,
            spatial_id=0,
            switch_up=True,
            inter_predicted=True,
            descriptor_size=4,
        )

    def test_flexible_mode(self) -> None:
        told = {"start": True, "picture_id": 7, "inter_predicted": True}
        expect(Codec.CODEC_VP9, b"\xd8\x07\x03\x05\x08" + VP9_INTER, descriptor_size=5, **told)
        expect(Codec.CODEC_VP9, b"\x98\x07" + VP9_INTER, start=True, picture_id=7, descriptor_size=2)
        assert facts(Codec.CODEC_VP9, b"\xd8\x07\x03\x05\x09\x08" + VP9_INTER) == NOTHING
        assert facts(Codec.CODEC_VP9, b"\x18" + VP9_INTER) == NOTHING

    def test_scalability_structure_gives_the_largest_layer(self) -> None:
        data = b"\x0a" + VP9_STRUCTURE + VP9_KEY
        size = {"width": 1280, "height": 720, "descriptor_size": 1 + len(VP9_STRUCTURE)}
        expect(Codec.CODEC_VP9, data, start=True, keyframe=True, layer_count=3, **size)
        for cut in range(2 + len(VP9_STRUCTURE)):
            assert facts(Codec.CODEC_VP9, data[:cut]) == NOTHING

    @pytest.mark.parametrize("data", [b"", b"\x08", b"\x88\x01", b"\x88\x81", b"\xa8\x01\x00\x00", b"\x0a\xff\x00"])
    def test_truncated(self, data: bytes) -> None:
        assert facts(Codec.CODEC_VP9, data) == NOTHING


class TestAv1:
    def test_elements(self) -> None:
        size = {"width": 320, "height": 240}
        sequence, frame = self.sequence(), AV1_KEY
        both = bytes([len(sequence)]) + sequence + frame
        expect(Codec.CODEC_AV1, b"\x28" + both, keyframe=True, start=True, descriptor_size=1, **size)
        expect(Codec.CODEC_AV1, b"\x20" + both, keyframe=True, start=True, descriptor_size=1, **size)
        sized = bytes([len(sequence)]) + sequence + bytes([len(frame)]) + frame
        expect(Codec.CODEC_AV1, b"\x00" + sized, keyframe=True, start=True, descriptor_size=1, **size)
        expect(Codec.CODEC_AV1, b"\x10" + AV1_INTER, start=True, descriptor_size=1)
        expect(Codec.CODEC_AV1, b"\x50" + AV1_INTER, start=True, descriptor_size=1)
        # What continues an OBU tells nothing, whatever its first byte looks like; nor does a tile group.
        expect(Codec.CODEC_AV1, b"\x90" + sequence, descriptor_size=1)
        expect(Codec.CODEC_AV1, b"\x10\x20\x00", descriptor_size=1)
        expect(Codec.CODEC_AV1, b"\xa0\x01\x00" + sequence, keyframe=True, descriptor_size=1, **size)

    def test_layers(self) -> None:
        data = b"\x10\x34\x28\x30"
        expect(Codec.CODEC_AV1, data, start=True, temporal_id=1, spatial_id=1, descriptor_size=1)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x10",
            b"\x98\x30\x10",  # continues an OBU of a new sequence
            b"\x20\x02\x30",  # two elements are announced, there is half of one
            b"\x30\x01\x30\x01\x30",  # three are announced, there are two
            b"\x20\x01\x30",  # the last one is missing
            b"\x00\x05\x30\x10",  # longer than the payload
            b"\x00\xff\xff\xff\xff\xff\x0f\x30",  # a length that no 32 bits hold
            b"\x10\xb0\x10",  # the forbidden bit
        ],
    )
    def test_malformed(self, data: bytes) -> None:
        assert facts(Codec.CODEC_AV1, data) == NOTHING

    @staticmethod
    def sequence() -> bytes:
        coded = media.encode(Codec.CODEC_AV1, 320, 240, 1)
        config = media.assemble(Codec.CODEC_AV1, media.packetise(Codec.CODEC_AV1, coded))[0].config
        assert config
        return config

    def test_sequence_header(self) -> None:
        sequence = self.sequence()
        found = av1.parse_sequence(sequence)
        assert (found.profile, found.width, found.height) == (0, 320, 240)
        for cut in range(len(sequence)):
            with pytest.raises(ValueError, match="AV1"):
                av1.parse_sequence(sequence[:cut])


def test_red_tells_where_its_newest_block_begins() -> None:
    size = {"keyframe": True, "start": True, "end": True}
    expect(Codec.CODEC_RED, b"\x6f\xfc\x01", descriptor_size=1, **size)
    expect(Codec.CODEC_RED, b"\xef\x0f\x00\x02\x6f\xfc\x01\xfc\x02", descriptor_size=7, **size)
    for data in (b"", b"\x6f", b"\xef\x0f\x00", b"\xef\x0f\x00\x02\x6f\xfc\x01", b"\xef\x0f\x00\x02"):
        assert facts(Codec.CODEC_RED, data) == NOTHING


def test_names() -> None:
    for codec in Codec:
        if codec == Codec.CODEC_NONE:
            continue
        name = payload.codec_name(codec)
        assert payload.codec_from_name(name) is codec
        assert payload.codec_from_name(name.swapcase()) is codec
    assert payload.codec_from_name("rtx") == Codec.CODEC_NONE
    for wrong in (Codec.CODEC_NONE, 8):
        with pytest.raises(ValueError, match="codec"):
            payload.codec_name(wrong)
        with pytest.raises(ValueError, match="codec"):
            payload.assembler(wrong)
        assert facts(wrong, b"\x10\x01") == NOTHING
