from typing import NamedTuple

class Sps(NamedTuple):
    """A sequence parameter set; the size is that of the conformance window, in luma samples."""

    profile_idc: int
    tier: int
    level_idc: int
    width: int
    height: int
    chroma_format: int
    bit_depth: int

def parse_sps(nal: bytes) -> Sps:
    """Read an SPS NAL unit (ITU-T H.265, section 7.3.2.2), header included; ValueError when it is malformed."""
