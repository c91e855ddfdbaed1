"""What a transport-wide feedback message says, without the packet around it: for `rtcp`, where others find it."""

from libc.stdint cimport int64_t, uint8_t, uint16_t

from mediaserver.sfu.wire.rtcp cimport RtcpArrival, RtcpTransport

# See rtcp_transport. `fci` is the feedback control information of RFC 4585, without padding.
cdef int feedback_read(const uint8_t* fci, size_t size, RtcpTransport* transport, RtcpArrival* arrivals,
                       size_t capacity) noexcept nogil
# See rtcp_write_transport. Bytes written, not padded.
cdef int feedback_write(uint8_t* fci, size_t capacity, uint8_t feedback_count, uint16_t base,
                        const int64_t* arrivals, size_t count, size_t* consumed) noexcept nogil
