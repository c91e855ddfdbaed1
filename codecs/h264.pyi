from typing import NamedTuple

class Sps(NamedTuple):
    """A sequence parameter set; the size is cropped, in luma samples. `constraints`: the constraint_set flags' byte."""

    profile_idc: int
    constraints: int
    level_idc: int
    width: int
    height: int
    chroma_format: int
    bit_depth: int

def parse_sps(nal: bytes) -> Sps:
    """Read an SPS NAL unit (ITU-T H.264, section 7.3.2.1), header included; ValueError when it is malformed."""
