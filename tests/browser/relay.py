"""A relay for one client's UDP, whose address towards the server can change, as a NAT's does that has restarted."""

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
