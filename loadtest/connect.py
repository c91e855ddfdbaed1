"""From an answer to keys: ICE checks against the server's candidates, then the DTLS handshake, on one socket."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
from collections.abc import Iterable

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
RECEIVE_BUFFER = 4 << 20

_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33


class ConnectError(Exception):
    """No candidate answered, or the handshake failed."""


class Connected(msgspec.Struct, frozen=True):
    socket: socket.socket
    keys: Keys
    ice: IceParams


async def connect(answer: Answer, credentials: Credentials, identity: Identity) -> Connected:
    """Raises `ConnectError`. The socket is the caller's to close."""
    ice = IceParams(f"{answer.ufrag}:{credentials.ufrag}", answer.password, credentials.password)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            chosen = await _check_all(answer.candidates, ice)
            try:
                # Only the pair that is used is nominated (RFC 8445, section 8.1.1): the other side answers there.
                if not await _check(chosen, ice, nominate=True):
                    raise ConnectError("the server has fallen silent")
                # RFC 8842, section 5.3: we offered actpass, so the answer chooses who begins.
                handshake = Handshake(identity, server=answer.setup == "active")
                keys = await _shake_hands(chosen, handshake, ice, answer.fingerprint)
            except BaseException:
                chosen.close()
                raise
    except TimeoutError:
        raise ConnectError(f"not connected within {CONNECT_SECONDS:g} s") from None
    except (HandshakeError, OSError) as error:
        raise ConnectError(str(error)) from None
    return Connected(chosen, keys, ice)


def open_socket(address: tuple[str, int]) -> socket.socket:
    """A connected, non-blocking socket with room for bursts and the kernel's receive stamps. Raises `OSError`."""
    family = socket.AF_INET6 if ipaddress.ip_address(address[0]).version == 6 else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        # From the start: a packet that waits from before this is set would get the stamp of its reading.
        opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        opened.connect(address)
    except BaseException:
        opened.close()
        raise
    return opened


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


async def _shake_hands(opened: socket.socket, handshake: Handshake, ice: IceParams, fingerprint: str) -> Keys:
    loop = asyncio.get_running_loop()
    outgoing = handshake.flights()
    while True:
        for datagram in outgoing:
            opened.send(datagram)
        if handshake.done:
            return handshake.keys(fingerprint)
        try:
            async with asyncio.timeout(handshake.timeout):
                datagram = await loop.sock_recv(opened, 4096)
        except TimeoutError:
            outgoing = handshake.expire()
            continue
        outgoing = []
        # RFC 7983: anything else is late answers to checks, or media ahead of its keys.
        if datagram and 20 <= datagram[0] <= 63:
            handshake.feed(datagram)
            outgoing = handshake.flights()
        elif datagram and datagram[0] <= 3:
            _serve_check(opened, datagram, ice)
