TapPacket = tuple[int, int, int, int, int, int, int, bytes]
"""(0, arrival in µs, extended sequence number, RTP timestamp, SSRC, payload type, marker, payload without padding)

The payload is empty where there was nothing but padding: its number would otherwise pass for a loss."""

TapSenderReport = tuple[int, int, int, int, int]
"""(1, arrival in µs, SSRC, NTP time as 32.32 fixed point, RTP timestamp)"""

TapEntry = TapPacket | TapSenderReport

class TapRing:
    """The consumer's end of a tap on one track. `capacity` bounds the packets that are out at once."""

    def __init__(self, capacity: int = 4096) -> None: ...
    def read(self, limit: int) -> list[TapEntry]:
        """Take up to `limit` entries, in the order of arrival. Never blocks."""
    @property
    def dropped(self) -> int:
        """Packets that did not fit."""
    @property
    def awaited(self) -> int:
        """The lowest extended number that the publisher is still asked for, 0: none. What came of those below had been
        put into the ring before this was so: observe it, then read."""
    @property
    def backlog(self) -> int:
        """Entries that wait to be read."""
    @property
    def closed(self) -> bool:
        """Nothing more will come, and all has been read."""
