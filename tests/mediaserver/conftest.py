"""A real server on free ports, and clients of it. Tests are plain functions that run a coroutine with `run`."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from mediaserver import Config, MediaServer
from mediaserver.settings import DataSettings, HttpSettings, MediaSettings
from mediaserver.sfu.session.model import Role

SECONDS = 20.0
CLOSE_SECONDS = 1.0

Message = dict[str, Any]
Open = Callable[..., Any]


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end; fail when it leaves tasks behind."""

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS):
            await main
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks are left: {left}"

    asyncio.run(bounded())


class Client:
    """A signalling client that keeps what it was told."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.news: list[Message] = []
        self.joined: Message = {}
        self._ids = itertools.count(1)

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send_str(json.dumps({"type": kind, **fields}))

    async def ask(self, kind: str, **fields: Any) -> Message:
        """Send a request and wait for what carries its id."""
        number = next(self._ids)
        await self.send(kind, id=number, **fields)
        return await self.until(lambda message: message.get("id") == number)

    async def until(self, wanted: Callable[[Message], bool] | str) -> Message:
        """The first message that fits, old or new; those before it stay in `news`."""
        fits = (lambda message: message["type"] == wanted) if isinstance(wanted, str) else wanted
        for index, message in enumerate(self.news):
            if fits(message):
                return self.news.pop(index)
        while True:
            frame = await self.socket.receive()
            if frame.type is not aiohttp.WSMsgType.TEXT:
                raise ConnectionError(f"closed with {self.socket.close_code}")
            message = json.loads(frame.data)
            if fits(message):
                return message
            self.news.append(message)

    async def join(self, token: str, room: str = "r", **fields: Any) -> Message:
        self.joined = await self.ask("join", version=1, room=room, token=token, **fields)
        return self.joined

    async def closed(self) -> int | None:
        """Read to the end; the code of the close."""
        while True:
            frame = await self.socket.receive()
            if frame.type is aiohttp.WSMsgType.CLOSE:
                return int(frame.data)  # whoever answers it late finds the connection gone, and keeps 1006
            if frame.type is not aiohttp.WSMsgType.TEXT:
                return self.socket.close_code
            self.news.append(json.loads(frame.data))


class Site:
    """A server with an HTTP client beside it."""

    def __init__(self, server: MediaServer, http: aiohttp.ClientSession) -> None:
        self.server = server
        self.http = http
        self.sockets: list[aiohttp.ClientWebSocketResponse] = []

    @property
    def url(self) -> str:
        return self.server.url

    def token(self, role: str = "doctor", room: str = "r", **fields: Any) -> str:
        return self.server.token(room=room, role=Role(role), **fields)

    def bearer(self, role: str = "doctor", room: str = "r", **fields: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(role, room, **fields)}"}

    async def connect(self) -> Client:
        socket = await self.http.ws_connect(f"{self.url}/ws", timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS))
        self.sockets.append(socket)
        return Client(socket)

    async def close(self) -> None:
        """What a test has left open would be told of by whichever test runs when it is collected."""
        for socket in self.sockets:
            await socket.close()

    async def doctor(self, name: str = "", role: str = "doctor", room: str = "r", **fields: Any) -> Client:
        """A client that has joined."""
        client = await self.connect()
        joined = await client.join(self.token(role, room, **fields), room, name=name)
        assert joined["type"] == "joined", joined
        return client


@pytest.fixture
def site(tmp_path: Path) -> Open:
    """`async with site(signalling=SignallingSettings(...)) as s:` is a running server."""

    @asynccontextmanager
    async def opened(**sections: Any) -> AsyncIterator[Site]:
        base = Config(
            http=HttpSettings(address="127.0.0.1:0"),
            media=MediaSettings(udp=":0", workers=1),
            data=DataSettings(dir=str(tmp_path / "data")),
        )
        async with MediaServer(msgspec.structs.replace(base, **sections)) as server, aiohttp.ClientSession() as http:
            made = Site(server, http)
            yield made
            await made.close()

    return opened
