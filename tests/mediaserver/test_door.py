"""Connections that ask nothing: how many there may be, and who goes."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from mediaserver.http.door import ENDED_MOST, Door
from mediaserver.net import listen
from mediaserver.settings import Endpoint
from tests.mediaserver.conftest import run


class Hall:
    """A server behind a door, on a free port."""

    def __init__(self, most: int) -> None:
        self.door = Door(most)
        self.let_go = asyncio.Event()
        self.app = web.Application(middlewares=[self.door.middleware])
        self.app.router.add_get("/", self._answer)
        self.app.router.add_get("/slow", self._wait)
        self.runner = web.AppRunner(self.app, access_log=None)

    async def __aenter__(self) -> Hall:
        await self.runner.setup()
        assert self.runner.server is not None
        sockets = listen(Endpoint("127.0.0.1", 0))
        self.port = sockets[0].getsockname()[1]
        await self.door.listen(self.runner.server, sockets, None, 128)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.let_go.set()
        self.door.close()
        await self.runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        return web.Response(text="here")

    async def _wait(self, request: web.Request) -> web.Response:
        await self.let_go.wait()
        return web.Response(text="at last")

    async def come(self, text: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(text.encode())
        return reader, writer


async def ask(writer: asyncio.StreamWriter, reader: asyncio.StreamReader, path: str = "/") -> str:
    """The body; ConnectionError when the connection has ended."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = await reader.readline()
        if not line:
            raise ConnectionError
        head += line
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    return (await reader.readexactly(length)).decode()


def test_the_oldest_that_asks_nothing_goes() -> None:
    async def main() -> None:
        async with Hall(8) as hall:
            # As slow-loris does: a head that never ends counts as nothing asked.
            strangers = [await hall.come("GET / HTTP/1.1\r\nX-A: ") for _ in range(8)]
            reader, writer = await hall.come()
            assert await ask(writer, reader) == "here"
            assert await strangers[0][0].read() == b""
            flood = [await hall.come() for _ in range(200)]
            for gone, _ in flood[:180]:
                assert await gone.read() == b""
            assert hall.door.idle <= 8
            late, to_late = await hall.come()
            assert await ask(to_late, late) == "here"
            for _, one in (*strangers, *flood, (reader, writer), (late, to_late)):
                one.close()

    run(main())


def test_who_is_being_served_stays() -> None:
    async def main() -> None:
        async with Hall(4) as hall:
            reader, writer = await hall.come()
            answer = asyncio.create_task(ask(writer, reader, "/slow"))
            other, to_other = await hall.come()
            assert await ask(to_other, other) == "here"
            flood = [await hall.come() for _ in range(50)]
            assert await flood[0][0].read() == b""
            with pytest.raises(ConnectionError):
                await ask(to_other, other)
            hall.let_go.set()
            assert await answer == "at last"
            for _, one in (*flood, (reader, writer), (other, to_other)):
                one.close()

    run(main())


def test_those_that_have_ended_take_nobodys_place() -> None:
    async def main() -> None:
        async with Hall(4) as hall:
            reader, writer = await hall.come()
            assert await ask(writer, reader) == "here"
            for _ in range(50):
                passing, to_passing = await hall.come()
                assert await ask(to_passing, passing) == "here"
                to_passing.close()
                await to_passing.wait_closed()
            assert await ask(writer, reader) == "here"
            writer.close()

    run(main())


def test_those_that_have_ended_are_forgotten() -> None:
    async def main() -> None:
        async with Hall(4096) as hall:
            for _ in range(200):
                passing, to_passing = await hall.come()
                assert await ask(to_passing, passing) == "here"
                to_passing.close()
                await to_passing.wait_closed()
            assert hall.door.remembered <= 2 * ENDED_MOST

    run(main())
