"""RTCP (RFC 3550, RFC 4585, RFC 5104, RFC 5506) with REMB and transport-wide feedback.

REMB follows draft-alvestrand-rmcat-remb; what a transport-wide feedback message says is read and written by
`transport_feedback`. The kernels are declared in `rtcp.pxd`; `rtcp_packets` has the Python face.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from mediaserver.sfu.wire.packet cimport (
    read_u16, read_u24, read_u32, read_u64, write_u16, write_u24, write_u32, write_u64,
)
from mediaserver.sfu.wire.transport_feedback cimport feedback_read, feedback_write

cdef enum:
    HEADER_SIZE = 4
    FEEDBACK_SIZE = 12        # header and the two SSRCs of RFC 4585, section 6.1
    REPORT_SIZE = 24
    SENDER_INFO_SIZE = 20
    FMT_NACK = 1
    FMT_TRANSPORT = 15
    FMT_CCFB = 11
    FMT_PLI = 1
    FMT_FIR = 4
    FMT_APPLICATION = 15
    SDES_CNAME = 1
    MAX_MESSAGE = 65532


# ---- reading

cdef int32_t sign_extend_24(uint32_t value) noexcept nogil:
    return <int32_t>(value << 8) >> 8


cdef int sdes_chunk_end(const uint8_t* body, size_t size, size_t offset, size_t* end) noexcept nogil:
    """Where the chunk at `offset` ends, its padding to 32 bits included."""
    if size - offset < 4:
        return RTCP_ERR_SHORT
    offset += 4
    while offset < size and body[offset] != 0:
        if size - offset < 2 or size - offset - 2 < body[offset + 1]:
            return RTCP_ERR_SHORT
        offset += 2 + <size_t>body[offset + 1]
    # The null that ends the items, then up to the boundary; some senders leave it out at the end of the packet.
    offset = (offset + 4) & ~<size_t>3
    end[0] = offset if offset < size else size
    return 0


cdef int read_sdes(RtcpItem* item) noexcept nogil:
    cdef size_t offset = 0
    cdef int i
    if item.count:
        if item.body_size < 4:
            return RTCP_ERR_SHORT
        item.ssrc = read_u32(item.body)
    for i in range(item.count):
        if sdes_chunk_end(item.body, item.body_size, offset, &offset) < 0:
            return RTCP_ERR_SHORT
    item.body_size = offset
    item.kind = RTCP_ITEM_SDES
    return 1


cdef int read_reports(RtcpItem* item) noexcept nogil:
    if item.type == RTCP_SR:
        if item.body_size < SENDER_INFO_SIZE:
            return RTCP_ERR_SHORT
        item.ntp = read_u64(item.body)
        item.rtp_timestamp = read_u32(item.body + 8)
        item.packet_count = read_u32(item.body + 12)
        item.octet_count = read_u32(item.body + 16)
        item.body += SENDER_INFO_SIZE
        item.body_size -= SENDER_INFO_SIZE
    if item.body_size < <size_t>item.count * REPORT_SIZE:
        return RTCP_ERR_FORMAT
    # Profile-specific extensions may follow the blocks (RFC 3550, section 6.4.3).
    item.body_size = <size_t>item.count * REPORT_SIZE
    item.kind = RTCP_ITEM_SR if item.type == RTCP_SR else RTCP_ITEM_RR
    return 1


cdef int read_feedback(RtcpItem* item) noexcept nogil:
    if item.body_size < 4:
        return RTCP_ERR_SHORT
    if item.type == RTCP_RTPFB and item.count == FMT_CCFB:
        item.kind = RTCP_ITEM_CCFB      # the one that names no media source in front (RFC 8888, section 3.1)
        return 1
    item.media_ssrc = read_u32(item.body)
    item.body += 4
    item.body_size -= 4
    if item.type == RTCP_RTPFB:
        if item.count == FMT_NACK:
            item.kind = RTCP_ITEM_NACK
        elif item.count == FMT_TRANSPORT:
            item.kind = RTCP_ITEM_TRANSPORT
    elif item.count == FMT_PLI:
        item.kind = RTCP_ITEM_PLI
    elif item.count == FMT_FIR:
        item.kind = RTCP_ITEM_FIR
    elif item.count == FMT_APPLICATION and item.body_size >= 8 and memcmp(item.body, b"REMB", 4) == 0:
        item.kind = RTCP_ITEM_REMB
    return 1


cdef int read_item(RtcpItem* item) noexcept nogil:
    """Sets what follows the common header; `body` is all that stands behind that, without padding."""
    if item.type == RTCP_SDES:
        return read_sdes(item)
    if item.type == RTCP_BYE:
        if item.body_size < <size_t>item.count * 4:
            return RTCP_ERR_FORMAT
        if item.count:
            item.ssrc = read_u32(item.body)
        item.body_size = <size_t>item.count * 4
        item.kind = RTCP_ITEM_BYE
        return 1
    if item.body_size < 4:
        # Only types that are not read here may do without an SSRC.
        return RTCP_ERR_SHORT if RTCP_SR <= item.type <= RTCP_XR else 1
    item.ssrc = read_u32(item.body)
    item.body += 4
    item.body_size -= 4
    if item.type == RTCP_SR or item.type == RTCP_RR:
        return read_reports(item)
    if item.type == RTCP_RTPFB or item.type == RTCP_PSFB:
        return read_feedback(item)
    return 1


cdef int rtcp_next(const uint8_t* data, size_t size, size_t* offset, RtcpItem* item) noexcept nogil:
    cdef const uint8_t* packet
    cdef size_t packet_size, padding = 0
    memset(item, 0, sizeof(RtcpItem))
    if offset[0] >= size:
        return 0
    if size - offset[0] < HEADER_SIZE:
        return RTCP_ERR_SHORT
    packet = data + offset[0]
    if packet[0] >> 6 != 2:
        return RTCP_ERR_VERSION
    packet_size = 4 * (<size_t>read_u16(packet + 2) + 1)
    if packet_size > size - offset[0]:
        return RTCP_ERR_SHORT
    if packet[0] & 0x20:
        # Any count: senders of transport-wide feedback fill up single bytes.
        padding = packet[packet_size - 1]
        if padding == 0 or padding > packet_size - HEADER_SIZE:
            return RTCP_ERR_FORMAT
    offset[0] += packet_size
    item.type = packet[1]
    item.count = packet[0] & 0x1F
    item.body = packet + HEADER_SIZE
    item.body_size = packet_size - HEADER_SIZE - padding
    return read_item(item)


cdef int rtcp_report(const RtcpItem* item, size_t index, RtcpReport* report) noexcept nogil:
    cdef const uint8_t* block
    if index >= item.count or (item.kind != RTCP_ITEM_SR and item.kind != RTCP_ITEM_RR):
        return 0
    block = item.body + index * REPORT_SIZE
    report.ssrc = read_u32(block)
    report.fraction_lost = block[4]
    report.lost = sign_extend_24(read_u24(block + 5))
    report.highest = read_u32(block + 8)
    report.jitter = read_u32(block + 12)
    report.last_sr = read_u32(block + 16)
    report.delay = read_u32(block + 20)
    return 1


cdef int rtcp_sdes_next(const RtcpItem* item, size_t* offset, uint32_t* ssrc,
                        const uint8_t** cname, size_t* cname_size) noexcept nogil:
    cdef size_t at, end
    if item.kind != RTCP_ITEM_SDES or offset[0] >= item.body_size:
        return 0
    if sdes_chunk_end(item.body, item.body_size, offset[0], &end) < 0:
        return RTCP_ERR_SHORT
    ssrc[0] = read_u32(item.body + offset[0])
    cname[0] = NULL
    cname_size[0] = 0
    at = offset[0] + 4
    while at < end and item.body[at] != 0:
        if item.body[at] == SDES_CNAME:
            cname[0] = item.body + at + 2
            cname_size[0] = item.body[at + 1]
            break
        at += 2 + <size_t>item.body[at + 1]
    offset[0] = end
    return 1


cdef int rtcp_bye(const RtcpItem* item, size_t index, uint32_t* ssrc) noexcept nogil:
    if item.kind != RTCP_ITEM_BYE or index >= item.count:
        return 0
    ssrc[0] = read_u32(item.body + 4 * index)
    return 1


cdef int rtcp_nack(const RtcpItem* item, uint16_t* sequences, size_t capacity) noexcept nogil:
    cdef size_t entry, count = 0
    cdef uint16_t first, mask
    cdef int bit
    if item.kind != RTCP_ITEM_NACK:
        return 0
    for entry in range(item.body_size // 4):
        first = read_u16(item.body + 4 * entry)
        mask = read_u16(item.body + 4 * entry + 2)
        if count < capacity:
            sequences[count] = first
            count += 1
        for bit in range(16):
            if mask >> bit & 1 and count < capacity:
                sequences[count] = <uint16_t>(first + 1 + bit)
                count += 1
    return <int>count


cdef int rtcp_fir(const RtcpItem* item, size_t index, uint32_t* ssrc, uint8_t* command) noexcept nogil:
    if item.kind != RTCP_ITEM_FIR or index >= item.body_size // 8:
        return 0
    ssrc[0] = read_u32(item.body + 8 * index)
    command[0] = item.body[8 * index + 4]
    return 1


cdef int rtcp_remb(const RtcpItem* item, RtcpRemb* remb) noexcept nogil:
    cdef uint64_t mantissa
    cdef uint32_t exponent, i
    if item.kind != RTCP_ITEM_REMB or item.body_size < 8:
        return RTCP_ERR_SHORT
    if item.body_size < 8 + 4 * <size_t>item.body[4]:
        return RTCP_ERR_FORMAT
    exponent = item.body[5] >> 2
    mantissa = read_u24(item.body + 5) & 0x3FFFF
    if mantissa << exponent >> exponent == mantissa:
        remb.bitrate = mantissa << exponent
    else:
        remb.bitrate = ~<uint64_t>0
    remb.ssrc_count = item.body[4]
    for i in range(remb.ssrc_count):
        remb.ssrcs[i] = read_u32(item.body + 8 + 4 * i)
    return 0


cdef int rtcp_transport(const RtcpItem* item, RtcpTransport* transport, RtcpArrival* arrivals,
                        size_t capacity) noexcept nogil:
    if item.kind != RTCP_ITEM_TRANSPORT:
        return RTCP_ERR_SHORT
    return feedback_read(item.body, item.body_size, transport, arrivals, capacity)


# ---- writing

cdef inline void put_header(uint8_t* out, int count, int type, size_t size) noexcept nogil:
    out[0] = <uint8_t>(0x80 | count)
    out[1] = <uint8_t>type
    write_u16(out + 2, <uint16_t>(size // 4 - 1))


cdef inline void put_feedback(uint8_t* out, int fmt, int type, size_t size, uint32_t ssrc,
                              uint32_t media_ssrc) noexcept nogil:
    put_header(out, fmt, type, size)
    write_u32(out + 4, ssrc)
    write_u32(out + 8, media_ssrc)


cdef void put_reports(uint8_t* out, const RtcpReport* reports, size_t count) noexcept nogil:
    cdef size_t i
    cdef int32_t lost
    for i in range(count):
        lost = reports[i].lost
        if lost > 0x7FFFFF:
            lost = 0x7FFFFF
        elif lost < -0x800000:
            lost = -0x800000
        write_u32(out, reports[i].ssrc)
        out[4] = reports[i].fraction_lost
        write_u24(out + 5, <uint32_t>lost)
        write_u32(out + 8, reports[i].highest)
        write_u32(out + 12, reports[i].jitter)
        write_u32(out + 16, reports[i].last_sr)
        write_u32(out + 20, reports[i].delay)
        out += REPORT_SIZE


cdef int rtcp_write_sr(uint8_t* out, size_t capacity, uint32_t ssrc, uint64_t ntp, uint32_t rtp_timestamp,
                       uint32_t packet_count, uint32_t octet_count,
                       const RtcpReport* reports, size_t report_count) noexcept nogil:
    cdef size_t size = HEADER_SIZE + 4 + SENDER_INFO_SIZE + report_count * REPORT_SIZE
    if report_count > RTCP_MAX_REPORTS:
        return RTCP_ERR_VALUE
    if size > capacity:
        return RTCP_ERR_ROOM
    put_header(out, <int>report_count, RTCP_SR, size)
    write_u32(out + 4, ssrc)
    write_u64(out + 8, ntp)
    write_u32(out + 16, rtp_timestamp)
    write_u32(out + 20, packet_count)
    write_u32(out + 24, octet_count)
    put_reports(out + HEADER_SIZE + 4 + SENDER_INFO_SIZE, reports, report_count)
    return <int>size


cdef int rtcp_write_rr(uint8_t* out, size_t capacity, uint32_t ssrc,
                       const RtcpReport* reports, size_t report_count) noexcept nogil:
    cdef size_t size = HEADER_SIZE + 4 + report_count * REPORT_SIZE
    if report_count > RTCP_MAX_REPORTS:
        return RTCP_ERR_VALUE
    if size > capacity:
        return RTCP_ERR_ROOM
    put_header(out, <int>report_count, RTCP_RR, size)
    write_u32(out + 4, ssrc)
    put_reports(out + HEADER_SIZE + 4, reports, report_count)
    return <int>size


cdef int rtcp_write_sdes(uint8_t* out, size_t capacity, uint32_t ssrc,
                         const uint8_t* cname, size_t cname_size) noexcept nogil:
    # At least one null ends the items.
    cdef size_t used = HEADER_SIZE + 4 + 2 + cname_size
    cdef size_t size = (used + 4) & ~<size_t>3
    if cname_size > 255:
        return RTCP_ERR_VALUE
    if size > capacity:
        return RTCP_ERR_ROOM
    put_header(out, 1, RTCP_SDES, size)
    write_u32(out + 4, ssrc)
    out[8] = SDES_CNAME
    out[9] = <uint8_t>cname_size
    if cname_size:
        memcpy(out + 10, cname, cname_size)
    memset(out + used, 0, size - used)
    return <int>size


cdef int rtcp_write_bye(uint8_t* out, size_t capacity, const uint32_t* ssrcs, size_t count) noexcept nogil:
    cdef size_t size = HEADER_SIZE + 4 * count, i
    if count > RTCP_MAX_REPORTS:
        return RTCP_ERR_VALUE
    if size > capacity:
        return RTCP_ERR_ROOM
    put_header(out, <int>count, RTCP_BYE, size)
    for i in range(count):
        write_u32(out + HEADER_SIZE + 4 * i, ssrcs[i])
    return <int>size


cdef int rtcp_write_nack(uint8_t* out, size_t capacity, uint32_t ssrc, uint32_t media_ssrc,
                         const uint16_t* sequences, size_t count) noexcept nogil:
    cdef size_t size = FEEDBACK_SIZE, i = 0
    cdef uint16_t first, mask, ahead
    if count == 0:
        return RTCP_ERR_VALUE
    while i < count:
        if size + 4 > capacity or size + 4 > MAX_MESSAGE:
            return RTCP_ERR_ROOM
        first = sequences[i]
        mask = 0
        i += 1
        while i < count:
            ahead = <uint16_t>(sequences[i] - first)
            if ahead > 16:
                break
            if ahead:
                mask |= <uint16_t>(1 << (ahead - 1))
            i += 1
        write_u16(out + size, first)
        write_u16(out + size + 2, mask)
        size += 4
    put_feedback(out, FMT_NACK, RTCP_RTPFB, size, ssrc, media_ssrc)
    return <int>size


cdef int rtcp_write_pli(uint8_t* out, size_t capacity, uint32_t ssrc, uint32_t media_ssrc) noexcept nogil:
    if capacity < FEEDBACK_SIZE:
        return RTCP_ERR_ROOM
    put_feedback(out, FMT_PLI, RTCP_PSFB, FEEDBACK_SIZE, ssrc, media_ssrc)
    return FEEDBACK_SIZE


cdef int rtcp_write_fir(uint8_t* out, size_t capacity, uint32_t ssrc, uint32_t media_ssrc,
                        uint8_t command) noexcept nogil:
    if capacity < FEEDBACK_SIZE + 8:
        return RTCP_ERR_ROOM
    # The media source of the common part is 0 (RFC 5104, section 4.3.1.2), the entry names it.
    put_feedback(out, FMT_FIR, RTCP_PSFB, FEEDBACK_SIZE + 8, ssrc, 0)
    write_u32(out + FEEDBACK_SIZE, media_ssrc)
    write_u32(out + FEEDBACK_SIZE + 4, <uint32_t>command << 24)
    return FEEDBACK_SIZE + 8


cdef int rtcp_write_remb(uint8_t* out, size_t capacity, uint32_t ssrc, uint64_t bitrate,
                         const uint32_t* ssrcs, size_t count) noexcept nogil:
    cdef size_t size = FEEDBACK_SIZE + 8 + 4 * count, i
    cdef uint32_t exponent = 0
    if count > RTCP_MAX_REMB_SSRCS:
        return RTCP_ERR_VALUE
    if size > capacity:
        return RTCP_ERR_ROOM
    while bitrate >> exponent > 0x3FFFF:
        exponent += 1
    put_feedback(out, FMT_APPLICATION, RTCP_PSFB, size, ssrc, 0)
    memcpy(out + FEEDBACK_SIZE, b"REMB", 4)
    out[FEEDBACK_SIZE + 4] = <uint8_t>count
    write_u24(out + FEEDBACK_SIZE + 5, exponent << 18 | <uint32_t>(bitrate >> exponent))
    for i in range(count):
        write_u32(out + FEEDBACK_SIZE + 8 + 4 * i, ssrcs[i])
    return <int>size


cdef int rtcp_write_transport(uint8_t* out, size_t capacity, uint32_t ssrc, uint32_t media_ssrc,
                              uint8_t feedback_count, uint16_t base, const int64_t* arrivals, size_t count,
                              size_t* consumed) noexcept nogil:
    cdef size_t used, size
    cdef int result
    # So that the padding fits too.
    capacity = (capacity if capacity < MAX_MESSAGE else MAX_MESSAGE) & ~<size_t>3
    result = feedback_write(out + FEEDBACK_SIZE, capacity - FEEDBACK_SIZE if capacity > FEEDBACK_SIZE else 0,
                            feedback_count, base, arrivals, count, consumed)
    if result <= 0:
        return result
    used = FEEDBACK_SIZE + result
    size = (used + 3) & ~<size_t>3
    put_feedback(out, FMT_TRANSPORT, RTCP_RTPFB, size, ssrc, media_ssrc)
    if size > used:
        out[0] |= 0x20
        memset(out + used, 0, size - used)
        out[size - 1] = <uint8_t>(size - used)
    return <int>size
