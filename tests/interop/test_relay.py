"""The relay itself: what a line delays, loses and holds back is what the relay does to datagrams of real sockets."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest

from mediaserver.loadtest.connect import make_room
from tests.interop.relay import Address, ShaperProcess, relaying
from tests.interop.shape import Direction, find
from tests.sim.network import MS, SECOND, LinkSpec

PATIENCE_S = 30.0
HERE = "127.0.0.1"


def bound() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((HERE, 0))
    opened.settimeout(PATIENCE_S)
    make_room(opened)
    return opened


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with bound() as opened:
        yield opened


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with bound() as opened:
        yield opened


def door() -> Address:
    with bound() as opened:
        return HERE, opened.getsockname()[1]


def send(sender: socket.socket, there: Address, count: int, size: int = 1000) -> None:
    for number in range(count):
        sender.sendto(number.to_bytes(4, "big").ljust(size, b"x"), there)


def numbers(receiver: socket.socket, relay: ShaperProcess, place: Address, way: str) -> list[int]:
    """What comes, until all has come that the line let through."""
    found: list[int] = []
    until = time.monotonic() + PATIENCE_S
    receiver.setblocking(False)
    while time.monotonic() < until:
        while select.select([receiver], [], [], 0.3)[0]:
            found.append(int.from_bytes(receiver.recv(2048)[:4], "big"))
        told = relay.figures()["{}:{}".format(*place)][way]
        if len(found) >= told["packets"] - told["lost_packets"] - told["overflowed_packets"]:
            break
    receiver.settimeout(PATIENCE_S)
    return found


def test_each_peer_has_a_socket_of_its_own_and_answers_find_it(server: socket.socket) -> None:
    place = door()
    with relaying(server.getsockname(), {place: "direct"}), bound() as one, bound() as other:
        seen = {}
        for sender in (one, other):
            sender.sendto(b"who", place)
            _, seen[sender.getsockname()] = server.recvfrom(100)
        assert len(set(seen.values())) == 2
        for back in seen.values():
            server.sendto(str(back).encode(), back)
        for receiver in (one, other):
            data, source = receiver.recvfrom(100)
            assert data.decode() == str(seen[receiver.getsockname()])
            assert source == place


def test_a_delay_is_at_least_the_lines(server: socket.socket, peer: socket.socket) -> None:
    place = door()
    with relaying(server.getsockname(), {place: "4m-40ms"}) as relay:
        began = time.monotonic()
        peer.sendto(b"ping", place)
        data, back = server.recvfrom(100)
        there = time.monotonic()
        server.sendto(data, back)
        peer.recv(100)
        assert there - began >= 0.040
        assert time.monotonic() - there >= 0.040
        told = relay.figures()["{}:{}".format(*place)]
    assert told["up"]["packets"] == told["down"]["packets"] == 1
    assert told["up"]["lost"] == told["up"]["overflow"] == 0


def test_a_queue_overflows_and_the_rest_keeps_its_order(server: socket.socket, peer: socket.socket) -> None:
    place = door()
    with relaying(server.getsockname(), {place: "1.2m"}) as relay:
        send(peer, place, 1)
        server.recv(2048)
        relay.begin()
        relay.figures()  # a command is obeyed before the next is
        send(peer, place, 200)
        came = numbers(server, relay, place, "up")
        told = relay.figures()["{}:{}".format(*place)]["up"]
    assert came == sorted(came)
    assert told["packets"] == 200
    assert 0 < told["overflowed_packets"] == 200 - len(came)
    assert told["queue_max_ms"] <= 1.1 * find("1.2m").up.queue * 8 / 2_000_000 * 1000


def test_a_share_is_lost(server: socket.socket, peer: socket.socket) -> None:
    place = door()
    with relaying(server.getsockname(), {place: "loss-3"}) as relay:
        peer.sendto(b"hello", place)
        _, back = server.recvfrom(100)
        relay.begin()
        relay.figures()
        send(server, back, 1000, size=60)
        came = numbers(peer, relay, place, "down")
        told = relay.figures()["{}:{}".format(*place)]["down"]
    assert told["packets"] == 1000
    assert told["overflowed_packets"] == 0
    assert len(came) == 1000 - told["lost_packets"]
    assert 10 <= told["lost_packets"] <= 60
    assert told["late_p50_ms"] >= 0


def test_time_begins_when_told() -> None:
    spec = LinkSpec(steps=((0, 1_000_000), (SECOND, 8_000_000)), delay=0, outages=((0, 10 * MS),))
    direction = Direction(spec, 1, 0)
    assert direction.offer(5 * SECOND, bytes(972)) == 5 * SECOND + 8 * MS
    direction.begin(6 * SECOND)
    assert direction.offer(6 * SECOND + MS, bytes(972)) == -1
    assert direction.offer(6 * SECOND + 20 * MS, bytes(972)) == 6 * SECOND + 28 * MS
    assert direction.offer(7 * SECOND + MS, bytes(972)) == 7 * SECOND + 2 * MS
    assert direction.offer(7 * SECOND, bytes(972)) == 7 * SECOND + 3 * MS  # a stamp from before the last one
    told = direction.figures(8 * SECOND)
    assert told["packets"] == 4
    assert told["lost_packets"] == 1
    assert told["kbps_by_second"] == [8, 16]
