"""A peer whose address changes: it is asked where it is now, in virtual time, and nobody else can have its media."""

from __future__ import annotations

import socket

import pytest

from mediaserver.sfu.stream.params import Address
from mediaserver.sfu.wire import rtcp_packets, stun
from mediaserver.sfu.wire.stun import StunRole, StunType
from tests.sfu.stream.test_engine import VP8_DELTA, VP8_KEY, House, sequences

MS = 1000
ELSEWHERE = ("198.51.100.7", 4242)
REMOTE = ("theirs", "their-own-password-000000")


class Line:
    """Between the engine and a peer: `delay` µs each way. It answers the checks that reach it at its own address."""

    def __init__(self, house: House, at: int = -1, delay: int = 20 * MS) -> None:
        self.house = house
        self.peer = house.cart if at < 0 else house.doctors[at]
        self.delay = delay
        self.asked: list[tuple[Address, stun.Stun]] = []
        house.engine.set_remote(self.peer.number, *REMOTE)

    def answer(self, request: stun.Stun, pwd: str = REMOTE[1]) -> bytes:
        return stun.write_success(request.transaction, socket.inet_aton("192.0.2.9"), 7000, pwd.encode())

    def run(self, us: int) -> None:
        """Let time pass; checks are answered by the peer if they are sent to where it is."""
        end = self.house.now + us
        answers: list[tuple[int, bytes, Address]] = []
        while True:
            answers += self.deliver()
            if self.house.now >= end:
                return
            due = min([self.house.engine.deadline(), end, *(when for when, *_ in answers)])
            self.house.now = max(self.house.now + 1, due)
            self.house.engine.advance(self.house.now)
            for _, data, addr in (answer for answer in answers if answer[0] <= self.house.now):
                self.house.engine.receive(data, addr, self.house.now)
            answers = [answer for answer in answers if answer[0] > self.house.now]

    def deliver(self) -> list[tuple[int, bytes, Address]]:
        """What the engine has sent; the peer's answers to checks, with their times of arrival."""
        answers = []
        for data, addr in self.house.engine.transmits():
            if data[:2] == b"\0\1":
                assert stun.verify(data, REMOTE[1].encode())
                request = stun.parse(data)
                self.asked.append((addr, request))
                if addr == self.peer.addr:
                    answers.append((self.house.now + 2 * self.delay, self.answer(request), addr))
                continue
            for peer in (self.house.cart, *self.house.doctors):
                if addr == peer.addr:
                    peer.take(data)
        return answers


def report(ssrc: int = 1) -> bytes:
    return rtcp_packets.write(rtcp_packets.ReceiverReport(ssrc))


def test_a_viewer_that_has_moved_is_asked_and_followed() -> None:
    """It sends a report from its new address, as a browser does every 50 ms; its next check may be 2.5 s away."""
    house = House()
    line = Line(house, 0)
    house.send(VP8_KEY)
    line.peer.send_rtcp(report(), house.now)
    line.run(200 * MS)
    line.peer.addr = ELSEWHERE
    moved = house.now
    line.peer.send_rtcp(report(), house.now)
    line.run(2 * line.delay + 10 * MS)
    [(addr, request)] = line.asked
    assert addr == ELSEWHERE
    assert (request.type, request.role) == (StunType.STUN_BINDING_REQUEST, StunRole.STUN_CONTROLLED)
    assert request.username == f"{REMOTE[0]}:{line.peer.ufrag}".encode()
    house.send(VP8_DELTA)
    assert sequences(line.peer.received)[-1] == sequences(line.peer.received)[0] + 1
    assert house.now - moved < 100 * MS


def test_a_publisher_that_has_moved_is_asked_and_heard() -> None:
    house = House()
    line = Line(house)
    house.send(VP8_KEY)
    line.run(200 * MS)
    line.peer.addr = ELSEWHERE
    line.peer.send(house.plain(VP8_DELTA), house.now, house.sequence - 1 >> 16)
    line.run(100 * MS)
    assert [addr for addr, _ in line.asked] == [ELSEWHERE]
    before = len(house.doctors[0].received)
    house.send(VP8_DELTA)
    assert len(house.doctors[0].received) == before + 1


def test_a_datagram_repeated_from_elsewhere_moves_nobody() -> None:
    """On the way it can be copied and sent first from any address; what is there does not know the password."""
    house = House()
    line = Line(house, 0)
    house.send(VP8_KEY)
    line.peer.send_rtcp(report(), house.now)
    line.run(200 * MS)
    stolen = line.peer._to_server.protect_rtcp(report())
    house.engine.receive(stolen, ELSEWHERE, house.now)
    line.deliver()
    [(addr, request)] = line.asked
    assert addr == ELSEWHERE
    wrong = line.answer(request, "not-their-password-000000")
    for data, source in ((wrong, ELSEWHERE), (line.answer(request), ("198.51.100.7", 4243))):
        house.engine.receive(data, source, house.now)
    house.send(VP8_DELTA)
    assert len(line.peer.received) == 2
    # Answered too late, or twice: neither counts.
    line.run(3000 * MS)
    house.engine.receive(line.answer(request), ELSEWHERE, house.now)
    house.send(VP8_DELTA)
    assert len(line.peer.received) == 3


def test_the_same_datagram_again_asks_nobody() -> None:
    house = House()
    line = Line(house, 0)
    line.peer.send_rtcp(report(), house.now)
    stolen = line.peer._to_server.protect_rtcp(report())
    house.engine.receive(stolen, line.peer.addr, house.now)
    house.wait(200 * MS)
    house.engine.receive(stolen, ELSEWHERE, house.now)
    line.deliver()
    assert line.asked == []


def test_strangers_are_looked_at_within_limits() -> None:
    house = House()
    line = Line(house)
    house.send(VP8_KEY)
    line.deliver()
    guess = line.peer.protect(house.plain(VP8_DELTA), 0)[:12] + bytes(100)
    house.wait(1000 * MS)
    for number in range(1000):
        house.engine.receive(guess, ("203.0.113.1", 1024 + number), house.now)
    line.deliver()
    # One check in 50 ms for a peer, whatever comes: it is sent fewer bytes than it sends.
    assert len(line.asked) == 1
    for _ in range(20):
        house.wait(50 * MS)
        for number in range(50):
            house.engine.receive(guess, ("203.0.113.1", 1024 + number), house.now)
        line.deliver()
    assert len(line.asked) <= 21


@pytest.mark.parametrize("data", [b"\1\1", b"\1\1" + bytes(18), stun.write_success(bytes(12), bytes(4), 1, b"x")])
def test_answers_to_nothing_are_dropped(data: bytes) -> None:
    house = House()
    before = house.engine.counters()["drop_stun"]
    house.engine.receive(data, house.cart.addr, house.now)
    assert house.engine.counters()["drop_stun"] == before + 1


def test_of_two_behind_one_address_each_gets_its_own() -> None:
    """Both view, and report under the same SSRC from the same address: the keys tell them apart."""
    house = House(viewers=2)
    lines = [Line(house, at) for at in range(2)]
    for line in lines:
        line.peer.send_rtcp(report(), house.now)
    house.send(VP8_KEY)
    lines[0].run(200 * MS)
    lines[1].peer.addr = ("192.0.2.2", 9999)
    lines[1].peer.send_rtcp(report(), house.now)
    lines[1].run(60 * MS)
    house.send(VP8_DELTA)
    assert [len(doctor.received) for doctor in house.doctors] == [2, 2]
