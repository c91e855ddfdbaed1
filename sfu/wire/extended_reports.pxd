"""RTCP extended reports (RFC 3611) as far as they tell a receiver its round trip: one asks when it was heard."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from mediaserver.sfu.wire.rtcp cimport RtcpItem

cdef enum:
    XR_REFERENCE_SIZE = 20

# A receiver reference time (section 4.4) with that NTP time: bytes, RTCP_ERR_ROOM without room.
cdef int xr_write_reference(uint8_t* out, size_t capacity, uint32_t ssrc, uint64_t ntp) noexcept nogil
# The delay since the last reference time of `ssrc` (section 4.5) in 1/65536 s; *last_reference gets the middle bits
# of its NTP time. 1, or 0 when the item is no extended report or does not speak of that source.
cdef int xr_delay(const RtcpItem* item, uint32_t ssrc, uint32_t* last_reference, uint32_t* delay) noexcept nogil
