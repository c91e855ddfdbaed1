from mediaserver.sfu.stream.params import Address

def unpack_address(data: bytes) -> Address:
    """The address in a CONNECTED or MOVED event: 16 bytes (IPv4 as IPv4-mapped IPv6) and a port, high byte first."""
