"""The engine in virtual time: from a publisher's packet to a viewer's."""

from __future__ import annotations

import gc
import itertools

import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.params import EventKind, LegParams, LegPayload, PayloadParams, TrackParams
from mediaserver.sfu.stream.tap import TapRing
from mediaserver.sfu.wire import extended_reports, packet, rtcp_packets
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.rtcp_packets import (
    Bye,
    Nack,
    PictureLoss,
    ReceiverReport,
    SenderReport,
    TransportFeedback,
)
from tests.sim.peer import ScriptedPeer, deliver

MS = 1000
VP8_KEY = bytes([0x10, 0x00, 0x00, 0x00, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0xE0, 0x01]) + bytes(200)  # 640x480
VP8_DELTA = bytes([0x10, 0x01, 0x00, 0x00]) + bytes(200)
VIDEO = TrackParams(
    mid="1",
    video=True,
    payloads=(PayloadParams(96, Codec.CODEC_VP8, 90000, rtx_type=97, nack=True, pli=True, transport_cc=True),),
    extensions=((3, ExtKind.EXT_MID), (5, ExtKind.EXT_TWCC), (9, ExtKind.EXT_ABS_CAPTURE_TIME)),
)
AUDIO = TrackParams(mid="0", video=False, payloads=(PayloadParams(111, Codec.CODEC_OPUS, 48000),))


def leg(ssrc: int, rtx: int = 0, **more: object) -> LegParams:
    return LegParams(
        mid="7",
        ssrc=ssrc,
        rtx_ssrc=rtx,
        cname="cart",
        payloads=(LegPayload(96, 102, 103 if rtx else 0, nack=True),),
        extensions=((1, ExtKind.EXT_MID), (20, ExtKind.EXT_ABS_CAPTURE_TIME)),
        **more,  # type: ignore[arg-type]
    )


class House:
    """A publisher with a video track, and viewers of it."""

    def __init__(self, viewers: int = 1, rtx: bool = True) -> None:
        self.engine = Engine(seed=bytes(16))
        self.now = 10_000_000
        self.cart = ScriptedPeer(self.engine, 1, ("192.0.2.1", 5000))
        self.doctors = [ScriptedPeer(self.engine, 2 + i, ("192.0.2.2", 6000 + i)) for i in range(viewers)]
        self.engine.advance(self.now)
        for peer in [self.cart, *self.doctors]:
            peer.join(self.now)
        self.engine.add_track(100, 1, VIDEO)
        for i, doctor in enumerate(self.doctors):
            self.engine.add_leg(200 + i, 100, doctor.number, leg(7000 + i, 8000 + i if rtx else 0))
        self.sequence = 65530
        self.deliver()

    def deliver(self) -> None:
        deliver(self.engine, [self.cart, *self.doctors])

    def wait(self, us: int) -> None:
        """Let time pass, in the engine's own steps."""
        end = self.now + us
        while self.now < end:
            self.now = min(end, max(self.now + 1, self.engine.deadline()))
            self.engine.advance(self.now)
            self.deliver()

    def plain(self, payload: bytes, *, ssrc: int = 1234, sequence: int | None = None, timestamp: int = 3000) -> bytes:
        number = self.sequence if sequence is None else sequence
        if sequence is None:
            self.sequence += 1
        extensions = packet.write_extensions({ExtKind.EXT_MID: b"1"}, {3: ExtKind.EXT_MID})
        return packet.write_rtp(
            payload_type=96,
            marker=True,
            sequence=number & 0xFFFF,
            timestamp=timestamp,
            ssrc=ssrc,
            extensions=extensions,
            payload=payload,
        )

    def send(self, payload: bytes, **fields: int) -> None:
        roc = self.sequence >> 16
        self.cart.send(self.plain(payload, **fields), self.now, roc)
        self.deliver()


def sequences(received: list[bytes]) -> list[int]:
    return [packet.parse_rtp(data).sequence for data in received]


def kinds(house: House, kind: EventKind) -> list[int]:
    return [event.id for event in house.engine.poll_events() if event.kind == kind]


