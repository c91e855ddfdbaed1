"""How assemblers treat what is lost, broken or unusual, case by case."""

from __future__ import annotations

import pytest

from mediaserver.codecs.payload import AccessUnit, Codec, assembler, codec_name
from tests.codecs import media
from tests.codecs.samples import (
    H265_PPS,
    H265_SPS,
    H265_VPS,
    IDR,
    IDR_SECOND_SLICE,
    PPS,
    SLICE,
    SPS,
    VP8_KEY,
    VP9_INTER,
    VP9_KEY,
    stap,
)

CODE = b"\0\0\0\1"
VIDEO = [Codec.CODEC_VP8, Codec.CODEC_VP9, Codec.CODEC_H264, Codec.CODEC_H265, Codec.CODEC_AV1]


def run(codec: Codec, *packets: tuple[bytes, int, bool] | tuple[bytes, int, bool, bool]) -> list[AccessUnit]:
    machine = assembler(codec)
    units = [unit for packet in packets for unit in machine.push(*packet)]
    return units + machine.flush()


def annex_b(*nals: bytes) -> bytes:
    return b"".join(CODE + nal for nal in nals)


def fragments(nal: bytes, size: int) -> list[bytes]:
    """A NAL unit as FU-As of `size` bytes each."""
    parts = [nal[i : i + size] for i in range(1, len(nal), size)]
    indicator, kind = nal[0] & 0xE0 | 28, nal[0] & 0x1F
    marks = [(i == 0) << 7 | (i == len(parts) - 1) << 6 for i in range(len(parts))]
    return [bytes([indicator, mark | kind]) + part for mark, part in zip(marks, parts, strict=True)]


class TestCommon:
    def test_units_show_what_they_are(self) -> None:
        unit = AccessUnit(b"abc", 7, keyframe=True, width=320, height=240, config=b"x")
        assert (unit.data, unit.timestamp, unit.keyframe, unit.complete, unit.config) == (b"abc", 7, True, True, b"x")
        assert repr(unit) == "<AccessUnit 7 3 bytes 320x240 keyframe complete>"

    @pytest.mark.parametrize("codec", [*VIDEO, Codec.CODEC_OPUS, Codec.CODEC_RED], ids=codec_name)
    def test_payloads_are_bytes(self, codec: Codec) -> None:
        with pytest.raises(TypeError):
            assembler(codec).push(None, 0, True)  # type: ignore[arg-type]

    def test_padding_belongs_to_no_unit_but_its_loss_is_remembered(self) -> None:
        key, inter = b"\x10" + VP8_KEY, b"\x10\x01"
        units = run(Codec.CODEC_VP8, (key, 0, True), (b"", 0, False), (inter, 1, True))
        assert [unit.complete for unit in units] == [True, True]
        units = run(Codec.CODEC_VP8, (key, 0, True), (b"", 0, False, True), (b"\x00\x01", 1, True))
        assert [unit.timestamp for unit in units] == [0]
        units = run(Codec.CODEC_VP8, (key, 0, False), (b"", 0, False, True), (b"\x00\x01", 0, True))
        assert [(unit.data, unit.complete) for unit in units] == [(VP8_KEY, False)]

    def test_one_payload_ends_two_units_when_the_end_of_the_first_is_lost(self) -> None:
        machine = assembler(Codec.CODEC_VP8)
        machine.push(b"\x10" + VP8_KEY, 0, False)
        units = machine.push(b"\x10\x01", 1, True, True)
        assert [(unit.timestamp, unit.complete) for unit in units] == [(0, False), (1, True)]

    def test_the_size_stays_until_the_next_keyframe(self) -> None:
        units = run(Codec.CODEC_VP8, (b"\x10\x01", 0, True), (b"\x10" + VP8_KEY, 1, True), (b"\x10\x01", 2, True))
        assert [(unit.width, unit.height) for unit in units] == [(0, 0), (320, 240), (320, 240)]


class TestH264:
    def test_a_lost_beginning_drops_that_nal_unit_alone(self) -> None:
        pieces = fragments(IDR_SECOND_SLICE + bytes(20), 8)
        packets = [(stap(SPS, PPS), 0, False), (IDR, 0, False)]
        packets += [(piece, 0, False) for piece in pieces[1:]] + [(IDR_SECOND_SLICE, 0, True)]
        (unit,) = run(Codec.CODEC_H264, *packets)
        assert unit.data == annex_b(SPS, PPS, IDR, IDR_SECOND_SLICE)
        assert unit.keyframe
        assert not unit.complete

    @pytest.mark.parametrize("told", [True, False])
    def test_a_lost_middle_or_end_drops_it_too(self, told: bool) -> None:
        pieces = fragments(IDR_SECOND_SLICE + bytes(20), 8)
        head = [(stap(SPS, PPS), 0, False), (IDR, 0, False), (pieces[0], 0, False)]
        (unit,) = run(Codec.CODEC_H264, *head, (IDR_SECOND_SLICE, 0, True, told))
        assert unit.data == annex_b(SPS, PPS, IDR, IDR_SECOND_SLICE)
        assert not unit.complete
        (unit,) = run(Codec.CODEC_H264, *head, (pieces[-1], 0, True, True))
        assert unit.data == annex_b(SPS, PPS, IDR)
        assert not unit.complete

    def test_a_single_fragment_is_taken(self) -> None:
        (unit,) = run(Codec.CODEC_H264, (stap(SPS, PPS), 0, False), (b"\x7c\xc5" + IDR[1:], 0, True))
        assert unit.data == annex_b(SPS, PPS, IDR)
        assert unit.complete

    def test_a_broken_aggregate_gives_what_stands_before_the_break(self) -> None:
        (unit,) = run(Codec.CODEC_H264, (stap(SPS, PPS, IDR) + b"\x00\x09\x65", 0, True))
        assert unit.data == annex_b(SPS, PPS, IDR)
        assert not unit.complete

    @pytest.mark.parametrize("payload", [b"\x79\x00\x00\x00\x04" + SLICE, b"\x7d\x85\x00\x00\x00", b"\xe5\x88\x80"])
    def test_what_is_not_understood_makes_the_unit_incomplete(self, payload: bytes) -> None:
        (unit,) = run(Codec.CODEC_H264, (SLICE, 0, False), (payload, 0, True))
        assert unit.data == annex_b(SLICE)
        assert not unit.complete

    def test_parameter_sets_with_a_marker_wait_for_their_picture(self) -> None:
        (unit,) = run(Codec.CODEC_H264, (SPS, 0, True), (PPS, 0, True), (IDR, 0, True))
        assert unit.data == annex_b(SPS, PPS, IDR)

    def test_parameter_sets_with_a_timestamp_of_their_own_are_kept(self) -> None:
        (unit,) = run(Codec.CODEC_H264, (SPS, 0, True), (PPS, 0, True), (IDR, 1, True))
        assert unit.data == annex_b(IDR)
        assert unit.config == annex_b(SPS, PPS)
        assert unit.complete

    def test_without_parameter_sets_a_keyframe_is_incomplete(self) -> None:
        (unit,) = run(Codec.CODEC_H264, (IDR, 0, True))
        assert unit.keyframe
        assert not unit.complete
        assert (unit.config, unit.width) == (None, 0)
        (unit,) = run(Codec.CODEC_H264, (PPS, 0, False), (IDR, 0, True))
        assert (unit.config, unit.complete) == (None, False)

    def test_the_config_is_that_of_the_slice(self) -> None:
        """Other parameter sets are kept beside; an IDR picture tells by its PPS which of them count."""
        ids = (("x264-params", "sps-id=1"),)
        packets = media.packetise(Codec.CODEC_H264, media.encode(Codec.CODEC_H264, 352, 288, 1, ids), 352, 288)
        machine = assembler(Codec.CODEC_H264)
        machine.push(stap(SPS, PPS), packets[0].timestamp, False)
        (unit,) = [unit for packet in packets for unit in machine.push(*packet)]
        assert (unit.width, unit.height) == (352, 288)
        assert unit.config == media.assemble(Codec.CODEC_H264, packets)[0].config
        (unit,) = machine.push(IDR, 0, True)
        assert (unit.width, unit.height) == (320, 240)
        assert unit.config == annex_b(SPS, PPS)

    def test_changed_parameter_sets_make_another_config(self) -> None:
        other = PPS + b"\x80"
        packets = [(stap(SPS, PPS), 0, False), (IDR, 0, True), (SLICE, 1, True)]
        packets += [(stap(SPS, PPS), 2, False), (IDR, 2, True), (other, 3, False), (IDR, 3, True)]
        units = run(Codec.CODEC_H264, *packets)
        assert [unit.config for unit in units] == [
            annex_b(SPS, PPS),
            None,
            annex_b(SPS, PPS),
            annex_b(SPS, other),
        ]
        assert units[0].config is units[2].config

    def test_an_open_gop_starts_at_its_recovery_point(self) -> None:
        recovery = b"\x06\x06\x01\xc4\x80"
        (unit,) = run(Codec.CODEC_H264, (stap(SPS, PPS, recovery), 0, False), (SLICE, 0, True))
        assert unit.keyframe
        assert unit.config == annex_b(SPS, PPS)

    def test_loss_before_a_unit(self) -> None:
        """It may have taken the unit's first slices or parameter sets, or only what came before the unit."""
        start = [(stap(SPS, PPS), 0, False), (IDR, 0, True)]
        assert run(Codec.CODEC_H264, *start, (SLICE, 1, True, True))[1].complete
        assert not run(Codec.CODEC_H264, *start, (IDR_SECOND_SLICE, 1, True, True))[1].complete
        assert not run(Codec.CODEC_H264, *start, (IDR, 1, True, True))[1].complete
        assert not run(Codec.CODEC_H264, *start, (PPS, 1, False, True), (IDR, 1, True))[1].complete
        assert run(Codec.CODEC_H264, *start, (stap(SPS, PPS, IDR), 1, True, True))[1].complete


