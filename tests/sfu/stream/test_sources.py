"""Whose packet it is: sources find their tracks, and keep them through restarts, re-offers and removals."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import pytest

from mediaserver.sfu.stream.params import LegParams, LegPayload, TrackParams
from mediaserver.sfu.stream.tap import TapRing
from mediaserver.sfu.wire import packet, rtcp_packets
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.rtcp_packets import Nack, ReceiverReport
from tests.sfu.stream.test_engine import AUDIO, MS, VP8_DELTA, VP8_KEY, House, leg, sequences
from tests.sim.peer import ScriptedPeer, deliver

SOUND = b"\xfcsound"
VOICE = msgspec.structs.replace(AUDIO, extensions=((3, ExtKind.EXT_MID),))


def sound(ssrc: int, sequence: int, *, timestamp: int = 0, mid: str = "", payload: bytes = SOUND) -> bytes:
    return packet.write_rtp(
        payload_type=111,
        marker=False,
        sequence=sequence,
        timestamp=timestamp or sequence * 960,
        ssrc=ssrc,
        extensions=packet.write_extensions({ExtKind.EXT_MID: mid.encode()}, {3: ExtKind.EXT_MID}) if mid else b"",
        payload=payload,
    )


def sound_leg(ssrc: int) -> LegParams:
    return LegParams(mid="a", ssrc=ssrc, rtx_ssrc=0, cname="c", payloads=(LegPayload(111, 111),))


class Sounds:
    """A publisher and a viewer of its sounds: track 100 + i leaves as SSRC 70 + i."""

    def __init__(self, *tracks: TrackParams) -> None:
        house = House(viewers=1)
        self.house, self.engine = house, house.engine
        self.cart, self.doctor = house.cart, house.doctors[0]
        house.engine.remove_track(100)
        for i, params in enumerate(tracks):
            house.engine.add_track(101 + i, 1, params)
            house.engine.add_leg(211 + i, 101 + i, 2, sound_leg(71 + i))
        house.deliver()
        self.doctor.reports.clear()

    def send(self, *packets: bytes) -> None:
        """In one batch."""
        self.engine.receive_batch([(self.cart.protect(one), self.cart.addr) for one in packets], self.house.now)
        self.house.deliver()

    def heard(self, ssrc: int) -> list[bytes]:
        """The payloads that the viewer got on a leg."""
        return [packet.payload_of(data) for data in self.doctor.received if packet.parse_rtp(data).ssrc == ssrc]


def voice(mid: str, *ssrcs: int) -> TrackParams:
    return msgspec.structs.replace(VOICE, mid=mid, ssrcs=ssrcs)


def test_a_restart_within_one_batch_keeps_the_two_sources_apart() -> None:
    sounds = Sounds(AUDIO)
    sounds.send(sound(1, 1000, payload=b"\xfcold0"))
    # The first packet of the new source stands behind one of the old source in the same batch.
    sounds.send(sound(1, 1001, payload=b"\xfcold1"), sound(2, 1000, payload=b"\xfcnew0"))
    # Under the number that the old one left with, this would reveal the key; the viewer takes it for a replay.
    sounds.send(sound(2, 1001, payload=b"\xfcnew1"))
    assert sounds.heard(71) == [b"\xfcold0", b"\xfcold1", b"\xfcnew0", b"\xfcnew1"]
    numbers = sequences(sounds.doctor.received)
    assert [(b - a) & 0xFFFF for a, b in itertools.pairwise(numbers)] == [1, 1, 1]


def test_an_ssrc_that_goes_on_under_another_track_is_heard() -> None:
    sounds = Sounds(voice("0", 5))
    sounds.send(sound(5, 10, mid="0"))
    sounds.engine.remove_track(101)
    sounds.send(sound(5, 11, mid="0"))
    sounds.engine.add_track(150, 1, voice("0", 5))  # the m-line carries another source now, from the same sender
    sounds.engine.add_leg(250, 150, 2, sound_leg(90))
    sounds.send(sound(5, 12, mid="0"), sound(5, 13, mid="0"))
    assert len(sounds.heard(90)) == 2


def test_a_source_of_a_track_that_is_gone_does_not_take_over_the_next() -> None:
    sounds = Sounds(voice("0"))
    sounds.send(sound(5, 10, mid="0"))
    sounds.engine.remove_track(101)
    sounds.engine.add_track(150, 1, voice("0"))
    sounds.engine.add_leg(250, 150, 2, sound_leg(90))
    sounds.send(sound(6, 10, mid="0", payload=b"\xfcnew"))
    sounds.send(sound(5, 11, mid="0", payload=b"\xfclate"))
    sounds.send(sound(6, 11, mid="0", payload=b"\xfcnew"))
    assert sounds.heard(90) == [b"\xfcnew"] * 2


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("order", list(itertools.permutations((0, 1, 2))))
def test_sounds_of_one_payload_type_find_their_tracks_in_any_order(order: Sequence[int], named: bool) -> None:
    """As when a cart's stethoscope and microphone begin before the keys are there."""
    engine = House(viewers=1).engine
    cart = ScriptedPeer(engine, 50, ("192.0.2.9", 5000))
    doctor = ScriptedPeer(engine, 51, ("192.0.2.9", 6000))
    now = 11_000_000
    engine.add_peer(cart.number, cart.ufrag, cart.pwd)
    engine.receive(cart.check_request(nominate=True), cart.addr, now)
    doctor.join(now)
    for i in order:
        engine.add_track(101 + i, cart.number, voice(str(i), *[500 + i] * named))
        engine.add_leg(211 + i, 101 + i, doctor.number, sound_leg(71 + i))
    early = [(cart.protect(sound(500 + i, n, mid=str(i))), cart.addr) for n in range(3) for i in reversed(order)]
    engine.receive_batch(early, now)
    assert engine.counters()["drop_no_keys"] == 9
    rx, tx = cart.keys
    engine.set_keys(cart.number, cart.profile, rx[:16], rx[16:], tx[:16], tx[16:])
    for n in range(3, 6):
        batch = [
            (cart.protect(sound(500 + i, n, mid=str(i), payload=b"\xfc" + bytes([i]))), cart.addr)
            for i in reversed(order)
        ]
        engine.receive_batch(batch, now)
    deliver(engine, [cart, doctor])
    for i in order:
        got = [packet.payload_of(data) for data in doctor.received if packet.parse_rtp(data).ssrc == 71 + i]
        assert got == [b"\xfc" + bytes([i])] * 3
    assert engine.counters()["drop_unknown_ssrc"] == 0


