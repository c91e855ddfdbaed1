"""The publishing half of a peer."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint8_t, uint32_t

from mediaserver.loadtest.state cimport OutStream, Peer, Totals

cdef void send_frame(OutStream* stream, int64_t now, Totals* totals) noexcept nogil
cdef void send_again(OutStream* stream, uint16_t sequence, Totals* totals) noexcept nogil
cdef void send_sender_reports(Peer* peer, int64_t now, Totals* totals) noexcept nogil
cdef void send_protected_rtcp(Peer* peer, uint8_t* packet, int size, size_t capacity, Totals* totals) noexcept nogil
cdef void send_bye(Peer* peer, Totals* totals) noexcept nogil
cdef void send_datagram(Peer* peer, const uint8_t* data, size_t size, Totals* totals) noexcept nogil
