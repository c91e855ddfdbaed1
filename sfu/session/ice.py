"""ICE-lite (RFC 8445, section 2.5): candidates and credentials. The checks are answered in the data plane."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, NamedTuple

from mediaserver.sfu.session.ids import Ids
from mediaserver.sfu.stream.params import Address

HOST_PREFERENCE = 126  # RFC 8445, section 5.1.2.2
TCP_PREFERENCE = 90  # below all that goes over UDP, above relays (RFC 6544, section 4.2)
PASSIVE = 4 << 13  # the direction's part in a TCP candidate's local preference


class Credentials(NamedTuple):
    """A username fragment and its password."""

    ufrag: str
    pwd: str

    @classmethod
    def fresh(cls, ids: Ids[Any]) -> Credentials:
        return cls(ids.ufrag(), ids.pwd())


def candidate_lines(addresses: Sequence[Address], tcp: Sequence[Address] = ()) -> list[str]:
    """The values of `a=candidate`: host candidates over UDP, the first preferred; after them those at which TCP
    connections are taken (RFC 6544, section 4.5)."""
    lines = []
    for at, (ip, port) in enumerate(addresses):
        priority = HOST_PREFERENCE << 24 | (65535 - at) << 8 | 255
        lines.append(f"candidate:{at + 1} 1 udp {priority} {ip} {port} typ host")
    for at, (ip, port) in enumerate(tcp):
        priority = TCP_PREFERENCE << 24 | (PASSIVE + 8191 - at) << 8 | 255
        lines.append(f"candidate:{len(addresses) + at + 1} 1 tcp {priority} {ip} {port} typ host tcptype passive")
    return lines


def connection_line(addresses: Sequence[Address]) -> str:
    """The value of the c= line that goes with the first candidate."""
    ip = addresses[0][0] if addresses else "0.0.0.0"
    return f"IN IP{ipaddress.ip_address(ip).version} {ip}"
