"""Congestion control feedback of RFC 8888: arrival times by SSRC and RTP sequence number."""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t

from mediaserver.sfu.wire.rtcp cimport RtcpItem

cdef enum:
    CCFB_UNKNOWN = -1            # as an age: it came, nobody knows when

# What is told of consecutive packets of one stream.
cdef struct CcfbBlock:
    uint32_t ssrc
    uint16_t first               # sequence number
    uint16_t count
    const uint8_t* metrics       # count times 16 bits, in the item's body

# When the report was made: the middle 32 bits of the far end's NTP time, so in 1/65536 s. 0 where the item is none.
cdef uint32_t ccfb_time(const RtcpItem* item) noexcept nogil
# The next block from *offset (start with 0), which moves past it. 1: *block is set; 0: the end; < 0: the rest is
# malformed.
cdef int ccfb_next(const RtcpItem* item, size_t* offset, CcfbBlock* block) noexcept nogil
# Whether packet `index` of block.count has come. Then *age is how long before the report, in 1/1024 s, or CCFB_UNKNOWN
# (8189 stands for that and more), and *ecn its ECN mark.
cdef bint ccfb_metric(const CcfbBlock* block, size_t index, int32_t* age, uint8_t* ecn) noexcept nogil