class TestH265:
    VPS, SPS, PPS, IDR = H265_VPS, H265_SPS, H265_PPS, b"\x26\x01\xaf\x09\x40\x11"

    def test_config_is_the_whole_chain(self) -> None:
        sets = (self.VPS, self.SPS, self.PPS)
        (unit,) = run(Codec.CODEC_H265, *((nal, 0, False) for nal in sets), (self.IDR, 0, True))
        assert unit.config == annex_b(*sets)
        assert unit.data == annex_b(*sets, self.IDR)
        assert unit.complete
        for missing in range(3):
            left = [nal for i, nal in enumerate(sets) if i != missing]
            (unit,) = run(Codec.CODEC_H265, *((nal, 0, False) for nal in left), (self.IDR, 0, True))
            assert unit.config is None
            assert not unit.complete

    def test_fragments(self) -> None:
        sets = [(nal, 0, False) for nal in (self.VPS, self.SPS, self.PPS)]
        pieces = [b"\x62\x01\x93\xaf\x09", b"\x62\x01\x13\x40", b"\x62\x01\x53\x11"]
        packets = [(piece, 0, piece is pieces[-1]) for piece in pieces]
        (unit,) = run(Codec.CODEC_H265, *sets, *packets)
        assert unit.data.endswith(annex_b(self.IDR))
        assert unit.complete
        assert run(Codec.CODEC_H265, *sets, *packets[1:]) == []


class TestVp9:
    LOWER, UPPER = b"\xa8\x07\x01\x00" + VP9_KEY, b"\xac\x07\x03\x00" + VP9_INTER

    def test_layers_make_a_superframe(self) -> None:
        ended = bytes([self.LOWER[0] | 4]) + self.LOWER[1:]
        (unit,) = run(Codec.CODEC_VP9, (ended, 0, False), (self.UPPER, 0, True))
        sizes = [len(VP9_KEY), len(VP9_INTER)]
        index = bytes([0xD9]) + b"".join(size.to_bytes(4, "little") for size in sizes) + bytes([0xD9])
        assert unit.data == VP9_KEY + VP9_INTER + index
        assert unit.keyframe
        assert unit.complete

    def test_without_its_upper_layer_the_lower_one_is_a_picture(self) -> None:
        ended = bytes([self.LOWER[0] | 4]) + self.LOWER[1:]
        torn = bytes([self.UPPER[0] & ~4]) + self.UPPER[1:]
        (unit,) = run(Codec.CODEC_VP9, (ended, 0, False), (torn, 0, False), (b"\xa4\x07\x03\x00\x01", 0, True, True))
        assert unit.data == VP9_KEY
        assert not unit.complete

    def test_without_its_lower_layer_there_is_no_picture(self) -> None:
        assert run(Codec.CODEC_VP9, (self.UPPER, 0, True, True)) == []

    def test_an_upper_layer_that_depends_on_no_lower_one_is_doubted_after_a_loss(self) -> None:
        alone = self.UPPER[:2] + b"\x02" + self.UPPER[3:]
        assert run(Codec.CODEC_VP9, (alone, 0, True))[0].complete
        assert not run(Codec.CODEC_VP9, (alone, 0, True, True))[0].complete

    def test_a_frame_without_its_end_is_incomplete(self) -> None:
        (unit,) = run(Codec.CODEC_VP9, (b"\x08" + VP9_KEY, 0, True))
        assert (unit.data, unit.complete) == (VP9_KEY, False)
        (unit,) = run(Codec.CODEC_VP9, (b"\x08" + VP9_KEY, 0, False), (b"\x0c" + VP9_KEY, 0, True))
        assert (unit.data, unit.complete) == (VP9_KEY, False)


