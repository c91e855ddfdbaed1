"""The one face of all codecs: what a single RTP payload tells, and assemblers from payloads to access units."""

from typing import NamedTuple

from mediaserver.codecs.av1 cimport Av1Assembler, av1_facts
from mediaserver.codecs.h264 cimport H264Assembler, h264_facts
from mediaserver.codecs.h265 cimport H265Assembler, h265_facts
from mediaserver.codecs.opus cimport OpusAssembler, opus_facts
from mediaserver.codecs.red cimport RedAssembler, red_facts
from mediaserver.codecs.vp8 cimport Vp8Assembler, vp8_facts
from mediaserver.codecs.vp9 cimport Vp9Assembler, vp9_facts

from mediaserver.codecs.unit import AccessUnit, Assembler

cdef enum:
    MAX_PAYLOAD = 0xFFFF  # more than a datagram holds; keeps descriptor_size in its 16 bits


cdef int payload_facts(int codec, const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil:
    cdef int valid = 0
    facts_clear(facts)
    if size > MAX_PAYLOAD:
        return 0
    if codec == CODEC_H264:
        valid = h264_facts(data, size, facts)
    elif codec == CODEC_VP8:
        valid = vp8_facts(data, size, facts)
    elif codec == CODEC_OPUS:
        valid = opus_facts(data, size, facts)
    elif codec == CODEC_VP9:
        valid = vp9_facts(data, size, facts)
    elif codec == CODEC_AV1:
        valid = av1_facts(data, size, facts)
    elif codec == CODEC_H265:
        valid = h265_facts(data, size, facts)
    elif codec == CODEC_RED:
        valid = red_facts(data, size, facts)
    if not valid:
        facts_clear(facts)
        return 0
    facts.valid = 1
    return 1


class Facts(NamedTuple):
    """What one RTP payload tells; the fields are those of `PayloadFacts` in payload.pxd."""

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


def facts(int codec, bytes payload not None):
    """What one RTP payload tells."""
    cdef PayloadFacts found
    payload_facts(codec, payload, len(payload), &found)
    return Facts(
        bool(found.valid),
        bool(found.keyframe),
        bool(found.start),
        bool(found.end),
        bool(found.discardable),
        bool(found.switch_up),
        found.temporal_id,
        found.spatial_id,
        found.picture_id,
        found.tl0_pic_idx,
        found.key_idx,
        found.width,
        found.height,
        found.descriptor_size,
        found.picture_id_bits,
        bool(found.inter_predicted),
        bool(found.inter_layer),
        found.layer_count,
    )


_ASSEMBLERS = {
    CODEC_OPUS: OpusAssembler,
    CODEC_VP8: Vp8Assembler,
    CODEC_VP9: Vp9Assembler,
    CODEC_H264: H264Assembler,
    CODEC_H265: H265Assembler,
    CODEC_AV1: Av1Assembler,
    CODEC_RED: RedAssembler,
}
_NAMES = {
    CODEC_OPUS: "opus",
    CODEC_VP8: "VP8",
    CODEC_VP9: "VP9",
    CODEC_H264: "H264",
    CODEC_H265: "H265",
    CODEC_AV1: "AV1",
    CODEC_RED: "red",
}
_CODECS = {name.lower(): codec for codec, name in _NAMES.items()}


def assembler(int codec):
    """An assembler for the payloads of one stream; ValueError for a codec that has none."""
    try:
        return _ASSEMBLERS[codec]()
    except KeyError:
        raise ValueError(f"no assembler for codec {codec}") from None


def codec_from_name(str name not None):
    """The codec of an SDP encoding name (its case does not matter), CODEC_NONE when unknown."""
    return Codec(_CODECS.get(name.lower(), CODEC_NONE))


def codec_name(int codec):
    """The SDP encoding name as it is registered; ValueError for CODEC_NONE and unknown codecs."""
    try:
        return _NAMES[codec]
    except KeyError:
        raise ValueError(f"unknown codec {codec}") from None
