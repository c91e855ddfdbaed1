"""VP8 in RTP (RFC 7741)."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from mediaserver.codecs.payload cimport PayloadFacts
from mediaserver.codecs.unit cimport Assembler


cdef int vp8_facts(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil


cdef class Vp8Assembler(Assembler):
    cdef bint broken       # nothing more of this frame can be used
