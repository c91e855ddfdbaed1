"""H.264 in RTP (RFC 6184), packetization modes 0 and 1."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from mediaserver.codecs.nal cimport NalAssembler
from mediaserver.codecs.payload cimport PayloadFacts


cdef struct H264Sps:
    uint8_t profile_idc
    uint8_t constraints    # the byte of constraint_set flags
    uint8_t level_idc
    uint8_t id
    uint8_t chroma_format
    uint8_t bit_depth      # of luma
    uint32_t width         # cropped
    uint32_t height


# `nal` is the whole NAL unit with its header; 1 when it could be read.
cdef int h264_parse_sps(const uint8_t* nal, size_t size, H264Sps* sps) noexcept nogil
cdef int h264_facts(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil


cdef class H264Assembler(NalAssembler):
    cdef void add_aggregate(self, const uint8_t* payload, size_t size)
