"""Whatever happens to a source, a leg is one continuous stream, and no number leaves twice with different bytes."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from mediaserver.sfu.wire import packet, rtcp_packets
from mediaserver.sfu.wire.rtcp_packets import Nack, PictureLoss
from tests.sfu.stream.test_engine import MS, VP8_DELTA, VP8_KEY, House, sequences

step = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 30)),
    st.tuples(st.just("lose"), st.integers(1, 20)),
    st.tuples(st.just("swap"), st.integers(2, 8)),
    st.tuples(st.just("mute"), st.booleans()),
    st.tuples(st.just("pause"), st.booleans()),
    st.tuples(st.just("restart"), st.integers(0, 65535)),
    st.tuples(st.just("nack"), st.integers(0, 40)),
    st.tuples(st.just("key"), st.just(0)),
    st.tuples(st.just("probe"), st.just(0)),
    st.tuples(st.just("broken"), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 300)),
)


class Script:
    """Plays steps; each packet's payload says which it is."""

    def __init__(self) -> None:
        self.house = House(viewers=1, rtx=False)
        self.source = 1
        self.sent: dict[int, bytes] = {}
        self.roc = 0
        self.house.sequence = 65500
        self.count = 0
        self.raw: set[bytes] = set()
        self.keys: set[int] = set()

    def build(self, key: bool, padding_only: bool = False) -> tuple[bytes, int]:
        house = self.house
        number, house.sequence = house.sequence, house.sequence + 1
        self.count += 1
        body = (VP8_KEY if key else VP8_DELTA)[:20] + self.count.to_bytes(4, "big")
        if padding_only:
            data = bytearray(house.plain(bytes(3) + b"\x04", ssrc=self.source, sequence=number))
            data[0] |= 0x20
            return bytes(data), number
        if key:
            self.keys.add(self.count)
        return house.plain(body, ssrc=self.source, sequence=number, timestamp=3000 * self.count), number

    def send(self, key: bool = False, padding_only: bool = False) -> None:
        data, number = self.build(key, padding_only)
        self.house.cart.send(data, self.house.now, number >> 16)
        self.house.deliver()

    def play(self, what: str, value: int) -> None:
        house = self.house
        if what == "send":
            for _ in range(value):
                self.send()
        elif what == "key":
            self.send(key=True)
        elif what == "probe":
            self.send(padding_only=True)
        elif what == "lose":
            for _ in range(value):
                self.build(False)
        elif what == "swap":
            held = [self.build(False) for _ in range(value)]
            for data, number in reversed(held):
                house.cart.send(data, house.now, number >> 16)
            house.deliver()
        elif what == "mute":
            house.engine.mute_track(100, bool(value))
        elif what == "pause":
            house.engine.pause_leg(200, bool(value))
        elif what == "restart":
            self.source += 1
            house.sequence = value
            self.send(key=True)
        elif what == "broken":
            house.doctors[0].send_rtcp(rtcp_packets.write(PictureLoss(1, 7000)), house.now)
            house.deliver()
        elif what == "nack":
            self.nack(value)
        else:
            house.wait(value * MS)

    def nack(self, back: int) -> None:
        """The viewer asks again for something; the answer must be the identical packet."""
        doctor = self.house.doctors[0]
        if back >= len(doctor.received):
            return
        wanted = doctor.received[-1 - back]
        number = packet.parse_rtp(wanted).sequence
        doctor.send_rtcp(rtcp_packets.write(Nack(1, 7000, (number,))), self.house.now)
        for datagram, addr in self.house.engine.transmits():
            if addr != doctor.addr or packet.looks_like_rtcp(datagram):
                continue
            assert datagram in self.raw, "a retransmission is not the identical bytes"


@settings(max_examples=60, deadline=None)
@given(st.lists(step, max_size=40))
def test_a_leg_is_one_continuous_stream(steps: list[tuple[str, int]]) -> None:
    script = Script()
    doctor = script.house.doctors[0]
    script.raw = raw = set[bytes]()
    take = doctor.take

    def remember(datagram: bytes) -> None:
        raw.add(datagram)
        take(datagram)  # a number that comes twice is a replay, and raises

    doctor.take = remember  # type: ignore[method-assign]
    for what, value in [("key", 0), *steps]:
        script.play(what, value)
    received = doctor.received
    numbers = sequences(received)
    order = [int.from_bytes(packet.payload_of(data)[-4:], "big") for data in received]
    extended = []
    highest = numbers[0] if numbers else 0
    for number in numbers:
        full = highest + ((number - highest + 0x8000) & 0xFFFF) - 0x8000
        highest = max(highest, full)
        extended.append(full)
    # The order of the numbers is the order in which the publisher made the packets, but for a viewer that begins anew
    # from what was kept: at a key picture, and then once more in that order.
    by_number = [made for _, made in sorted(zip(extended, order, strict=True))]
    assert all(a < b or b in script.keys for a, b in itertools.pairwise(by_number))
