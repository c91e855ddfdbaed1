"""Who is sent nothing but sound gets no transport-wide numbers, so that its browser need not report on each packet."""

from __future__ import annotations

import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.params import LegParams, LegPayload, PayloadParams, TrackParams
from mediaserver.sfu.wire import packet, rtcp_packets
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.rtcp_packets import Nack, ReceiverReport, Remb, Report, SenderReport
from tests.sfu.stream.test_engine import VP8_DELTA, VP8_KEY
from tests.sim.peer import ScriptedPeer, deliver

MS, SECOND = 1_000, 1_000_000
SOUND, PICTURE = 7000, 7100
IDS = {1: ExtKind.EXT_MID, 5: ExtKind.EXT_TWCC}
PICTURE_GONE, CALM = 10 * SECOND, 30 * SECOND
ROUND = 100 * MS
"""As often the engine looks at its peers."""


class House:
    """A cart with a microphone and a camera, and a viewer of the microphone."""

    def __init__(self, *, nack: bool = False, named: bool = False) -> None:
        self.engine = Engine(seed=bytes(16))
        self.now = 10 * SECOND
        self.cart = ScriptedPeer(self.engine, 1, ("192.0.2.1", 5000))
        self.doctor = ScriptedPeer(self.engine, 2, ("192.0.2.2", 6000))
        self.engine.advance(self.now)
        for peer in (self.cart, self.doctor):
            peer.join(self.now)
        opus = PayloadParams(111, Codec.CODEC_OPUS, 48000, nack=nack, transport_cc=True)
        vp8 = PayloadParams(96, Codec.CODEC_VP8, 90000, rtx_type=97, nack=True, pli=True, transport_cc=True)
        self.engine.add_track(
            100, 1, TrackParams(mid="0", video=False, payloads=(opus,), extensions=tuple(IDS.items()))
        )
        self.engine.add_track(101, 1, TrackParams(mid="1", video=True, payloads=(vp8,), extensions=tuple(IDS.items())))
        extensions = tuple(IDS.items())[:1] if named else tuple(IDS.items())
        self.payload = LegPayload(111, 111, nack=nack)
        self.sound = LegParams("5", SOUND, 0, "cart", (self.payload,), extensions, named=named)
        self.engine.add_leg(200, 100, 2, self.sound)
        self.heard = self.seen = 0
        self.deliver()

    def deliver(self) -> None:
        deliver(self.engine, [self.cart, self.doctor])

    def watch(self, ssrc: int = PICTURE) -> None:
        """The viewer is sent the camera as well, as this leg."""
        payload = LegPayload(96, 96, 97, nack=True)
        extensions = tuple(IDS.items())
        self.engine.add_leg(ssrc, 101, 2, LegParams("6", ssrc, ssrc + 1, "cart", (payload,), extensions))

    def speak(self) -> bytes:
        """One packet of the microphone; as it came to the viewer."""
        self.cart.send(self._plain(111, 77, self.heard, 960, bytes([0xFC]) + self.heard.to_bytes(4)), self.now)
        self.heard += 1
        self.deliver()
        return [one for one in self.doctor.received if packet.parse_rtp(one).ssrc == SOUND][-1]

    def show(self) -> None:
        self.cart.send(self._plain(96, 78, self.seen, 3000, VP8_DELTA if self.seen else VP8_KEY), self.now)
        self.seen += 1
        self.deliver()

    def _plain(self, payload_type: int, ssrc: int, number: int, ticks: int, payload: bytes) -> bytes:
        mid = {ExtKind.EXT_MID: b"0" if ssrc == 77 else b"1"}
        return packet.write_rtp(
            payload_type=payload_type, marker=True, sequence=number, timestamp=number * ticks, ssrc=ssrc,
            payload=payload, extensions=packet.write_extensions(mid, {1: ExtKind.EXT_MID}),
        )  # fmt: skip

    def wait(self, us: int) -> None:
        end = self.now + us
        while self.now < end:
            self.now = min(end, max(self.now + 1, self.engine.deadline()))
            self.engine.advance(self.now)
            self.deliver()

    def report(self, lost: int, last_sr: int = 0, delay: int = 0) -> None:
        """The viewer's receiver report: so many of 256 were lost."""
        block = Report(SOUND, lost, 0, 0, 0, last_sr, delay)
        self.doctor.send_rtcp(rtcp_packets.write(ReceiverReport(1, (block,))), self.now)

    def report_after(self, round_trip: int) -> None:
        """A receiver report that answers the next sender report after so long."""
        self.doctor.reports.clear()
        for _ in range(100):
            if told := [one for one in self._told() if one.ssrc == SOUND]:
                break
            self.speak()
            self.wait(20 * MS)
        self.wait(round_trip)
        self.report(0, told[-1].ntp >> 16 & 0xFFFFFFFF)

    def _told(self) -> list[SenderReport]:
        items = [item for one in self.doctor.reports for item in rtcp_packets.read(one)]
        return [item for item in items if isinstance(item, SenderReport)]

    @property
    def figures(self) -> dict[str, int]:
        return dict(self.engine.peer_stats(2))


def number(datagram: bytes) -> int | None:
    values = packet.read_extensions(datagram, IDS)
    assert values[ExtKind.EXT_MID] in (b"5", b"6")
    return int.from_bytes(values[ExtKind.EXT_TWCC]) if ExtKind.EXT_TWCC in values else None


