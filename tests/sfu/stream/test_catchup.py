"""Viewers that need a key picture get the last one and what followed it from the history, and then go on live."""

from __future__ import annotations

import itertools
from typing import ClassVar

import msgspec
import pytest

from loadtest.packetise import packetise
from mediaserver.codecs.payload import Codec
from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.params import LegPayload, PayloadParams, TrackParams
from mediaserver.sfu.wire import packet, rtcp_packets
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.rtcp_packets import Nack, PictureLoss
from tests.codecs import media
from tests.codecs.media import Packet
from tests.sfu.stream.test_encodings import SSRCS, Simulcast
from tests.sfu.stream.test_engine import MS, VIDEO, VP8_DELTA, VP8_KEY, House, leg
from tests.sim.peer import ScriptedPeer, deliver

SECOND = 1_000_000
TICKS = 3000  # of a picture


class Ward(House):
    """A publisher whose pictures come 30 times a second, and viewers that join it in between."""

    def __init__(self, viewers: int = 1, *, rtx: bool = True, adapts: bool = True) -> None:
        super().__init__(viewers, rtx)
        if not adapts:
            self.engine = Engine(seed=bytes(16), adapts=False)
        self.pictures = 0
        self.lost: list[tuple[bytes, int]] = []

    def picture(self, key: bool = False, packets: int = 1, lose: tuple[int, ...] = (), capture: bool = False) -> None:
        """One picture of so many packets, of which some get lost."""
        head = VP8_KEY if key else VP8_DELTA
        for i in range(packets):
            payload = (head if i == 0 else b"\x00" + head[1:4]) + self.pictures.to_bytes(4, "big") + bytes(900)
            number, self.sequence = self.sequence, self.sequence + 1
            names = {ExtKind.EXT_MID: b"1"}
            if capture:
                names[ExtKind.EXT_ABS_CAPTURE_TIME] = (self.now << 12).to_bytes(8, "big")
            plain = packet.write_rtp(
                payload_type=96,
                marker=i == packets - 1,
                sequence=number & 0xFFFF,
                timestamp=self.pictures * TICKS,
                ssrc=1234,
                extensions=packet.write_extensions(names, {3: ExtKind.EXT_MID, 9: ExtKind.EXT_ABS_CAPTURE_TIME}),
                payload=payload,
            )
            if i in lose:
                self.lost.append((plain, number))
            else:
                self.cart.send(plain, self.now, number >> 16)
        self.deliver()
        self.pictures += 1

    def play(self, pictures: int, packets: int = 1) -> None:
        for _ in range(pictures):
            self.picture(packets=packets)
            self.wait(33 * MS)

    def join(self, wait: int = 2 * MS) -> ScriptedPeer:
        """One more viewer, up to its keys and a little longer."""
        at = len(self.doctors)
        number = 1000 + at
        doctor = ScriptedPeer(self.engine, number, ("192.0.2.2", 6000 + at))
        self.doctors.append(doctor)
        self.engine.add_peer(number, doctor.ufrag, doctor.pwd)
        doctor.check(self.now, nominate=True)
        self.engine.add_leg(200 + at, 100, number, leg(7000 + at, 8000 + at))
        doctor.agree()
        self.engine.advance(self.now)
        self.deliver()
        self.wait(wait)
        return doctor

    def asked(self) -> int:
        """Key pictures that the publisher was asked for since the last look."""
        self.wait(1)
        items = [item for report in self.cart.reports for item in rtcp_packets.read(report)]
        self.cart.reports.clear()
        return sum(isinstance(item, PictureLoss) for item in items)

    def say(self, doctor: ScriptedPeer, *items: object) -> None:
        doctor.send_rtcp(rtcp_packets.write(*items), self.now)  # type: ignore[arg-type]
        self.engine.advance(self.now)
        self.deliver()


def shown(received: list[bytes]) -> list[int]:
    """Numbers of the pictures, one for each packet."""
    return [int.from_bytes(packet.payload_of(data)[-904:-900], "big") for data in received]


def times(received: list[bytes]) -> list[int]:
    return [packet.parse_rtp(data).timestamp for data in received]


