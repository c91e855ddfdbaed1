from mediaserver.sfu.stream.params import Address
from mediaserver.sfu.stream.plane import BasePlane

class TcpError(OSError):
    """The address for TCP connections cannot be had."""

class Worker(BasePlane):
    """A data plane on a thread of its own.

    `address` is where its socket binds ("::" takes IPv4 too); port 0 takes a free one. `tcp` is where it takes TCP
    connections, None: nowhere; with port 0 the port is that of `address`. `tcp_connections` is the most of them.
    `memory` bounds the packets that are held, in bytes; `consent_timeout` is in µs. OSError when the address cannot be
    had, TcpError when that for TCP cannot.
    """

    event_fd: int
    """Readable when `poll_events` has something."""
    port: int
    tcp_port: int | None
    host: str

    def __init__(
        self,
        address: Address,
        *,
        tcp: Address | None = None,
        tcp_connections: int = 4096,
        memory: int = ...,
        consent_timeout: int = 30_000_000,
        adapts: bool = True,
    ) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None:
        """End the thread and close the socket. Taps can still be read to their end."""
    @property
    def segmentation(self) -> bool:
        """The kernel splits runs of datagrams (UDP_SEGMENT)."""
    @property
    def busy_us(self) -> int:
        """Microseconds that the thread has not spent waiting."""
    def latency_histogram(self) -> tuple[list[tuple[int, int]], int]:
        """Time of media datagrams in the server: pairs of upper limit (exclusive) and count, and the sum; in µs."""
