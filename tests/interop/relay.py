"""The laboratory's lines over real sockets: a relay between the server and its peers, in a process of its own.

    python -m tests.interop.relay --server 127.0.0.1:40000 --door 127.0.0.2:40000=loss-3 --door 127.0.0.3:40000=direct

A peer that sends to a door's address reaches the server through that door's line, and each peer has a socket of its
own towards the server, as behind a NAT. All peers of one door share its line, as those of one clinic do. Commands come
as words, one a line: `begin` lets the line's own time start (until then it is as at its start) and zeroes the figures,
`report` prints the figures as a line of JSON; the end of the input ends the relay.

What arrives carries the kernel's stamp, and the line's model decides at once when it is to leave; what the relay adds
to that, by reading or by sending late, is its own lateness, and part of the figures.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import heapq
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mediaserver.loadtest.connect import make_room
from tests.interop.shape import Direction, Shape, find

Address = tuple[str, int]
Send = Callable[[bytes], object]

SO_TIMESTAMPNS = 35
STAMP = struct.Struct("qq")
BATCH = 64
IDLE_S = 0.5


def now_us() -> int:
    return time.monotonic_ns() // 1000


class Flow:
    """One peer at one door, and the socket that stands for it at the server."""

    def __init__(self, door: Door, peer: Address, server: Address) -> None:
        self.door = door
        self.peer = peer
        self.socket = _open()
        self.socket.connect(server)

    def back(self, data: bytes) -> None:
        """To the peer, from the door."""
        self.door.socket.sendto(data, self.peer)


class Door:
    """An address that peers take for the server's, and the line behind it."""

    def __init__(self, address: Address, shape: Shape) -> None:
        self.address = address
        self.shape = shape
        self.socket = _open()
        self.socket.bind(address)
        self.flows: dict[Address, Flow] = {}


class Shaper:
    """Sends on what is offered when its line lets it. `run` is its whole life; who derives from it reads."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes = shapes
        self._way: list[tuple[int, int, Direction, Send, bytes]] = []
        self._count = 0
        self._poll = select.epoll()

    def close(self) -> None:
        self._poll.close()

    def read(self, fd: int) -> None:
        """Offer what has come there."""
        raise NotImplementedError

    def watch(self, fd: int) -> None:
        self._poll.register(fd, select.EPOLLIN)

    def offer(self, direction: Direction, arrived: int, data: bytes, send: Send) -> None:
        due = direction.offer(arrived, data)
        if due >= 0:
            self._count += 1
            heapq.heappush(self._way, (due, self._count, direction, send, data))

    def run(self, commands: int) -> None:
        """Go on until the end of the file `commands`."""
        self.watch(commands)
        text = b""
        while True:
            for fd in self._wait():
                if fd != commands:
                    self.read(fd)
                    continue
                more = os.read(commands, 4096)
                if not more:
                    return
                *words, text = (text + more).split(b"\n")
                for word in words:
                    self._obey(word.decode().strip())
            self._send_due()

    def _obey(self, word: str) -> None:
        now = now_us()
        if word == "begin":
            for shape in self._shapes.values():
                shape.begin(now)
        if word == "report":
            print(json.dumps({name: shape.figures(now) for name, shape in self._shapes.items()}), flush=True)

    def _wait(self) -> list[int]:
        pause = IDLE_S
        if self._way:
            pause = min(pause, (self._way[0][0] - now_us()) / 1e6)
        if pause > 0:
            # An epoll descriptor can be waited for itself, and select counts in microseconds where epoll rounds up to
            # a millisecond.
            select.select([self._poll], [], [], pause)
        return [fd for fd, _ in self._poll.poll(0)]

    def _send_due(self) -> None:
        while self._way:
            now = now_us()
            if self._way[0][0] > now:
                return
            due, _, direction, send, data = heapq.heappop(self._way)
            direction.left(due, now)
            # A full buffer or a port that has closed is a loss like any other.
            with contextlib.suppress(OSError):
                send(data)


class Relay(Shaper):
    """Between one server and its peers, over UDP."""

    def __init__(self, server: Address, doors: Mapping[Address, Shape]) -> None:
        super().__init__({text_of(address): shape for address, shape in doors.items()})
        self._server = server
        self._readers: dict[int, Door | Flow] = {}
        for address, shape in doors.items():
            self._enter(Door(address, shape))

    def close(self) -> None:
        super().close()
        for reader in self._readers.values():
            reader.socket.close()

    def read(self, fd: int) -> None:
        reader = self._readers[fd]
        ahead = time.time_ns() // 1000 - now_us()
        for _ in range(BATCH):
            try:
                data, notes, _, source = reader.socket.recvmsg(2048, 64)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue  # a server that is not there; the peers will notice
            arrived = now_us()
            for level, kind, note in notes:
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = STAMP.unpack(note[: STAMP.size])
                    arrived = seconds * 1_000_000 + nanoseconds // 1000 - ahead
            if isinstance(reader, Flow):
                self.offer(reader.door.shape.down, arrived, data, reader.back)
            else:
                flow = reader.flows.get(source) or self._meet(reader, source)
                self.offer(reader.shape.up, arrived, data, flow.socket.send)

    def _meet(self, door: Door, peer: Address) -> Flow:
        flow = door.flows[peer] = Flow(door, peer, self._server)
        self._enter(flow)
        return flow

    def _enter(self, reader: Door | Flow) -> None:
        self._readers[reader.socket.fileno()] = reader
        self.watch(reader.socket.fileno())


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setblocking(False)
    make_room(opened)
    opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return opened


class ShaperProcess:
    """A relay as a process."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._line() != "ready":
            raise RuntimeError(f"{module} did not start")

    def begin(self) -> None:
        """The line's own time starts now, and the figures anew."""
        self._say("begin")

    def figures(self) -> dict[str, Any]:
        """By door or tunnel: see `Shape.figures`."""
        self._say("report")
        found: dict[str, Any] = json.loads(self._line())
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextlib.contextmanager
def relaying(server: Address, doors: Mapping[Address, str], seed: int = 1) -> Iterator[ShaperProcess]:
    """A relay to that server. `doors`: address -> name of its line."""
    arguments = [part for address, line in doors.items() for part in ("--door", f"{text_of(address)}={line}")]
    process = ShaperProcess("tests.interop.relay", "--seed", str(seed), "--server", text_of(server), *arguments)
    try:
        yield process
    finally:
        process.close()


def hurry() -> None:
    """Ahead of whoever else wants the processor, where that is allowed: a late relay is another line."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    gc.disable()


def serve(shaper: Shaper) -> None:
    """The life of a relay's process: commands come on its standard input."""
    hurry()
    print("ready", flush=True)
    try:
        shaper.run(sys.stdin.fileno())
    finally:
        shaper.close()


def text_of(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, type=_address, help="address and port of the server's media")
    parser.add_argument("--door", required=True, action="append", help="ADDRESS:PORT=LINE; repeatable")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    doors = {}
    for number, door in enumerate(given.door):
        address, _, line = door.partition("=")
        doors[_address(address)] = Shape(find(line), given.seed + number, now_us())
    relay = Relay(given.server, doors)
    serve(relay)


if __name__ == "__main__":
    main()
