"""Brings packets back into their order and names what is missing.

Pure: time is an int of µs that comes in with the call. Sequence numbers are the unwrapped ones of one SSRC, so
they only compare and count up.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

PacketT = TypeVar("PacketT")

MAX_WAITING = 8192
"""Packets held behind a hole; more of them, and the hole is given up before its time."""

SETTLE_US = 100_000
"""The first packets are held for so long: the network may have brought a later one first."""


class Missing(NamedTuple):
    """A run of sequence numbers that never came. The times are the arrivals of the packets next to it, in µs."""

    first: int
    last: int
    from_us: int
    to_us: int

    @property
    def packets(self) -> int:
        return self.last - self.first + 1


class Reorder(Generic[PacketT]):
    """One SSRC's packets: push them as they arrive, pop them in order.

    A hole is waited for until `window_us` after the first packet behind it has arrived, and as long as something of
    it is still asked for until `patience_us`; then it is popped as `Missing`. What comes for it later is counted in
    `late` and dropped, and so is a packet that came twice.
    """

    __slots__ = (
        "_hole_since",
        "_last_arrival",
        "_next",
        "_ready",
        "_waiting",
        "duplicates",
        "late",
        "patience_us",
        "window_us",
    )

    def __init__(self, window_us: int, patience_us: int = 0) -> None:
        self.window_us = window_us
        self.patience_us = max(window_us, patience_us)
        self.late = 0
        self.duplicates = 0
        self._next: int | None = None
        self._last_arrival = 0
        self._hole_since = 0
        self._waiting: dict[int, tuple[int, PacketT]] = {}
        self._ready: list[PacketT | Missing] = []

    @property
    def waiting(self) -> int:
        """Packets held behind a hole."""
        return len(self._waiting)

    def held(self) -> list[PacketT]:
        """These packets."""
        return [packet for _, packet in self._waiting.values()]

    def waited(self, now: int) -> int:
        """How long the hole in front has been waited for, µs; 0 where there is none."""
        return now - self._hole_since if self._waiting else 0

    def resume(self, sequence: int, arrival: int) -> None:
        """All up to this number has been popped; the last arrived then."""
        self._next = sequence + 1
        self._last_arrival = arrival

    def push(self, sequence: int, arrival: int, packet: PacketT) -> None:
        expected = self._next
        if sequence == expected:
            self._next = expected + 1
            self._last_arrival = arrival
            self._ready.append(packet)
            if self._waiting:
                self._release()
        elif expected is not None and sequence < expected:
            self.late += 1
        elif sequence in self._waiting:
            self.duplicates += 1
        else:
            if not self._waiting:
                self._hole_since = arrival
            self._waiting[sequence] = (arrival, packet)
            if len(self._waiting) > MAX_WAITING:
                self._move_on()

    def pop(self, now: int, awaited: int = 0) -> list[PacketT | Missing]:
        """What is in order by now. `awaited` is the lowest number that may still come, as it is asked for; 0: none."""
        while self._waiting and self._is_over(now - self._hole_since, awaited):
            self._move_on()
        ready = self._ready
        if ready:
            self._ready = []
        return ready

    def flush(self) -> list[PacketT | Missing]:
        """Everything; nothing is waited for any more."""
        while self._waiting:
            self._move_on()
        ready, self._ready = self._ready, []
        return ready

    def _is_over(self, waited: int, awaited: int) -> bool:
        """The hole in front is not worth waiting for any longer."""
        if self._next is None:
            return waited >= SETTLE_US
        if waited < self.window_us:
            return False
        return waited >= self.patience_us or not awaited or awaited >= min(self._waiting)

    def _move_on(self) -> None:
        """Begin with the lowest number that has come, or turn the hole in front of it into `Missing`."""
        first_held = min(self._waiting)
        if self._next is not None:
            arrival = self._waiting[first_held][0]
            self._ready.append(Missing(self._next, first_held - 1, self._last_arrival, arrival))
        self._next = first_held
        self._release()

    def _release(self) -> None:
        assert self._next is not None
        while (held := self._waiting.pop(self._next, None)) is not None:
            self._last_arrival, packet = held
            self._ready.append(packet)
            self._next += 1
        if self._waiting:
            self._hole_since = min(arrival for arrival, _ in self._waiting.values())