def test_sound_alone_bears_no_numbers() -> None:
    house = House()
    for _ in range(500):
        assert number(house.speak()) is None
        house.wait(20 * MS)
    assert house.figures["estimate_bps"] == 0


def test_numbers_begin_before_the_first_picture_and_end_some_time_after_the_last() -> None:
    house = House()
    house.speak()
    house.wait(20 * MS)
    house.watch()
    first = number(house.speak())
    assert first is not None
    house.show()
    house.wait(20 * MS)
    shown = [one for one in house.doctor.received if packet.parse_rtp(one).ssrc == PICTURE]
    assert [number(one) for one in shown] == [first + 1]
    house.wait(300 * MS)
    assert house.figures["estimate_bps"] > 0
    house.engine.remove_leg(PICTURE)
    house.wait(PICTURE_GONE - 200 * MS)
    assert number(house.speak()) is not None
    house.wait(200 * MS + ROUND)
    assert number(house.speak()) is None
    assert house.figures["estimate_bps"] == house.figures["allocated_bps"] == house.figures["backlog_us"] == 0
    # They go on from where they were: lower ones would be taken for late packets.
    house.watch(PICTURE + 10)
    again = number(house.speak())
    assert again is not None
    assert again > first


@pytest.mark.parametrize(("lost", "numbered"), [(0, False), (4, False), (5, True), (255, True)])
def test_losses_begin_them(lost: int, numbered: bool) -> None:
    house = House()
    house.speak()
    house.wait(SECOND)
    house.report(lost)
    assert (number(house.speak()) is not None) == numbered


def test_what_no_report_complains_of_any_more_ends_them() -> None:
    house = House()
    house.report(20)
    house.wait(CALM - ROUND)
    assert number(house.speak()) is not None
    house.report(20)
    for _ in range(5):
        house.wait((CALM - ROUND) // 5)
        assert number(house.speak()) is not None
        house.report(0)
    house.wait(2 * ROUND)
    assert number(house.speak()) is None


@pytest.mark.parametrize(
    ("usual", "then", "numbered"),
    [(20 * MS, 100 * MS, False), (20 * MS, 140 * MS, True), (300 * MS, 430 * MS, False), (300 * MS, 470 * MS, True)],
)
def test_a_round_trip_that_has_become_much_longer_begins_them(usual: int, then: int, numbered: bool) -> None:
    house = House()
    house.speak()
    house.cart.send_rtcp(rtcp_packets.write(SenderReport(77, house.now << 12, 0, 1, 1, ())), house.now)
    for _ in range(3):
        house.report_after(usual)
    assert number(house.speak()) is None
    house.report_after(then)
    assert (number(house.speak()) is not None) == numbered


def test_a_way_that_stays_longer_is_the_usual_one_in_the_end() -> None:
    house = House()
    house.speak()
    house.cart.send_rtcp(rtcp_packets.write(SenderReport(77, house.now << 12, 0, 1, 1, ())), house.now)
    house.report_after(20 * MS)
    for _ in range(40):
        house.report_after(200 * MS)
        house.wait(5 * SECOND)
    assert number(house.speak()) is None


def test_a_complaint_by_remb_begins_them() -> None:
    house = House()
    for _ in range(100):
        house.speak()
        house.wait(20 * MS)
    house.doctor.send_rtcp(rtcp_packets.write(Remb(1, 500, ()), capacity=1200), house.now)
    house.wait(2 * ROUND)
    assert number(house.speak()) is not None


def test_a_leg_that_is_agreed_anew_stays_without() -> None:
    house = House()
    assert number(house.speak()) is None
    house.engine.update_leg(200, house.sound)
    assert number(house.speak()) is None
    house.report(20)
    assert number(house.speak()) is not None
    house.engine.update_leg(200, house.sound)
    assert number(house.speak()) is not None


def test_feedback_by_packets_own_numbers_is_as_it_was() -> None:
    house = House(named=True)
    for _ in range(100):
        assert number(house.speak()) is None
        house.wait(20 * MS)
    assert house.figures["estimate_bps"] > 0


def test_what_is_sent_again_is_the_same_to_the_byte_whether_numbers_began_meanwhile_or_not() -> None:
    """Other bytes under a number that was used would reveal the key."""
    house = House(nack=True)
    before = [house.speak() for _ in range(5)]
    house.watch()
    amid = [house.speak() for _ in range(5)]
    house.engine.remove_leg(PICTURE)
    for asked in (before, amid):
        house.wait(200 * MS)
        lost = tuple(packet.parse_rtp(one).sequence for one in asked)
        house.doctor.received.clear()
        sent_again: list[bytes] = []
        take = house.doctor.take
        house.doctor.take = lambda datagram, kept=sent_again: kept.append(datagram)  # type: ignore[method-assign, misc]
        house.doctor.send_rtcp(rtcp_packets.write(Nack(1, SOUND, lost)), house.now)
        house.deliver()
        house.doctor.take = take  # type: ignore[method-assign]
        media = [one for one in sent_again if not packet.looks_like_rtcp(one)]
        fresh = ScriptedPeer(house.engine, 2, ("192.0.2.2", 6000))
        assert [fresh._from_server.unprotect(one) for one in media] == asked
