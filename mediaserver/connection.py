"""One signalling socket: what comes in is limited, and a client that does not take what goes out is dropped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

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
WRITE_BYTES = 64 << 10
"""While so much waits in the socket, messages wait here."""
AGAIN_SECONDS = 0.02
"""After how long a socket that was full is looked at again."""
_TAKEN = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG})
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
    """One socket. What is sent within one turn of the event loop leaves in one piece."""

    __slots__ = (
        "_bucket",
        "_clock",
        "_closing",
        "_code",
        "_dispatch",
        "_flushing",
        "_queue",
        "_queued",
        "_settings",
        "_socket",
        "_stats",
        "_transport",
        "address",
        "session",
    )

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.WriteTransport,
        address: str,
        settings: SignallingSettings,
        stats: ControlStats,
        clock: Clock,
        dispatch: Callable[[Connection, p.ClientMessage], None],
    ) -> None:
        """`socket` has been prepared, without compression, and answers no pings by itself, which would be for nothing;
        `transport` is its own."""
        self.session: Attached | None = None
        self.address = address
        self._socket = socket
        self._transport = transport
        self._settings = settings
        self._stats = stats
        self._clock = clock
        self._dispatch = dispatch
        self._queue: list[bytes] = []  # hardly ever long; an empty deque takes 760 bytes
        self._queued = 0
        self._flushing = False
        self._bucket = Bucket(settings.messages_per_second, settings.burst, clock.monotonic_us())
        self._code: int | None = None
        """with which it ends"""
        self._closing: asyncio.Task[None] | None = None

    # Out

    def send(self, frames: bytes) -> None:
        """Queue what `frame` has made, of one message or of several. A client that lets too much wait is dropped: it
        can resume."""
        if self._code is not None:
            return
        self._queued += len(frames)
        if len(self._queue) >= self._settings.queue_messages or self._queued > QUEUE_BYTES:
            self._stats.dropped_clients["too-slow"] += 1
            self._queue.clear()
            self.fail(p.CloseCode.TOO_SLOW, "too-slow", "the client does not take what is sent to it")
            return
        self._queue.append(frames)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def reply(self, message: p.ServerMessage) -> None:
        self.send(frame(p.encode(message)))

    def fail(self, close_code: int, code: p.ErrorCode, message: str, number: int | None = None) -> None:
        """Tell the client why, then close."""
        if self._code is None:
            self._queue.append(frame(p.encode(p.Error(code=code, message=message, id=number, fatal=True))))
            self.end(close_code)

    def end(self, close_code: int) -> None:
        """Close after what is queued."""
        if self._code is None:
            self._code = close_code
            self._closing = asyncio.create_task(self._close(close_code), name="signalling close")

    async def run(self) -> None:
        """Serve the socket until either side ends it."""
        try:
            await self._read()
        finally:
            self.end(p.CloseCode.LEFT)
            if self.session is not None:
                self.session.detach(self._settings.resume_seconds)
                self.session = None
            assert self._closing is not None
            await self._closing

    async def _close(self, code: int) -> None:
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(CLOSE_SECONDS):
                self._flush()
                while self._queue:  # noqa: ASYNC110  # a transport tells nobody but its protocol that it has room
                    await asyncio.sleep(AGAIN_SECONDS)
                await self._socket.close(code=code)
        self._queue.clear()

    def _flush(self) -> None:
        """Give the socket what is queued, as far as it takes it."""
        self._flushing = False
        if self._transport.is_closing():
            self._queue.clear()
        count = 0
        room = WRITE_BYTES - self._transport.get_write_buffer_size()
        while room > 0 and count < len(self._queue):
            room -= len(self._queue[count])
            count += 1
        if count:
            self._transport.write(b"".join(self._queue[:count]))
            self._queued -= sum(map(len, self._queue[:count]))
            del self._queue[:count]
        if self._queue:
            self._flushing = True
            asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._flush)
        else:
            self._queued = 0

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
        if self._code is not None or frame.type not in _TAKEN:
            return False
        stats = self._stats
        cost = 1 + len(frame.data) / COST_BYTES  # a long offer is work
        if not self._bucket.take(self._clock.monotonic_us(), cost):
            stats.dropped_clients["too-fast"] += 1
            self.fail(p.CloseCode.TOO_FAST, "too-fast", "too many messages")
            return False
        if frame.type is WSMsgType.PING:
            await self._socket.pong(frame.data)
            return True
        if frame.type is WSMsgType.PONG:
            return True
        stats.messages += 1
        try:
            message = p.decode(frame.data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            stats.bad_messages += 1
            self._bad_message(frame.data, str(error))
        else:
            self._dispatch(self, message)
        return self._code is None

    def _bad_message(self, data: str | bytes, reason: str) -> None:
        if self.session is None:
            self.fail(p.CloseCode.BAD_MESSAGE, "bad-message", reason)
        else:
            self.reply(p.Error(code="bad-message", message=reason, id=_id_of(data)))


def frame(message: bytes) -> bytes:
    """An encoded message as an unmasked text frame (RFC 6455, section 5.2)."""
    size = len(message)
    if size < 126:
        return bytes((0x81, size)) + message
    length = b"\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b"\x7f" + size.to_bytes(8, "big")
    return b"\x81" + length + message


class _Numbered(msgspec.Struct):
    id: p.RequestId | None = None


def _id_of(data: str | bytes) -> int | None:
    """The `id` of a message that is wrong otherwise, so that its sender knows which."""

    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(data, type=_Numbered).id
    return None
