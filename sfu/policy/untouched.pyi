from enum import IntEnum

class SoundFault(IntEnum):
    SOUND_DTX = 1
    SOUND_SPEECH = 2
    SOUND_BANDWIDTH = 4
    SOUND_BITRATE = 8
    SOUND_LONG = 16
    SOUND_MALFORMED = 32

class Listener:
    """One track's sound. Times are µs; `floor_bps` is the least bitrate of the source."""

    def __init__(self, floor_bps: int = 0) -> None: ...
    def packet(self, sequence: int, timestamp: int, payload: bytes, now: int) -> bool:
        """A packet has come; whether the faults have changed."""
    @property
    def faults(self) -> int:
        """Bits of `SoundFault`."""
