"""A tap is opened at the moment of a consent: nothing that had been sent by then reaches it, however late it comes."""

from __future__ import annotations

import random
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediaserver.codecs.payload import Codec
from mediaserver.sfu.stream.params import PayloadParams
from mediaserver.sfu.stream.tap import TapRing
from mediaserver.sfu.wire import packet
from mediaserver.sfu.wire.packet import ExtKind
from tests.sfu.stream.test_encodings import SSRCS, START, Simulcast
from tests.sfu.stream.test_engine import AUDIO, MS, VP8_DELTA, VP8_KEY, House

RTX = {"q": 111, "h": 222, "f": 333}
TAP, TRACK, SOUND = 900, 100, 101
SECOND = 1000 * MS
RED = msgspec.structs.replace(
    AUDIO,
    payloads=(PayloadParams(63, Codec.CODEC_RED, 48000), PayloadParams(111, Codec.CODEC_OPUS, 48000, nack=True)),
    extensions=((3, ExtKind.EXT_MID),),
)


@dataclass
class Sent:
    """A packet of a picture as it was sent first; `at` stands in its payload too."""

    rid: str
    number: int
    timestamp: int
    at: int
    payload: bytes


class Line(Simulcast):
    """A publisher of three encodings whose line may lose what it sends; what was lost may be sent again."""

    def __init__(self) -> None:
        super().__init__(viewers=1)
        self.lost: list[Sent] = []
        self.repairs = 0
        self.ring = TapRing(4096)

    def consent(self, *, from_now: bool = True) -> int:
        self.engine.add_tap(TAP, TRACK, self.ring, from_now=from_now)
        self.engine.advance(self.now)
        return self.now

    def send_picture(
        self, rid: str, *, key: bool = False, packets: int = 2, lose: frozenset[int] = frozenset()
    ) -> None:
        """A picture of some packets; those that are lost can be sent again."""
        for index in range(packets):
            number = self.numbers[rid]
            self.numbers[rid] += 1
            begins = VP8_KEY if key else VP8_DELTA
            head = begins if index == 0 else b"\x00"  # no start of a partition: the picture goes on
            sent = Sent(
                rid, number, START[rid] + self.ticks(), self.now, head + rid.encode() + self.now.to_bytes(8, "big")
            )
            if index in lose:
                self.lost.append(sent)
            else:
                self.arrive(sent, last=index == packets - 1)
        self.deliver()

    def arrive(self, sent: Sent, *, last: bool) -> None:
        names = {ExtKind.EXT_MID: b"1", ExtKind.EXT_RID: sent.rid.encode()}
        plain = packet.write_rtp(
            payload_type=96,
            marker=last,
            sequence=sent.number & 0xFFFF,
            timestamp=sent.timestamp & 0xFFFFFFFF,
            ssrc=SSRCS[sent.rid],
            extensions=packet.write_extensions(names, {3: ExtKind.EXT_MID, 10: ExtKind.EXT_RID}),
            payload=sent.payload,
        )
        self.cart.send(plain, self.now, sent.number >> 16)

    def resend(self, sent: Sent) -> None:
        """RFC 4588: asked for or not, as publishers probe with copies too."""
        names = {ExtKind.EXT_MID: b"1", ExtKind.EXT_RRID: sent.rid.encode()}
        self.repairs += 1
        plain = packet.write_rtp(
            payload_type=97,
            marker=True,
            sequence=self.repairs,
            timestamp=sent.timestamp & 0xFFFFFFFF,
            ssrc=RTX[sent.rid],
            extensions=packet.write_extensions(names, {3: ExtKind.EXT_MID, 11: ExtKind.EXT_RRID}),
            payload=(sent.number & 0xFFFF).to_bytes(2, "big") + sent.payload,
        )
        self.cart.send(plain, self.now)
        self.deliver()

    def taken(self) -> list[tuple[str, int]]:
        """Encoding and time of sending of each packet that the tap has got."""
        found = [entry[7] for entry in self.ring.read(4096) if entry[0] == 0]
        return [(payload[-9:-8].decode(), int.from_bytes(payload[-8:], "big")) for payload in found]