class TestAv1:
    # A sequence header of 320x240 without a size field, and with one.
    SEQUENCE = b"\x08\x00\x00\x00\x04\x3c\xff\xbc\x00\x80"
    SIZED = b"\x0a\x09" + SEQUENCE[1:]
    KEY, KEY_SIZED = b"\x30\x10\xaa\xbb", b"\x32\x03\x10\xaa\xbb"

    def check(self, *packets: tuple[bytes, int, bool]) -> None:
        (unit,) = run(Codec.CODEC_AV1, *packets)
        assert unit.data == self.SIZED + self.KEY_SIZED
        assert unit.config == self.SIZED
        assert (unit.width, unit.height) == (320, 240)
        assert unit.keyframe
        assert unit.complete

    def test_sizes_are_written(self) -> None:
        self.check((b"\x28" + bytes([len(self.SEQUENCE)]) + self.SEQUENCE + self.KEY, 0, True))

    def test_sizes_that_are_there_are_kept_in_their_shortest_form(self) -> None:
        self.check((b"\x18" + self.SIZED, 0, False), (b"\x10" + self.KEY_SIZED, 0, True))
        self.check((b"\x18" + self.SIZED, 0, False), (b"\x10\x32\x83\x00\x10\xaa\xbb", 0, True))

    def test_a_wrong_size_drops_its_obu(self) -> None:
        (unit,) = run(
            Codec.CODEC_AV1,
            (b"\x18" + self.SIZED, 0, False),
            (b"\x10" + self.KEY_SIZED, 0, False),
            (b"\x10\x32\x05\x10", 0, True),
        )
        assert unit.data == self.SIZED + self.KEY_SIZED
        assert not unit.complete

    def test_temporal_delimiters_padding_and_tile_lists_go(self) -> None:
        self.check(
            (b"\x28\x01\x10" + self.SEQUENCE, 0, False),
            (b"\x20\x02\x12\x00" + self.KEY, 0, False),
            (b"\x20\x02\x78\x00\x40\x00", 0, True),
        )

    def test_fragments(self) -> None:
        head = (b"\x18" + self.SEQUENCE, 0, False)
        first, middle, last = (
            (b"\x50" + self.KEY[:2], 0, False),
            (b"\xd0" + self.KEY[2:3], 0, False),
            (b"\x90\xbb", 0, True),
        )
        self.check(head, first, middle, last)
        for packets in ([head, middle, last], [head, first, last], [head, first, middle]):
            for unit in run(Codec.CODEC_AV1, *packets[:2], *((*packet, True) for packet in packets[2:])):
                assert not unit.complete
                assert unit.data == self.SIZED + self.KEY_SIZED[:0]

    def test_an_extension_is_kept(self) -> None:
        (unit,) = run(Codec.CODEC_AV1, (b"\x18" + self.SEQUENCE, 0, False), (b"\x10\x34\x20\x10\xaa", 0, True))
        assert unit.data == self.SIZED + b"\x36\x20\x02\x10\xaa"

    def test_a_shown_key_frame_is_a_keyframe_and_no_other_is(self) -> None:
        for first, keyframe in ((0x10, True), (0x00, False), (0x30, False), (0x90, False), (0x50, False)):
            packets = [(b"\x18" + self.SEQUENCE, 0, False), (bytes([0x10, 0x30, first, 0xAA]), 0, True)]
            assert run(Codec.CODEC_AV1, *packets)[0].keyframe == keyframe
