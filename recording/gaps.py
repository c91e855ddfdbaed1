"""What is missing of one track: at most one gap is open at a time, and grows until media is kept again.

Pure: times are Unix times in µs where they are called `from_us` and `to_us`, else those of the ring's arrivals.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mediaserver.recording import journal
from mediaserver.recording.reorder import Missing

_FOREVER = 1 << 62


class Gaps:
    def __init__(self, track: str, write: Callable[[journal.Lost], None]) -> None:
        """`write` is called with a gap each time that it is begun or has grown."""
        self.count = 0
        """How many there were; the number of the last one."""
        self._track = track
        self._write = write
        self._open: journal.Lost | None = None
        self._overflowed = 0
        self._muted: tuple[int, int] | None = None

    @property
    def is_open(self) -> bool:
        return self._open is not None

    def overflowed(self, packets: int) -> None:
        """The ring has dropped so many: they will be missed."""
        self._overflowed += packets

    def mute(self, muted: bool, now: int) -> None:
        """What is missing from now on, or was until now, is so because the track was muted."""
        self._muted = (now, _FOREVER) if muted else (self._muted[0] if self._muted else now, now)

    def cause(self, missing: Missing) -> str:
        """Why packets never came."""
        if self._overflowed:
            self._overflowed = max(0, self._overflowed - missing.packets)
            return "overflow"
        if self._muted and self._muted[0] <= missing.to_us and missing.from_us <= self._muted[1]:
            return "muted"
        return "lost"

    def open(self, cause: str, ssrc: int, first: int, last: int, packets: int, from_us: int, to_us: int) -> None:
        """A gap, or more of the one that is open."""
        gap = self._open
        if gap is None:
            self.count += 1
            gap = journal.Lost(self._track, self.count, cause, ssrc, first, last, packets, 0, from_us, to_us)
        else:
            gap = msgspec.structs.replace(
                gap,
                cause=cause if gap.cause == "broken" else gap.cause,
                last=max(last, gap.last),
                packets=packets + gap.packets,
                to_us=to_us,
            )
        self._open = gap
        self._write(gap)

    def skip(self, at_us: int) -> None:
        """A picture (or packet of sound) came then and is not kept."""
        gap = self._open
        if gap is not None:
            self._open = msgspec.structs.replace(gap, skipped=gap.skipped + 1, to_us=max(gap.to_us, at_us))

    def close(self, to_us: int = 0) -> None:
        """What is kept goes on at `to_us`; without, nothing does."""
        gap, self._open = self._open, None
        if gap is not None and (to_us > gap.to_us or gap.skipped):
            self._write(msgspec.structs.replace(gap, to_us=max(to_us, gap.to_us)))
