"""The last packets of one source, for retransmission."""

from libc.stdint cimport uint32_t, uint64_t

from mediaserver.sfu.stream.buffers cimport Packet, PacketPool

cdef struct History:
    Packet** slots
    uint32_t mask

# `capacity` is a power of two. 0, or -1 without memory.
cdef int history_init(History* history, uint32_t capacity) noexcept nogil
cdef void history_close(History* history, PacketPool* pool) noexcept nogil
# Keeps a reference to the packet by its extended sequence number; what stood in its place is let go.
cdef void history_put(History* history, PacketPool* pool, Packet* packet) noexcept nogil

# The packet with that extended sequence number (borrowed), or NULL.
cdef inline Packet* history_get(const History* history, uint64_t sequence) noexcept nogil:
    cdef Packet* packet = history.slots[sequence & history.mask]
    if packet != NULL and packet.sequence == sequence:
        return packet
    return NULL
