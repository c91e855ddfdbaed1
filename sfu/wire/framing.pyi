class FrameReader:
    """Datagrams from the bytes of a stream (RFC 4571, section 2), in pieces of any size."""

    broken: bool
    """A frame was too long (over 2,048 bytes): nothing more can be read."""
    @property
    def kept(self) -> int:
        """Bytes of a frame that has not come as a whole."""

    def push(self, data: bytes) -> list[bytes]:
        """The datagrams that are whole now; empty ones too. ValueError after a frame that was too long."""

def framed(datagram: bytes) -> bytes:
    """A datagram behind its length. ValueError for more than 2,048 bytes."""
