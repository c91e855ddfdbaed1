"""Packets that a whole fan-out shares: slabs of fixed size with a count of references."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.codecs.payload cimport PayloadFacts
from mediaserver.sfu.wire.packet cimport ExtValues

cdef enum:
    PACKET_SMALL = 448   # bytes of data: sound, and the like
    PACKET_LARGE = 1600  # bytes of data: any datagram of an Ethernet path

# One plaintext RTP packet. `data` holds the datagram as it came, opened in place; the fields say what is where.
cdef struct Packet:
    Packet* next            # free list
    int32_t refs            # belongs to the worker's thread alone; a tap gives its references back by a ring
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
    PayloadFacts facts      # of a picture's packet, read once, whoever listens
    ExtValues ext           # points into data
    uint8_t data[0]

# All packets of a worker. Grows in chunks up to its limit and keeps what it has.
cdef struct PacketPool:
    Packet* free[2]
    void** chunks
    size_t chunk_count
    size_t chunk_room
    size_t bytes
    size_t limit            # bytes
    uint64_t in_use
    uint64_t exhausted      # requests that met the limit

cdef void pool_init(PacketPool* pool, size_t limit) noexcept nogil
cdef void pool_close(PacketPool* pool) noexcept nogil
# A packet with one reference and room for `size` bytes; NULL at the limit or for a size over PACKET_LARGE.
cdef Packet* packet_new(PacketPool* pool, size_t size) noexcept nogil

cdef inline Packet* packet_ref(Packet* packet) noexcept nogil:
    packet.refs += 1
    return packet

cdef inline void packet_unref(PacketPool* pool, Packet* packet) noexcept nogil:
    packet.refs -= 1
    if packet.refs == 0:
        packet.next = pool.free[packet.large]
        pool.free[packet.large] = packet
        pool.in_use -= 1
