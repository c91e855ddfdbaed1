"""From an answer to keys: ICE checks against the server's candidates, then the DTLS handshake, on one socket."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import struct
import time
from collections.abc import Iterable
from typing import Protocol

import msgspec

from mediaserver.loadtest.dtls import Handshake, HandshakeError, Identity
from mediaserver.loadtest.offer import Answer, Credentials
from mediaserver.loadtest.peers import IceParams, Keys
from mediaserver.sfu.wire import stun

CHECK_TIMES = (0.0, 0.05, 0.15, 0.35, 0.75, 1.5, 3.0)
"""Seconds after which a check is sent, and sent again: a first answer should come within one round trip."""
STAGGER = 0.05
"""A further candidate is tried when those before it have been silent for so long each."""
CONNECT_SECONDS = 10.0
CLOSING_SECONDS = 30.0
"""For the last flight of a handshake, where many of them leave at once."""
RECEIVE_BUFFER = 4 << 20

_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_STAMP = struct.Struct("qq")


class ConnectError(Exception):
    """No candidate answered, or the handshake failed."""


class Connected(msgspec.Struct, frozen=True):
    """`up_ns` is when the datagram came that ended the handshake, on the monotonic clock."""

    socket: socket.socket
    keys: Keys
    ice: IceParams
    up_ns: int


class Holds(Protocol):
    """Where a peer waits for others on its way in."""

    async def answered(self) -> None:
        """It has its answer; checks come next."""

    async def almost_up(self) -> None:
        """Only the last flight of its handshake is still to be sent."""


async def connect(
    answer: Answer, credentials: Credentials, identity: Identity, holds: Holds | None = None
) -> Connected:
    """Raises `ConnectError`. The socket is the caller's to close."""
    ice = IceParams(f"{answer.ufrag}:{credentials.ufrag}", answer.password, credentials.password)
    if holds is not None:
        await holds.answered()
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_SECONDS) as limit:
            chosen = await _check_all(answer.candidates, ice)
            try:
                # Only the pair that is used is nominated (RFC 8445, section 8.1.1): the other side answers there.
                if not await _check(chosen, ice, nominate=True):
                    raise ConnectError("the server has fallen silent")
                # RFC 8842, section 5.3: we offered actpass, so the answer chooses who begins.
                handshake = Handshake(identity, server=answer.setup == "active")
                outgoing = await _until_closing(chosen, handshake, ice)
                if holds is not None:
                    limit.reschedule(None)
                    await holds.almost_up()
                    limit.reschedule(loop.time() + CLOSING_SECONDS)
                up = await _finish(chosen, handshake, ice, outgoing)
                keys = handshake.keys(answer.fingerprint)
            except BaseException:
                chosen.close()
                raise
    except TimeoutError:
        raise ConnectError(f"not connected within {CONNECT_SECONDS:g} s") from None
    except (HandshakeError, OSError) as error:
        raise ConnectError(str(error)) from None
    return Connected(chosen, keys, ice, up)


def open_socket(address: tuple[str, int]) -> socket.socket:
    """A connected, non-blocking socket with room for bursts and the kernel's receive stamps. Raises `OSError`."""
    family = socket.AF_INET6 if ipaddress.ip_address(address[0]).version == 6 else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        make_room(opened)
        # From the start: a packet that waits from before this is set would get the stamp of its reading.
        opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        opened.connect(address)
    except BaseException:
        opened.close()
        raise
    return opened