def test_a_picture_crosses_to_every_viewer() -> None:
    house = House(viewers=3)
    for i in range(20):  # over the roll of the publisher's sequence numbers
        house.send(VP8_KEY if i == 0 else VP8_DELTA, timestamp=3000 * i)
    for i, doctor in enumerate(house.doctors):
        assert len(doctor.received) == 20
        numbers = sequences(doctor.received)
        assert [(b - a) & 0xFFFF for a, b in itertools.pairwise(numbers)] == [1] * 19
        first = packet.parse_rtp(doctor.received[0])
        assert (first.ssrc, first.payload_type, first.marker) == (7000 + i, 102, True)
        assert packet.payload_of(doctor.received[0]) == VP8_KEY
        assert packet.read_extensions(doctor.received[0], {1: ExtKind.EXT_MID})[ExtKind.EXT_MID] == b"7"
    events = house.engine.poll_events()
    assert [e.value for e in events if e.kind == EventKind.PICTURE] == [640 << 16 | 480]
    assert [e.value for e in events if e.kind == EventKind.TRACK_LIVE] == [1234]
    assert len([e for e in events if e.kind == EventKind.LEG_LIVE]) == 3
    assert house.engine.counters()["rtp_out"] == 60


def test_a_viewer_waits_for_a_picture_that_it_can_decode() -> None:
    house = House()
    house.send(VP8_DELTA)
    assert house.doctors[0].received == []
    house.wait(5 * MS)
    asked = [item for report in house.cart.reports for item in rtcp_packets.read(report)]
    assert [type(item).__name__ for item in asked] == ["PictureLoss"]
    assert asked[0].media_ssrc == 1234
    house.send(VP8_KEY)
    assert len(house.doctors[0].received) == 1


def test_requests_for_keyframes_are_merged_and_limited() -> None:
    house = House(viewers=5)
    house.send(VP8_KEY)
    for _ in range(20):
        for i, doctor in enumerate(house.doctors):
            doctor.send_rtcp(rtcp_packets.write(PictureLoss(1, 7000 + i)), house.now)
        house.wait(50 * MS)
    plis = [
        item for report in house.cart.reports for item in rtcp_packets.read(report) if isinstance(item, PictureLoss)
    ]
    assert 2 <= len(plis) <= 3  # one second, two a second, and one at the start


def test_what_is_lost_is_asked_for_and_recovered_by_rtx() -> None:
    house = House()
    house.send(VP8_KEY)
    lost = house.plain(VP8_DELTA)
    house.send(VP8_DELTA)
    house.wait(10 * MS)
    nacks = [item for r in house.cart.reports for item in rtcp_packets.read(r) if isinstance(item, Nack)]
    assert [list(n.sequences) for n in nacks] == [[65531]]
    repair = packet.write_rtp(
        payload_type=97,
        marker=True,
        sequence=77,
        timestamp=3000,
        ssrc=4321,
        extensions=packet.write_extensions({ExtKind.EXT_MID: b"1"}, {3: ExtKind.EXT_MID}),
        payload=(65531).to_bytes(2, "big") + VP8_DELTA,
    )
    house.cart.send(repair, house.now)
    house.deliver()
    numbers = sequences(house.doctors[0].received)
    first = numbers[0]
    assert [(n - first) & 0xFFFF for n in numbers] == [0, 2, 1]
    assert packet.payload_of(house.doctors[0].received[2]) == VP8_DELTA
    # The original was only late: nothing may leave twice under one number.
    house.cart.send(lost, house.now)
    house.deliver()
    assert len(house.doctors[0].received) == 3


@pytest.mark.parametrize("rtx", [True, False])
def test_a_viewer_gets_again_what_it_misses(rtx: bool) -> None:
    house = House(rtx=rtx)
    doctor = house.doctors[0]
    sent = []
    take = doctor.take
    doctor.take = lambda datagram: sent.append(datagram)  # type: ignore[method-assign]
    house.send(VP8_KEY)
    house.send(VP8_DELTA)
    missed = sent[-1]
    house.send(VP8_DELTA)
    doctor.take = take  # type: ignore[method-assign]
    take(sent[0])
    take(sent[-1])
    gap = (sequences(doctor.received)[0] + 1) & 0xFFFF
    doctor.send_rtcp(rtcp_packets.write(Nack(1, 7000, (gap,))), house.now)
    if not rtx:
        assert [d for d, _ in house.engine.transmits()] == [missed]  # the identical bytes
        return
    house.deliver()
    again = packet.parse_rtp(doctor.received[-1])
    assert (again.ssrc, again.payload_type) == (8000, 103)
    assert packet.payload_of(doctor.received[-1]) == gap.to_bytes(2, "big") + VP8_DELTA


