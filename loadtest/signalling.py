"""A client of the server's signalling WebSocket, written from its documentation: plain JSON objects, no server code."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp

VERSION = 1
ANSWER_SECONDS = 15.0

Message = dict[str, Any]


class SignallingError(Exception):
    """The server refused a request, or the connection is gone. `code` is the server's, "closed" for the latter."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def socket_url(url: str) -> str:
    """The WebSocket's address of a server given by its HTTP address. Raises ValueError for what is none."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname or parts.port == 0:  # `port` raises ValueError for one that can't be
        raise ValueError(f'"{url}" is not the address of a server: http://HOST:PORT or https://HOST:PORT')
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/ws", "", ""))


class Signalling:
    """One connection. `request` waits for its answer; whatever nobody asked for goes into `news`, None at the end."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self.news: asyncio.Queue[Message | None] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, http: aiohttp.ClientSession, url: str, *, verify: bool = True) -> Signalling:
        """Raises `aiohttp.ClientError` or `OSError` when there is no server."""
        # The server pings; a heartbeat of our own finds out about a host that vanished.
        socket = await http.ws_connect(socket_url(url), heartbeat=15, ssl=verify, max_msg_size=1 << 20)
        return cls(socket)

    async def request(self, kind: str, **fields: Any) -> Message:
        """Send a request and wait for what answers it. Raises `SignallingError`."""
        number = next(self._ids)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            await self.send(kind, id=number, **fields)
            async with asyncio.timeout(ANSWER_SECONDS):
                reply = await answer
        except TimeoutError:
            raise SignallingError("closed", f"no answer to {kind} within {ANSWER_SECONDS:g} s") from None
        finally:
            self._waiting.pop(number, None)
        if reply["type"] == "error":
            raise SignallingError(reply.get("code", ""), reply.get("message", ""))
        return reply

    async def send(self, kind: str, **fields: Any) -> None:
        """Send a message that has no answer. Raises `SignallingError`."""
        try:
            await self._socket.send_str(json.dumps({"type": kind, **fields}))
        except (aiohttp.ClientError, ConnectionError) as error:
            raise SignallingError("closed", f"the connection is gone: {error}") from None

    async def join(self, room: str, token: str, name: str = "", resume: str | None = None) -> Message:
        fields: Message = {"version": VERSION, "room": room, "token": token, "name": name}
        if resume:
            fields["resume"] = resume
        return await self.request("join", **fields)

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._socket.close()

    async def _read(self) -> None:
        try:
            async for frame in self._socket:
                if frame.type is aiohttp.WSMsgType.TEXT:
                    self._take(json.loads(frame.data))
        except (aiohttp.ClientError, ConnectionError, ValueError):
            pass
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(SignallingError("closed", "the server closed the connection"))
            self.news.put_nowait(None)

    def _take(self, message: Message) -> None:
        answer = self._waiting.get(message.get("id") or 0)
        if answer is not None and not answer.done():
            answer.set_result(message)
        else:
            self.news.put_nowait(message)
