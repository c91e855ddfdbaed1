"""Relays between a client and the server: of UDP, whose address towards the server can change, as a NAT's does that has
restarted; and of TCP, of which connections die without a word."""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import threading
from types import TracebackType

LOOPBACK = "127.0.0.1"


class UdpRelay:
    """The client sends to `port`; the server at `server_port` hears it from a port of ours."""

    def __init__(self, server_port: int) -> None:
        self._server = (LOOPBACK, server_port)
        self._inner = self._open()
        self._outer = self._open()
        self._client: tuple[str, int] | None = None
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._inner, selectors.EVENT_READ)
        self._selector.register(self._outer, selectors.EVENT_READ)
        self._stop = self._dead = False
        self._loss, self._draw = 0.0, random.Random(1)
        self._thread = threading.Thread(target=self._run)

    @property
    def port(self) -> int:
        port: int = self._inner.getsockname()[1]
        return port

    def move(self) -> None:
        """From now on another port; what still comes to the old one is lost."""
        with self._lock:
            self._selector.unregister(self._outer)
            self._outer.close()
            self._outer = self._open()
            self._selector.register(self._outer, selectors.EVENT_READ)

    def cut(self) -> None:
        """Carry nothing any more, and say nothing."""
        self._dead = True

    def lose(self, share: float) -> None:
        """From now on so much of what comes, both ways."""
        self._loss = share

    def __enter__(self) -> UdpRelay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        self._thread.join()
        self._inner.close()
        self._outer.close()
        self._selector.close()

    @staticmethod
    def _open() -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind((LOOPBACK, 0))
        opened.setblocking(False)
        return opened

    def _run(self) -> None:
        while not self._stop:
            self._selector.select(0.05)
            with self._lock, contextlib.suppress(ConnectionRefusedError):
                self._carry()

    def _is_lost(self) -> bool:
        return self._dead or self._draw.random() < self._loss

    def _carry(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, self._client = self._inner.recvfrom(2048)
                if not self._is_lost():
                    self._outer.sendto(data, self._server)
        with contextlib.suppress(BlockingIOError):
            while self._client is not None:
                data = self._outer.recv(2048)
                if not self._is_lost():
                    self._inner.sendto(data, self._client)


class TcpRelay:
    """Carries every connection to `port` on to the server at `server_port`."""

    def __init__(self, server_port: int) -> None:
        self._server = (LOOPBACK, server_port)
        self._listener = socket.create_server((LOOPBACK, 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._ends: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        self._stop = False
        self._thread = threading.Thread(target=self._run)

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def forget(self) -> None:
        """Carry nothing any more over the connections that there are, and say nothing; new ones are welcome. So does a
        firewall that has restarted."""
        with self._lock:
            for end in self._ends:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(end)

    def __enter__(self) -> TcpRelay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        self._thread.join()
        for end in (self._listener, *self._ends):
            end.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._stop:
            ready = self._selector.select(0.05)
            with self._lock:
                for key, _ in ready:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fd in self._selector.get_map():
                        self._carry(key.fileobj)  # type: ignore[arg-type]

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(self._server)
        for one, other in ((near, far), (far, near)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _carry(self, end: socket.socket) -> None:
        other = self._ends[end]
        with contextlib.suppress(OSError):
            data = end.recv(65536)
            if data:
                other.sendall(data)
                return
        self._selector.unregister(end)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)
