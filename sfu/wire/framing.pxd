"""Datagrams on a stream: each behind its length in two bytes (RFC 4571, section 2)."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    FRAME_HEAD = 2
    FRAME_MAX = 2048         # bytes of a datagram; more than any that a peer has cause to send

cpdef enum FrameResult:
    FRAME_TOO_LONG = -1      # the stream cannot be read any further
    FRAME_UNFINISHED = 0     # what stands there has not come as a whole
    FRAME_READ = 1

# The start of a datagram that has not come as a whole. Zeroed is empty; holds no memory while it is.
cdef struct Deframer:
    uint8_t* kept
    uint32_t size            # below FRAME_HEAD + FRAME_MAX

# Lays what was kept at the start of `buffer`, which has FRAME_HEAD + FRAME_MAX bytes of room for it. How many bytes.
cdef size_t deframer_begin(Deframer* deframer, uint8_t* buffer) noexcept nogil
# Keeps the bytes behind the last whole frame for the next time. 0, or -1 without memory or for more than a frame.
cdef int deframer_keep(Deframer* deframer, const uint8_t* rest, size_t size) noexcept nogil
cdef void deframer_close(Deframer* deframer) noexcept nogil
# The frame at `at`, which is moved behind it. A frame of no bytes is legal and means nothing.
cdef int frame_next(const uint8_t* data, size_t size, size_t* at, const uint8_t** frame,
                    size_t* frame_size) noexcept nogil
cdef void frame_head(uint8_t* out, uint32_t size) noexcept nogil
