from collections.abc import Sequence
from typing import NamedTuple

class Outcome(NamedTuple):
    out: bytes
    done: bool
    failed: bool
    closed: bool

class Context:
    """`certificate` is in DER, `key` in PKCS #8. ValueError for what OpenSSL does not take."""

    def __init__(self, certificate: bytes, key: bytes, ciphers: bytes, profiles: bytes) -> None: ...

class Handshake:
    def __init__(
        self, context: Context, function: str, digests: Sequence[bytes], *, client: bool, mtu: int
    ) -> None: ...
    def step(self, datagram: bytes = b"", *, reads: bool = False) -> Outcome: ...
    def close(self) -> bytes: ...
    @property
    def profile(self) -> int: ...
    @property
    def material(self) -> bytes: ...
