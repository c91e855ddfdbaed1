"""RED (RFC 2198): a packet of sound with copies of those before it, so that a lost one comes with the next."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from mediaserver.codecs.opus cimport OpusAssembler
from mediaserver.codecs.payload cimport PayloadFacts

cdef enum:
    RED_COPIES = 16        # of one packet; browsers send one to nine

cdef struct RedBlock:
    uint8_t payload_type
    uint16_t age           # RTP timestamp units before the packet's own, 14 bits
    uint16_t offset        # of its bytes in the payload
    uint16_t size

cdef struct RedPacket:
    int copies
    RedBlock blocks[RED_COPIES + 1]   # oldest first; the last is the packet's own

# 1 when the payload is well formed, has at most RED_COPIES copies, and something of its own.
cdef int red_parse(const uint8_t* data, size_t size, RedPacket* red) noexcept nogil
cdef int red_facts(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil


cdef class RedAssembler(OpusAssembler):
    cdef bint has_last
    cdef uint32_t last     # timestamp of the latest packet given out
