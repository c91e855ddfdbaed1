from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

class ExtKind(IntEnum):
    EXT_NONE = 0
    EXT_MID = 1
    EXT_RID = 2
    EXT_RRID = 3
    EXT_TWCC = 4
    EXT_ABS_SEND_TIME = 5
    EXT_AUDIO_LEVEL = 6
    EXT_ABS_CAPTURE_TIME = 7
    EXT_PLAYOUT_DELAY = 8
    EXT_VIDEO_ORIENTATION = 9
    EXT_TOFFSET = 10
    EXT_DEPENDENCY_DESCRIPTOR = 11
    EXT_VIDEO_CONTENT_TYPE = 12
    EXT_VIDEO_TIMING = 13
    EXT_COLOR_SPACE = 14
    EXT_VIDEO_LAYERS_ALLOCATION = 15
    EXT_COUNT = 16

class DemuxKind(IntEnum):
    DEMUX_OTHER = 0
    DEMUX_STUN = 1
    DEMUX_DTLS = 2
    DEMUX_RTP = 3

EXT_URIS: dict[str, ExtKind]

class RtpPacket(NamedTuple):
    payload_type: int
    marker: bool
    padding: bool
    csrc_count: int
    sequence: int
    timestamp: int
    ssrc: int
    header_size: int
    ext_profile: int
    ext_offset: int
    ext_size: int
    payload_size: int

def parse_rtp(data: bytes) -> RtpPacket: ...
def payload_of(data: bytes) -> bytes: ...
def read_extensions(data: bytes, ids: Mapping[int, int]) -> dict[int, bytes]: ...
def write_extensions(
    values: Mapping[int, bytes], ids: Mapping[int, int], capacity: int = 4096, wanted: int = 0xFFFFFFFF
) -> bytes: ...
def write_rtp(
    *,
    payload_type: int,
    marker: bool,
    sequence: int,
    timestamp: int,
    ssrc: int,
    extensions: bytes = b"",
    payload: bytes = b"",
) -> bytes: ...
def classify(datagram: bytes) -> DemuxKind: ...
def looks_like_rtcp(datagram: bytes) -> bool: ...