def test_a_packet_of_another_mid_is_not_given_to_the_only_track_of_its_payload_type() -> None:
    sounds = Sounds(voice("0"))
    sounds.send(sound(5, 10, mid="0"))
    sounds.send(sound(6, 10, mid="4", payload=b"\xfcother"))  # RFC 8843, section 9.2: to be dropped
    sounds.send(sound(5, 11, mid="0"))
    assert sounds.heard(71) == [SOUND] * 2
    assert sounds.engine.counters()["drop_unknown_ssrc"] == 1


def test_sources_follow_their_tracks_to_other_m_lines() -> None:
    sounds = Sounds(voice("0", 500), voice("1", 501))
    sounds.send(sound(500, 10, mid="0"), sound(501, 10, mid="1"))
    # The same two senders, but what they send has been exchanged: each track moves to the other's m-line.
    sounds.engine.update_track(101, voice("1", 501))
    sounds.engine.update_track(102, voice("0", 500))
    sounds.send(sound(500, 11, mid="0", payload=b"\xfcsecond"), sound(501, 11, mid="1", payload=b"\xfcfirst"))
    assert sounds.heard(71) == [SOUND, b"\xfcfirst"]
    assert sounds.heard(72) == [SOUND, b"\xfcsecond"]


def test_reports_speak_of_the_sources_that_are_there() -> None:
    sounds = Sounds(AUDIO)
    for ssrc in range(1, 46):  # a publisher that restarts again and again
        sounds.send(sound(ssrc, 10))
    sounds.cart.reports.clear()
    sounds.house.wait(1100 * MS)
    blocks = [
        block.ssrc
        for report in sounds.cart.reports
        for item in rtcp_packets.read(report)
        if isinstance(item, ReceiverReport)
        for block in item.reports
    ]
    assert set(blocks) == {45}


def test_padding_leaves_no_hole_in_what_a_tap_gets() -> None:
    house = House()
    ring = TapRing(16)
    house.engine.add_tap(300, 100, ring)
    house.send(VP8_KEY)
    data = bytearray(house.plain(bytes(3) + b"\x04"))
    data[0] |= 0x20
    house.cart.send(bytes(data), house.now)
    house.send(VP8_DELTA)
    entries = ring.read(16)
    assert [entry[2] - entries[0][2] for entry in entries] == [0, 1, 2]
    assert [entry[7] for entry in entries] == [VP8_KEY, b"", VP8_DELTA]


def test_a_keyframe_is_asked_for_when_a_mute_came_between() -> None:
    house = House()
    house.send(VP8_DELTA)
    house.engine.mute_track(100, True)
    house.wait(2000 * MS)
    house.cart.reports.clear()
    house.engine.mute_track(100, False)
    house.wait(600 * MS)
    assert any(type(item).__name__ == "PictureLoss" for r in house.cart.reports for item in rtcp_packets.read(r))


def test_what_was_too_large_to_leave_is_too_large_to_be_sent_again() -> None:
    house = House(rtx=False)
    doctor = house.doctors[0]
    house.send(VP8_KEY)
    house.send(VP8_DELTA + bytes(1540 - len(VP8_DELTA)))
    house.send(VP8_DELTA)
    assert len(doctor.received) == 2
    missing = (sequences(doctor.received)[0] + 1) & 0xFFFF
    doctor.send_rtcp(rtcp_packets.write(Nack(1, 7000, (missing,))), house.now)
    assert [len(data) for data, addr in house.engine.transmits() if addr == doctor.addr] == []


def test_the_first_retransmissions_can_be_lost() -> None:
    """The roll-over counter of a stream must not turn over among its first packets (RFC 3711, section 3.3.1)."""
    house = House(viewers=1)
    for i in range(16):
        house.engine.add_leg(300 + i, 100, 2, leg(7100 + i, 8100 + i))
    house.send(VP8_KEY)
    doctor = house.doctors[0]
    for data in list(doctor.received):
        header = packet.parse_rtp(data)
        doctor.send_rtcp(rtcp_packets.write(Nack(1, header.ssrc, (header.sequence,))), house.now)
    house.deliver()
    again = [packet.parse_rtp(data) for data in doctor.received if packet.parse_rtp(data).ssrc >= 8000]
    assert len(again) == 17
    assert all(header.sequence < 0x8000 for header in again)
