class FrameBacklog:
    """What waits for a TCP connection; the kernel of `sfu/stream/tcp`, for tests. Times are µs."""

    @property
    def empty(self) -> bool: ...
    @property
    def memory(self) -> int:
        """Bytes that it holds."""

    @property
    def dropped(self) -> int:
        """Media frames given up."""

    def split(self, frame: bytes, sent: int) -> None:
        """A frame has gone in part, `sent` bytes with those of its length. ValueError unless it is empty."""

    def add(self, frame: bytes, media: bool, now: int) -> bool:
        """False for what may not wait: a frame too long, or more control than a living peer can owe."""

    def take(self, size: int, now: int) -> bytes:
        """The next bytes of the stream, at most `size`."""

    def shrink(self) -> None:
        """Give memory back when nothing waits."""
