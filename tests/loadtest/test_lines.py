"""The relay between peers and a server: what its lines do to packets, over real sockets."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from mediaserver.loadtest.lines import LineParams, LinesError, lines_process, params_of
from mediaserver.loadtest.relay import Relay
from mediaserver.loadtest.scenario import Line, Outage
from tests.loadtest.running import asynchronous

Address = tuple[str, int]
MEDIA = 128
"""A first byte of RTP (RFC 7983)."""


def bound() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(("127.0.0.1", 0))
    opened.settimeout(20)
    return opened


@pytest.fixture
def relay() -> Iterator[Relay]:
    made = Relay()
    made.start()
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with bound() as opened:
        yield opened


def enter(relay: Relay, server: socket.socket, **params: float) -> Address:
    return relay.door(relay.line(LineParams(**params)), ("127.0.0.1", 0), server.getsockname())


def drained(relay: Relay, offered: int) -> dict[str, int]:
    """The figures when every packet that was offered has met its end."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        figures = relay.figures()
        if sum(figures[name] for name in ("carried", "lost", "queued_out", "cut")) >= offered:
            return figures
        time.sleep(0.01)
    raise AssertionError(relay.figures())


def test_both_ways_are_carried_and_peers_kept_apart(relay: Relay, server: socket.socket) -> None:
    door = enter(relay, server)
    with bound() as one, bound() as other:
        for peer, word in ((one, b"one"), (other, b"other")):
            peer.sendto(word, door)
        seen = dict(server.recvfrom(100) for _ in range(2))
        assert set(seen) == {b"one", b"other"}
        for word, address in seen.items():
            server.sendto(b"to " + word, address)
        assert one.recvfrom(100) == (b"to one", door)
        assert other.recvfrom(100) == (b"to other", door)
        one.sendto(b"again", door)
        assert server.recvfrom(100) == (b"again", seen[b"one"])
    assert relay.figures()["carried"] == 5


def test_nothing_comes_before_its_delay_and_nothing_overtakes(relay: Relay, server: socket.socket) -> None:
    door = enter(relay, server, delay_ns=50_000_000, jitter_ns=30_000_000)
    with bound() as peer:
        began = time.monotonic()
        for number in range(50):
            peer.sendto(bytes([MEDIA, number]), door)
        came = [server.recv(100)[1] for _ in range(50)]
    assert time.monotonic() - began >= 0.05
    assert came == list(range(50))


def test_a_line_carries_no_more_than_its_rate_and_its_queue(relay: Relay, server: socket.socket) -> None:
    # 100 packets of 1,000 bytes with their headers are 822 kbit: a queue of 0.2 s at 1 Mbit/s holds a quarter of them.
    door = enter(relay, server, bits_up=1e6, queue_ns=200_000_000)
    with bound() as peer:
        began = time.monotonic()
        for _ in range(100):
            peer.sendto(bytes([MEDIA]) + bytes(999), door)
        figures = drained(relay, 100)
        took = time.monotonic() - began
    assert figures["queued_out"] > 0
    assert took >= figures["carried"] * 1028 * 8 / 1e6 - 0.01


def test_loss_is_what_was_asked_for(relay: Relay, server: socket.socket) -> None:
    door = enter(relay, server, loss_up=0.3)
    with bound() as peer:
        for _ in range(2000):
            peer.sendto(bytes([MEDIA]), door)
        figures = drained(relay, 2000)
    assert 450 < figures["lost"] < 750
    assert figures["carried"] + figures["lost"] == 2000


def test_an_outage_cuts_everything_for_its_time(relay: Relay, server: socket.socket) -> None:
    number = relay.line(LineParams())
    door = relay.door(number, ("127.0.0.1", 0), server.getsockname())
    with bound() as peer:
        relay.outage(number, 0, time.monotonic_ns() + 3600 * 10**9)
        peer.sendto(b"lost", door)
        drained(relay, 1)
        relay.outage(number, 0, 1)
        peer.sendto(b"found", door)
        assert server.recv(100) == b"found"
    assert relay.figures()["cut"] == 1


def test_a_fault_can_hit_the_media_of_one_peer_alone(relay: Relay, server: socket.socket) -> None:
    door = enter(relay, server, loss_down=1.0, victim=1)
    with bound() as one, bound() as victim:
        addresses = []
        for peer in (one, victim):
            peer.sendto(b"\1", door)
            addresses.append(server.recvfrom(100)[1])
        for address in addresses:
            server.sendto(bytes([MEDIA]), address)
            server.sendto(b"\1", address)
        assert [one.recv(100), one.recv(100)] == [bytes([MEDIA]), b"\1"]
        assert victim.recv(100) == b"\1"
    assert relay.figures()["lost"] == 1


def test_late_packets_are_overtaken(relay: Relay, server: socket.socket) -> None:
    door = enter(relay, server, late_every=10, late_ns=100_000_000)
    with bound() as peer:
        peer.sendto(b"\1", door)
        _, address = server.recvfrom(100)
        for number in range(200):
            server.sendto(bytes([MEDIA, number]), address)
        came = [peer.recv(100)[1] for _ in range(200)]
    assert sorted(came) == list(range(200))
    assert came != list(range(200))


def test_lines_are_given_in_words_of_people() -> None:
    params = params_of(Line(delay_ms=20, jitter_ms=5, loss=0.01, kbit_up=500, kbit_down=2000))
    assert (params.delay_ns, params.jitter_ns, params.queue_ns) == (20_000_000, 5_000_000, 300_000_000)
    assert (params.loss_up, params.loss_down, params.bits_up, params.bits_down) == (0.01, 0.01, 500_000, 2_000_000)
    assert params.victim == -1


@asynchronous
async def test_the_process_opens_doors_and_tells_its_figures() -> None:
    with bound() as server, bound() as peer:
        async with lines_process({"home": Line(), "gone": Line()}) as lines:
            door = await lines.door("home", server.getsockname())
            assert await lines.door("home", server.getsockname()) == door
            peer.sendto(b"hello", tuple(door))
            assert server.recv(100) == b"hello"
            ends = await lines.cut(Outage(at_seconds=1, seconds=2, lines=("gone",)), 5)
            assert ends == 3_000_000_005
            figures = await lines.figures()
            assert figures["carried"] == 1
            assert figures["cpu_seconds"] > 0
            with pytest.raises(LinesError, match="KeyError"):
                await lines.door("nowhere", server.getsockname())


def test_a_relay_that_stands_by_itself_tells_what_it_did() -> None:
    with bound() as server, bound() as free, bound() as peer:
        listen = free.getsockname()
        free.close()
        command = [sys.executable, "-m", "mediaserver.loadtest.lines", "--listen", f"127.0.0.1:{listen[1]}"]
        command += ["--server", f"127.0.0.1:{server.getsockname()[1]}", "--loss", "0.5"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert "relaying" in process.stdout.readline()
            peer.sendto(b"hello", listen)
            assert server.recv(100) == b"hello"
            process.send_signal(signal.SIGTERM)
            assert json.loads(process.stdout.read())["carried"] == 1
