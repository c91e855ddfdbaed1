"""ICE after the connection stands: consent checks of our own, answers to those of the other side."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t

from mediaserver.loadtest.state cimport Peer, Totals

cdef void send_check(Peer* peer, int64_t now, Totals* totals) noexcept nogil
cdef void receive_stun(Peer* peer, const uint8_t* data, size_t size, int64_t now, Totals* totals) noexcept nogil
