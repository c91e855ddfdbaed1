from typing import Literal, NamedTuple

class Toc(NamedTuple):
    """What the first bytes of an Opus packet tell; `duration_us` is of all its frames."""

    mode: Literal["silk", "hybrid", "celt"]
    bandwidth: Literal["narrow", "medium", "wide", "superwide", "full"]
    stereo: bool
    frames: int
    duration_us: int

def parse_toc(packet: bytes) -> Toc:
    """Read an Opus packet; ValueError when it breaks one of the rules R1 to R7 of RFC 6716, section 3.4."""