def test_a_leg_goes_on_without_a_gap_when_the_publisher_starts_again() -> None:
    house = House()
    for i in range(3):
        house.send(VP8_KEY if i == 0 else VP8_DELTA, timestamp=90000 + 3000 * i)
    house.now += 500 * MS
    house.sequence = 100
    house.send(VP8_DELTA, ssrc=9999, timestamp=5)  # not decodable: held back
    house.send(VP8_KEY, ssrc=9999, timestamp=3005)
    numbers = sequences(house.doctors[0].received)
    assert [(n - numbers[0]) & 0xFFFF for n in numbers] == [0, 1, 2, 3]
    stamps = [packet.parse_rtp(d).timestamp for d in house.doctors[0].received]
    assert stamps[3] - stamps[2] == 45000  # the half second that passed


def test_mute_and_pause_leave_no_gap() -> None:
    house = House()
    numbers = []
    for step in ("play", "mute", "play", "pause", "play"):
        house.engine.mute_track(100, step == "mute")
        house.engine.pause_leg(200, step == "pause")
        for i in range(4):
            house.send(VP8_KEY if i == 0 else VP8_DELTA)
            house.wait(20 * MS)
    numbers = sequences(house.doctors[0].received)
    assert [(n - numbers[0]) & 0xFFFF for n in numbers] == list(range(12))


def test_sender_reports_go_on_with_the_publishers_timestamps() -> None:
    house = House()
    house.send(VP8_KEY, timestamp=90000)
    ntp = 0xE5000000_00000000
    start = house.now
    house.cart.send_rtcp(rtcp_packets.write(SenderReport(1234, ntp, 90000, 1, 200)), house.now)
    house.wait(2500 * MS)
    reports = [i for r in house.doctors[0].reports for i in rtcp_packets.read(r) if isinstance(i, SenderReport)]
    assert len(reports) >= 2
    out = packet.parse_rtp(house.doctors[0].received[0]).timestamp
    taken = [report.ntp / 2**32 - (report.rtp_timestamp - out) / 90000 for report in reports]
    assert taken == pytest.approx([0xE0000000 + start / 1e6] * len(taken), abs=1e-4)


def test_sender_reports_bring_all_publishers_to_one_clock() -> None:
    """A viewer's browser delays what shares a stream by its reports: a cart whose clock is wrong must not be late."""
    house = House()
    house.send(VP8_KEY, timestamp=90000)
    voice = ScriptedPeer(house.engine, 60, ("192.0.2.60", 5000))
    voice.join(house.now)
    house.engine.add_track(160, 60, AUDIO)
    payloads = (LegPayload(111, 111),)
    house.engine.add_leg(260, 160, 2, LegParams(mid="a", ssrc=71, rtx_ssrc=0, cname="c", payloads=payloads))
    sound = packet.write_rtp(payload_type=111, marker=False, sequence=5, timestamp=48000, ssrc=55, payload=b"\xfc")
    voice.send(sound, house.now)
    clock = 0xE0000000_00000000
    for late in (1, 0, 2):  # tenths of a second on the way
        sent = house.now // MS * 2**32 // 1000
        house.wait(late * 100 * MS)
        house.cart.send_rtcp(rtcp_packets.write(SenderReport(1234, clock + sent, 90000, 1, 200)), house.now)
        voice.send_rtcp(rtcp_packets.write(SenderReport(55, clock + sent + (7 << 32), 48000, 1, 1)), house.now)
        house.doctors[0].reports.clear()
        house.wait(1100 * MS)
        got = [i for r in house.doctors[0].reports for i in rtcp_packets.read(r) if isinstance(i, SenderReport)]
        # When each was taken, on the clock of the reports; both were taken at one time.
        taken = {}
        for report in got:
            leg_packet = next(d for d in house.doctors[0].received if packet.parse_rtp(d).ssrc == report.ssrc)
            behind = (report.rtp_timestamp - packet.parse_rtp(leg_packet).timestamp) & 0xFFFFFFFF
            taken[report.ssrc] = report.ntp / 2**32 - behind / (90000 if report.ssrc == 7000 else 48000)
        assert taken[7000] == pytest.approx(taken[71], abs=0.002)


