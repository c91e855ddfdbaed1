"""The subscribing half of a peer."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t

from mediaserver.loadtest.state cimport InStream, Peer, Skew, SourceTimes, Tape, Totals

cdef void receive_media(Peer* peer, uint8_t* data, size_t size, int64_t arrived_real, int64_t arrived, int64_t now,
                        SourceTimes* times, Tape* tape, Totals* totals) noexcept nogil
cdef void receive_reports(Peer* peer, uint8_t* data, size_t size, int64_t arrived, int64_t now,
                          Totals* totals) noexcept nogil
cdef void send_nacks(Peer* peer, int64_t now, Totals* totals) noexcept nogil
cdef void send_receiver_report(Peer* peer, int64_t now, Totals* totals) noexcept nogil
cdef void judge_floors(InStream* stream, int64_t now) noexcept nogil
cdef void watch_skew(Peer* peer, Skew* pairs, uint32_t count, int64_t now) noexcept nogil
cdef void ask_for_keyframes(Peer* peer, int64_t now, Totals* totals) noexcept nogil
