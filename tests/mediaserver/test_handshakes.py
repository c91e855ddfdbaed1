"""Handshakes that a thread carries out: they come to the same as those carried out at once, and are bounded."""

from __future__ import annotations

import select

import pytest

from mediaserver.handshakes import Finished, Handshakes
from mediaserver.sfu.session.dtls import DtlsSession, State
from tests.sfu.session.harness import identity

SERVER, CLIENT = 0, 1


class Pairs:
    """Sessions of clients that work at once, with servers whose steps the thread carries out."""

    def __init__(self, desk: Handshakes, count: int) -> None:
        self.desk = desk
        self.servers = [
            DtlsSession(identity(SERVER), [("sha-256", identity(CLIENT).fingerprint)], desk=desk, number=number)
            for number in range(count)
        ]
        self.clients = [
            DtlsSession(identity(CLIENT), [("sha-256", identity(SERVER).fingerprint)], client=True)
            for _ in range(count)
        ]

    def begin(self) -> None:
        for server, client in zip(self.servers, self.clients, strict=True):
            for datagram in client.start(0):
                server.receive(datagram, 0)

    def take(self) -> list[Finished]:
        """What has been carried out, once there is something."""
        ready, _, _ = select.select([self.desk.event_fd], [], [], 30)
        assert ready, "nothing has come of the steps"
        return self.desk.take()

    def go_on(self, step: Finished) -> None:
        for datagram in self.servers[step.session].finish(step.engine, step.outcome, 0):
            for answer in self.clients[step.session].receive(datagram, 0):
                self.servers[step.session].receive(answer, 0)

    def run(self) -> None:
        while self.desk.waiting:
            for step in self.take():
                self.go_on(step)


def test_many_at_a_time_get_their_keys() -> None:
    desk = Handshakes()
    desk.start()
    try:
        pairs = Pairs(desk, 40)
        pairs.begin()
        assert all(server.state is State.HANDSHAKING for server in pairs.servers)
        pairs.run()
        for server, client in zip(pairs.servers, pairs.clients, strict=True):
            assert server.state is client.state is State.ESTABLISHED
            assert server.keys is not None
            assert client.keys is not None
            assert server.keys.rx_key == client.keys.tx_key
        assert desk.refused == 0
        assert desk.steps >= 80
    finally:
        desk.stop()


def test_what_is_too_much_is_refused_and_comes_again_with_the_peer_s_timer() -> None:
    desk = Handshakes(4)
    pairs = Pairs(desk, 6)
    pairs.begin()  # nobody is at work yet
    assert (desk.waiting, desk.refused) == (4, 2)
    desk.start()
    try:
        pairs.run()
        assert [server.state for server in pairs.servers] == [State.ESTABLISHED] * 4 + [State.HANDSHAKING] * 2
        for number in (4, 5):
            late = pairs.clients[number]
            assert late.deadline is not None
            for datagram in late.tick(late.deadline):
                pairs.servers[number].receive(datagram, late.deadline)
        pairs.run()
        assert all(server.state is State.ESTABLISHED for server in pairs.servers)
    finally:
        desk.stop()


def test_what_comes_of_an_attempt_that_was_given_up_is_passed_over() -> None:
    desk = Handshakes()
    pairs = Pairs(desk, 1)
    pairs.begin()
    (server,) = pairs.servers
    assert server.close() == []
    desk.start()
    try:
        [step] = pairs.take()
        assert step.outcome.out  # the thread has done its part
        assert server.finish(step.engine, step.outcome, 0) == []
        assert server.state is State.CLOSED
    finally:
        desk.stop()


def test_steps_that_wait_at_the_end_are_given_up() -> None:
    desk = Handshakes(8)
    pairs = Pairs(desk, 8)
    pairs.begin()
    desk.stop()
    assert desk.waiting == 8
    del pairs, desk


def test_the_room_for_steps_is_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="power of two, not 12"):
        Handshakes(12)