def test_receiver_reports_and_transport_feedback_reach_the_publisher() -> None:
    house = House()
    ids = {3: ExtKind.EXT_MID, 5: ExtKind.EXT_TWCC}
    for i in range(30):
        if i == 7:
            continue
        data = packet.write_rtp(
            payload_type=96,
            marker=False,
            sequence=i,
            timestamp=3000,
            ssrc=1234,
            extensions=packet.write_extensions({ExtKind.EXT_MID: b"1", ExtKind.EXT_TWCC: i.to_bytes(2, "big")}, ids),
            payload=VP8_DELTA,
        )
        house.cart.send(data, house.now)
        house.wait(4 * MS)
    house.wait(1100 * MS)
    items = [item for report in house.cart.reports for item in rtcp_packets.read(report)]
    seen = {}
    for item in items:
        if isinstance(item, TransportFeedback):
            seen |= {item.base + i: delta is not None for i, delta in enumerate(item.deltas)}
    assert seen == {i: i != 7 for i in range(30)}
    blocks = [b for item in items if isinstance(item, ReceiverReport) for b in item.reports]
    assert blocks[-1].ssrc == 1234
    assert blocks[-1].highest == 29
    assert blocks[-1].lost == 1


def test_capture_time_passes_untouched_under_the_viewers_id() -> None:
    house = House()
    value = bytes(range(8))
    data = packet.write_rtp(
        payload_type=96,
        marker=True,
        sequence=1,
        timestamp=3000,
        ssrc=1234,
        extensions=packet.write_extensions(
            {ExtKind.EXT_MID: b"1", ExtKind.EXT_ABS_CAPTURE_TIME: value},
            {3: ExtKind.EXT_MID, 9: ExtKind.EXT_ABS_CAPTURE_TIME},
        ),
        payload=VP8_KEY,
    )
    house.cart.send(data, house.now)
    house.deliver()
    got = packet.read_extensions(house.doctors[0].received[0], {1: ExtKind.EXT_MID, 20: ExtKind.EXT_ABS_CAPTURE_TIME})
    assert got == {ExtKind.EXT_MID: b"7", ExtKind.EXT_ABS_CAPTURE_TIME: value}


def test_a_viewer_that_moves_is_followed() -> None:
    house = House()
    house.send(VP8_KEY)
    doctor = house.doctors[0]
    doctor.addr = ("2001:db8::9", 4444)
    doctor.check(house.now, nominate=True)
    house.deliver()
    house.send(VP8_DELTA)
    assert len(doctor.received) == 2
    house.wait(100 * MS)
    assert doctor.number in [e.id for e in house.engine.poll_events() if e.kind == EventKind.MOVED]


def test_a_restart_of_ice_keeps_the_old_pair_until_the_new_one_stands() -> None:
    house = House()
    house.send(VP8_KEY)
    doctor = house.doctors[0]
    old_addr = doctor.addr
    house.engine.restart_peer(doctor.number, "newufrag1", "new-password-new-password")
    house.send(VP8_DELTA)
    assert len(doctor.received) == 2
    new = ("192.0.2.77", 7777)
    house.engine.receive(
        doctor.check_request(nominate=True, ufrag="newufrag1", pwd="new-password-new-password"), new, house.now
    )
    assert [addr for _, addr in house.engine.transmits()] == [new]
    doctor.addr = new
    house.send(VP8_DELTA)
    assert len(doctor.received) == 3
    house.engine.receive(doctor.check_request(), old_addr, house.now)  # the old credentials hold no longer
    ((answer, _),) = house.engine.transmits()
    assert answer[0] == 1
    assert answer[1] == 0x11


