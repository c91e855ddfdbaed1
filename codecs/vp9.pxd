"""VP9 in RTP (RFC 9628)."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t

from mediaserver.codecs.payload cimport PayloadFacts
from mediaserver.codecs.unit cimport Assembler


cdef enum:
    VP9_MAX_LAYERS = 8


# The frame header as far as it tells the kind and the size of a frame.
cdef struct Vp9Frame:
    uint8_t valid
    uint8_t keyframe
    uint16_t width         # 0 when the frame takes over the size of another
    uint16_t height


cdef int vp9_facts(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil
cdef void vp9_read_frame(const uint8_t* data, size_t size, Vp9Frame* frame) noexcept nogil


cdef class Vp9Assembler(Assembler):
    cdef bint broken       # nothing more of this picture can be used
    cdef bint in_layer     # a layer frame has begun and not ended
    cdef int layers        # layer frames begun
    cdef Vp9Frame told     # by the latest of them: the highest layer's size is the picture's
    cdef size_t[VP9_MAX_LAYERS] starts
    cdef void begin_layer(self, const uint8_t* payload, const PayloadFacts* facts, size_t size)
    cdef void write_index(self)