def in_a_row(received: list[bytes]) -> bool:
    numbers = [packet.parse_rtp(data).sequence for data in received]
    return all((b - a) & 0xFFFF == 1 for a, b in itertools.pairwise(numbers))


def settled() -> Ward:
    """A room where one viewer watches, some pictures after a key picture."""
    ward = Ward()
    ward.picture(key=True, packets=4)
    ward.wait(33 * MS)
    ward.play(10)
    ward.asked()
    return ward


def test_who_joins_between_two_key_pictures_costs_the_publisher_nothing() -> None:
    ward = settled()
    doctor = ward.join()
    assert shown(doctor.received) == [0] * 4 + list(range(1, 11))
    ward.play(5)
    assert shown(doctor.received)[14:] == [11, 12, 13, 14, 15]
    assert in_a_row(doctor.received)
    assert ward.asked() == 0
    counters = ward.engine.counters()
    assert (counters["caught_up"], counters["caught_up_packets"]) == (1, 14)
    assert counters["caught_up_bytes"] == sum(len(packet.payload_of(data)) for data in doctor.received[:14])


def test_times_are_drawn_together_and_arrive_at_the_present() -> None:
    ward = settled()
    doctor = ward.join()
    ward.play(3)
    stamps = times(doctor.received[3:])  # of one packet of each picture
    assert all(a < b for a, b in itertools.pairwise(stamps))
    assert stamps[10] - stamps[0] < 30  # a third of a millisecond
    assert stamps[10:] == [10 * TICKS, 11 * TICKS, 12 * TICKS, 13 * TICKS]
    assert len(set(times(doctor.received[:4]))) == 1  # the packets of one picture stay one


def test_a_repeated_packet_of_it_is_the_same_as_before() -> None:
    for rtx in (True, False):
        ward = Ward(viewers=0)
        ward.picture(key=True, packets=4)
        ward.play(6)
        doctor = ScriptedPeer(ward.engine, 50, ("192.0.2.3", 7000))
        ward.doctors.append(doctor)
        doctor.join(ward.now)
        raw: list[bytes] = []
        take = doctor.take
        doctor.take = lambda data, raw=raw, take=take: (raw.append(data), take(data))[1]  # type: ignore[method-assign]
        ward.engine.add_leg(250, 100, 50, leg(9000, 9001 if rtx else 0))
        ward.wait(3 * MS)
        first = packet.parse_rtp(doctor.received[1])
        before = doctor.received[1]
        if rtx:
            ward.say(doctor, Nack(1, 9000, (first.sequence,)))
            again = packet.parse_rtp(doctor.received[-1])
            assert (again.ssrc, again.payload_type, again.timestamp) == (9001, 103, first.timestamp)
            assert packet.payload_of(doctor.received[-1]) == first.sequence.to_bytes(2, "big") + packet.payload_of(
                before
            )
        else:
            sent = next(
                data
                for data in raw
                if data[0] >> 6 == 2
                and not packet.looks_like_rtcp(data)
                and packet.parse_rtp(data).sequence == first.sequence
            )
            doctor.send_rtcp(rtcp_packets.write(Nack(1, 9000, (first.sequence,))), ward.now)
            assert (sent, doctor.addr) in ward.engine.transmits()


def test_the_time_of_capture_stands_only_on_what_is_live() -> None:
    ward = settled()
    ward.picture(key=True, capture=True)
    ward.wait(33 * MS)
    ward.picture(capture=True)
    doctor = ward.join()
    ward.wait(33 * MS)
    ward.picture(capture=True)
    with_time = [
        ExtKind.EXT_ABS_CAPTURE_TIME in packet.read_extensions(data, {20: ExtKind.EXT_ABS_CAPTURE_TIME})
        for data in doctor.received
    ]
    assert with_time == [False, False, True]


def test_what_comes_meanwhile_waits_its_turn() -> None:
    ward = Ward()
    ward.picture(key=True, packets=60)
    ward.wait(33 * MS)
    ward.play(8, packets=4)
    doctor = ward.join()
    soon = len(doctor.received)
    assert 20 <= soon < 60  # a burst, and then at a pace
    ward.picture(packets=4)
    assert len(doctor.received) < 60
    ward.wait(33 * MS)
    assert shown(doctor.received) == [0] * 60 + [i for i in range(1, 10) for _ in range(4)]
    assert in_a_row(doctor.received)
    assert times(doctor.received)[-1] == 9 * TICKS
    assert ward.asked() <= 1  # the first viewer's