def test_a_pair_may_be_nominated_by_the_old_credentials_until_the_new_ones_are_in_use() -> None:
    """A browser checks a new port by what it knows, and by nothing else when the answer comes after that."""
    house = House()
    house.send(VP8_KEY)
    doctor = house.doctors[0]
    house.engine.restart_peer(doctor.number, "newufrag1", "new-password-new-password")
    new, late = ("192.0.2.77", 7777), ("192.0.2.78", 7778)
    house.engine.receive(doctor.check_request(), new, house.now)
    house.engine.transmits()
    house.send(VP8_DELTA)
    assert len(doctor.received) == 2  # a check alone moves nothing
    house.engine.receive(doctor.check_request(nominate=True), new, house.now)
    doctor.addr = new
    house.deliver()
    house.send(VP8_DELTA)
    assert len(doctor.received) == 3
    renewed = doctor.check_request(ufrag="newufrag1", pwd="new-password-new-password")
    house.engine.receive(renewed, new, house.now)
    house.engine.transmits()
    house.engine.receive(doctor.check_request(nominate=True), late, house.now)
    house.engine.transmits()
    house.send(VP8_DELTA)
    assert len(doctor.received) == 4


def test_silence_is_told_once_and_strangers_get_nothing() -> None:
    house = House()
    house.send(VP8_KEY)
    for addr in (("203.0.113.5", 1), house.cart.addr):
        for first in (b"\x16", b"\x80", b"\x50", b"\x00"):
            house.engine.receive(first + bytes(40), addr, house.now)
    assert [a for _, a in house.engine.transmits() if a == ("203.0.113.5", 1)] == []
    house.engine.poll_events()
    house.wait(31_000 * MS)
    assert sorted(kinds(house, EventKind.SILENT)) == [1, 2]


def test_dtls_goes_to_the_control_plane_and_back_from_checked_addresses_alone() -> None:
    house = House()
    house.engine.poll_events()
    house.engine.receive(b"\x16hello", house.cart.addr, house.now)
    house.engine.receive(b"\x16hello", ("203.0.113.5", 9), house.now)
    events = [e for e in house.engine.poll_events() if e.kind == EventKind.DTLS]
    assert [(e.id, e.data) for e in events] == [(1, b"\x16hello")]
    house.engine.send_dtls(1, b"\x16answer")
    assert house.engine.transmits() == [(b"\x16answer", house.cart.addr)]


def test_the_last_flight_leaves_with_the_keys_in_place_and_before_any_media() -> None:
    house = House(viewers=0)
    house.send(VP8_KEY)
    doctor = ScriptedPeer(house.engine, 9, ("192.0.2.9", 6000))
    flight = (b"\x14" + bytes(13), b"\x16" + bytes(1400))
    house.engine.add_peer(9, doctor.ufrag, doctor.pwd)
    doctor.check(house.now, nominate=True)
    house.engine.add_leg(209, 100, 9, leg(7009))
    doctor.agree(flight)
    house.engine.advance(house.now)
    sent = [datagram for datagram, addr in house.engine.transmits() if addr == doctor.addr]
    assert tuple(sent[1:3]) == flight
    assert packet.classify(sent[0]) == packet.DemuxKind.DEMUX_STUN
    assert {packet.classify(datagram) for datagram in sent[3:]} == {packet.DemuxKind.DEMUX_RTP}


def test_handshakes_go_on_where_the_peer_began_them_whichever_pairs_it_has_nominated() -> None:
    """A controlling agent after RFC 5245 may nominate every pair and use the first that answers."""
    engine = Engine(seed=bytes(16))
    engine.advance(1_000_000)
    engine.add_peer(1, "ufrag001", "password-password-000001")
    first, second = (ScriptedPeer(engine, 1, ("192.0.2.1", port)) for port in (5000, 5001))
    first.check(1_000_000, nominate=True)
    second.check(1_000_100, nominate=True)
    engine.transmits()
    engine.receive(b"\x16hello", first.addr, 1_000_200)
    engine.send_dtls(1, b"\x16answer")
    assert engine.transmits() == [(b"\x16answer", first.addr)]


def test_a_tap_gets_plain_packets_and_gives_them_back() -> None:
    house = House()
    ring = TapRing(4)
    house.engine.add_tap(300, 100, ring)
    for i in range(6):
        house.send(VP8_KEY if i == 0 else VP8_DELTA, timestamp=i)
    entries = ring.read(100)
    assert [e[2] - entries[0][2] for e in entries] == [0, 1, 2, 3]
    assert entries[0][7] == VP8_KEY
    assert ring.dropped == 2
    house.send(VP8_DELTA, timestamp=6)
    assert len(ring.read(1)) == 1
    house.engine.remove_tap(300)
    assert ring.closed
    house.wait(200 * MS)
    assert 300 in kinds(house, EventKind.REMOVED)


