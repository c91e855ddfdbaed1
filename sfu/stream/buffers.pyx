"""Packets that a whole fan-out shares: slabs of fixed size with a count of references."""

from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset

cdef enum:
    CHUNK_PACKETS = 128

cdef extern from *:
    Packet* load_packet "SHARED_LOAD" (Packet** at) noexcept nogil
    Packet* swap_packet "SHARED_SWAP" (Packet** at, Packet* value) noexcept nogil
    int replace_packet "SHARED_REPLACE" (Packet** at, Packet** before, Packet* after) noexcept nogil


cdef int pool_init(PacketPool* pool, size_t limit) noexcept nogil:
    memset(pool, 0, sizeof(PacketPool))
    pool.limit = limit
    pool.share = <PoolShare*>calloc(1, sizeof(PoolShare))
    if pool.share == NULL:
        return -1
    pool.share.holders = 1
    return 0


cdef void pool_close(PacketPool* pool) noexcept nogil:
    if pool.share != NULL:
        pool.share.chunks = pool.chunks
        pool.share.chunk_count = pool.chunk_count
        pool_share_release(pool.share)
    memset(pool, 0, sizeof(PacketPool))


cdef void pool_share_hold(PoolShare* share) noexcept nogil:
    add_int(&share.holders, 1)


cdef void pool_share_release(PoolShare* share) noexcept nogil:
    cdef size_t i
    if add_int(&share.holders, -1):
        return
    for i in range(share.chunk_count):
        free(share.chunks[i])
    free(share.chunks)
    free(share)


cdef inline void put_back(PacketPool* pool, Packet* packet) noexcept nogil:
    packet.shared = 0
    packet.next = pool.free[packet.large]
    pool.free[packet.large] = packet
    pool.in_use -= 1


cdef void pool_reclaim(PacketPool* pool) noexcept nogil:
    cdef Packet* packet
    cdef Packet* following
    if load_packet(&pool.share.returned) == NULL:
        return
    packet = swap_packet(&pool.share.returned, NULL)
    while packet != NULL:
        following = packet.next
        put_back(pool, packet)
        packet = following


cdef void packet_unref_shared(PacketPool* pool, Packet* packet) noexcept nogil:
    cdef PoolShare* home = packet.home
    cdef Packet* before
    if add_int(&packet.refs, -1):
        return
    if home == pool.share:
        put_back(pool, packet)
        return
    before = load_packet(&home.returned)
    while True:
        packet.next = before
        if replace_packet(&home.returned, &before, packet):
            return


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
        packet.shared = 0
        packet.home = pool.share
        packet.next = pool.free[large]
        pool.free[large] = packet
    return 0


cdef Packet* packet_new(PacketPool* pool, size_t size) noexcept nogil:
    cdef int large = size > PACKET_SMALL
    cdef Packet* packet
    if size > PACKET_LARGE:
        return NULL
    if pool.free[large] == NULL:
        pool_reclaim(pool)
    if pool.free[large] == NULL and pool_grow(pool, large) < 0:
        pool.exhausted += 1
        return NULL
    packet = pool.free[large]
    pool.free[large] = packet.next
    packet.refs = 1
    packet.padding = 0
    packet.settled = 0
    packet.stamped = 0
    pool.in_use += 1
    return packet
