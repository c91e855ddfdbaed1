"""Where the workers listen, and at which addresses the clients are told to reach them."""

from __future__ import annotations

import errno
import ipaddress

import msgspec

from mediaserver.net import StartError, busy, candidate_addresses
from mediaserver.rooms import Rooms
from mediaserver.settings import Endpoint, MediaSettings
from mediaserver.sfu.stream.worker import TcpError, Worker

LAST_PORT = 65535
_PORT_ERRORS = (errno.EADDRINUSE, errno.EACCES)


def open_worker(settings: MediaSettings, number: int) -> Worker:
    """The worker of that number, bound to its UDP port and its TCP port. Raises `StartError`."""
    udp = _port_of(settings.endpoint, number, "--udp")
    tcp = settings.tcp_endpoint and _port_of(settings.tcp_endpoint, number, "--tcp")

    def bound(address: str) -> Worker:
        return Worker(
            (address, udp.port),
            tcp=tcp and (tcp.host or address, tcp.port),
            tcp_connections=settings.tcp_connections,
            memory=settings.memory_mb << 20,
            consent_timeout=int(settings.consent_seconds * 1e6),
            adapts=settings.adapt,
        )

    try:
        if udp.host:
            return bound(udp.host)
        try:
            return bound("::")  # takes IPv4 too
        except OSError as error:
            if error.errno in _PORT_ERRORS:
                raise
            return bound("0.0.0.0")  # a machine without IPv6
    except TcpError as error:
        raise busy("TCP port", tcp or udp, "--tcp", error) from None
    except OSError as error:
        raise busy("UDP port", udp, "--udp", error) from None


def find_addresses(settings: MediaSettings, rooms: Rooms) -> None:
    """Look up where the workers are reached, for the answers from now on."""
    addresses = candidate_addresses(settings.endpoint.host, settings.announce)
    for slot in rooms.workers:
        host, tcp_port = slot.worker.host, slot.worker.tcp_port
        found = [ip for ip in addresses if host == "::" or _same_family(ip, host)]
        udp = tuple((ip, slot.worker.port) for ip in found)
        tcp = tuple((ip, tcp_port) for ip in _tcp_addresses(settings, found)) if tcp_port is not None else ()
        if (udp, tcp) == (slot.settings.candidates, slot.settings.tcp_candidates):
            continue
        slot.settings = msgspec.structs.replace(slot.settings, candidates=udp, tcp_candidates=tcp)


def _port_of(endpoint: Endpoint, number: int, flag: str) -> Endpoint:
    port = endpoint.port + number if endpoint.port else 0
    if port > LAST_PORT:  # `MediaSettings` knows no number of cores
        first = f"{flag} {endpoint}, the first worker's"
        raise StartError(f"worker {number + 1} would be past port {LAST_PORT}: choose a lower port for {first}")
    return Endpoint(endpoint.host, port)


def _tcp_addresses(settings: MediaSettings, found: list[str]) -> list[str]:
    """TCP may listen at an address of its own."""
    endpoint = settings.tcp_endpoint
    if endpoint is None or not endpoint.host or settings.announce:
        return found
    return [endpoint.host]


def _same_family(one: str, other: str) -> bool:
    return ipaddress.ip_address(one).version == ipaddress.ip_address(other).version
