"""ICE over TCP on real sockets of the loopback: who may stay, what gets through, what a stalled one costs."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator

import pytest

from mediaserver.sfu.stream.params import EventKind
from mediaserver.sfu.stream.worker import TcpError, Worker
from mediaserver.sfu.wire import packet
from mediaserver.sfu.wire.framing import FrameReader, framed
from tests.sfu.stream.test_engine import VIDEO, leg
from tests.sfu.stream.test_worker import WAIT_S, Client, packets, wait_for
from tests.sim.peer import ScriptedPeer


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(("127.0.0.1", 0), tcp=("127.0.0.1", 0), memory=1 << 26, tcp_connections=300)
    made.start()
    yield made
    made.stop()


class TcpClient(Client):
    """A scripted peer on a connection. `receive_buffer` limits what the kernel takes in for it."""

    def __init__(self, worker: Worker, number: int, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(WAIT_S)
        assert worker.tcp_port is not None
        self.socket.connect(("127.0.0.1", worker.tcp_port))
        self.worker = worker
        self.peer = ScriptedPeer(worker, number, ("127.0.0.1", 1))  # type: ignore[arg-type]
        self.reader = FrameReader()

    def send(self, *datagrams: bytes) -> None:
        self.socket.sendall(b"".join(map(framed, datagrams)))

    def read(self) -> bool:
        """Takes what comes next; False at the end of the connection."""
        data = self.socket.recv(65536)
        for datagram in self.reader.push(data):
            self.peer.take(datagram)
        return bool(data)

    def join(self) -> None:
        peer = self.peer
        self.worker.add_peer(peer.number, peer.ufrag, peer.pwd)
        request = framed(peer.check_request(nominate=True))
        self.socket.sendall(request[:1])
        self.socket.sendall(request[1:30])
        self.socket.sendall(request[30:])
        while not peer.stun or peer.stun[-1].address is None:
            asked = len(peer.stun)
            assert self.read()
            if len(peer.stun) > asked and peer.stun[-1].error_code == 401:  # the worker has not taken it in yet
                self.socket.sendall(framed(peer.check_request(nominate=True)))
        assert peer.stun[-1].address == (socket.inet_aton("127.0.0.1"), self.socket.getsockname()[1])
        rx, tx = peer.keys
        self.worker.set_keys(peer.number, peer.profile, rx[:16], rx[16:], tx[:16], tx[16:])

    def receive(self, count: int) -> list[bytes]:
        while len(self.peer.received) < count:
            assert self.read()
        return self.peer.received


def until(worker: Worker, name: str, wanted: int) -> None:
    """Waits for a counter; its thread goes on by itself."""
    end = time.monotonic() + WAIT_S
    while worker.counters()[name] != wanted:
        assert time.monotonic() < end, f"{name} is {worker.counters()[name]}, not {wanted}"
        time.sleep(0.001)  # another thread's counter has nothing to wait on


def test_media_crosses_from_udp_to_tcp_and_from_tcp_to_udp(worker: Worker) -> None:
    assert worker.tcp_port == worker.port
    cart, doctor, nurse = TcpClient(worker, 1), TcpClient(worker, 2), Client(worker, 3, "127.0.0.1")
    for client in (cart, doctor, nurse):
        client.join()
    worker.add_track(100, 1, VIDEO)
    worker.add_leg(200, 100, 2, leg(7000, 8000))
    worker.add_leg(201, 100, 3, leg(7001, 8001))
    sealed = [cart.peer.protect(plain) for plain in packets(200)]
    for at in range(0, 200, 20):
        if at < 100:
            cart.send(*sealed[at : at + 20])
        else:
            for one in sealed[at : at + 20]:
                cart.socket.sendall(framed(one))
        doctor.receive(at + 20)
        nurse.receive(at + 20)
    for viewer in (doctor, nurse):
        received = viewer.peer.received
        first = packet.parse_rtp(received[0]).sequence
        assert [(packet.parse_rtp(data).sequence - first) & 0xFFFF for data in received] == list(range(200))
    assert worker.counters()["tcp_connections"] == 2
    for client in (cart, doctor, nurse):
        client.socket.close()
    until(worker, "tcp_connections", 0)


def test_a_stalled_viewer_delays_nobody_and_holds_little(worker: Worker) -> None:
    """It reads nothing: what it is owed is bounded, everybody else has all, and it hears its checks answered first."""
    cart, stalled, doctor = Client(worker, 1, "127.0.0.1"), TcpClient(worker, 2, 4096), Client(worker, 3, "127.0.0.1")
    for client in (cart, stalled, doctor):
        client.join()
    worker.add_track(100, 1, VIDEO)
    worker.add_leg(200, 100, 2, leg(7000, 8000))
    worker.add_leg(201, 100, 3, leg(7001, 8001))
    sent = packets(3000)
    for at in range(0, 3000, 20):
        for plain in sent[at : at + 20]:
            cart.socket.send(cart.peer.protect(plain))
        doctor.receive(at + 20)
    assert worker.counters()["drop_tcp_backlog"] > 1000
    stalled.send(stalled.peer.check_request())
    before = len(stalled.peer.stun)
    while len(stalled.peer.stun) == before:
        assert stalled.read()
    # The last that was sent is the newest there is, and what the client holds of it opens: the stream was never torn.
    last = packet.parse_rtp(doctor.peer.received[-1]).timestamp
    while packet.parse_rtp(stalled.peer.received[-1]).timestamp != last:
        assert stalled.read()
    assert len(stalled.peer.received) < 3000 - 1000
    until(worker, "tcp_connections", 1)
    for client in (cart, stalled, doctor):
        client.socket.close()


def test_a_lost_connection_gives_way_to_another_address(worker: Worker) -> None:
    first = TcpClient(worker, 1)
    first.join()
    second = TcpClient(worker, 1)
    second.send(first.peer.check_request())
    assert second.read()
    wait_for(worker, EventKind.CONNECTED, 1)
    first.socket.close()
    moved = wait_for(worker, EventKind.MOVED, 1)
    assert int.from_bytes(moved.data[16:18]) == second.socket.getsockname()[1]
    worker.remove_peer(1)
    assert second.socket.recv(100) == b""  # nobody's any more
    second.socket.close()


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n" * 200, id="another protocol"),
        pytest.param(framed(b"\x80\x60" + bytes(40)), id="media before a check"),
        pytest.param(framed(b"\x16\xfe\xfd" + bytes(40)), id="DTLS before a check"),
        pytest.param((0xFFFF).to_bytes(2), id="a frame too long"),
        pytest.param(framed(b"\0\1" + bytes(18)) * 100, id="check after check that proves nothing"),
    ],
)
def test_hostile_connections_are_closed_at_once(worker: Worker, hostile: bytes) -> None:
    with socket.create_connection(("127.0.0.1", worker.tcp_port or 0), WAIT_S) as stranger:
        stranger.sendall(hostile)
        try:
            while stranger.recv(65536):
                pass
        except ConnectionResetError:
            pass
    until(worker, "tcp_connections", 0)


def test_silent_connections_make_room_for_others(worker: Worker) -> None:
    """Of those that prove nothing there are at most 256; a peer's own stays."""
    doctor = TcpClient(worker, 1)
    doctor.join()
    silent = [socket.create_connection(("127.0.0.1", worker.tcp_port or 0), WAIT_S) for _ in range(280)]
    until(worker, "tcp_accepted", 281)
    assert worker.counters()["tcp_connections"] == 257
    assert worker.counters()["tcp_refused"] == 24
    late = TcpClient(worker, 2)
    late.join()
    for one in silent:
        one.close()
    until(worker, "tcp_connections", 2)
    doctor.socket.close()
    late.socket.close()


def test_frames_of_nothing_mean_nothing(worker: Worker) -> None:
    client = TcpClient(worker, 1)
    client.send(b"", b"")
    client.join()
    client.send(b"")
    client.send(client.peer.check_request())
    assert client.read()
    client.socket.close()


def test_it_ends_with_open_connections_and_leaves_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        made = Worker(("127.0.0.1", 0), tcp=("127.0.0.1", 0), memory=1 << 24)
        made.start()
        client = TcpClient(made, 1)
        client.join()
        made.stop()
        assert select.select([client.socket], [], [], WAIT_S)[0]
        client.socket.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_busy_port_is_told_apart() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(TcpError, match="in use"):
            Worker(("127.0.0.1", 0), tcp=taken.getsockname())