def test_a_key_picture_overtakes_what_is_left_of_it() -> None:
    ward = Ward()
    ward.picture(key=True, packets=60)
    ward.wait(33 * MS)
    ward.play(8, packets=4)
    doctor = ward.join()
    soon = len(doctor.received)
    ward.picture(key=True, packets=3)
    ward.wait(33 * MS)
    ward.play(2)
    assert shown(doctor.received)[soon:] == [9, 9, 9, 10, 11]
    assert in_a_row(doctor.received)


def test_what_is_still_awaited_comes_later() -> None:
    ward = settled()
    ward.picture(packets=3, lose=(1,))
    ward.wait(10 * MS)
    ward.picture()
    doctor = ward.join()
    numbers = [packet.parse_rtp(data).sequence for data in doctor.received]
    assert sum((b - a) & 0xFFFF for a, b in itertools.pairwise(numbers)) == len(numbers)  # one is left out
    plain, number = ward.lost[0]
    ward.cart.send(plain, ward.now, number >> 16)
    ward.deliver()
    late = packet.parse_rtp(doctor.received[-1])
    assert shown(doctor.received)[-1] == 11
    assert {b - a for a, b in itertools.pairwise(sorted([*numbers, late.sequence]))} == {1}
    assert late.timestamp == next(
        t for t, n in zip(times(doctor.received), shown(doctor.received), strict=True) if n == 11
    )
    assert ward.asked() == 0


