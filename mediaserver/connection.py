"""One signalling socket: what comes in is limited, and a client that does not take what goes out is dropped."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from aiohttp import WSMsgType, web

from mediaserver import protocol as p
from mediaserver.clock import Clock
from mediaserver.settings import SignallingSettings
from mediaserver.stats import ControlStats

COST_BYTES = 4096
"""So many bytes of a message count as one message more."""
QUEUE_BYTES = 4 << 20
"""What may wait for a client, in characters of its messages."""
CLOSE_SECONDS = 2.0
"""How long a client may take over what is still to be said when its connection ends."""


class Attached(Protocol):
    """What a connection that has joined serves."""

    def detach(self, wait_seconds: float) -> None:
        """The socket has dropped."""


class Bucket:
    """A token bucket: `rate` a second, at most `burst` at once."""

    __slots__ = ("_burst", "_level", "_rate", "_time")

    def __init__(self, rate: float, burst: int, now_us: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._level = float(burst)
        self._time = now_us

    def take(self, now_us: int, cost: float = 1.0) -> bool:
        """Whether one more of that cost is allowed."""
        self._level = min(self._burst, self._level + (now_us - self._time) * self._rate / 1e6)
        self._time = now_us
        if self._level < cost:
            return False
        self._level -= cost
        return True


class Connection:
    """One socket."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        address: str,
        settings: SignallingSettings,
        stats: ControlStats,
        clock: Clock,
        dispatch: Callable[[Connection, p.ClientMessage], None],
    ) -> None:
        self.session: Attached | None = None
        self.address = address
        self._socket = socket
        self._settings = settings
        self._stats = stats
        self._clock = clock
        self._dispatch = dispatch
        self._queue: deque[str] = deque()
        self._queued = 0
        self._wake = asyncio.Event()
        self._bucket = Bucket(settings.messages_per_second, settings.burst, clock.monotonic_us())
        self._ending: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    # Out

    def send(self, text: str) -> None:
        """Queue a message. A client that lets too many wait is dropped: it can resume."""
        if self._ending.done():
            return
        self._queued += len(text)
        if len(self._queue) >= self._settings.queue_messages or self._queued > QUEUE_BYTES:
            self._stats.dropped_clients["too-slow"] += 1
            self._queue.clear()
            self.fail(p.CloseCode.TOO_SLOW, "too-slow", "the client does not take what is sent to it")
            return
        self._queue.append(text)
        self._wake.set()

    def reply(self, message: p.ServerMessage) -> None:
        self.send(p.encode(message))

    def fail(self, close_code: int, code: p.ErrorCode, message: str, number: int | None = None) -> None:
        """Tell the client why, then close."""
        if not self._ending.done():
            self._queue.append(p.encode(p.Error(code=code, message=message, id=number, fatal=True)))
            self.end(close_code)

    def end(self, close_code: int) -> None:
        """Close after what is queued."""
        if not self._ending.done():
            self._ending.set_result(close_code)
            self._wake.set()

    async def run(self) -> None:
        """Serve the socket until either side ends it."""
        reader = asyncio.create_task(self._read(), name="signalling reader")
        writer = asyncio.create_task(self._write(), name="signalling writer")
        try:
            either: set[asyncio.Future[Any]] = {reader, self._ending}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not self._ending.done():
                self._ending.set_result(p.CloseCode.LEFT)
            self._wake.set()
            if self.session is not None:
                self.session.detach(self._settings.resume_seconds)
                self.session = None
            reader.cancel()
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await asyncio.gather(reader, writer, return_exceptions=True)
                    await self._socket.close(code=self._ending.result())
            writer.cancel()

    async def _write(self) -> None:
        while self._queue or not self._ending.done():
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                text = self._queue.popleft()
                self._queued -= len(text)
                try:
                    await self._socket.send_str(text)
                except (ConnectionError, RuntimeError):  # the socket has gone
                    self._queue.clear()
                    return

    # In

    async def _read(self) -> None:
        settings = self._settings
        try:
            async with asyncio.timeout(settings.join_seconds):
                while self.session is None and await self._read_one():
                    pass
        except TimeoutError:
            self.fail(p.CloseCode.TIMEOUT, "timeout", f"no join within {settings.join_seconds:g} s")
            return
        while await self._read_one():
            pass

    async def _read_one(self) -> bool:
        """Take one message; False at the end."""
        frame = await self._socket.receive()
        if self._ending.done() or frame.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            return False
        stats = self._stats
        cost = 1 + len(frame.data) / COST_BYTES  # a long offer is work
        if not self._bucket.take(self._clock.monotonic_us(), cost):
            stats.dropped_clients["too-fast"] += 1
            self.fail(p.CloseCode.TOO_FAST, "too-fast", "too many messages")
            return False
        stats.messages += 1
        try:
            message = p.decode(frame.data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            stats.bad_messages += 1
            self._bad_message(frame.data, str(error))
        else:
            self._dispatch(self, message)
        return not self._ending.done()

    def _bad_message(self, data: str | bytes, reason: str) -> None:
        if self.session is None:
            self.fail(p.CloseCode.BAD_MESSAGE, "bad-message", reason)
        else:
            self.reply(p.Error(code="bad-message", message=reason, id=_id_of(data)))


class _Numbered(msgspec.Struct):
    id: p.RequestId | None = None


def _id_of(data: str | bytes) -> int | None:
    """The `id` of a message that is wrong otherwise, so that its sender knows which."""

    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(data, type=_Numbered).id
    return None
