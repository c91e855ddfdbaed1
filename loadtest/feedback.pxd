"""Transport-wide feedback of a viewer."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t

from mediaserver.loadtest.state cimport Peer, Totals

# A packet of `size` bytes with that transport-wide number has come. ns on the monotonic clock.
cdef void note_arrival(Peer* peer, uint16_t sequence, size_t size, int64_t arrived) noexcept nogil
# Tell what has come since the last time, and set when to tell again.
cdef void send_feedback(Peer* peer, int64_t now, Totals* totals) noexcept nogil
