"""Simulcast: a track of several encodings leaves as one stream."""

from __future__ import annotations

import itertools

import msgspec

from mediaserver.sfu.stream.tap import TapRing
from mediaserver.sfu.wire import packet, rtcp_packets
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.rtcp_packets import PictureLoss, SenderReport
from tests.sfu.stream.test_engine import MS, VIDEO, VP8_DELTA, VP8_KEY, House, sequences

SIMULCAST = msgspec.structs.replace(
    VIDEO,
    rids=("q", "h", "f"),
    extensions=(*VIDEO.extensions, (10, ExtKind.EXT_RID), (11, ExtKind.EXT_RRID)),
)
SSRCS = {"q": 11, "h": 22, "f": 33}
START = {"q": 1000, "h": 500_000, "f": 900_000}  # of their timestamps
STARTED = 3_900_000_000 << 32  # NTP


class Simulcast(House):
    """A publisher of three encodings; `picture` sends a frame of some of them at once."""

    def __init__(self, viewers: int = 1) -> None:
        super().__init__(viewers)
        self.engine.update_track(100, SIMULCAST)
        self.numbers = {"q": 10, "h": 65_500, "f": 30}
        self.began = self.now

    def ticks(self) -> int:
        return (self.now - self.began) * 90 // 1000

    def picture(self, *rids: str, key: bool = False) -> None:
        for rid in rids:
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
                payload=(VP8_KEY if key else VP8_DELTA) + bytes(SSRCS[rid] * 10) + rid.encode(),
            )
            self.cart.send(plain, self.now, number >> 16)
        self.deliver()
        self.wait(33 * MS)

    def report(self, *rids: str) -> None:
        for rid in rids:
            ntp = STARTED + ((self.now - self.began) << 32) // 1_000_000
            report = SenderReport(SSRCS[rid], ntp, START[rid] + self.ticks(), 1, 100)
            self.cart.send_rtcp(rtcp_packets.write(report), self.now)

    def seen(self, doctor: int = 0) -> str:
        """Which encodings a doctor got, packet by packet."""
        return "".join(packet.payload_of(data)[-1:].decode() for data in self.doctors[doctor].received)

    def asked(self) -> set[int]:
        """SSRCs of which a keyframe was asked since the last call."""
        items = [item for report in self.cart.reports for item in rtcp_packets.read(report)]
        self.cart.reports.clear()
        return {item.media_ssrc for item in items if isinstance(item, PictureLoss)}


def test_the_best_encoding_that_is_alive_is_forwarded_without_a_gap() -> None:
    house = Simulcast()
    house.picture("q", key=True)
    house.picture("q", "h", "f")
    house.report("q", "h", "f")
    for _ in range(19):
        house.picture("q", "h", "f")
    assert SSRCS["f"] in house.asked()
    house.picture("q", "h", "f", key=True)
    for _ in range(5):
        house.picture("q", "h", "f")
    for _ in range(46):  # the publisher's line grew thin: it stops the highest
        house.picture("q", "h")
    assert SSRCS["h"] in house.asked()
    house.picture("q", "h", key=True)
    house.picture("q", "h")
    # The lower encodings of a picture come first, so that of the turn is seen twice.
    assert house.seen() == 22 * "q" + 6 * "f" + 2 * "h"
    received = [packet.parse_rtp(data) for data in house.doctors[0].received]
    assert {one.ssrc for one in received} == {7000}
    assert {(b - a) & 0xFFFF for a, b in itertools.pairwise(sequences(house.doctors[0].received))} == {1}
    # By the sender reports the timestamps go on as if there were one encoder: 33 ms a picture, 46 pictures left out.
    steps = [(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(received)]
    assert steps[21] == 1
    assert all(abs(step - 2970) <= 2 for step in steps[:21] + steps[22:27] + steps[28:])
    assert abs(steps[27] - 47 * 2970) <= 45


def test_without_sender_reports_the_time_goes_on_by_the_clock() -> None:
    house = Simulcast()
    house.picture("q", key=True)
    for _ in range(10):
        house.picture("q", "f")
    house.picture("q", "f", key=True)
    house.picture("q", "f")
    assert house.seen() == "q" * 12 + "ff"
    received = [packet.parse_rtp(data) for data in house.doctors[0].received]
    steps = [(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(received)]
    assert steps[11] == 1
    assert all(abs(step - 2970) <= 100 for step in steps[:11] + steps[12:])


def test_a_recorder_gets_the_best_encoding() -> None:
    house = Simulcast()
    ring = TapRing(256)
    house.engine.add_tap(900, 100, ring)
    house.picture("q", key=True)
    house.picture("q", "f")
    house.picture("q", "f", key=True)
    house.picture("q", "f")
    got = "".join(entry[7][-1:].decode() for entry in ring.read(100) if entry[0] == 0)
    assert got == "qqqff"


def test_an_encoding_of_no_agreed_rid_is_nobodys() -> None:
    house = Simulcast()
    SSRCS["x"], START["x"] = 44, 0
    house.numbers["x"] = 5
    house.picture("x", key=True)
    assert house.doctors[0].received == []
    assert house.engine.counters()["drop_unknown_ssrc"] == 1
    del SSRCS["x"], START["x"]


def test_repairs_go_to_their_encoding() -> None:
    house = Simulcast()
    house.picture("q", "f", key=True)
    house.picture("q", "f")
    house.numbers["f"] += 1
    house.picture("q", "f")
    lost = house.numbers["f"] - 2
    names = {ExtKind.EXT_MID: b"1", ExtKind.EXT_RRID: b"f"}
    repair = packet.write_rtp(
        payload_type=97,
        marker=True,
        sequence=5,
        timestamp=START["f"] + house.ticks(),
        ssrc=333,
        extensions=packet.write_extensions(names, {3: ExtKind.EXT_MID, 11: ExtKind.EXT_RRID}),
        payload=lost.to_bytes(2, "big") + VP8_DELTA + b"f",
    )
    house.cart.send(repair, house.now)
    house.deliver()
    assert house.engine.counters()["recovered"] == 1
