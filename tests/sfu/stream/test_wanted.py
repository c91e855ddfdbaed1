"""Encodings that nobody has a use for are told, so that their publisher can switch them off."""

from __future__ import annotations

import msgspec

from mediaserver.sfu.stream.params import EventKind, LegPolicy
from mediaserver.sfu.stream.tap import TapRing
from mediaserver.sfu.wire import packet
from mediaserver.sfu.wire.packet import ExtKind
from tests.sfu.stream.test_encodings import SSRCS, START, Simulcast
from tests.sfu.stream.test_engine import VP8_DELTA, VP8_KEY, leg
from tests.sim.peer import ScriptedPeer

SECOND = 1_000_000
RIDS = ("q", "h", "f")
Q, H, F = 1, 2, 4


class Publisher(Simulcast):
    """Sends what it is told to send, as a browser's page does; `told` are the masks with their times in s."""

    def __init__(self, viewers: int = 1) -> None:
        super().__init__(viewers)
        self.wanted = Q | H | F
        self.told: list[tuple[float, int]] = []
        self.fresh: set[str] = set(RIDS)
        self.able = Q | H | F

    def play(self, seconds: float) -> None:
        end = self.now + int(seconds * SECOND)
        while self.now < end:
            on = [rid for at, rid in enumerate(RIDS) if (self.wanted or Q) & self.able & (1 << at)]
            self.fresh -= set(RIDS) - set(on)
            key = not set(on) <= self.fresh or bool(self.asked())
            self.fresh |= set(on)
            self.picture(*on, key=key)
            for event in self.engine.poll_events():
                if event.kind == EventKind.LAYERS_WANTED:
                    assert event.id == 100
                    self.told.append(((event.time - self.began) / SECOND, event.value))
                    self.wanted = event.value

    def wish(self, doctor: int, **policy: int) -> None:
        params = msgspec.structs.replace(leg(7000 + doctor, 8000 + doctor), policy=LegPolicy(**policy))
        self.engine.update_leg(200 + doctor, params)

    def received(self, doctor: int) -> str:
        """Of which encoding the last packet was."""
        return packet.payload_of(self.doctors[doctor].received[-1])[-1:].decode()


class Sized(Publisher):
    """Its encodings are of three sizes: 180, 360 and 720 lines."""

    def picture(self, *rids: str, key: bool = False) -> None:
        for rid in rids:
            height = {"q": 180, "h": 360, "f": 720}[rid]
            head = VP8_KEY[:7] + (height * 16 // 9).to_bytes(2, "little") + height.to_bytes(2, "little")
            self.one(rid, (head if key else VP8_DELTA) + bytes(height))
        self.deliver()
        self.wait(33_000)

    def one(self, rid: str, payload: bytes) -> None:
        number = self.numbers[rid]
        self.numbers[rid] += 1
        names = {ExtKind.EXT_MID: b"1", ExtKind.EXT_RID: rid.encode()}
        plain = packet.write_rtp(
            payload_type=96,
            marker=True,
            sequence=number & 0xFFFF,
            timestamp=START[rid] + self.ticks(),
            ssrc=SSRCS[rid],
            extensions=packet.write_extensions(names, {3: ExtKind.EXT_MID, 10: ExtKind.EXT_RID}),
            payload=payload + rid.encode(),
        )
        self.cart.send(plain, self.now, number >> 16)


def test_below_what_everybody_gets_nothing_is_wanted() -> None:
    house = Sized(2)
    house.play(2.9)
    assert house.told == []
    house.play(20)
    assert [mask for _, mask in house.told] == [F]
    assert house.received(0) == house.received(1) == "f"


def test_each_wish_is_met() -> None:
    house = Sized(2)
    house.wish(0, desired_height=150)
    house.wish(1, max_height=400)
    house.play(8)
    assert house.told[-1][1] == Q | H
    assert (house.received(0), house.received(1)) == ("q", "h")
    house.wish(0)
    began = house.now
    house.play(0.3)
    assert house.told[-1][1] & F
    assert house.told[-1][0] <= (began - house.began) / SECOND + 0.15  # at once
    house.play(8)
    assert house.told[-1][1] == H | F
    assert (house.received(0), house.received(1)) == ("f", "h")


def test_what_a_viewer_is_given_is_told_in_frames_and_pixels() -> None:
    house = Sized()
    house.play(3)
    told = house.engine.leg_stats(200)
    assert (told["width"], told["height"]) == (1280, 720)
    assert 28 <= told["frames"] <= 31
    house.wish(0, max_height=400)
    house.play(1)
    told = house.engine.leg_stats(200)
    assert (told["width"], told["height"]) == (640, 360)
    house.engine.pause_leg(200, True)
    house.play(1)
    told = house.engine.leg_stats(200)
    assert (told["frames"], told["width"], told["height"]) == (0, 0, 0)


def test_who_pauses_needs_nothing_and_who_comes_back_has_it_soon() -> None:
    house = Sized()
    house.play(5)
    house.engine.pause_leg(200, True)
    house.play(5)
    assert [mask for _, mask in house.told] == [F, 0]
    house.engine.pause_leg(200, False)
    house.play(0.3)
    assert house.told[-1][1] & F
    house.play(8)
    assert house.told[-1][1] == F
    assert house.received(0) == "f"
    assert len(house.told) <= 5


def test_a_recorder_keeps_the_best() -> None:
    house = Sized()
    house.wish(0, desired_height=150)
    house.play(5)
    assert house.told[-1][1] == Q
    ring = TapRing(1024)
    house.engine.add_tap(300, 100, ring)
    house.play(0.3)
    assert house.told[-1][1] & (Q | F) == Q | F
    house.play(8)
    assert house.told[-1][1] == Q | F
    house.engine.remove_tap(300)
    house.play(5)
    assert house.told[-1][1] == Q


def test_a_mute_changes_nothing() -> None:
    house = Sized()
    house.play(5)
    house.engine.mute_track(100, True)
    before = len(house.told)
    house.play(5)
    house.engine.mute_track(100, False)
    house.play(5)
    assert {mask for _, mask in house.told[before:]} <= {Q | H | F, F}
    assert house.told[-1][1] == F


def test_where_the_best_does_not_come_what_does_is_kept() -> None:
    house = Sized()
    house.able = Q | H
    house.play(6)
    assert house.wanted & H
    assert house.received(0) == "h"
    house.able = Q | H | F
    house.play(6)
    assert house.told[-1][1] == F
    house.able = Q | H  # its line has become narrow
    house.play(4)
    assert house.wanted & H
    assert house.received(0) == "h"


def test_nothing_flaps() -> None:
    house = Sized(3)
    house.wish(0, desired_height=150)
    house.wish(1, desired_height=300)
    house.play(30)
    assert len(house.told) <= 1
    for _ in range(5):
        house.engine.pause_leg(202, True)
        house.play(1)
        house.engine.pause_leg(202, False)
        house.play(1)
    assert len(house.told) <= 1


def test_who_joins_while_all_is_off_gets_a_picture() -> None:
    house = Sized(0)
    house.play(8)
    assert house.told[-1][1] == 0
    doctor = ScriptedPeer(house.engine, 9, ("192.0.2.9", 6100))
    house.doctors.append(doctor)
    doctor.join(house.now)
    house.engine.add_leg(200, 100, 9, leg(7000, 8000))
    house.play(0.6)
    assert doctor.received
    house.play(6)
    assert house.received(0) == "f"
