from __future__ import annotations

import pytest
from aiortc import rtp as oracle
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.sfu.wire.rtcp_packets import (
    Bye,
    FullIntra,
    Nack,
    OtherPacket,
    Packet,
    PictureLoss,
    ReceiverReport,
    Remb,
    Report,
    SenderReport,
    SourceDescription,
    TransportFeedback,
    read,
    write,
)

U8 = st.integers(0, 0xFF)
U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
U64 = st.integers(0, 2**64 - 1)
REPORTS = st.builds(
    Report,
    ssrc=U32,
    fraction_lost=U8,
    lost=st.integers(-(2**23), 2**23 - 1),
    highest=U32,
    jitter=U32,
    last_sr=U32,
    delay=U32,
)
REPORT_LISTS = st.lists(REPORTS, max_size=31).map(tuple)
SENDER_REPORTS = st.builds(
    SenderReport, ssrc=U32, ntp=U64, rtp_timestamp=U32, packet_count=U32, octet_count=U32, reports=REPORT_LISTS
)
RECEIVER_REPORTS = st.builds(ReceiverReport, ssrc=U32, reports=REPORT_LISTS)
DESCRIPTIONS = st.builds(lambda ssrc, cname: SourceDescription(((ssrc, cname),)), U32, st.binary(max_size=255))
BYES = st.builds(Bye, st.lists(U32, max_size=31).map(tuple))
PICTURE_LOSSES = st.builds(PictureLoss, U32, U32)
FULL_INTRAS = st.builds(lambda ssrc, media, command: FullIntra(ssrc, ((media, command),)), U32, U32, U8)
# 18 significant bits, so that nothing is rounded.
BITRATES = st.builds(lambda mantissa, exponent: mantissa << exponent, st.integers(0, 2**18 - 1), st.integers(0, 46))
REMBS = st.builds(Remb, U32, BITRATES, st.lists(U32, max_size=255).map(tuple))


@st.composite
def nacks(draw: st.DrawFn, wrap: bool = True) -> Nack:
    first = draw(U16 if wrap else st.integers(0, 10_000))
    ahead = draw(st.sets(st.integers(1, 1000), max_size=100))
    return Nack(draw(U32), draw(U32), (first, *((first + step) & 0xFFFF for step in sorted(ahead))))


PACKETS: st.SearchStrategy[Packet] = st.one_of(
    SENDER_REPORTS, RECEIVER_REPORTS, DESCRIPTIONS, BYES, nacks(), PICTURE_LOSSES, FULL_INTRAS, REMBS
)


