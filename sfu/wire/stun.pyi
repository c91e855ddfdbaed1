from enum import IntEnum
from typing import NamedTuple

class StunType(IntEnum):
    STUN_BINDING_REQUEST = 0x0001
    STUN_BINDING_INDICATION = 0x0011
    STUN_BINDING_SUCCESS = 0x0101
    STUN_BINDING_ERROR = 0x0111

class StunFamily(IntEnum):
    STUN_NO_ADDRESS = 0
    STUN_IPV4 = 1
    STUN_IPV6 = 2

class StunRole(IntEnum):
    STUN_NO_ROLE = 0
    STUN_CONTROLLING = 1
    STUN_CONTROLLED = 2

class Stun(NamedTuple):
    type: int
    transaction: bytes
    username: bytes | None
    has_integrity: bool
    has_fingerprint: bool
    use_candidate: bool
    priority: int | None
    role: StunRole
    tie_breaker: int
    error_code: int | None
    unknown_required: int | None
    address: tuple[bytes, int] | None

def parse(data: bytes) -> Stun: ...
def verify(data: bytes, password: bytes) -> bool: ...
def write_success(transaction: bytes, ip: bytes, port: int, password: bytes = b"") -> bytes: ...
def write_error(transaction: bytes, code: int, unknown_attribute: int = 0, password: bytes = b"") -> bytes: ...
def write_request(
    transaction: bytes,
    username: bytes,
    password: bytes,
    *,
    priority: int,
    role: int,
    tie_breaker: int,
    use_candidate: bool = False,
) -> bytes: ...
