from __future__ import annotations

import pytest
from aiortc import rtp as oracle
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.sfu.wire.packet import (
    EXT_URIS,
    DemuxKind,
    ExtKind,
    classify,
    looks_like_rtcp,
    parse_rtp,
    payload_of,
    read_extensions,
    write_extensions,
    write_rtp,
)

U7 = st.integers(0, 127)
U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
KINDS = st.integers(1, ExtKind.EXT_COUNT - 1)
# Every id to its own kind, so that a test sees all ids from 1 to 15.
ALL_IDS = {number: number for number in range(1, 16)}


def block(profile: int, data: bytes) -> bytes:
    data += bytes(-len(data) % 4)
    return profile.to_bytes(2, "big") + (len(data) // 4).to_bytes(2, "big") + data


def packet(extensions: bytes = b"", payload: bytes = b"", csrcs: int = 0) -> bytes:
    plain = write_rtp(payload_type=96, marker=False, sequence=1, timestamp=2, ssrc=3)
    first = plain[0] | csrcs | (0x10 if extensions else 0)
    return bytes([first]) + plain[1:] + bytes(4 * csrcs) + extensions + payload


def extensions_of(profile: int, data: bytes) -> dict[int, bytes]:
    return read_extensions(packet(block(profile, data), b"payload"), ALL_IDS)


class TestHeader:
    @given(
        payload_type=U7, marker=st.booleans(), sequence=U16, timestamp=U32, ssrc=U32, payload=st.binary(max_size=100)
    )
    def test_what_is_written_is_read_back(
        self, payload_type: int, marker: bool, sequence: int, timestamp: int, ssrc: int, payload: bytes
    ) -> None:
        data = write_rtp(
            payload_type=payload_type,
            marker=marker,
            sequence=sequence,
            timestamp=timestamp,
            ssrc=ssrc,
            payload=payload,
        )
        header = parse_rtp(data)
        assert header[:1] + header[4:7] == (payload_type, sequence, timestamp, ssrc)
        assert (header.marker, header.padding, header.header_size) == (marker, False, 12)
        assert payload_of(data) == payload
        other = oracle.RtpPacket.parse(data)
        assert (other.payload_type, other.marker, other.sequence_number) == (payload_type, marker, sequence)
        assert (other.timestamp, other.ssrc, other.payload) == (timestamp, ssrc, payload)

    @given(csrcs=st.integers(0, 15), words=st.integers(0, 40), payload=st.binary(max_size=50))
    def test_csrcs_and_extensions_count_as_header(self, csrcs: int, words: int, payload: bytes) -> None:
        data = packet(block(0xABAC, bytes(4 * words)), payload, csrcs)
        header = parse_rtp(data)
        assert header.csrc_count == csrcs
        assert header.header_size == 12 + 4 * csrcs + 4 + 4 * words
        assert (header.ext_profile, header.ext_offset, header.ext_size) == (0xABAC, 16 + 4 * csrcs, 4 * words)
        assert payload_of(data) == payload

    @given(csrcs=st.integers(0, 15), words=st.integers(0, 5))
    def test_every_truncation_of_the_header_is_refused(self, csrcs: int, words: int) -> None:
        data = packet(block(0xBEDE, bytes(4 * words)), b"", csrcs)
        for size in range(len(data)):
            with pytest.raises(ValueError, match="shorter"):
                parse_rtp(data[:size])

    @pytest.mark.parametrize("version", [0, 1, 3])
    def test_other_versions_are_refused(self, version: int) -> None:
        with pytest.raises(ValueError, match="version"):
            parse_rtp(bytes([version << 6]) + bytes(20))

    def test_an_extension_length_past_the_end_is_refused(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            parse_rtp(packet(b"\xbe\xde\xff\xff" + bytes(100)))

    def test_what_no_datagram_can_hold_is_refused(self) -> None:
        assert parse_rtp(packet(payload=bytes(65507 - 12))).payload_size == 65495
        with pytest.raises(ValueError, match="shorter"):
            parse_rtp(packet(payload=bytes(65507 - 11)))

    @given(st.binary(max_size=80))
    def test_whatever_comes_is_read_as_aiortc_reads_it_or_refused(self, data: bytes) -> None:
        try:
            header = parse_rtp(data)
            payload = payload_of(data)
        except ValueError:
            with pytest.raises(ValueError, match="RTP"):
                oracle.RtpPacket.parse(data)
            return
        other = oracle.RtpPacket.parse(data)
        assert header.header_size + header.payload_size == len(data)
        assert (other.ssrc, other.sequence_number, other.payload) == (header.ssrc, header.sequence, payload)


class TestPadding:
    @given(payload=st.binary(max_size=50), count=st.integers(1, 255))
    def test_padding_is_cut_off(self, payload: bytes, count: int) -> None:
        data = packet(payload=payload + bytes(count - 1) + bytes([count]))
        assert payload_of(bytes([data[0] | 0x20]) + data[1:]) == payload

    @pytest.mark.parametrize("payload", [b"", b"\0", b"abc\0", b"abc\x05", b"\xff"])
    def test_a_count_of_none_or_past_the_payload_is_refused(self, payload: bytes) -> None:
        data = packet(payload=payload)
        with pytest.raises(ValueError, match="padding"):
            payload_of(bytes([data[0] | 0x20]) + data[1:])


class TestReadExtensions:
    def test_one_byte_elements_with_padding_between(self) -> None:
        assert extensions_of(0xBEDE, b"\0\x10a\0\0\x21bc\x3fcdefghijklmnopqr\0") == {
            1: b"a",
            2: b"bc",
            3: b"cdefghijklmnopqr",
        }

    def test_two_byte_elements_with_padding_between_and_empty_values(self) -> None:
        assert extensions_of(0x1000, b"\0\x01\x01a\0\x02\x00\x0f\x03xyz") == {1: b"a", 2: b"", 15: b"xyz"}

    @pytest.mark.parametrize("appbits", [0, 1, 15])
    def test_the_application_bits_of_the_two_byte_form_do_not_matter(self, appbits: int) -> None:
        assert extensions_of(0x1000 | appbits, b"\x01\x01a") == {1: b"a"}

    @pytest.mark.parametrize("profile", [0, 0xBEDF, 0x1010, 0x2000, 0xFFFF])
    def test_other_profiles_hold_nothing(self, profile: int) -> None:
        assert extensions_of(profile, b"\x10a\0\0") == {}

    def test_id_15_ends_the_one_byte_form(self) -> None:
        assert extensions_of(0xBEDE, b"\x10a\xf0b\x20c") == {1: b"a"}

    def test_a_padding_byte_with_a_length_ends_the_one_byte_form(self) -> None:
        assert extensions_of(0xBEDE, b"\x10a\x03\x20\x30\x40\x50\x20c") == {1: b"a"}

    @pytest.mark.parametrize("tail", [b"\x2f", b"\x24abc", b"\x22ab"])
    def test_a_one_byte_element_past_the_end_is_left_out(self, tail: bytes) -> None:
        data = b"\x10a"
        data += bytes(-(len(data) + len(tail)) % 4) + tail
        assert extensions_of(0xBEDE, data) == {1: b"a"}

    @pytest.mark.parametrize("tail", [b"\x02", b"\x02\x01", b"\x02\xffabc"])
    def test_a_two_byte_element_past_the_end_is_left_out(self, tail: bytes) -> None:
        data = b"\x01\x01a"
        data += bytes(-(len(data) + len(tail)) % 4) + tail
        assert extensions_of(0x1000, data) == {1: b"a"}

    def test_the_first_of_a_repeated_id_counts(self) -> None:
        assert extensions_of(0xBEDE, b"\x10a\x10b") == {1: b"a"}

    def test_ids_that_were_not_negotiated_are_passed_over(self) -> None:
        data = packet(block(0xBEDE, b"\x10a\x20b"))
        assert read_extensions(data, {2: ExtKind.EXT_MID}) == {ExtKind.EXT_MID: b"b"}

    @given(profile=st.sampled_from([0xBEDE, 0x1000]), data=st.binary(max_size=64))
    def test_hostile_blocks_give_what_lies_within_them(self, profile: int, data: bytes) -> None:
        for value in extensions_of(profile, data).values():
            assert value in data + bytes(3)

    @given(profile=st.sampled_from([0xBEDE, 0x1000]), data=st.binary(max_size=64))
    def test_agrees_with_aiortc_where_that_has_no_complaint(self, profile: int, data: bytes) -> None:
        data += bytes(-len(data) % 4)
        try:
            pairs = oracle.unpack_header_extensions(profile, data)
        except ValueError:
            return
        # aiortc does not know the two ends of the one-byte form.
        if profile == 0xBEDE and any(number in (0, 15) for number, _ in pairs):
            return
        expected: dict[int, bytes] = {}
        for number, value in pairs:
            if number in ALL_IDS:
                expected.setdefault(number, value)
        assert extensions_of(profile, data) == expected


class TestWriteExtensions:
    @given(values=st.dictionaries(KINDS, st.binary(max_size=255)), ids=st.permutations(range(1, 256)))
    def test_what_is_written_is_read_back(self, values: dict[int, bytes], ids: list[int]) -> None:
        negotiated = {ids[kind]: kind for kind in range(1, ExtKind.EXT_COUNT)}
        written = write_extensions(values, negotiated)
        assert len(written) % 4 == 0
        assert read_extensions(packet(written), negotiated) == values if values else written == b""

    @given(values=st.dictionaries(st.integers(1, 14), st.binary(max_size=20), min_size=1))
    def test_writes_the_bytes_that_aiortc_writes(self, values: dict[int, bytes]) -> None:
        ordered = sorted(values.items())
        profile, data = oracle.pack_header_extensions(ordered)
        assert write_extensions(values, ALL_IDS) == block(profile, data)

    def test_the_one_byte_form_is_left_only_where_needed(self) -> None:
        assert write_extensions({1: b"a", 2: bytes(16)}, {1: 1, 14: 2})[:2] == b"\xbe\xde"
        assert write_extensions({1: b"a"}, {15: 1})[:2] == b"\x10\x00"
        assert write_extensions({1: b""}, {1: 1})[:2] == b"\x10\x00"
        assert write_extensions({1: bytes(17)}, {1: 1})[:2] == b"\x10\x00"
        # What is not written does not decide the form.
        assert write_extensions({1: b"a", 2: bytes(17)}, {1: 1})[:2] == b"\xbe\xde"

    def test_only_wanted_and_negotiated_kinds_are_written(self) -> None:
        values = {ExtKind.EXT_MID: b"0", ExtKind.EXT_TWCC: b"\1\2", ExtKind.EXT_RID: b"h"}
        ids = {3: ExtKind.EXT_MID, 5: ExtKind.EXT_TWCC}
        assert write_extensions(values, ids, wanted=1 << ExtKind.EXT_TWCC) == b"\xbe\xde\0\1\x51\1\2\0"
        assert write_extensions(values, ids, wanted=1 << ExtKind.EXT_RID) == b""
        assert write_extensions(values, {}) == b""

    @given(values=st.dictionaries(KINDS, st.binary(max_size=30), min_size=1))
    def test_a_block_that_does_not_fit_is_refused(self, values: dict[int, bytes]) -> None:
        ids = {kind + 10: kind for kind in range(1, ExtKind.EXT_COUNT)}
        size = len(write_extensions(values, ids))
        assert len(write_extensions(values, ids, capacity=size)) == size
        with pytest.raises(ValueError, match="fit"):
            write_extensions(values, ids, capacity=size - 1)


def test_every_kind_has_its_uri() -> None:
    assert sorted(EXT_URIS.values()) == list(range(1, ExtKind.EXT_COUNT))


# RFC 7983, section 7, with its neighbours.
@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (0, DemuxKind.DEMUX_STUN),
        (3, DemuxKind.DEMUX_STUN),
        (4, DemuxKind.DEMUX_OTHER),
        (19, DemuxKind.DEMUX_OTHER),
        (20, DemuxKind.DEMUX_DTLS),
        (63, DemuxKind.DEMUX_DTLS),
        (64, DemuxKind.DEMUX_OTHER),
        (127, DemuxKind.DEMUX_OTHER),
        (128, DemuxKind.DEMUX_RTP),
        (191, DemuxKind.DEMUX_RTP),
        (192, DemuxKind.DEMUX_OTHER),
        (255, DemuxKind.DEMUX_OTHER),
    ],
)
def test_the_first_byte_tells_the_protocol(first: int, kind: DemuxKind) -> None:
    assert classify(bytes([first]) + bytes(20)) is kind


def test_an_empty_datagram_is_of_no_protocol() -> None:
    assert classify(b"") is DemuxKind.DEMUX_OTHER


def test_the_second_byte_tells_rtcp() -> None:
    assert [byte for byte in range(256) if looks_like_rtcp(bytes([0x80, byte]))] == list(range(192, 224))
    assert not looks_like_rtcp(b"\x80")