def raw(kind: int, count: int, body: bytes) -> bytes:
    return bytes([0x80 | count, kind]) + (len(body) // 4).to_bytes(2, "big") + body


class TestRoundTrips:
    @given(PACKETS)
    def test_one_packet(self, packet: Packet) -> None:
        data = write(packet)
        assert len(data) % 4 == 0
        assert read(data) == [packet]

    @given(st.lists(PACKETS, max_size=5))
    def test_a_compound(self, packets: list[Packet]) -> None:
        data = write(*packets)
        assert data == b"".join(write(packet) for packet in packets)
        assert read(data) == packets

    @given(PACKETS)
    def test_what_does_not_fit_is_refused(self, packet: Packet) -> None:
        size = len(write(packet))
        assert len(write(packet, capacity=size)) == size
        with pytest.raises(ValueError, match="fit"):
            write(packet, capacity=size - 1)


class TestLimits:
    def test_what_a_count_cannot_say_is_refused(self) -> None:
        report = Report(1, 0, 0, 0, 0, 0, 0)
        for packet in (
            SenderReport(1, 2, 3, 4, 5, (report,) * 32),
            ReceiverReport(1, (report,) * 32),
            SourceDescription(((1, bytes(256)),)),
            Bye((1,) * 32),
            Remb(1, 1, (1,) * 256),
            Nack(1, 2, ()),
        ):
            with pytest.raises(ValueError, match="cannot hold"):
                write(packet)

    @pytest.mark.parametrize(("lost", "written"), [(2**23, 2**23 - 1), (2**31 - 1, 2**23 - 1), (-(2**31), -(2**23))])
    def test_a_loss_past_24_bits_is_clamped(self, lost: int, written: int) -> None:
        (packet,) = read(write(ReceiverReport(1, (Report(1, 0, lost, 0, 0, 0, 0),))))
        assert isinstance(packet, ReceiverReport)
        assert packet.reports[0].lost == written

    @given(U64)
    def test_a_bitrate_is_rounded_down_to_18_bits(self, bitrate: int) -> None:
        (packet,) = read(write(Remb(1, bitrate, ())))
        assert isinstance(packet, Remb)
        assert packet.bitrate <= bitrate
        assert bitrate - packet.bitrate <= bitrate >> 17

    def test_a_bitrate_past_64_bits_is_the_greatest(self) -> None:
        body = bytes(8) + b"REMB\0" + (63 << 18 | 0x3FFFF).to_bytes(3, "big")
        assert read(raw(206, 15, body)) == [Remb(0, 2**64 - 1, ())]

    def test_a_nack_of_all_sequence_numbers(self) -> None:
        everything = Nack(1, 2, tuple(range(0x10000)))
        data = write(everything)
        assert len(data) == 12 + 4 * -(-0x10000 // 17)
        assert read(data) == [everything]


class TestForms:
    def test_a_nack_entry_covers_17_sequence_numbers(self) -> None:
        assert write(Nack(1, 2, (65530, 65531, 10))) == raw(205, 1, b"\0\0\0\1\0\0\0\2\xff\xfa\x80\x01")
        assert len(write(Nack(1, 2, (65530, 11)))) == 20

    def test_a_fir_names_its_source_in_the_entry_alone(self) -> None:
        assert write(FullIntra(1, ((2, 9),))) == raw(206, 4, b"\0\0\0\1\0\0\0\0\0\0\0\2\x09\0\0\0")
        entries = b"\0\0\0\2\x09\0\0\0" + b"\0\0\0\3\x0a\0\0\0"
        assert read(raw(206, 4, bytes(8) + entries)) == [FullIntra(0, ((2, 9), (3, 10)))]

    @given(st.integers(0, 255))
    def test_a_cname_is_ended_by_a_null_at_least(self, size: int) -> None:
        data = write(SourceDescription(((1, b"c" * size),)))
        assert data[10 + size] == 0
        assert len(data) == (10 + size + 4) & ~3

    def test_the_cname_is_found_among_other_items(self) -> None:
        chunk = b"\0\0\0\1" + b"\x02\x04name" + b"\x01\x02me" + b"\x06\x00" + bytes(4)
        nameless = b"\0\0\0\2" + b"\x02\x01x" + b"\0"
        bare = b"\0\0\0\3" + bytes(4)
        expected = SourceDescription(((1, b"me"), (2, None), (3, None)))
        assert read(raw(202, 3, chunk + nameless + bare)) == [expected]

    def test_a_bye_may_give_a_reason(self) -> None:
        assert read(raw(203, 2, b"\0\0\0\1\0\0\0\2\x03bye")) == [Bye((1, 2))]
        assert read(raw(203, 0, b"")) == [Bye(())]

    def test_profile_specific_extensions_of_reports_are_passed_over(self) -> None:
        assert read(raw(201, 0, b"\0\0\0\1" + bytes(40))) == [ReceiverReport(1)]
        assert read(raw(200, 0, b"\0\0\0\1" + bytes(24))) == [SenderReport(1, 0, 0, 0, 0)]

    @pytest.mark.parametrize(
        ("kind", "count", "body"),
        [
            (204, 3, b"\0\0\0\1name"),
            (207, 0, b"\0\0\0\1"),
            (205, 12, bytes(8)),
            (206, 2, bytes(16)),
            (206, 15, bytes(8) + b"GOOG" + bytes(4)),
            (206, 15, bytes(8) + b"REMB"),
            (192, 0, b""),
            (223, 31, bytes(12)),
        ],
    )
    def test_other_types_and_formats_are_passed_over(self, kind: int, count: int, body: bytes) -> None:
        loss = PictureLoss(1, 2)
        assert read(raw(kind, count, body) + write(loss)) == [OtherPacket(kind, count), loss]

    @given(PACKETS, st.integers(1, 60))
    def test_padding_is_cut_off(self, packet: Packet, words: int) -> None:
        data = write(packet)
        size = (len(data) + 4 * words) // 4 - 1
        padded = bytes([data[0] | 0x20, data[1]]) + size.to_bytes(2, "big") + data[4:] + bytes(4 * words - 1)
        assert read(padded + bytes([4 * words])) == [packet]


class TestMalformed:
    @given(PACKETS)
    def test_every_truncation_is_refused(self, packet: Packet) -> None:
        data = write(packet)
        for size in range(1, min(len(data), 100)):
            with pytest.raises(ValueError, match="shorter"):
                read(data[:size])

    @pytest.mark.parametrize("version", [0, 1, 3])
    def test_other_versions_are_refused(self, version: int) -> None:
        with pytest.raises(ValueError, match="version"):
            read(bytes([version << 6, 201, 0, 1]) + bytes(4))

    @pytest.mark.parametrize("count", [0, 9, 255])
    def test_a_padding_count_of_none_or_past_the_packet_is_refused(self, count: int) -> None:
        with pytest.raises(ValueError, match="contradict"):
            read(bytes([0xA0, 201, 0, 2]) + bytes(7) + bytes([count]))

    @pytest.mark.parametrize(
        ("kind", "count", "body"),
        [
            (200, 0, bytes(20)),
            (200, 1, bytes(24 + 20)),
            (201, 0, b""),
            (201, 2, bytes(4 + 44)),
            (202, 1, b""),
            (202, 2, b"\0\0\0\1\x01\x01x\0"),
            (202, 1, b"\0\0\0\1\x01\xffxx"),
            (202, 1, b"\0\0\0\1\x02\x01x\x01"),
            (203, 2, bytes(4)),
            (205, 1, bytes(4)),
            (206, 1, b""),
            (206, 15, bytes(8) + b"REMB\1\0\0\0"),
            (205, 15, bytes(8)),
            (205, 15, bytes(12)),
        ],
    )
    def test_counts_that_the_size_contradicts_are_refused(self, kind: int, count: int, body: bytes) -> None:
        with pytest.raises(ValueError, match=r"shorter|contradict"):
            read(raw(kind, count, body))

    @given(st.binary(max_size=200))
    def test_noise_is_read_or_refused(self, data: bytes) -> None:
        try:
            read(data)
        except ValueError:
            return

    @given(
        st.lists(
            st.builds(
                raw,
                st.integers(200, 207),
                st.integers(0, 31),
                st.binary(max_size=64).map(lambda body: body[: len(body) // 4 * 4]),
            ),
            max_size=4,
        )
    )
    def test_well_framed_noise_is_read_or_refused(self, packets: list[bytes]) -> None:
        try:
            found = read(b"".join(packets))
        except ValueError:
            return
        assert len(found) == len(packets)


def theirs_as_ours(packet: oracle.AnyRtcpPacket) -> Packet:
    match packet:
        case oracle.RtcpSrPacket(ssrc, info, reports):
            return SenderReport(
                ssrc,
                info.ntp_timestamp,
                info.rtp_timestamp,
                info.packet_count,
                info.octet_count,
                tuple(report_of(report) for report in reports),
            )
        case oracle.RtcpRrPacket(ssrc, reports):
            return ReceiverReport(ssrc, tuple(report_of(report) for report in reports))
        case oracle.RtcpSdesPacket(chunks):
            return SourceDescription(tuple((chunk.ssrc, dict(chunk.items).get(1)) for chunk in chunks))
        case oracle.RtcpByePacket(sources):
            return Bye(tuple(sources))
        case oracle.RtcpRtpfbPacket(1, ssrc, media_ssrc, lost):
            return Nack(ssrc, media_ssrc, tuple(lost))
        case oracle.RtcpPsfbPacket(1, ssrc, media_ssrc):
            return PictureLoss(ssrc, media_ssrc)
        case oracle.RtcpPsfbPacket(15, ssrc, _, fci):
            bitrate, ssrcs = oracle.unpack_remb_fci(fci)
            return Remb(ssrc, bitrate, tuple(ssrcs))
    raise AssertionError(packet)


def report_of(report: oracle.RtcpReceiverInfo) -> Report:
    return Report(
        report.ssrc,
        report.fraction_lost,
        report.packets_lost,
        report.highest_sequence,
        report.jitter,
        report.lsr,
        report.dlsr,
    )


# What aiortc knows too. Its NACK does not wrap, and an empty BYE with padding is none of its concerns.
SHARED: st.SearchStrategy[Packet] = st.one_of(
    SENDER_REPORTS, RECEIVER_REPORTS, DESCRIPTIONS, BYES, nacks(wrap=False), PICTURE_LOSSES, REMBS
)


class TestAgainstAiortc:
    @given(st.lists(SHARED, min_size=1, max_size=4))
    def test_reads_what_is_written_here(self, packets: list[Packet]) -> None:
        assert [theirs_as_ours(packet) for packet in oracle.RtcpPacket.parse(write(*packets))] == packets

    @given(SHARED)
    def test_writes_what_is_read_here(self, packet: Packet) -> None:
        (theirs,) = oracle.RtcpPacket.parse(write(packet))
        assert read(bytes(theirs)) == [packet]

    @given(
        st.builds(
            raw,
            st.sampled_from([200, 201, 202, 203]),
            st.integers(0, 3),
            st.binary(max_size=80).map(lambda body: body[: len(body) // 4 * 4]),
        )
    )
    def test_reads_noise_alike(self, data: bytes) -> None:
        try:
            ours = read(data)
        except ValueError:
            ours = None
        try:
            theirs = [theirs_as_ours(packet) for packet in oracle.RtcpPacket.parse(data)]
        except ValueError:
            return
        # aiortc has no boundary between the chunks of an SDES, and takes one that breaks off.
        if data[1] == 202:
            return
        assert ours == theirs


def test_transport_feedback_is_written_by_its_own_function() -> None:
    with pytest.raises(TypeError, match="TransportFeedback"):
        write(TransportFeedback(1, 2, 3, 4, 5, (1,)))
