from mediaserver.sfu.stream.params import Address
from mediaserver.sfu.stream.plane import BasePlane

class Engine(BasePlane):
    """A data plane in virtual time. `now` never goes back.

    `memory` bounds the packets that are held, in bytes; `consent_timeout` is in µs; with one `seed`
    (16 bytes) two runs are the same.
    """

    def __init__(
        self,
        *,
        memory: int = ...,
        consent_timeout: int = 30_000_000,
        seed: bytes = ...,
        adapts: bool = True,
        allocation: int = 0,
    ) -> None: ...
    def receive(self, datagram: bytes, addr: Address, now: int) -> None:
        """One datagram from that address at `now` (µs). What it brings about leaves at once."""
    def receive_batch(self, datagrams: list[tuple[bytes, Address]], now: int) -> None:
        """Datagrams that were found together, as one turn of a worker's loop takes them."""
    def advance(self, now: int) -> None:
        """Do what is due at `now` (µs)."""
    def deadline(self) -> int:
        """When `advance` has something to do (µs)."""
    def transmits(self) -> list[tuple[bytes, Address]]:
        """What is to be sent since the last call."""
