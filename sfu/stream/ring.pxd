"""A ring between two threads without locks: one puts, one takes."""

from libc.stdint cimport uint64_t

cdef struct Ring:
    void** slots
    uint64_t mask
    uint64_t head            # next to take; written by the taker alone
    char head_apart[56]      # keeps the two counters on cache lines of their own
    uint64_t tail            # next to put; written by the putter alone
    char tail_apart[56]

# `capacity` is a power of two. 0, or -1 without memory.
cdef int ring_init(Ring* ring, uint64_t capacity) noexcept nogil
cdef void ring_close(Ring* ring) noexcept nogil
# 1 when it fitted, 0 when the ring is full.
cdef int ring_put(Ring* ring, void* item) noexcept nogil
# NULL when the ring is empty.
cdef void* ring_take(Ring* ring) noexcept nogil
# A word beside the ring: who observes it finds in the ring what had been put before.
cdef void ring_publish(uint64_t* at, uint64_t value) noexcept nogil
cdef uint64_t ring_observe(uint64_t* at) noexcept nogil
cdef uint64_t ring_count(Ring* ring) noexcept nogil
