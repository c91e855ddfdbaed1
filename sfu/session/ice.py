"""ICE-lite (RFC 8445, section 2.5): candidates and credentials. The checks are answered in the data plane."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, NamedTuple

from mediaserver.sfu.session.ids import Ids
from mediaserver.sfu.stream.params import Address

HOST_PREFERENCE = 126  # RFC 8445, section 5.1.2.2


class Credentials(NamedTuple):
    """A username fragment and its password."""

    ufrag: str
    pwd: str

    @classmethod
    def fresh(cls, ids: Ids[Any]) -> Credentials:
        return cls(ids.ufrag(), ids.pwd())


def candidate_lines(addresses: Sequence[Address]) -> list[str]:
    """The values of `a=candidate`: host candidates over UDP, the first preferred."""
    lines = []
    for at, (ip, port) in enumerate(addresses):
        priority = HOST_PREFERENCE << 24 | (65535 - at) << 8 | 255
        lines.append(f"candidate:{at + 1} 1 udp {priority} {ip} {port} typ host")
    return lines


def connection_line(addresses: Sequence[Address]) -> str:
    """The value of the c= line that goes with the first candidate."""
    ip = addresses[0][0] if addresses else "0.0.0.0"
    return f"IN IP{ipaddress.ip_address(ip).version} {ip}"
