"""A worker on real sockets of the loopback."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator

import pytest

from mediaserver.sfu.stream.params import EventKind, PlaneEvent
from mediaserver.sfu.stream.tap import TapRing
from mediaserver.sfu.stream.worker import Worker
from mediaserver.sfu.wire import packet
from tests.sfu.stream.test_engine import VIDEO, VP8_DELTA, VP8_KEY, leg
from tests.sim.peer import ScriptedPeer

WAIT_S = 10
JOINS = 1000
COMMANDS = 2000
UDP_SEGMENT = 103


class Client:
    """A scripted peer with a socket of its own."""

    def __init__(self, worker: Worker, number: int, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.settimeout(WAIT_S)
        self.socket.connect((host, worker.port))
        self.worker = worker
        self.peer = ScriptedPeer(worker, number, (host, 1))  # type: ignore[arg-type]

    def join(self) -> None:
        peer = self.peer
        self.worker.add_peer(peer.number, peer.ufrag, peer.pwd)
        self.socket.send(peer.check_request(nominate=True))
        peer.take(self.socket.recv(2048))
        assert peer.stun[-1].address == (
            socket.inet_pton(self.socket.family, self.socket.getsockname()[0]),
            self.socket.getsockname()[1],
        )
        rx, tx = peer.keys
        self.worker.set_keys(peer.number, peer.profile, rx[:16], rx[16:], tx[:16], tx[16:])

    def receive(self, count: int) -> list[bytes]:
        while len(self.peer.received) < count:
            self.peer.take(self.socket.recv(2048))
        return self.peer.received


def wait_for(worker: Worker, kind: EventKind, identifier: int) -> PlaneEvent:
    while True:
        ready, _, _ = select.select([worker.event_fd], [], [], WAIT_S)
        assert ready, f"no {kind.name} for {identifier}"
        for event in worker.poll_events():
            if (event.kind, event.id) == (kind, identifier):
                return event


@pytest.fixture(params=["127.0.0.1", "0.0.0.0", "::1", "::"])
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    try:
        made = Worker((request.param, 0), memory=1 << 26)
    except OSError:
        if ":" not in request.param:
            raise
        pytest.skip("this machine has no IPv6")
    made.start()
    yield made
    made.stop()


def packets(count: int, size: int = 1100) -> list[bytes]:
    made = []
    for i in range(count):
        payload = (VP8_KEY if i == 0 else VP8_DELTA) + bytes(size)
        made.append(
            packet.write_rtp(payload_type=96, marker=True, sequence=i, timestamp=i, ssrc=1234, payload=payload[:size])
        )
    return made


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_bursts_cross_whole_and_in_order(worker: Worker, host: str) -> None:
    if (":" in host) != (":" in worker.host) and worker.host != "::":
        pytest.skip("another family")
    cart, doctor = Client(worker, 1, host), Client(worker, 2, host)
    cart.join()
    doctor.join()
    worker.add_track(100, 1, VIDEO)
    worker.add_leg(200, 100, 2, leg(7000, 8000))
    ring = TapRing(256)
    worker.add_tap(300, 100, ring)
    sealed = [cart.peer.protect(plain) for plain in packets(60)]
    for at in range(0, 60, 20):  # as a browser sends a frame: a burst of equal packets
        cart.socket.sendmsg([b"".join(sealed[at : at + 20])], [(17, UDP_SEGMENT, len(sealed[0]).to_bytes(2, "little"))])
    received = doctor.receive(60)
    first = packet.parse_rtp(received[0]).sequence
    assert [(packet.parse_rtp(data).sequence - first) & 0xFFFF for data in received] == list(range(60))
    assert len(ring.read(1000)) == 60
    wait_for(worker, EventKind.LEG_LIVE, 200)
    worker.remove_peer(1)
    wait_for(worker, EventKind.REMOVED, 1)
    counters = worker.counters()
    assert counters["rtp_in"] == 60
    assert counters["rtp_out"] == 60
    buckets, total = worker.latency_histogram()
    assert sum(count for _, count in buckets) == 60
    assert total > 0
    cart.socket.close()
    doctor.socket.close()


def test_a_picture_whose_end_never_comes_reaches_those_who_watch() -> None:
    """The worker waits for the rest of a picture that many watch, but not for long."""
    worker = Worker(("127.0.0.1", 0), memory=1 << 26)
    worker.start()
    cart, doctors = Client(worker, 1, "127.0.0.1"), [Client(worker, 2 + i, "127.0.0.1") for i in range(5)]
    for client in (cart, *doctors):
        client.join()
    worker.add_track(100, 1, VIDEO)
    for i, doctor in enumerate(doctors):
        worker.add_leg(200 + i, 100, doctor.peer.number, leg(7000 + i, 8000 + i))
    for number in range(30):
        payload = (VP8_KEY if number == 0 else VP8_DELTA) + bytes(800)
        plain = packet.write_rtp(
            payload_type=96, marker=False, sequence=number, timestamp=number // 3, ssrc=1234, payload=payload
        )
        cart.socket.send(cart.peer.protect(plain))
        if number % 10 == 9:
            for doctor in doctors:
                sent = [packet.parse_rtp(data).sequence for data in doctor.receive(number + 1)]
                assert [(sequence - sent[0]) & 0xFFFF for sequence in sent] == list(range(number + 1))
    assert worker.counters()["rtp_out"] == 150
    worker.stop()
    for client in (cart, *doctors):
        client.socket.close()


def test_it_ends_at_once_and_leaves_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    threads = threading.active_count()
    for _ in range(20):
        made = Worker(("127.0.0.1", 0), memory=1 << 24)
        made.start()
        made.add_peer(1, "abcd", "p" * 24)
        made.stop()
    assert len(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads


def test_a_busy_port_is_an_error_of_the_system() -> None:
    made = Worker(("127.0.0.1", 0))
    with pytest.raises(OSError, match="in use"):
        Worker(("127.0.0.1", made.port))
    made.stop()


def test_more_commands_than_the_ring_holds_are_all_carried_out() -> None:
    made = Worker(("127.0.0.1", 0))
    for i in range(1, 20_001):
        made.add_peer(i, f"u{i}", "p" * 24)
    for i in range(1, 20_001):
        made.remove_peer(i)
    made.start()
    gone = set[int]()
    while len(gone) < 20_000:
        ready, _, _ = select.select([made.event_fd], [], [], WAIT_S)
        assert ready
        gone |= {event.id for event in made.poll_events() if event.kind == EventKind.REMOVED}
    made.stop()


def test_who_checks_as_soon_as_it_may_is_known(worker: Worker) -> None:
    """The command that adds a peer stands in the ring before its answer leaves, so before its check: however busy the
    worker is, it carries that out first. Somebody floods it meanwhile, so that it is nearly always within a turn."""
    client = Client(worker, 1, worker.host.replace("0.0.0.0", "127.0.0.1") if worker.host != "::" else "::1")
    stop = threading.Event()

    def flood() -> None:
        with socket.socket(client.socket.family, socket.SOCK_DGRAM) as noise:
            noise.connect(client.socket.getpeername())
            while not stop.is_set():
                noise.send(bytes([0x80]) + bytes(100))

    noisy = threading.Thread(target=flood)
    noisy.start()
    try:
        for number in range(1, JOINS + 1):
            peer = ScriptedPeer(worker, number, ("127.0.0.1", 1))
            check = peer.check_request(nominate=True)
            worker.add_peer(number, peer.ufrag, peer.pwd)
            client.socket.send(check)
            peer.take(client.socket.recv(2048))
            assert peer.stun[-1].address is not None, f"join {number} was refused"
            worker.remove_peer(number)
    finally:
        stop.set()
        noisy.join()
        client.socket.close()


def test_many_commands_are_no_reason_to_refuse_a_check() -> None:
    """They are carried out a few at a time, for packets wait meanwhile. Who is not known yet is not refused."""
    worker = Worker(("127.0.0.1", 0), memory=1 << 26)
    client = Client(worker, COMMANDS, "127.0.0.1")
    for number in range(1, COMMANDS):
        worker.add_peer(number, f"ufrag{number}", "p" * 24)
    worker.add_peer(COMMANDS, client.peer.ufrag, client.peer.pwd)
    client.socket.send(client.peer.check_request(nominate=True))
    client.socket.settimeout(0.1)
    worker.start()
    try:
        while not client.peer.stun:
            try:
                client.peer.take(client.socket.recv(2048))
            except TimeoutError:
                client.socket.send(client.peer.check_request(nominate=True))
        assert client.peer.stun[-1].address is not None
    finally:
        worker.stop()
        client.socket.close()
