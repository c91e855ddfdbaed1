"""AV1 in RTP (RTP Payload Format For AV1, version 1.0)."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

from mediaserver.codecs.payload cimport PayloadFacts
from mediaserver.codecs.unit cimport Assembler


cdef struct Av1Sequence:
    uint8_t profile
    uint8_t level          # seq_level_idx of the first operating point
    uint8_t tier
    uint8_t reduced        # reduced_still_picture_header
    uint32_t width         # the largest frame
    uint32_t height


# `obu` is the whole OBU with its header; 1 when it could be read.
cdef int av1_parse_sequence(const uint8_t* obu, size_t size, Av1Sequence* sequence) noexcept nogil
cdef int av1_facts(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil


cdef class Av1Assembler(Assembler):
    cdef size_t obu        # where the OBU under way begins in `data`
    cdef bint in_obu
    cdef bint has_frame
    cdef bint has_sequence
    cdef bint reduced
    cdef void end_obu(self)
    cdef void drop_obu(self)
    cdef void judge(self, size_t start, size_t header_size)
