"""H.265 in RTP (RFC 7798) on one stream, without decoding order numbers."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

from mediaserver.codecs.nal cimport NalAssembler
from mediaserver.codecs.payload cimport PayloadFacts


cdef struct H265Sps:
    uint8_t id
    uint8_t vps
    uint8_t profile_idc
    uint8_t tier
    uint8_t level_idc
    uint8_t chroma_format
    uint8_t bit_depth      # of luma
    uint32_t width         # of the conformance window
    uint32_t height


# `nal` is the whole NAL unit with its header; 1 when it could be read.
cdef int h265_parse_sps(const uint8_t* nal, size_t size, H265Sps* sps) noexcept nogil
cdef int h265_facts(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil


cdef class H265Assembler(NalAssembler):
    cdef void add_aggregate(self, const uint8_t* payload, size_t size)
