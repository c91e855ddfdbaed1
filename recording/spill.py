"""What waits in memory for a packet that its publisher is asked for: on the disk meanwhile, in case of a crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mediaserver.recording.entry import Entry
from mediaserver.recording.packets import PacketFile

if TYPE_CHECKING:
    from mediaserver.sfu.stream.tap import TapPacket

SPILL_AFTER_US = 400_000
"""What waits longer goes to the disk."""

SPAN_US = 10_000_000
"""As long as there is always something awaited, what has found its place meanwhile is let go of so often."""


class Spill:
    """The files of one track, one after the other. Each call gives the entries for the disk."""

    def __init__(
        self,
        begin: Callable[[str, TapPacket], PacketFile],
        place: Callable[[TapPacket], tuple[int, int]],
        settle: Callable[[], list[Entry]],
    ) -> None:
        """`begin` makes a file of that name, `place` gives a packet's RTP time and arrival as `PacketFile` takes them,
        and `settle` writes out what has found its place, before the spill that has it too is dropped."""
        self._begin, self._place, self._settle = begin, place, settle
        self._file: PacketFile | None = None
        self._count = 0

    def add(self, packet: TapPacket) -> None:
        """One more has come."""
        if self._file is not None:
            self._file.add(packet, *self._place(packet))

    def secure(self, held: Callable[[], list[TapPacket]], wall_us: int) -> list[Entry]:
        """`held()` are the packets that wait now; those that come later are told to `add`."""
        before = self._file
        if before is None or wall_us - before.begun_us >= SPAN_US:
            packets = sorted(held(), key=lambda packet: packet[1])
            self._count += 1
            self._file = self._begin(f"spill-{self._count}", packets[0])
            for packet in packets:
                self.add(packet)
            self._file.flush()
        assert self._file is not None
        self._file.tick(wall_us)
        out = self._file.take()
        if before is not None and before is not self._file:
            out += self._settle() + before.dropped()
        return out

    def let_go(self) -> list[Entry]:
        """Nothing waits any more."""
        if self._file is None:
            return []
        file, self._file = self._file, None
        return self._settle() + file.dropped()
