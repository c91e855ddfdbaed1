"""The way in to the HTTP port: strangers that open connections and ask nothing must not use up the descriptors that
recordings and media need."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from socket import socket

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

IDLE_MOST = 4096
"""Connections on which nothing is asked now."""
IDLE_SECONDS = 75.0
"""How long one may stay so. A proxy before the server should end its own sooner."""
TLS_SECONDS = 10.0
"""How long a TLS handshake may take."""
ENDED_MOST = 32
"""Connections that have ended are forgotten when there are more than so many, and than those that stand."""
ROOM_PERCENT = 10
"""Of the idle ones go when there are too many: looking for them costs time for each that is there."""


class Door:
    """Counts the connections of a server on which nothing is asked, and ends the oldest of too many.

    `middleware` belongs before all others of the application, `listen` takes connections.
    """

    def __init__(self, most: int = IDLE_MOST) -> None:
        self._most = most
        self._idle: dict[web.RequestHandler, None] = {}
        """by age; some may have ended"""
        self._look_at = min(most, ENDED_MOST)
        self._listeners: list[asyncio.Server] = []

    @property
    def idle(self) -> int:
        """Connections on which nothing is asked."""
        return sum(one.connected for one in self._idle)

    @property
    def remembered(self) -> int:
        """The same with those that have ended since, and have not been forgotten yet."""
        return len(self._idle)

    async def listen(
        self, server: web.Server, sockets: Iterable[socket], context: ssl.SSLContext | None, backlog: int
    ) -> None:
        """Take connections for the server until `close`."""
        loop = asyncio.get_running_loop()

        def welcome() -> web.RequestHandler:
            made = server()
            self._wait(made)
            return made

        patience = TLS_SECONDS if context is not None else None
        for one in sockets:
            made = await loop.create_server(
                welcome, sock=one, ssl=context, backlog=backlog, ssl_handshake_timeout=patience
            )
            self._listeners.append(made)

    def close(self) -> None:
        """Take no more."""
        for one in self._listeners:
            one.close()
        self._listeners.clear()

    @property
    def middleware(self) -> Middleware:
        """What is asked keeps its connection until the answer is made."""

        @web.middleware
        async def busy(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._idle.pop(request.protocol, None)
            try:
                return await handler(request)
            finally:
                self._wait(request.protocol)

        return busy

    def _wait(self, connection: web.RequestHandler) -> None:
        self._idle[connection] = None
        if len(self._idle) <= self._look_at:
            return
        full = len(self._idle) > self._most
        # A connection that is being made has no transport yet: it is the last.
        self._idle = {one: None for one in self._idle if one.connected or one is connection}
        if full and len(self._idle) > self._most * (100 - ROOM_PERCENT) // 100:
            for one in list(self._idle)[: max(1, self._most * ROOM_PERCENT // 100)]:
                if one is not connection:
                    del self._idle[one]
                    one.force_close()
        self._look_at = min(self._most, len(self._idle) + max(ENDED_MOST, len(self._idle)))