def test_without_something_that_was_given_up_it_is_of_no_use() -> None:
    ward = settled()
    ward.picture(packets=3, lose=(1,))
    ward.play(25)
    ward.asked()
    ward.wait(SECOND // 2)
    ward.play(1)
    ward.join()
    assert ward.engine.counters()["caught_up"] == 0
    ward.wait(SECOND // 2)
    assert ward.asked() >= 1


@pytest.mark.parametrize("pictures", [62, 200])
def test_what_is_too_long_ago_is_not_sent(pictures: int) -> None:
    ward = settled()
    ward.play(pictures)
    doctor = ward.join()
    assert doctor.received == []
    assert ward.asked() == 1


def test_what_is_too_much_is_not_sent() -> None:
    ward = Ward()
    ward.picture(key=True, packets=10)
    ward.wait(33 * MS)
    ward.play(30, packets=10)
    ward.asked()
    doctor = ward.join()
    assert doctor.received == []
    assert ward.asked() == 1


def test_of_a_publisher_that_has_fallen_silent_nothing_is_shown_as_new() -> None:
    ward = settled()
    ward.wait(600 * MS)
    doctor = ward.join()
    assert doctor.received == []
    assert ward.asked() == 1


def test_what_was_sent_before_a_mute_is_not_to_be_had() -> None:
    ward = settled()
    ward.engine.mute_track(100, True)
    ward.engine.mute_track(100, False)
    ward.picture()
    doctor = ward.join()
    assert doctor.received == []
    assert ward.asked() == 1


def test_a_viewer_that_pauses_meanwhile_is_not_led_back() -> None:
    ward = Ward()
    ward.picture(key=True, packets=60)
    ward.wait(33 * MS)
    ward.play(8, packets=4)
    doctor = ward.join()
    soon = len(doctor.received)
    ward.engine.pause_leg(201, True)
    ward.wait(100 * MS)
    assert len(doctor.received) == soon
    ward.play(2)
    ward.engine.pause_leg(201, False)
    ward.wait(300 * MS)
    assert len(doctor.received) == soon
    assert ward.asked() == 1
    ward.picture(key=True, packets=4)
    ward.wait(33 * MS)
    assert shown(doctor.received)[soon:] == [11] * 4
    assert in_a_row(doctor.received)
    assert all((b - a) & 0xFFFFFFFF < 1 << 31 for a, b in itertools.pairwise(times(doctor.received)))  # never back


def test_who_comes_back_from_a_pause_begins_at_a_key_picture_that_came_meanwhile() -> None:
    ward = settled()
    ward.engine.pause_leg(200, True)
    ward.play(5)
    ward.picture(key=True, packets=4)
    ward.wait(33 * MS)
    ward.play(5)
    ward.asked()
    ward.engine.pause_leg(200, False)
    ward.wait(1)
    doctor = ward.doctors[0]
    ward.play(2)
    assert shown(doctor.received)[14:] == [16] * 4 + list(range(17, 24))
    assert in_a_row(doctor.received)
    stamps = times(doctor.received)
    assert all(a <= b for a, b in itertools.pairwise(stamps))
    assert stamps[-1] == 23 * TICKS  # the same clock as before
    assert ward.asked() == 0


def test_a_decoder_that_broke_down_is_not_led_back() -> None:
    ward = Ward()
    ward.picture(key=True, packets=20)
    ward.wait(33 * MS)
    ward.play(2)
    ward.asked()
    ward.say(ward.doctors[0], PictureLoss(1, 7000))
    ward.wait(300 * MS)
    assert shown(ward.doctors[0].received) == [0] * 20 + [1, 2]
    assert ward.asked() == 1


def test_a_storm_takes_no_more_than_its_share() -> None:
    ward = Ward()
    ward.picture(key=True, packets=30)
    ward.wait(33 * MS)
    ward.play(30, packets=6)
    ward.asked()
    for _ in range(100):
        ward.join(0)
    counters = ward.engine.counters()
    assert 0 < counters["caught_up"] < 100
    assert counters["caught_up_bytes"] <= (100 + 2 * 16) * 2 * 30 * 920  # about two key pictures for each
    ward.wait(10 * MS)
    assert ward.asked() == 1  # for all the others
    ward.picture(key=True, packets=30)
    ward.wait(50 * MS)
    ward.play(1)
    for doctor in ward.doctors:
        assert shown(doctor.received)[-1] == 32
        assert in_a_row(doctor.received)


def test_where_lines_are_estimated_it_leaves_at_the_pace_of_the_estimate() -> None:
    ward = settled()
    doctor = ScriptedPeer(ward.engine, 70, ("192.0.2.7", 7200))
    ward.doctors.append(doctor)
    doctor.join(ward.now)
    numbered = msgspec.structs.replace(leg(9200, 9201), extensions=((1, ExtKind.EXT_MID), (4, ExtKind.EXT_TWCC)))
    ward.engine.add_leg(270, 100, 70, numbered)
    ward.wait(5 * MS)
    soon = len(doctor.received)
    ward.play(5)
    assert 0 < soon < 14
    pictures = [data for data in doctor.received if data[8:12] == (9200).to_bytes(4, "big")]  # not the probes' padding
    assert shown(pictures) == [0] * 4 + list(range(1, 16))
    assert in_a_row(pictures)
    wide = [packet.read_extensions(data, {4: ExtKind.EXT_TWCC})[ExtKind.EXT_TWCC] for data in doctor.received]
    assert [int.from_bytes(number, "big") for number in wide] == list(range(len(wide)))
    assert ward.asked() == 0


def test_of_several_encodings_the_best_that_comes() -> None:
    clinic = Simulcast()
    for key in (True, False, False, False):
        clinic.picture("q", "h", "f", key=key)
    clinic.cart.reports.clear()
    doctor = ScriptedPeer(clinic.engine, 9, ("192.0.2.9", 6100))
    clinic.doctors.append(doctor)
    doctor.join(clinic.now)
    clinic.engine.add_leg(209, 100, 9, leg(7900, 8900))
    clinic.engine.advance(clinic.now)
    clinic.deliver()
    clinic.picture("q", "h", "f")
    assert {packet.payload_of(data)[-1:] for data in doctor.received} == {b"f"}
    assert len(doctor.received) == 5
    assert in_a_row(doctor.received)
    assert len(packet.payload_of(doctor.received[0])) == len(VP8_KEY) + SSRCS["f"] * 10 + 1
    asked = [item for report in clinic.cart.reports for item in rtcp_packets.read(report)]
    assert not any(isinstance(item, PictureLoss) for item in asked)


class Streamed:
    """Real encoder output through the engine; viewers join as it goes on."""

    FORMATS: ClassVar = {Codec.CODEC_H264: "H264", Codec.CODEC_VP8: "VP8"}

    def __init__(self, codec: Codec, pictures: int) -> None:
        self.codec = codec
        endless = (("g", "600"), ("crf", "38")) if codec == Codec.CODEC_H264 else (("g", "600"), ("b", "1500k"))
        self.coded = media.encode(codec, 320, 240, pictures, endless)
        self.engine = Engine(seed=bytes(16), adapts=False)
        self.now = 10_000_000
        self.engine.advance(self.now)
        self.cart = ScriptedPeer(self.engine, 1, ("192.0.2.1", 5000))
        self.cart.join(self.now)
        payloads = (PayloadParams(96, codec, 90000, rtx_type=97, nack=True, pli=True),)
        self.engine.add_track(
            100, 1, TrackParams(mid="1", video=True, payloads=payloads, ssrcs=(1234,), rtx_ssrcs=(0,))
        )
        self.viewers: list[ScriptedPeer] = []
        self.sequence = 100
        self.sent = 0

    def join(self) -> ScriptedPeer:
        number = 10 + len(self.viewers)
        viewer = ScriptedPeer(self.engine, number, ("192.0.2.2", 6000 + number))
        self.viewers.append(viewer)
        viewer.join(self.now)
        self.engine.add_leg(200 + number, 100, number, leg(7000 + number, 8000 + number))
        self.advance()
        return viewer

    def advance(self) -> None:
        self.engine.advance(self.now)
        deliver(self.engine, [self.cart, *self.viewers])

    def picture(self) -> None:
        parts = packetise(self.FORMATS[self.codec], self.coded[self.sent])
        for i, payload in enumerate(parts):
            plain = packet.write_rtp(
                payload_type=96,
                marker=i == len(parts) - 1,
                sequence=self.sequence,
                timestamp=self.sent * TICKS,
                ssrc=1234,
                payload=payload,
            )
            self.sequence += 1
            self.cart.send(plain, self.now)
            deliver(self.engine, [self.cart, *self.viewers])
        self.sent += 1
        end = self.now + 33_333
        while self.now < end:
            self.now = min(end, max(self.now + 1, self.engine.deadline()))
            self.advance()

    def decoded(self, viewer: ScriptedPeer) -> list[bytes]:
        assert in_a_row(viewer.received)
        packets = [
            Packet(packet.payload_of(data), head.timestamp, head.marker)
            for data in viewer.received
            for head in [packet.parse_rtp(data)]
        ]
        units = media.assemble(self.codec, packets)
        assert all(unit.complete for unit in units)
        assert units[0].keyframe
        return [bytes(frame) for frame in media.decode(self.codec, [unit.data for unit in units])]


@pytest.mark.parametrize("codec", [Codec.CODEC_H264, Codec.CODEC_VP8], ids=["h264", "vp8"])
def test_what_a_joiner_gets_decodes_to_what_the_publisher_sent(codec: Codec) -> None:
    count = 40
    stream = Streamed(codec, count)
    reference = [bytes(frame) for frame in media.decode(codec, stream.coded)]
    joined: list[ScriptedPeer] = [stream.join()]
    for i in range(count):
        stream.picture()
        if i % 9 == 4:
            joined.append(stream.join())
    assert stream.engine.counters()["caught_up"] == len(joined) - 1
    for viewer in joined:
        assert stream.decoded(viewer) == reference


def test_a_payload_type_that_the_viewer_has_not_agreed_on_leaves_no_hole() -> None:
    ward = settled()
    ward.engine.update_track(100, VIDEO)
    doctor = ScriptedPeer(ward.engine, 60, ("192.0.2.6", 7100))
    ward.doctors.append(doctor)
    doctor.join(ward.now)
    other = leg(9100)
    ward.engine.add_leg(
        260, 100, 60, type(other)(mid="7", ssrc=9100, rtx_ssrc=0, cname="cart", payloads=(LegPayload(95, 102),))
    )
    ward.engine.advance(ward.now)
    ward.deliver()
    assert doctor.received == []
