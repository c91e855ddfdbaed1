"""What waits for a TCP connection that does not take it: bounded in bytes and in age, the oldest media given up first.

STUN, DTLS and RTCP wait apart and overtake the media: by them the peer knows that the path lives and how it fares.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from mediaserver.sfu.wire.framing cimport FRAME_HEAD, FRAME_MAX

cdef enum:
    BACKLOG_MEDIA = 262144       # bytes, a power of two: a second at 2 Mbit/s
    BACKLOG_CONTROL = 16384      # bytes, a power of two
    BACKLOG_AGE_US = 1000000     # older media would come too late for anybody
    BACKLOG_MARKS = 32           # a power of two
    BACKLOG_MARK_US = 62500      # apart; what is given up for its age goes in steps of this
    BACKLOG_SPANS = 5            # pieces of memory that backlog_spans gives at most

# A ring of frames, each behind its length. `head` and `tail` count all bytes that ever went; memory is there while
# something waits.
cdef struct FrameRing:
    uint8_t* data
    uint32_t room
    uint64_t head
    uint64_t tail

cdef struct Span:
    uint8_t* data
    size_t size

cdef struct Mark:
    int64_t time             # µs
    uint64_t tail            # of the media ring then

# Zeroed is empty.
cdef struct Backlog:
    uint8_t* rest            # of a frame that has gone in part
    uint32_t rest_at
    uint32_t rest_size
    FrameRing control
    FrameRing media
    Mark marks[BACKLOG_MARKS]
    uint64_t dropped         # media frames given up

cdef void backlog_close(Backlog* backlog) noexcept nogil
cdef int backlog_empty(const Backlog* backlog) noexcept nogil
cdef size_t backlog_memory(const Backlog* backlog) noexcept nogil
# A frame of at most FRAME_MAX bytes behind all others of its kind. `media` may cost older media; 0, or -1 without
# memory or when more control waits than a living peer can owe.
cdef int backlog_add(Backlog* backlog, const uint8_t* frame, uint32_t size, int media, int64_t now) noexcept nogil
# What a frame leaves of which `sent` of FRAME_HEAD + size bytes have gone; nothing else may wait. 0, or -1 without memory.
cdef int backlog_split(Backlog* backlog, const uint8_t* frame, uint32_t size, uint32_t sent) noexcept nogil
# What is to be written next, in order. How many spans; gives up media that is too old.
cdef int backlog_spans(Backlog* backlog, Span* spans, int64_t now) noexcept nogil
# The first `size` bytes of these spans have been written. 0, or -1 without memory.
cdef int backlog_written(Backlog* backlog, size_t size) noexcept nogil
# Gives memory back when nothing waits.
cdef void backlog_shrink(Backlog* backlog) noexcept nogil
