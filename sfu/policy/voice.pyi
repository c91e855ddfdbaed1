class VoiceMeter:
    """One track's voice. Times are µs."""

    def __init__(self) -> None: ...
    def packet(self, level: int, vad: bool, now: int) -> bool:
        """A packet of `level` dB under full scale (0 to 127) has come; whether there is something to tell."""
    @property
    def speaking(self) -> bool: ...
    @property
    def loudness(self) -> int:
        """dB over -127 dBov, over the last second of activity."""
