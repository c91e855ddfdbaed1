"""What cannot be muxed, as packets: those of one track from the first that had no place until there is one again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mediaserver.recording.entry import Entry
from mediaserver.recording.packets import PacketFile

if TYPE_CHECKING:
    from mediaserver.sfu.stream.tap import TapPacket

RAW_AFTER_US = 2_000_000
"""When no picture to start from has come for so long, packets are kept as they are."""

SILENT_US = 1_000_000
MAX_WAITING = 8192


class Unmuxed:
    """Packets wait here until a keyframe makes them superfluous, or it is clear that they have to be kept."""

    def __init__(self, begin: Callable[[TapPacket], PacketFile], place: Callable[[TapPacket], tuple[int, int]]) -> None:
        """`begin` makes a file for this packet and those that follow, `place` as in `spill`."""
        self._begin, self._place = begin, place
        self._file: PacketFile | None = None
        self._waiting: list[TapPacket] = []

    @property
    def is_open(self) -> bool:
        """There is a file that packets go into."""
        return self._file is not None

    @property
    def since(self) -> int | None:
        """When the first that waits arrived; None where nothing does."""
        return self._waiting[0][1] if self._waiting else None

    def hold(self, packet: TapPacket) -> bool:
        """It comes while there is no picture to start from. True when that has lasted for too long: `keep` now."""
        if self._file is not None:
            self._file.add(packet, *self._place(packet))
            return False
        waiting = self._waiting
        if waiting and packet[1] - waiting[-1][1] >= SILENT_US:
            waiting.clear()  # what came before an outage is no measure of how long a keyframe takes
        waiting.append(packet)
        return packet[1] - waiting[0][1] >= RAW_AFTER_US or len(waiting) >= MAX_WAITING

    def keep(self, packet: TapPacket | None = None) -> TapPacket | None:
        """What waits, or this packet, and all that follows is kept. The first of it; None when there is nothing."""
        packets = [packet] if packet is not None else self._waiting
        if not packets:
            return None
        if self._file is None:
            self._file = self._begin(packets[0])
        for one in packets:
            self._file.add(one, *self._place(one))
        if packet is None:
            self._waiting = []
        return packets[0]

    def forget(self) -> None:
        """What waits is not needed."""
        if self._waiting:
            self._waiting.clear()

    def tick(self, wall_us: int) -> list[Entry]:
        """What has waited for company for too long goes out."""
        if self._file is None:
            return []
        self._file.tick(wall_us)
        return self._file.take()

    def flush(self) -> list[Entry]:
        """All of it goes out."""
        if self._file is None:
            return []
        self._file.flush()
        return self._file.take()

    def close(self) -> list[Entry]:
        """What follows has a place."""
        if self._file is None:
            return []
        self._file.close()
        file, self._file = self._file, None
        return file.take()
