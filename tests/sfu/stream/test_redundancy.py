"""RED through the engine: to viewers with and without it and to a recorder, over a line that loses and reorders."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediaserver.codecs.payload import Codec
from mediaserver.codecs.red import Block, build, parse
from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.params import EventKind, LegParams, LegPayload, PayloadParams, TrackParams
from mediaserver.sfu.stream.tap import TapRing
from mediaserver.sfu.wire import packet, rtcp_packets
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.rtcp_packets import Nack
from tests.codecs.test_chromium import received
from tests.sim.peer import ScriptedPeer, deliver

OPUS, RED = 111, 63
FRAME = 960
MS20 = 20_000


def opus(number: int) -> bytes:
    """A packet of its own for each number: 20 ms, CELT."""
    return b"\xfc" + number.to_bytes(4, "big")


class House:
    """A microphone in RED, a viewer who takes RED, one who takes Opus alone (both may ask again), and a recorder."""

    def __init__(self, *, nack: bool = True) -> None:
        self.engine = Engine(seed=bytes(16))
        self.now = 10_000_000
        self.cart = ScriptedPeer(self.engine, 1, ("192.0.2.1", 5000))
        self.modern = ScriptedPeer(self.engine, 2, ("192.0.2.2", 6000))
        self.plain = ScriptedPeer(self.engine, 3, ("192.0.2.3", 6000))
        self.engine.advance(self.now)
        for peer in (self.cart, self.modern, self.plain):
            peer.join(self.now)
        track = TrackParams(
            mid="0",
            video=False,
            payloads=(
                PayloadParams(RED, Codec.CODEC_RED, 48000, nack=nack),
                PayloadParams(OPUS, Codec.CODEC_OPUS, 48000, nack=nack),
            ),
            extensions=((3, ExtKind.EXT_MID),),
        )
        self.engine.add_track(100, 1, track)
        same = (LegPayload(RED, RED, nack=True), LegPayload(OPUS, OPUS, nack=True))
        unwrapped = (LegPayload(RED, 109, nack=True, unwrap=True), LegPayload(OPUS, 109, nack=True))
        self.engine.add_leg(200, 100, 2, LegParams("5", 7000, 0, "cart", same))
        self.engine.add_leg(201, 100, 3, LegParams("5", 7001, 0, "cart", unwrapped))
        self.ring = TapRing(4096)
        self.engine.add_tap(300, 100, self.ring)
        self.deliver()

    def deliver(self) -> None:
        deliver(self.engine, [self.cart, self.modern, self.plain])

    def datagram(self, number: int, payload: bytes, payload_type: int = RED) -> bytes:
        return packet.write_rtp(
            payload_type=payload_type, marker=False, sequence=number & 0xFFFF, timestamp=number * FRAME & 0xFFFFFFFF,
            ssrc=77, payload=payload,
            extensions=packet.write_extensions({ExtKind.EXT_MID: b"0"}, {3: ExtKind.EXT_MID}),
        )  # fmt: skip

    def in_red(self, number: int, copies: int, first: int = 0) -> bytes:
        older = [i for i in range(number - copies, number) if i >= first]
        return build([*(Block(OPUS, (number - i) * FRAME, opus(i)) for i in older), Block(OPUS, 0, opus(number))])

    def send(self, number: int, payload: bytes, payload_type: int = RED) -> None:
        self.cart.send(self.datagram(number, payload, payload_type), self.now, number >> 16)
        self.deliver()

    def wait(self, us: int) -> None:
        end = self.now + us
        while self.now < end:
            self.now = min(end, max(self.now + 1, self.engine.deadline()))
            self.engine.advance(self.now)
            self.deliver()


def unwrapped(data: bytes) -> tuple[int, bytes]:
    """Number and Opus of what a viewer got."""
    header = packet.parse_rtp(data)
    payload = packet.payload_of(data)
    return header.sequence, parse(payload)[-1].data if header.payload_type == RED else payload


def test_each_gets_what_it_takes() -> None:
    house = House()
    for number in range(10):
        house.send(number, house.in_red(number, 1))
    assert [parse(packet.payload_of(data))[-1].data for data in house.modern.received] == [opus(i) for i in range(10)]
    assert {packet.parse_rtp(data).payload_type for data in house.modern.received} == {RED}
    assert [packet.payload_of(data) for data in house.plain.received] == [opus(i) for i in range(10)]
    assert {packet.parse_rtp(data).payload_type for data in house.plain.received} == {109}
    taken = house.ring.read(100)
    assert [(entry[5], entry[7]) for entry in taken] == [(OPUS, opus(i)) for i in range(10)]
    live = [event.data for event in house.engine.poll_events() if event.kind == EventKind.TRACK_LIVE]
    assert live == [bytes([OPUS])]
    assert house.engine.leg_stats(201)["bytes"] == 50


def test_a_copy_stands_in_for_a_lost_packet_before_the_packet_that_brought_it() -> None:
    house = House()
    for number in (0, 1, 4):
        house.send(number, house.in_red(number, 2))
    start = packet.parse_rtp(house.plain.received[0]).sequence
    for viewer in (house.plain, house.modern):
        got = [unwrapped(data) for data in viewer.received]
        first = got[0][0]
        assert [((number - first) & 0xFFFF, data) for number, data in got] == [(i, opus(i)) for i in range(5)]
    assert [packet.parse_rtp(data).timestamp for data in house.plain.received] == [i * FRAME for i in range(5)]
    assert [entry[7] for entry in house.ring.read(100)] == [opus(i) for i in range(5)]
    # Nothing is left to ask the publisher for, and the original is a replay now.
    house.wait(500_000)
    assert not [i for r in house.cart.reports for i in rtcp_packets.read(r) if isinstance(i, Nack)]
    before = house.engine.counters()
    house.send(2, house.in_red(2, 2))
    after = house.engine.counters()
    assert len(house.plain.received) == len(house.modern.received) == 5
    assert after["drop_srtp_replay"] == before["drop_srtp_replay"] + 1
    assert (after["recovered_red"], after["recovered"]) == (2, 0)
    # What was made of a copy is repeated byte by byte like any other.
    house.plain.send_rtcp(rtcp_packets.write(Nack(1, 7001, ((start + 2) & 0xFFFF,))), house.now)
    [(again, _)] = house.engine.transmits()
    with pytest.raises(ValueError, match="replay"):
        house.plain.take(again)


def test_without_nacks_copies_repair_all_the_same() -> None:
    house = House(nack=False)
    for number in (0, 2, 3, 5):
        house.send(number, house.in_red(number, 1))
    assert [packet.payload_of(data) for data in house.plain.received] == [opus(i) for i in range(6)]


@pytest.mark.parametrize(
    "copy",
    [
        Block(OPUS, 0, opus(1)),  # as old as the packet itself
        Block(OPUS, 2 * FRAME, opus(1)),  # as the packet before
        Block(RED, FRAME, opus(1)),  # no Opus by its number
        Block(OPUS, FRAME, b"\x7f"),  # nor by its bytes
    ],
)
def test_a_copy_that_does_not_fit_is_left_alone(copy: Block) -> None:
    house = House()
    house.send(0, house.in_red(0, 0))
    house.send(2, build([copy, Block(OPUS, 0, opus(2))]))
    assert house.engine.counters()["recovered_red"] == 0
    assert [unwrapped(data)[1] for data in house.plain.received] == [opus(0), opus(2)]


def test_what_is_no_red_takes_a_number_and_leaves_none() -> None:
    house = House()
    house.send(0, house.in_red(0, 1))
    house.send(1, b"\xef\x00")
    house.send(2, build([Block(96, 0, opus(2))]))
    house.send(3, house.in_red(3, 0))
    for viewer in (house.plain, house.modern):
        (first, _), (second, data) = [unwrapped(data) for data in viewer.received]
        assert ((second - first) & 0xFFFF, data) == (1, opus(3))
    assert house.engine.counters()["drop_malformed"] == 2


def test_chromium_s_own_survive_the_loss_of_every_third() -> None:
    house = House()
    packets = received("red")[:60]
    for at, one in enumerate(packets):
        if at % 3 != 1:
            inner = parse(one.payload)
            blocks = [Block(OPUS, block.age, block.data) for block in inner]
            house.now += MS20
            data = packet.write_rtp(
                payload_type=RED, marker=one.marker, sequence=one.sequence, timestamp=one.timestamp, ssrc=77,
                payload=build(blocks),
                extensions=packet.write_extensions({ExtKind.EXT_MID: b"0"}, {3: ExtKind.EXT_MID}),
            )  # fmt: skip
            house.cart.send(data, house.now, int(one.sequence < packets[0].sequence))
            house.deliver()
    whole = [parse(one.payload)[-1].data for one in packets]
    assert [packet.payload_of(data) for data in house.plain.received] == whole
    assert [entry[7] for entry in house.ring.read(1000)] == whole


@settings(max_examples=60, deadline=None)
@given(
    fates=st.lists(st.tuples(st.sampled_from(["come", "lose", "late"]), st.integers(0, 3)), min_size=2, max_size=60),
    nack=st.booleans(),
)
def test_whatever_is_lost_numbers_stay_in_place_and_none_is_used_twice(
    fates: list[tuple[str, int]], nack: bool
) -> None:
    house = House(nack=nack)
    raw: dict[tuple[int, int], bytes] = {}

    def watch(viewer: ScriptedPeer) -> None:
        take = viewer.take

        def remember(datagram: bytes) -> None:
            if not packet.looks_like_rtcp(datagram):
                header = packet.parse_rtp(datagram)
                assert raw.setdefault((header.ssrc, header.sequence), datagram) == datagram
            take(datagram)  # a replay raises

        viewer.take = remember  # type: ignore[method-assign]

    watch(house.plain)
    watch(house.modern)
    base = 65500
    held: list[int] = []
    copies = {base + at: count for at, (_, count) in enumerate(fates)}
    came = set()
    for at, (fate, count) in enumerate([("come", 1), *fates]):
        number = base - 1 + at
        house.now += MS20
        if fate == "come":
            house.send(number, house.in_red(number, count, base - 1))
            came |= set(range(max(base - 1, number - count), number + 1))
            for late in held:
                house.send(late, house.in_red(late, copies[late], base - 1))
                came.add(late)
            held.clear()
        elif fate == "late":
            held.append(number)
    for viewer in (house.plain, house.modern):
        got = [unwrapped(data) for data in viewer.received]
        first, _ = got[0]
        numbers = {(sequence - first) & 0xFFFF: data for sequence, data in got}
        assert len(numbers) == len(got)
        assert all(data == opus(base - 1 + offset) for offset, data in numbers.items())
        assert {base - 1 + offset for offset in numbers} >= {n for n in came if n >= base - 1}
    order = [entry[2] for entry in house.ring.read(1000)]
    assert len(set(order)) == len(order)
    assert all(b - a == 1 for a, b in itertools.pairwise(sorted(order))) or len(came) < len(fates) + 1
