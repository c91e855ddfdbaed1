"""The machine's addresses, and sockets to listen on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from mediaserver.settings import Endpoint

IPV6_ADDRESSES = Path("/proc/net/if_inet6")
IFA_F_DADFAILED = 0x08
IFA_F_DEPRECATED = 0x20
IFA_F_TENTATIVE = 0x40
NETLINK_ROUTE = 0
RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x10, 0x100
VARIABLES = {
    "--http": "or MEDIASERVER_HTTP_ADDRESS",
    "--udp": "or MEDIASERVER_MEDIA_UDP",
    "--tcp": "or MEDIASERVER_MEDIA_TCP",
}
BACKLOG = 4096
"""Connections that may wait to be taken: a thousand may come in a second in which the event loop is busy with them."""


class StartError(Exception):
    """The server can't start; the message says why and what to do."""


def machine_addresses() -> list[str]:
    """Every address of this machine at which a client may reach it, the likeliest first.

    Global and private addresses come before loopback, IPv4 before IPv6. Left out are IPv6 addresses that are
    link-local, as they mean nothing without a zone, and those on their way in or out (RFC 4862, section 5.5.4).
    """
    import ifaddr

    passing = passing_addresses(_read(IPV6_ADDRESSES))
    found: dict[str, int] = {}
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            address = ipaddress.ip_address(entry.ip if isinstance(entry.ip, str) else entry.ip[0])
            if address.is_multicast or address.is_unspecified or (address.version == 6 and address.is_link_local):
                continue
            if str(address) in passing:
                continue
            found[str(address)] = 4 * address.is_loopback + 2 * address.is_link_local + (address.version == 6)
    return sorted(found, key=lambda text: found[text]) or ["127.0.0.1"]


def passing_addresses(table: str) -> set[str]:
    """Of a table like Linux's if_inet6 the addresses that are not to be used: deprecated, tentative, or refused as
    another machine has them."""
    rows = (line.split() for line in table.splitlines())
    return {
        str(ipaddress.IPv6Address(bytes.fromhex(row[0])))
        for row in rows
        if len(row) == 6 and int(row[4], 16) & (IFA_F_DEPRECATED | IFA_F_TENTATIVE | IFA_F_DADFAILED)
    }


def candidate_addresses(host: str, announce: Iterable[str]) -> tuple[str, ...]:
    """What goes into the answers: the announced addresses, else the one listened on, else all of the machine."""
    announced = tuple(announce)
    if announced:
        return announced
    return (host,) if host else tuple(machine_addresses())


class AddressWatch:
    """Calls back when an address of the machine has come or gone (rtnetlink(7)). Where the system does not tell,
    nothing is told."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._socket: socket.socket | None = None
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_ROUTE)
            self._socket.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
        except (OSError, AttributeError):
            self.close()
        else:
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def _read(self) -> None:
        assert self._socket is not None
        # Which address it is does not matter: all are read anew. ENOBUFS says that something was missed.
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    self._socket.recv(65536)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
        self._changed()

    def close(self) -> None:
        if self._socket is not None:
            if self._socket.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None


def listen(endpoint: Endpoint, backlog: int = BACKLOG) -> list[socket.socket]:
    """Listening TCP sockets for an endpoint; an empty host takes IPv4 and IPv6. Raises `StartError`."""
    if endpoint.host:
        return [_bound(_resolve(endpoint), backlog, endpoint)]
    any4 = (socket.AF_INET, ("0.0.0.0", endpoint.port))
    first = _bound(any4, backlog, endpoint)
    try:
        port = first.getsockname()[1]
        return [first, _bound((socket.AF_INET6, ("::", port)), backlog, endpoint)]
    except (OSError, StartError):
        return [first]  # a machine without IPv6


def busy(what: str, endpoint: Endpoint, flag: str, error: OSError) -> StartError:
    """The sentence for a port that can't be had."""
    reasons = {
        errno.EADDRINUSE: "is in use by another program: stop that one",
        errno.EACCES: "may only be used by the administrator",
        errno.EADDRNOTAVAIL: "is at an address that this machine does not have: take one that it has",
    }
    reason = reasons.get(error.errno or 0, f"can't be used ({error.strerror or error})")
    return StartError(f"{what} {endpoint} {reason}, or choose another with {flag} ADDR:PORT ({VARIABLES[flag]})")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # another system, or one without IPv6
        return ""


def _resolve(endpoint: Endpoint) -> tuple[int, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):  # the latter: a label of more than 63 characters, or an empty one
        raise StartError(f'"{endpoint.host}" is no address of this machine; choose one with --http ADDR:PORT') from None
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))


def _bound(where: tuple[int, tuple[str, int]], backlog: int, endpoint: Endpoint) -> socket.socket:
    family, address = where
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.listen(backlog)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise busy("HTTP port", endpoint, "--http", error) from None
    return bound
