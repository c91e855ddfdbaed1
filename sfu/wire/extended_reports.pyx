"""RTCP extended reports (RFC 3611) as far as they tell a receiver its round trip: one asks when it was heard."""

from mediaserver.sfu.wire.packet cimport read_u16, read_u32, write_u16, write_u32, write_u64
from mediaserver.sfu.wire.rtcp cimport RTCP_ERR_ROOM, RTCP_XR, rtcp_next

cdef enum:
    BLOCK_REFERENCE = 4
    BLOCK_DELAY = 5
    DELAY_SIZE = 12      # of one source in a delay block
    HEADER_SIZE = 8      # of the packet, with its SSRC


cdef int xr_write_reference(uint8_t* out, size_t capacity, uint32_t ssrc, uint64_t ntp) noexcept nogil:
    if capacity < XR_REFERENCE_SIZE:
        return RTCP_ERR_ROOM
    out[0] = 0x80
    out[1] = RTCP_XR
    write_u16(out + 2, XR_REFERENCE_SIZE // 4 - 1)
    write_u32(out + 4, ssrc)
    out[8] = BLOCK_REFERENCE
    out[9] = 0
    write_u16(out + 10, 2)
    write_u64(out + 12, ntp)
    return XR_REFERENCE_SIZE


cdef int xr_delay(const RtcpItem* item, uint32_t ssrc, uint32_t* last_reference, uint32_t* delay) noexcept nogil:
    cdef size_t at = 0, end, entry
    if item.type != RTCP_XR:
        return 0
    while item.body_size - at >= 4:
        end = at + 4 + 4 * <size_t>read_u16(item.body + at + 2)
        if end > item.body_size:
            return 0
        if item.body[at] == BLOCK_DELAY:
            entry = at + 4
            while end - entry >= DELAY_SIZE:
                if read_u32(item.body + entry) == ssrc:
                    last_reference[0] = read_u32(item.body + entry + 4)
                    delay[0] = read_u32(item.body + entry + 8)
                    return 1
                entry += DELAY_SIZE
        at = end
    return 0


def write_reference(uint32_t ssrc, uint64_t ntp) -> bytes:
    """A receiver reference time; `ntp` is 32.32 fixed point."""
    cdef uint8_t[XR_REFERENCE_SIZE] out
    xr_write_reference(out, XR_REFERENCE_SIZE, ssrc, ntp)
    return (<char*>out)[:XR_REFERENCE_SIZE]


def write_delays(uint32_t ssrc, delays) -> bytes:
    """What a sender answers: triples of a receiver's SSRC, the middle bits of its reference time, and the delay since
    in 1/65536 s."""
    cdef bytes body = b"".join([part.to_bytes(4, "big") for delay in delays for part in delay])
    cdef int words = len(body) // 4
    return (
        bytes([0x80, RTCP_XR]) + (HEADER_SIZE // 4 + words).to_bytes(2, "big") + ssrc.to_bytes(4, "big")
        + bytes([BLOCK_DELAY, 0]) + words.to_bytes(2, "big") + body
    )


def read_reference(bytes data not None):
    """SSRC and NTP time of the receiver reference time in a compound, None when there is none."""
    cdef RtcpItem item
    cdef size_t offset = 0
    while rtcp_next(<const uint8_t*>data, len(data), &offset, &item) == 1:
        if item.type == RTCP_XR and item.body_size >= 12 and item.body[0] == BLOCK_REFERENCE:
            return item.ssrc, int.from_bytes(item.body[4:12], "big")
    return None


def read_delay(bytes data not None, uint32_t ssrc):
    """What a compound says of a receiver: the middle bits of its reference time and the delay; None for nothing."""
    cdef RtcpItem item
    cdef size_t offset = 0
    cdef uint32_t last_reference, delay
    while rtcp_next(<const uint8_t*>data, len(data), &offset, &item) == 1:
        if xr_delay(&item, ssrc, &last_reference, &delay):
            return last_reference, delay
    return None
