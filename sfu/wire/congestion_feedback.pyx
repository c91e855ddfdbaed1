"""Congestion control feedback of RFC 8888, section 3.1: arrival times by SSRC and RTP sequence number."""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t

from mediaserver.sfu.wire.packet cimport read_u16, read_u32
from mediaserver.sfu.wire.rtcp cimport RTCP_ERR_FORMAT, RTCP_ERR_SHORT, RTCP_ITEM_CCFB, RtcpItem

cdef enum:
    BLOCK_SIZE = 8               # SSRC, begin_seq, num_reports
    TIME_SIZE = 4                # the report timestamp ends the message
    REPORTS_MOST = 16384         # of one block
    AGE_UNKNOWN = 0x1FFF


cdef uint32_t ccfb_time(const RtcpItem* item) noexcept nogil:
    if item.kind != RTCP_ITEM_CCFB or item.body_size < TIME_SIZE:
        return 0
    return read_u32(item.body + item.body_size - TIME_SIZE)


cdef int ccfb_next(const RtcpItem* item, size_t* offset, CcfbBlock* block) noexcept nogil:
    cdef size_t left, size
    if item.kind != RTCP_ITEM_CCFB or item.body_size < TIME_SIZE:
        return RTCP_ERR_SHORT
    left = item.body_size - TIME_SIZE
    if offset[0] >= left:
        return 0
    left -= offset[0]
    if left < BLOCK_SIZE:
        return RTCP_ERR_SHORT
    block.ssrc = read_u32(item.body + offset[0])
    block.first = read_u16(item.body + offset[0] + 4)
    block.count = read_u16(item.body + offset[0] + 6)
    block.metrics = item.body + offset[0] + BLOCK_SIZE
    if block.count > REPORTS_MOST:
        return RTCP_ERR_FORMAT
    size = BLOCK_SIZE + (2 * <size_t>block.count + 3 & ~<size_t>3)
    if size > left:
        return RTCP_ERR_SHORT
    offset[0] += size
    return 1


cdef bint ccfb_metric(const CcfbBlock* block, size_t index, int32_t* age, uint8_t* ecn) noexcept nogil:
    cdef uint16_t metric = read_u16(block.metrics + 2 * index)
    age[0] = metric & 0x1FFF
    if age[0] == AGE_UNKNOWN:
        age[0] = CCFB_UNKNOWN
    ecn[0] = <uint8_t>(metric >> 13 & 3)
    return metric >> 15
