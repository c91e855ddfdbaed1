"""Packets that a whole fan-out shares: slabs of fixed size with a count of references."""

from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memset

cdef enum:
    CHUNK_PACKETS = 128


cdef void pool_init(PacketPool* pool, size_t limit) noexcept nogil:
    memset(pool, 0, sizeof(PacketPool))
    pool.limit = limit


cdef void pool_close(PacketPool* pool) noexcept nogil:
    cdef size_t i
    for i in range(pool.chunk_count):
        free(pool.chunks[i])
    free(pool.chunks)
    memset(pool, 0, sizeof(PacketPool))


cdef size_t stride_of(int large) noexcept nogil:
    cdef size_t size = sizeof(Packet) + (PACKET_LARGE if large else PACKET_SMALL)
    return (size + 63) & ~<size_t>63


cdef int pool_grow(PacketPool* pool, int large) noexcept nogil:
    cdef size_t stride = stride_of(large)
    cdef size_t bytes = stride * CHUNK_PACKETS
    cdef size_t room
    cdef void** chunks
    cdef uint8_t* chunk
    cdef Packet* packet
    cdef int i
    if pool.bytes + bytes > pool.limit:
        return -1
    if pool.chunk_count == pool.chunk_room:
        room = pool.chunk_room * 2 if pool.chunk_room else 64
        chunks = <void**>realloc(pool.chunks, room * sizeof(void*))
        if chunks == NULL:
            return -1
        pool.chunks = chunks
        pool.chunk_room = room
    chunk = <uint8_t*>malloc(bytes)
    if chunk == NULL:
        return -1
    pool.chunks[pool.chunk_count] = chunk
    pool.chunk_count += 1
    pool.bytes += bytes
    for i in range(CHUNK_PACKETS - 1, -1, -1):
        packet = <Packet*>(chunk + i * stride)
        packet.large = large
        packet.refs = 0
        packet.next = pool.free[large]
        pool.free[large] = packet
    return 0


cdef Packet* packet_new(PacketPool* pool, size_t size) noexcept nogil:
    cdef int large = size > PACKET_SMALL
    cdef Packet* packet
    if size > PACKET_LARGE:
        return NULL
    if pool.free[large] == NULL and pool_grow(pool, large) < 0:
        pool.exhausted += 1
        return NULL
    packet = pool.free[large]
    pool.free[large] = packet.next
    packet.refs = 1
    packet.padding = 0
    packet.settled = 0
    pool.in_use += 1
    return packet
