"""The one face of all codecs: what a single RTP payload tells, without state, allocation or the GIL."""

from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset


cpdef enum Codec:
    CODEC_NONE = 0
    CODEC_OPUS = 1
    CODEC_VP8 = 2
    CODEC_VP9 = 3
    CODEC_H264 = 4
    CODEC_H265 = 5
    CODEC_AV1 = 6
    CODEC_RED = 7


cdef enum:
    DESCRIBED_NUMBER = 1      # frame_number is set
    DESCRIBED_LAYERS = 2      # and the layers, targets, switches and depends
    DESCRIBED_FAR = 4         # refers to a frame further back than `depends` can say


cdef struct PayloadFacts:
    uint8_t valid             # 0: malformed or empty, and everything else is as absent
    uint8_t keyframe          # carries (the start of) a picture from which a decoder can start, or the parameter sets before it
    uint8_t start             # may be the first packet of a frame (VP9: of a layer frame; H.264/H.265: every packet up to the first slice)
    uint8_t end               # says of itself that it ends a frame (VP9: a layer frame); the RTP marker is the caller's
    uint8_t discardable       # no other picture refers to it
    uint8_t switch_up         # a temporal up-switch point
    int8_t temporal_id        # -1: unknown
    int8_t spatial_id         # -1: unknown
    int32_t picture_id        # -1: absent; 7 or 15 bits
    int32_t tl0_pic_idx       # -1: absent
    int32_t key_idx           # -1: absent
    uint16_t width            # of the whole picture, cropped; 0 when this payload does not tell
    uint16_t height
    uint16_t descriptor_size  # bytes before the media data
    # What a layer gate needs. The last six are told by a dependency descriptor alone (dependency.pxd).
    uint8_t picture_id_bits   # 7 or 15; 0: absent
    uint8_t inter_predicted   # VP9: refers to pictures before this one
    uint8_t inter_layer       # VP9: refers to the layer below in the same picture
    uint8_t layer_count       # spatial layers of the stream; 0 when this payload does not tell
    uint8_t described         # 0: no descriptor; else bits of DESCRIBED_*
    uint8_t version           # the lowest byte of the DependencyState's, when this packet came
    uint16_t frame_number     # of the descriptor: one for each layer of a picture
    uint32_t targets          # a bit for each decode target that the frame belongs to
    uint32_t switches         # a bit for each decode target that can be entered at this frame
    uint32_t depends          # bit d - 1: refers to the frame whose number is lower by d, for d up to 32


cdef inline void facts_clear(PayloadFacts* facts) noexcept nogil:
    """Nothing is known."""
    memset(facts, 0, sizeof(PayloadFacts))
    facts.temporal_id = -1
    facts.spatial_id = -1
    facts.picture_id = -1
    facts.tl0_pic_idx = -1
    facts.key_idx = -1


# Fills `facts` from the `size` bytes at `data`; 1 when they are a valid payload of this codec, else 0.
cdef int payload_facts(int codec, const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil
