"""Transport addresses between text and the form of the data plane."""

import ipaddress

from libc.string cimport memcpy, memset

MAPPED = bytes(10) + b"\xff\xff"


cdef int address_from(Addr* addr, str ip, int port) except -1:
    cdef bytes packed = ipaddress.ip_address(ip).packed
    memset(addr, 0, sizeof(Addr))
    if len(packed) == 4:
        packed = MAPPED + packed
    memcpy(addr.ip, <const char*>packed, 16)
    addr.port = port
    return 0


cdef tuple address_text(const Addr* addr):
    cdef bytes packed = (<char*>addr.ip)[:16]
    if packed.startswith(MAPPED):
        return str(ipaddress.IPv4Address(packed[12:])), addr.port
    return str(ipaddress.IPv6Address(packed)), addr.port


def unpack_address(data: bytes) -> tuple[str, int]:
    """The address in a CONNECTED or MOVED event: 16 bytes (IPv4 as IPv4-mapped IPv6) and a port, high byte first."""
    cdef Addr addr
    if len(data) != 18:
        raise ValueError(f"a packed address has 18 bytes, not {len(data)}")
    memset(&addr, 0, sizeof(addr))
    memcpy(addr.ip, <const char*>data, 16)
    addr.port = (data[16] << 8) | data[17]
    return address_text(&addr)
