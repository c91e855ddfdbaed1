"""Transport addresses between text and the form of the data plane."""

import functools
import ipaddress

from libc.string cimport memcpy, memset

MAPPED = bytes(10) + b"\xff\xff"


# The same few come again and again where a test drives the engine.
@functools.lru_cache(maxsize=1024)
def packed_ip(ip: str) -> bytes:
    packed = ipaddress.ip_address(ip).packed
    return MAPPED + packed if len(packed) == 4 else packed


@functools.lru_cache(maxsize=1024)
def ip_text(packed: bytes) -> str:
    if packed.startswith(MAPPED):
        return str(ipaddress.IPv4Address(packed[12:]))
    return str(ipaddress.IPv6Address(packed))


cdef int address_from(Addr* addr, str ip, int port) except -1:
    cdef bytes packed = packed_ip(ip)
    memset(addr, 0, sizeof(Addr))
    memcpy(addr.ip, <const char*>packed, 16)
    addr.port = port
    return 0


cdef tuple address_text(const Addr* addr):
    return ip_text((<char*>addr.ip)[:16]), addr.port


def unpack_address(data: bytes) -> tuple[str, int]:
    """The address in a CONNECTED or MOVED event: 16 bytes (IPv4 as IPv4-mapped IPv6) and a port, high byte first."""
    cdef Addr addr
    if len(data) != 18:
        raise ValueError(f"a packed address has 18 bytes, not {len(data)}")
    memset(&addr, 0, sizeof(addr))
    memcpy(addr.ip, <const char*>data, 16)
    addr.port = (data[16] << 8) | data[17]
    return address_text(&addr)
