from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mediaserver.sfu.wire import extended_reports, rtcp_packets
from mediaserver.sfu.wire.rtcp_packets import OtherPacket, PictureLoss

U32 = st.integers(0, 2**32 - 1)


@given(U32, st.integers(0, 2**64 - 1))
def test_a_reference_time_reads_back(ssrc: int, ntp: int) -> None:
    data = rtcp_packets.write(PictureLoss(1, 2)) + extended_reports.write_reference(ssrc, ntp)
    assert extended_reports.read_reference(data) == (ssrc, ntp)
    assert rtcp_packets.read(data)[1:] == [OtherPacket(207, 0)]


def test_the_layout_of_a_reference_time() -> None:
    """RFC 3611, section 4.4."""
    written = extended_reports.write_reference(0x01020304, 0x1112131415161718)
    assert written.hex() == "80cf000401020304" + "04000002" + "1112131415161718"


@given(st.lists(st.tuples(U32, U32, U32), max_size=10, unique_by=lambda delay: delay[0]), U32)
def test_a_delay_is_found_by_its_source(delays: list[tuple[int, int, int]], other: int) -> None:
    data = extended_reports.write_delays(7, delays)
    found = {ssrc: (last, delay) for ssrc, last, delay in delays}
    for ssrc in [*found, other]:
        assert extended_reports.read_delay(data, ssrc) == found.get(ssrc)


@given(st.binary(max_size=80))
def test_nothing_is_read_past_the_end(noise: bytes) -> None:
    body = noise[: len(noise) // 4 * 4]
    packet = b"\x80\xcf" + (len(body) // 4 + 1).to_bytes(2, "big") + b"\0\0\0\1" + body
    found = extended_reports.read_delay(packet, 5)
    assert found is None or b"\0\0\0\5" in body


def test_other_blocks_may_stand_before() -> None:
    other = b"\x07\x00\x00\x01" + bytes(4)
    delays = extended_reports.write_delays(7, [(5, 1, 2)])
    data = delays[:3] + bytes([delays[3] + 2]) + delays[4:8] + other + delays[8:]
    assert extended_reports.read_delay(data, 5) == (1, 2)
