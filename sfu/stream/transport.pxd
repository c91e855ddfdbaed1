"""Arrival times by transport-wide sequence number, for the publisher's bandwidth estimation.

draft-holmer-rmcat-transport-wide-cc-extensions-01.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    ARRIVALS = 1024                  # a power of two: what may come between two messages
    FEEDBACK_INTERVAL_US = 50000

cdef struct ArrivalLog:
    uint64_t highest                 # extended, 0: none yet
    uint64_t reported                # everything before it has been reported on
    int64_t due                      # µs, when the next message should leave; 0: nothing to report
    uint8_t message_count
    int64_t times[ARRIVALS]          # by extended number; RTCP_LOST where nothing came

cdef void arrival_init(ArrivalLog* log) noexcept nogil
cdef void arrival_add(ArrivalLog* log, uint16_t sequence, int64_t now) noexcept nogil
# Writes one message when something is to be reported: bytes written, 0 for nothing, < 0 without room.
cdef int arrival_feedback(ArrivalLog* log, uint8_t* out, size_t capacity, uint32_t sender, uint32_t media) noexcept nogil
