"""What leaves together: fragments of one size make one message, and a viewer's turn costs no look at others."""

from __future__ import annotations

from mediaserver.sfu.wire import packet, rtcp_packets
from mediaserver.sfu.wire.rtcp_packets import Nack
from tests.sfu.stream.test_engine import VP8_DELTA, VP8_KEY, House

SIZES = (1100, 1100, 1101, 1101, 1096)


def picture(house: House, timestamp: int, sizes: tuple[int, ...] = SIZES) -> list[bytes]:
    """Its fragments, found together by the engine; the payloads."""
    start = VP8_KEY if timestamp == 0 else VP8_DELTA
    payloads = [start[:11] + bytes([number]) * (size - 11) for number, size in enumerate(sizes)]
    batch = []
    for payload in payloads:
        roc = house.sequence >> 16
        batch.append((house.cart.protect(house.plain(payload, timestamp=timestamp), roc), house.cart.addr))
    house.engine.receive_batch(batch, house.now)
    house.deliver()
    return payloads


def test_fragments_that_differ_by_a_few_bytes_leave_as_one_message_with_their_payloads_as_they_were() -> None:
    house = House(viewers=2)
    before = house.engine.counters()["messages_out"]
    payloads = picture(house, 0)
    assert house.engine.counters()["messages_out"] - before == 2
    for doctor in house.doctors:
        assert [packet.payload_of(data) for data in doctor.received] == payloads
        assert len({len(data) for data in doctor.received[:-1]}) == 1
        assert len(doctor.received[-1]) <= len(doctor.received[0])


def test_sizes_that_are_far_apart_are_left_as_they_are() -> None:
    house = House()
    payloads = picture(house, 0, (300, 1100, 700))
    received = house.doctors[0].received
    assert [packet.payload_of(data) for data in received] == payloads
    assert not any(packet.parse_rtp(data).padding for data in received)


def test_what_is_repeated_byte_by_byte_is_padded_as_it_was() -> None:
    """Other bytes under the same number would reveal the key."""
    house = House(rtx=False)
    picture(house, 0)
    doctor = house.doctors[0]
    sent = list(doctor.received)
    doctor._from_server = type(doctor._from_server)(doctor.profile, doctor.keys[1][:16], doctor.keys[1][16:])
    numbers = tuple(packet.parse_rtp(data).sequence for data in sent)
    house.wait(100_000)
    doctor.received.clear()
    doctor.send_rtcp(rtcp_packets.write(Nack(1, 7000, numbers)), house.now)
    house.deliver()
    assert doctor.received == sent


def test_a_retransmission_on_its_own_stream_bears_the_payload_alone() -> None:
    house = House()
    payloads = picture(house, 0)
    doctor = house.doctors[0]
    numbers = [packet.parse_rtp(data).sequence for data in doctor.received]
    house.wait(100_000)
    doctor.received.clear()
    doctor.send_rtcp(rtcp_packets.write(Nack(1, 7000, tuple(numbers))), house.now)
    house.deliver()
    again = [packet.payload_of(data) for data in doctor.received if packet.parse_rtp(data).ssrc == 8000]
    assert again == [number.to_bytes(2) + payload for number, payload in zip(numbers, payloads, strict=True)]
