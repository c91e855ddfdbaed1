from enum import IntEnum
from typing import NamedTuple

from mediaserver.codecs.unit import AccessUnit as AccessUnit
from mediaserver.codecs.unit import Assembler as Assembler

class Codec(IntEnum):
    CODEC_NONE = 0
    CODEC_OPUS = 1
    CODEC_VP8 = 2
    CODEC_VP9 = 3
    CODEC_H264 = 4
    CODEC_H265 = 5
    CODEC_AV1 = 6
    CODEC_RED = 7

class Facts(NamedTuple):
    """What one RTP payload tells. Not valid: malformed or empty, and everything else is as absent (False, 0 or -1).

    `keyframe`: carries (the start of) a picture from which a decoder can start, or the parameter sets before it.
    `start`: may be the first packet of a frame. `end`: says of itself that it ends a frame; the RTP marker is the
    caller's. `width`, `height`: of the whole picture, cropped; 0 when this payload does not tell.
    `descriptor_size`: bytes before the media data. `inter_predicted`, `inter_layer`: of VP9. `layer_count`: spatial
    layers of the stream, 0 when this payload does not tell.
    """

    valid: bool
    keyframe: bool
    start: bool
    end: bool
    discardable: bool
    switch_up: bool
    temporal_id: int
    spatial_id: int
    picture_id: int
    tl0_pic_idx: int
    key_idx: int
    width: int
    height: int
    descriptor_size: int
    picture_id_bits: int
    inter_predicted: bool
    inter_layer: bool
    layer_count: int

def facts(codec: int, payload: bytes) -> Facts:
    """What one RTP payload (after decryption, without padding) tells."""

def assembler(codec: int) -> Assembler:
    """An assembler for the payloads of one stream; ValueError for a codec that has none."""

def codec_from_name(name: str) -> Codec:
    """The codec of an SDP encoding name (its case does not matter), CODEC_NONE when unknown."""

def codec_name(codec: int) -> str:
    """The SDP encoding name as it is registered; ValueError for CODEC_NONE and unknown codecs."""
