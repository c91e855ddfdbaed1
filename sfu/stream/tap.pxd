"""Plaintext packets for a recorder: by reference through a bounded ring, and the references back through another."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from mediaserver.sfu.stream.buffers cimport Packet, PacketPool
from mediaserver.sfu.stream.ring cimport Ring

cdef enum:
    SENDER_REPORT = 255      # a packet's codec field: no packet but a report, its NTP time in `sequence`

# Shared by the worker (puts) and one consumer (takes). `given` and `returned` are the worker's own.
cdef struct TapQueue:
    Ring out
    Ring back
    uint64_t capacity
    uint64_t given
    uint64_t returned
    uint64_t dropped
    uint64_t closed
    uint64_t awaited         # the lowest number that is still asked for, 0: none; told after the packets that came

cdef void tap_push(TapQueue* queue, PacketPool* pool, Packet* packet) noexcept nogil
cdef void tap_sender_report(TapQueue* queue, PacketPool* pool, uint32_t ssrc, uint64_t ntp, uint32_t timestamp,
                            int64_t now) noexcept nogil
cdef void tap_awaits(TapQueue* queue, uint64_t lowest) noexcept nogil
# Takes back what the consumer is done with. How many are still out.
cdef uint64_t tap_reclaim(TapQueue* queue, PacketPool* pool) noexcept nogil

cdef class TapRing:
    cdef TapQueue queue
    cdef object owner        # keeps the packets' memory alive while any may be read
    cdef int attach(self, object owner) except -1
