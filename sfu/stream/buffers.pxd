"""Packets that a whole fan-out shares: slabs of fixed size with a count of references."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.codecs.payload cimport PayloadFacts
from mediaserver.sfu.wire.packet cimport ExtValues

cdef enum:
    PACKET_SMALL = 448   # bytes of data: sound, and the like
    PACKET_LARGE = 1600  # bytes of data: any datagram of an Ethernet path

cdef extern from *:
    """
    #define SHARED_ADD(at, value) __atomic_add_fetch(at, value, __ATOMIC_ACQ_REL)
    #define SHARED_LOAD(at) __atomic_load_n(at, __ATOMIC_ACQUIRE)
    #define SHARED_SWAP(at, value) __atomic_exchange_n(at, value, __ATOMIC_ACQ_REL)
    #define SHARED_REPLACE(at, before, after) \\
        __atomic_compare_exchange_n(at, before, after, 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED)
    """
    int32_t add_int "SHARED_ADD" (int32_t* at, int32_t value) noexcept nogil

cdef struct PoolShare

# One plaintext RTP packet. `data` holds the datagram as it came, opened in place; the fields say what is where.
cdef struct Packet:
    Packet* next            # free list, or those that are on their way back to it
    PoolShare* home         # whose slab it is
    int32_t refs            # the worker's thread's alone, but for `shared`; a tap gives its references back by a ring
    uint8_t shared          # another worker has it too: counted by atomic operations until it is back
    uint8_t large
    uint8_t payload_type
    uint8_t marker
    uint8_t keyframe        # a decoder can start here
    uint8_t codec
    uint8_t encoding        # index of the track's encoding
    uint16_t payload_offset
    uint16_t payload_size   # without padding
    uint8_t padding         # bytes of it that follow the payload, to viewers
    uint8_t settled         # it has left: whoever gets it again gets it with the same padding
    uint8_t inner_type      # of the Opus packet inside (RED), where inner_offset is not 0
    uint16_t inner_offset   # bytes of the payload before that
    uint32_t timestamp
    uint32_t ssrc
    uint64_t sequence       # extended: counts on over the wrap
    int64_t arrival         # µs
    int64_t stamped         # µs of the kernel's receive stamp, 0: none
    PayloadFacts facts      # of a picture's packet, read once, whoever listens
    ExtValues ext           # points into data
    uint8_t data[0]

# Of a pool that part which other workers reach, and what outlives it while they hold packets of it. Nobody but the
# owner takes from `returned`, and it takes all: so a stack without locks will do.
cdef struct PoolShare:
    Packet* returned        # let go of by others
    int32_t holders         # the pool, and those whose packets may be of it
    void** chunks           # once the pool is closed
    size_t chunk_count

# All packets of a worker. Grows in chunks up to its limit and keeps what it has.
cdef struct PacketPool:
    PoolShare* share
    Packet* free[2]
    void** chunks
    size_t chunk_count
    size_t chunk_room
    size_t bytes
    size_t limit            # bytes
    uint64_t in_use
    uint64_t exhausted      # requests that met the limit

# 0, or -1 without memory.
cdef int pool_init(PacketPool* pool, size_t limit) noexcept nogil
# The memory goes when nobody holds the share any more.
cdef void pool_close(PacketPool* pool) noexcept nogil
cdef void pool_share_hold(PoolShare* share) noexcept nogil
cdef void pool_share_release(PoolShare* share) noexcept nogil
# Takes back what other workers have let go of.
cdef void pool_reclaim(PacketPool* pool) noexcept nogil
# From the pool of that worker, or of another.
cdef void packet_unref_shared(PacketPool* pool, Packet* packet) noexcept nogil
# A packet with one reference and room for `size` bytes; NULL at the limit or for a size over PACKET_LARGE.
cdef Packet* packet_new(PacketPool* pool, size_t size) noexcept nogil

cdef inline Packet* packet_ref(Packet* packet) noexcept nogil:
    if packet.shared:
        add_int(&packet.refs, 1)
    else:
        packet.refs += 1
    return packet

# Its padding stays as it is from now on. What two workers have is settled already, so that neither of them writes here.
cdef inline void packet_settle(Packet* packet) noexcept nogil:
    if not packet.settled:
        packet.settled = 1

# A reference for another worker's thread: by its owner, before it is handed over.
cdef inline Packet* packet_share(Packet* packet) noexcept nogil:
    packet_ref(packet)
    packet.shared = 1
    return packet

cdef inline void packet_unref(PacketPool* pool, Packet* packet) noexcept nogil:
    if packet.shared:
        packet_unref_shared(pool, packet)
        return
    packet.refs -= 1
    if packet.refs == 0:
        packet.next = pool.free[packet.large]
        pool.free[packet.large] = packet
        pool.in_use -= 1
