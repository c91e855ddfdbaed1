from enum import IntEnum

class FreshState(IntEnum):
    FRESH_LIVE = 0
    FRESH_STALE = 1
    FRESH_UNCHANGING = 2
    FRESH_WAITING = 3

class Watch:
    """One source's freshness. Times are µs; the rule's are too.

    With `stale_us` 0 nothing is judged; with `unchanged_us` 0 pictures may stay as they are.
    """

    def __init__(self, *, stale_frames: int = 3, stale_us: int = 250_000, unchanged_us: int = 2_000_000) -> None: ...
    def packet(
        self, timestamp: int, size: int, now: int, *, clock_rate: int = 90_000, key: bool = False, pixels: int = 0
    ) -> bool:
        """A packet of a frame with `size` bytes of payload; whether the state changed."""
    def check(self, now: int) -> bool:
        """Time has passed; whether the state changed."""
    def resume(self, now: int) -> None:
        """Forwarding begins again after a pause."""
    @property
    def due(self) -> int:
        """When `check` will have something to do, 0 for never."""
    @property
    def state(self) -> FreshState: ...