def test_a_lost_key_picture_of_another_encoding_begins_nothing_when_it_is_resent_after_the_consent() -> None:
    line = Line()
    line.send_picture("q", key=True)
    line.send_picture("f", key=True)
    line.wait(33 * MS)
    line.send_picture("q", key=True, packets=1, lose=frozenset({0}))
    line.wait(33 * MS)
    line.send_picture("f")
    line.send_picture("q")  # shows the loss
    opened = line.consent()
    line.wait(1100 * MS)  # the highest encoding is switched off
    line.send_picture("q")
    line.resend(line.lost[0])
    assert line.taken() == []
    line.wait(133 * MS)
    line.send_picture("q", key=True)
    got = line.taken()
    assert [rid for rid, _ in got] == ["q", "q"]
    assert all(at > opened for _, at in got)


def test_a_copy_that_probes_with_what_nobody_had_missed_is_of_before_the_consent() -> None:
    line = Line()
    line.send_picture("f", key=True)
    line.wait(33 * MS)
    line.send_picture("f", key=True, lose=frozenset({0, 1}))  # nothing that would show the loss
    line.wait(10 * MS)
    line.consent()
    line.wait(10 * MS)
    line.resend(line.lost[0])
    line.resend(line.lost[1])
    assert line.taken() == []
    line.wait(103 * MS)
    line.send_picture("f", key=True)
    assert [rid for rid, _ in line.taken()] == ["f", "f"]


def test_a_refused_key_picture_is_asked_for_again() -> None:
    line = Line()
    line.send_picture("f", key=True)
    line.wait(33 * MS)
    line.send_picture("f", key=True, packets=1, lose=frozenset({0}))
    line.consent()
    line.wait(700 * MS)
    line.asked()
    line.resend(line.lost[0])
    line.wait(700 * MS)
    assert SSRCS["f"] in line.asked()


@pytest.mark.parametrize(("from_now", "limit_ms"), [(True, 200), (False, 70)])
def test_the_first_key_picture_that_may_come_in_is_the_one_that_is_asked_for(from_now: bool, limit_ms: int) -> None:
    """A publisher that answers at once with a key picture."""
    line = Line()
    line.send_picture("f", key=True)
    for _ in range(40):
        line.wait(33 * MS)
        line.send_picture("f")
    line.asked()
    opened = line.consent(from_now=from_now)
    keys = []
    while not keys or line.now - opened < SECOND:
        line.wait(33 * MS)
        wanted = SSRCS["f"] in line.asked()
        if wanted:
            keys.append(line.now)
        line.send_picture("f", key=wanted)
    got = [at for _, at in line.taken()]
    assert len(keys) == 1, "no picture was made for nothing"
    assert keys[0] - opened <= limit_ms * MS
    assert keys[0] in got


def test_of_a_source_that_is_still_the_key_picture_is_asked_for_all_the_same() -> None:
    line = Line()
    line.send_picture("f", key=True)
    line.wait(33 * MS)
    line.asked()
    line.consent()
    line.wait(100 * MS)
    assert line.asked() == set()
    line.wait(200 * MS)
    assert line.asked() == {SSRCS["f"]}


@pytest.mark.parametrize("stuck", [True, False])
def test_timestamps_that_do_not_go_on_keep_nothing_out_for_good(stuck: bool) -> None:
    """They stand still, or an encoder has begun anew far in the past."""
    house = House()
    timestamp = 900_000_000
    for _ in range(10):
        house.send(VP8_KEY, timestamp=timestamp)
        house.wait(33 * MS)
    ring = TapRing(4096)
    house.engine.add_tap(TAP, TRACK, ring)
    got = []
    for turn in range(300):
        house.wait(33 * MS)
        house.send(VP8_KEY, timestamp=timestamp if stuck else 1000 + 3000 * turn)
        got.append(len(ring.read(100)))
    assert sum(got[:150]) == 0
    assert got[190:] == [1] * 110


def test_a_copy_is_no_sign_of_timestamps_that_do_not_go_on() -> None:
    """A source that was silent for long probes with what was lost before the consent."""
    line = Line()
    line.send_picture("f", key=True)
    line.wait(33 * MS)
    line.send_picture("f", key=True, lose=frozenset({0, 1}))
    line.consent()
    line.wait(10 * SECOND)
    line.resend(line.lost[0])
    line.resend(line.lost[1])
    assert line.taken() == []