def test_removal_tells_the_viewers_and_leaves_nothing_behind() -> None:
    house = House(viewers=2)
    for _ in range(50):
        house.send(VP8_KEY)
    house.engine.remove_track(100)
    house.deliver()
    byes = [i for r in house.doctors[0].reports for i in rtcp_packets.read(r) if isinstance(i, Bye)]
    assert [list(b.ssrcs) for b in byes] == [[7000, 8000]]
    for peer in (1, 2, 3):
        house.engine.remove_peer(peer)
    house.wait(200 * MS)
    assert house.engine.counters()["packets_held"] == 0
    assert sorted(kinds(house, EventKind.REMOVED)) == [1, 2, 3, 100, 200, 201]
    assert house.engine.track_stats(100) == {}


def test_an_ssrc_never_starts_again_under_the_same_keys() -> None:
    house = House()
    house.send(VP8_KEY)
    house.engine.remove_leg(200)
    house.engine.add_leg(250, 100, 2, leg(7000, 8001))
    events = house.engine.poll_events()
    assert [(e.id, e.kind) for e in events if e.id == 250] == [
        (250, EventKind.REFUSED),
        (250, EventKind.REMOVED),
    ]


def test_forged_packets_change_nothing() -> None:
    house = House()
    house.send(VP8_KEY)
    data = bytearray(house.cart.protect(house.plain(VP8_DELTA)))
    data[-1] ^= 1
    house.engine.receive(bytes(data), house.cart.addr, house.now)
    assert house.engine.counters()["drop_srtp_auth"] == 1
    assert len(house.doctors[0].received) == 1


def test_sound_needs_no_keyframe() -> None:
    house = House()
    house.engine.add_track(101, 1, AUDIO)
    house.engine.add_leg(
        210, 101, 2, LegParams(mid="a", ssrc=71, rtx_ssrc=0, cname="c", payloads=(LegPayload(111, 111),))
    )
    house.cart.send(
        packet.write_rtp(payload_type=111, marker=False, sequence=5, timestamp=9, ssrc=55, payload=b"\xfcsound"),
        house.now,
    )
    house.deliver()
    assert packet.payload_of(house.doctors[0].received[0]) == b"\xfcsound"


def test_a_hostile_peer_cannot_flood_the_control_plane() -> None:
    house = House()
    house.send(VP8_KEY)
    house.engine.poll_events()
    sizes = [VP8_KEY[:7] + bytes([i, 1, i, 1]) + bytes(20) for i in range(1, 200)]
    for i, picture in enumerate(sizes):
        house.send(picture)
        house.cart.send_rtcp(rtcp_packets.write(Bye((1234,))), house.now)
        house.engine.receive(b"\x16" + bytes(50), house.cart.addr, house.now)
        house.cart.addr = ("192.0.2.1", 5000 + i % 2)
        house.cart.check(house.now, nominate=True)
    house.wait(100 * MS)
    events = [event.kind for event in house.engine.poll_events()]
    assert events.count(EventKind.PICTURE) <= 2
    assert events.count(EventKind.TRACK_BYE) <= 2
    assert events.count(EventKind.MOVED) <= 2
    assert events.count(EventKind.DTLS) <= 60


def test_rows_of_padding_do_not_wear_out_what_can_be_sent_again() -> None:
    house = House(rtx=False)
    doctor = house.doctors[0]
    house.send(VP8_KEY)
    first = packet.parse_rtp(doctor.received[0]).sequence
    for _ in range(30):
        data = bytearray(house.plain(bytes(3) + b"\x04"))
        data[0] |= 0x20
        house.cart.send(bytes(data), house.now, (house.sequence - 1) >> 16)
    house.send(VP8_DELTA)
    assert sequences(doctor.received) == [first, (first + 1) & 0xFFFF]
    doctor.send_rtcp(rtcp_packets.write(Nack(1, 7000, (first,))), house.now)
    assert len([a for _, a in house.engine.transmits() if a == doctor.addr]) == 1


