"""The subscribing half of a peer."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t

from mediaserver.loadtest.state cimport Peer, SourceTimes, Totals

cdef void receive_media(Peer* peer, uint8_t* data, size_t size, int64_t arrived_real, int64_t arrived, int64_t now,
                        SourceTimes* times, Totals* totals) noexcept nogil
cdef void receive_reports(Peer* peer, uint8_t* data, size_t size, int64_t arrived, int64_t now,
                          Totals* totals) noexcept nogil
cdef void send_nacks(Peer* peer, int64_t now, Totals* totals) noexcept nogil
cdef void send_receiver_report(Peer* peer, int64_t now, Totals* totals) noexcept nogil
cdef void ask_for_keyframes(Peer* peer, int64_t now, Totals* totals) noexcept nogil
