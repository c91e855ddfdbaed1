"""Capture times on their way through the engine, between clocks that are years apart."""

from __future__ import annotations

import struct

from mediaserver.sfu.wire import packet, rtcp_packets
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.rtcp_packets import SenderReport
from tests.sfu.stream.test_engine import MS, VP8_DELTA, VP8_KEY, House

SECOND = 1000 * MS
CLOCK_START = 0xE0000000  # of the engine's clock at its time 0
WAY = 20 * MS
IDS = {1: ExtKind.EXT_MID, 20: ExtKind.EXT_ABS_CAPTURE_TIME}


def ntp(us: int) -> int:
    return (us << 32) // SECOND


class Clinic(House):
    """A publisher whose clock is `ahead` µs of the engine's; what it sends takes 20 ms."""

    def __init__(self, ahead: int = 3 * 365 * 86400 * SECOND) -> None:
        super().__init__()
        self.ahead = ahead
        self.count = 0

    def cart_clock(self, us: int) -> int:
        return (CLOCK_START << 32) + ntp(us + self.ahead) & (1 << 64) - 1

    def report(self) -> None:
        """What the cart said 20 ms ago, of a source that has begun."""
        if self.count == 0:
            self.picture(bytes(8))
        sent = SenderReport(1234, self.cart_clock(self.now - WAY), 3000, 1, 100, ())
        self.cart.send_rtcp(rtcp_packets.write(sent), self.now)

    def picture(self, value: bytes) -> bytes:
        """Sends one frame with that extension; the extension as the doctor gets it."""
        self.count += 1
        block = packet.write_extensions(
            {ExtKind.EXT_MID: b"1", ExtKind.EXT_ABS_CAPTURE_TIME: value},
            {3: ExtKind.EXT_MID, 9: ExtKind.EXT_ABS_CAPTURE_TIME},
        )
        data = packet.write_rtp(
            payload_type=96, marker=True, sequence=self.count, timestamp=3000 * self.count, ssrc=1234,
            extensions=block, payload=VP8_DELTA if self.count > 1 else VP8_KEY,
        )  # fmt: skip
        self.cart.send(data, self.now)
        self.deliver()
        return packet.read_extensions(self.doctors[0].received[-1], IDS)[ExtKind.EXT_ABS_CAPTURE_TIME]


def test_offset_is_brought_to_the_engines_clock() -> None:
    house = Clinic()
    house.report()
    taken = house.now - 70 * MS
    stamp = house.cart_clock(taken)
    for value in (struct.pack("!Q", stamp), struct.pack("!Qq", stamp, 0)):
        got, offset = struct.unpack("!Qq", house.picture(value))
        assert got == stamp, "the timestamp is the publisher's own"
        # The viewer's sum: the capture by the clock of who sends it.
        captured = (got - offset - (CLOCK_START << 32)) % (1 << 64) * SECOND >> 32
        assert abs(captured - taken - WAY) <= 2, "late by the report's way, as no round trip is known"


def test_offset_of_a_capturing_system_behind_the_publisher_is_added() -> None:
    house = Clinic(ahead=-5 * SECOND)
    house.report()
    taken = house.now - 70 * MS
    probe = 7 * SECOND  # the scanner's clock is ahead of the cart's
    value = struct.pack("!Qq", (house.cart_clock(taken) + ntp(probe)) % (1 << 64), ntp(probe))
    got, offset = struct.unpack("!Qq", house.picture(value))
    captured = (got - offset - (CLOCK_START << 32)) % (1 << 64) * SECOND >> 32
    assert abs(captured - taken - WAY) <= 2


def test_unknown_clock_makes_no_claim() -> None:
    house = Clinic()
    value = struct.pack("!Qq", house.cart_clock(house.now), 0)
    assert house.picture(value) == value[:8], "an offset from the publisher's clock would be taken for one from ours"


def test_time_from_the_capture_is_counted() -> None:
    house = Clinic()
    house.report()
    for age in (70, 90, 110):
        house.picture(struct.pack("!Q", house.cart_clock(house.now - age * MS)))
    house.picture(struct.pack("!Q", house.cart_clock(house.now + SECOND)))  # not of this world
    stats = house.engine.track_stats(100)
    assert stats["captures"] == 3
    assert abs(stats["capture_max_us"] - 90 * MS) <= 2
    assert abs(stats["capture_us"] - 210 * MS) <= 6
    assert (sum(stats["captured"]["counts"]), stats["captured"]["most"]) == (3, stats["capture_max_us"])


def test_retransmission_has_the_same_bytes() -> None:
    house = Clinic()
    house.report()
    first = house.picture(struct.pack("!Q", house.cart_clock(house.now - 50 * MS)))
    number = packet.parse_rtp(house.doctors[0].received[-1]).sequence
    house.now += SECOND
    house.report()
    house.doctors[0].send_rtcp(rtcp_packets.write(rtcp_packets.Nack(1, 7000, (number,))), house.now)
    house.wait(100 * MS)
    again = [
        packet.read_extensions(data, IDS).get(ExtKind.EXT_ABS_CAPTURE_TIME)
        for data in house.doctors[0].received
        if packet.parse_rtp(data).ssrc == 8000
    ]
    assert again == [first]
