"""The only reader of time: everything else is given it."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """The machine's clocks. A test hands in one of its own with the same methods."""

    def monotonic_us(self) -> int:
        """µs of CLOCK_MONOTONIC: the clock of the workers, and of all that is measured or waits."""
        return time.monotonic_ns() // 1000

    def wall_us(self) -> int:
        """µs since 1970 (UTC)."""
        return time.time_ns() // 1000

    def wall(self) -> float:
        """Seconds since 1970 (UTC): what is written down, and what tokens expire by."""
        return time.time()


def iso(wall: float) -> str:
    """Wall-clock seconds as RFC 3339 text in UTC with milliseconds."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