def test_an_answer_to_a_stranger_is_no_longer_than_what_it_asked() -> None:
    """Its address may be a lie: nobody may be flooded through the server."""
    engine = Engine(seed=bytes(16))
    stranger = ScriptedPeer(engine, 9, ("203.0.113.5", 1))
    bare = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
    for request in (bare, stranger.check_request(), stranger.check_request(ufrag="a")):
        engine.receive(request, stranger.addr, 0)
        for answer, _ in engine.transmits():
            assert len(answer) <= len(request)
    assert engine.counters()["drop_stun"] == 3


def test_an_engine_that_is_dropped_with_its_taps_leaves_them_alone() -> None:
    """Under the address sanitizer: the rings may go before the engine does."""
    house = House()
    for i in range(3):
        house.engine.add_tap(300 + i, 100, TapRing(4))
    house.send(VP8_KEY)
    del house
    gc.collect()


def test_the_round_trip_to_a_publisher_is_known_without_any_loss() -> None:
    house = House()
    house.send(VP8_KEY)
    house.wait(300 * MS)
    asked = [found for report in house.cart.reports if (found := extended_reports.read_reference(report))]
    assert len(asked) == 1
    receiver, ntp = asked[0]
    house.wait(700 * MS)  # 80 ms on the line and the rest in its hands: it was asked 0.9 s ago
    delay = extended_reports.write_delays(9, [(receiver, ntp >> 16 & 0xFFFFFFFF, 65536 * 820 // 1000)])
    house.cart.send_rtcp(delay, house.now)
    house.send(VP8_DELTA)
    house.sequence += 1
    house.send(VP8_DELTA)
    nacks = []
    for _ in range(40):
        house.wait(10 * MS)
        nacks.append(sum(r[1:2] == b"\xcd" for r in house.cart.reports))
    first = nacks.index(1)
    # What has not come by the first request is asked for again when its answer should be here, not 110 ms after it.
    assert nacks.index(2) - first in range(22, 27)  # 80 + 4 * 40 ms: after one measurement much is left to chance


def test_what_cannot_be_repaired_any_more_brings_a_keyframe_without_a_word_from_viewers() -> None:
    house = House()
    house.send(VP8_KEY)
    house.wait(1000 * MS)
    house.sequence += 1
    house.send(VP8_DELTA)

    def plis() -> int:
        return sum(isinstance(i, PictureLoss) for report in house.cart.reports for i in rtcp_packets.read(report))

    before = plis()
    house.wait(400 * MS)
    assert plis() == before
    house.wait(200 * MS)
    assert plis() == before + 1
    stats = house.engine.track_stats(100)
    assert (stats["given_up"], stats["recovered"]) == (1, 0)
    house.send(VP8_KEY)
    house.wait(600 * MS)
    house.sequence += 1000
    house.send(VP8_DELTA)
    house.wait(5 * MS)
    assert plis() == before + 2


@pytest.mark.parametrize("rtx", [True, False])
def test_what_is_left_out_late_leaves_no_hole(rtx: bool) -> None:
    """A number that never comes stops a browser's H.264 until the next key picture."""
    house = House(rtx=rtx)
    doctor = house.doctors[0]
    house.send(VP8_KEY)
    late = bytearray(house.plain(bytes(3) + b"\x04", timestamp=6000))
    late[0] |= 0x20  # padding alone
    house.send(VP8_DELTA)
    first, after = sequences(doctor.received)
    assert (after - first) & 0xFFFF == 2
    house.cart.send(bytes(late), house.now, (house.sequence - 2) >> 16)
    house.deliver()
    if not rtx:  # a NACK would bring other bytes under this number, and reveal the key
        assert len(doctor.received) == 2
        return
    filler = packet.parse_rtp(doctor.received[-1])
    assert filler.sequence == (first + 1) & 0xFFFF
    assert (filler.ssrc, filler.payload_type, filler.timestamp) == (7000, 102, 6000)
    assert packet.payload_of(doctor.received[-1]) == b""
    house.send(VP8_DELTA)
    assert sequences(doctor.received)[-1] == (first + 3) & 0xFFFF
    # In its turn it leaves no number at all.
    early = bytearray(house.plain(bytes(3) + b"\x04"))
    early[0] |= 0x20
    house.cart.send(bytes(early), house.now, (house.sequence - 1) >> 16)
    house.send(VP8_DELTA)
    assert sequences(doctor.received)[-1] == (first + 4) & 0xFFFF