def test_after_a_day_a_floor_keeps_nothing_out() -> None:
    line = Line()
    line.send_picture("f", key=True)
    line.consent()
    line.now += 100_000 * SECOND  # the timestamps wrap twice
    line.engine.advance(line.now)
    line.cart.check(line.now, nominate=True)
    line.deliver()
    line.send_picture("f", key=True)
    assert len(line.taken()) == 2


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    consent=st.integers(1, 30),
    after=st.integers(10, 60),
    loss=st.sampled_from([0.05, 0.2, 0.5]),
    again=st.sampled_from([0.1, 0.4, 0.9]),
)
def test_nothing_of_before_the_consent_reaches_the_tap(
    seed: int, consent: int, after: int, loss: float, again: float
) -> None:
    """Loss and resending around the consent, of every encoding; encodings are switched off and on."""
    draw = random.Random(seed)
    line, opened = Line(), 0
    active = {"q", "h", "f"}
    for turn in range(consent + after):
        if turn == consent:
            opened = line.consent()
            line.wait(1)
        if draw.random() < 0.05:
            active = set(draw.sample("qhf", draw.randint(1, 3)))
            if draw.random() < 0.5:
                line.wait(1200 * MS)
        for rid in sorted(active):
            gone = frozenset(index for index in range(3) if draw.random() < loss)
            line.send_picture(rid, key=draw.random() < 0.3, packets=3, lose=gone)
        draw.shuffle(line.lost)
        for sent in [sent for sent in line.lost if draw.random() < again]:
            line.wait(draw.randint(0, 3 * MS))
            line.resend(sent)
            if draw.random() < 0.7:
                line.lost.remove(sent)
        line.wait(33 * MS)
    for rid, at in line.taken():
        assert at > opened, f"{rid}: of {opened - at} µs before the consent"


class Sound(House):
    """A voice in RED with two copies, of 20 ms each."""

    def __init__(self) -> None:
        super().__init__()
        self.engine.add_track(SOUND, 1, msgspec.structs.replace(RED, mid="2"))
        self.numbers = 30
        self.began = self.now
        self.frames: list[tuple[int, bytes]] = []
        self.arrived: list[int] = []
        self.ring = TapRing(4096)

    def say(self, *, lost: bool = False) -> None:
        timestamp = 70_000 + (self.now - self.began) * 48 // 1000
        own = b"\x78" + self.now.to_bytes(8, "big")
        blocks = b""
        for at, frame in self.frames[-2:]:
            age = timestamp - at
            blocks += bytes([0x80 | 111, age >> 6 & 0xFF, (age & 0x3F) << 2 | len(frame) >> 8, len(frame) & 0xFF])
        payload = blocks + bytes([111]) + b"".join(frame for _, frame in self.frames[-2:]) + own
        self.frames.append((timestamp, own))
        number = self.numbers
        self.numbers += 1
        if lost:
            return
        self.arrived.append(self.now)
        plain = packet.write_rtp(
            payload_type=63, marker=False, sequence=number, timestamp=timestamp, ssrc=777,
            extensions=packet.write_extensions({ExtKind.EXT_MID: b"2"}, {3: ExtKind.EXT_MID}), payload=payload,
        )  # fmt: skip
        self.cart.send(plain, self.now)
        self.deliver()

    def taken(self) -> list[int]:
        return [int.from_bytes(entry[7][1:9], "big") for entry in self.ring.read(4096) if entry[0] == 0]


@settings(max_examples=60, deadline=None)
@given(lost=st.lists(st.booleans(), min_size=40, max_size=40), consent=st.integers(2, 20))
def test_copies_in_red_bring_nothing_of_before_the_consent(lost: list[bool], consent: int) -> None:
    house, opened = Sound(), 0
    for turn, gone in enumerate(lost):
        if turn == consent:
            house.engine.add_tap(TAP, SOUND, house.ring)
            opened = house.now
            house.engine.advance(opened)
            house.wait(7 * MS)
        house.say(lost=gone and turn > 0)
        house.wait(20 * MS)
    got = house.taken()
    # The Opus of a packet may hold a copy of the one before it (RFC 6716, section 2.1.7).
    assert all(at - 20 * MS > opened for at in got)
    assert {at for at in house.arrived if at > opened + 180 * MS} <= set(got), "and it keeps out no more than that"