def make_room(opened: socket.socket) -> None:
    """Let a socket hold what comes while nobody reads."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


async def _check_all(candidates: Iterable[tuple[str, int]], ice: IceParams) -> socket.socket:
    """The first candidate that answers, as a connected socket."""
    tries = {asyncio.create_task(_try(address, ice, STAGGER * number)) for number, address in enumerate(candidates)}
    waiting = tries
    try:
        while waiting:
            finished, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                chosen = task.result()
                if chosen is not None:
                    tries.discard(task)
                    return chosen
        raise ConnectError("no candidate of the server answers")
    finally:
        for task in tries:
            task.cancel()
        for result in await asyncio.gather(*tries, return_exceptions=True):
            if isinstance(result, socket.socket):
                result.close()


async def _try(address: tuple[str, int], ice: IceParams, delay: float) -> socket.socket | None:
    """A socket to the candidate if it answers a check."""
    await asyncio.sleep(delay)
    try:
        opened = open_socket(address)
    except OSError:
        return None
    try:
        if await _check(opened, ice):
            return opened
    except OSError:
        pass
    except BaseException:
        opened.close()
        raise
    opened.close()
    return None


async def _check(opened: socket.socket, ice: IceParams, *, nominate: bool = False) -> bool:
    """Whether a check is answered. Raises `OSError`."""
    transaction = secrets.token_bytes(12)
    request = stun.write_request(
        transaction,
        ice.username.encode(),
        ice.password.encode(),
        priority=0x6E7FFFFF,
        role=stun.StunRole.STUN_CONTROLLING,
        tie_breaker=secrets.randbits(64),
        use_candidate=nominate,
    )
    return await _ask(opened, request, transaction, ice)


async def _ask(opened: socket.socket, request: bytes, transaction: bytes, ice: IceParams) -> bool:
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number, send_at in enumerate(CHECK_TIMES):
        opened.send(request)
        until = started + (CHECK_TIMES[number + 1] if number + 1 < len(CHECK_TIMES) else 2 * send_at)
        try:
            async with asyncio.timeout_at(until):
                while True:
                    datagram = await loop.sock_recv(opened, 2048)
                    if _answers(datagram, transaction, ice.password.encode()):
                        return True
                    _serve_check(opened, datagram, ice)
        except TimeoutError:
            continue
    return False


def _answers(datagram: bytes, transaction: bytes, password: bytes) -> bool:
    try:
        message = stun.parse(datagram)
    except ValueError:
        return False
    success = stun.StunType.STUN_BINDING_SUCCESS
    return message.type == success and message.transaction == transaction and stun.verify(datagram, password)


def _serve_check(opened: socket.socket, datagram: bytes, ice: IceParams) -> None:
    """Answer a check of a server that is no lite agent (RFC 8445, section 7.3)."""
    password = ice.local_password.encode()
    try:
        message = stun.parse(datagram)
    except ValueError:
        return
    if message.type == stun.StunType.STUN_BINDING_REQUEST and stun.verify(datagram, password):
        address, port = opened.getpeername()[:2]
        opened.send(stun.write_success(message.transaction, ipaddress.ip_address(address).packed, port, password))


async def _until_closing(opened: socket.socket, handshake: Handshake, ice: IceParams) -> list[bytes]:
    """Shake hands up to our last flight, which is left to be sent."""
    outgoing = handshake.flights()
    while not handshake.closing:
        for datagram in outgoing:
            opened.send(datagram)
        outgoing, _ = await _turn(opened, handshake, ice)
    return outgoing


async def _finish(opened: socket.socket, handshake: Handshake, ice: IceParams, outgoing: list[bytes]) -> int:
    """Send the last flight until the handshake is done; when the datagram came that ended it."""
    came = time.monotonic_ns()
    while True:
        for datagram in outgoing:
            opened.send(datagram)
        if handshake.done:
            return came
        outgoing, came = await _turn(opened, handshake, ice)


async def _turn(opened: socket.socket, handshake: Handshake, ice: IceParams) -> tuple[list[bytes], int]:
    """Take one datagram, or see to the timer: what is to be sent now, and when the datagram came."""
    try:
        async with asyncio.timeout(handshake.timeout):
            datagram, came = await _receive(opened)
    except TimeoutError:
        return handshake.expire(), 0
    # RFC 7983: anything else is late answers to checks, or media ahead of its keys.
    if datagram and 20 <= datagram[0] <= 63:
        handshake.feed(datagram)
        return handshake.flights(), came
    if datagram and datagram[0] <= 3:
        _serve_check(opened, datagram, ice)
    return [], came


async def _receive(opened: socket.socket) -> tuple[bytes, int]:
    """A datagram, and when the kernel had it, on the monotonic clock."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            datagram, notes, _, _ = opened.recvmsg(4096, 64)
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_reader(opened, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(opened)
            continue
        came = time.monotonic_ns()
        for level, kind, note in notes:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _STAMP.unpack(note[: _STAMP.size])
                came -= max(0, time.time_ns() - seconds * 1_000_000_000 - nanoseconds)
        return datagram, came
