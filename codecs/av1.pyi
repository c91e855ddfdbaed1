from typing import NamedTuple

class Sequence(NamedTuple):
    """A sequence header; the size is that of the largest frame, `level` and `tier` of the first operating point."""

    profile: int
    level: int
    tier: int
    width: int
    height: int

def parse_sequence(obu: bytes) -> Sequence:
    """Read a sequence header OBU (AV1, section 5.5), header included; ValueError when it is malformed."""
