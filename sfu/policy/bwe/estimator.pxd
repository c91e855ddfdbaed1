"""How much a viewer's line carries: the estimator of one transport, sending side.

Times are µs of one clock, which is monotonic; sizes are bytes with IP and UDP headers; rates are bits per second.
docs/congestion.md tells how it works.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.sfu.policy.bwe.state cimport Estimator
from mediaserver.sfu.wire.rtcp cimport RtcpItem

cpdef enum SentKind:
    SENT_MEDIA = 0
    SENT_REPAIR = 1              # retransmissions
    SENT_PADDING = 2

# 0, or -1 without memory (then nothing needs closing).
cdef int estimator_init(Estimator* e, int64_t now) noexcept nogil
cdef void estimator_close(Estimator* e) noexcept nogil
# All that is known of the line is forgotten. Numbers go on where they were: the far end takes lower ones for late packets.
cdef void estimator_restart(Estimator* e, int64_t now) noexcept nogil
# A packet leaves now: its transport-wide number, which it must bear. Not for packets without one.
cdef uint16_t estimator_sent(Estimator* e, uint32_t size, int64_t now, int kind) noexcept nogil
# The packet that estimator_sent was called for last, as RFC 8888 feedback will name it. Only where that was agreed on.
cdef void estimator_name(Estimator* e, uint32_t ssrc, uint16_t sequence) noexcept nogil
# A packet leaves now that bears no transport-wide number.
cdef void estimator_untracked(Estimator* e, uint32_t size, int64_t now) noexcept nogil
# Feedback. Items of another kind than the function is for, or malformed ones, change nothing.
cdef void estimator_transport(Estimator* e, const RtcpItem* item, int64_t now) noexcept nogil
cdef void estimator_ccfb(Estimator* e, const RtcpItem* item, int64_t now) noexcept nogil
cdef void estimator_remb(Estimator* e, uint64_t bps, int64_t now) noexcept nogil
# Where REMB leads: as much as this is sent all the same, 0: no more than it says.
cdef void estimator_try(Estimator* e, double bps, int64_t now) noexcept nogil
# The far end answers by another path, which ends a silence: nothing has to be reported first.
cdef void estimator_moved(Estimator* e, int64_t now) noexcept nogil
# From a receiver report: the fraction lost of 256, the round trip in µs, 0 unknown. Once a report, the worst of its blocks.
cdef void estimator_loss(Estimator* e, uint8_t fraction_lost, int64_t round_trip, int64_t now) noexcept nogil
# What the allocation uses at most now, and what all layers at their best would need: no probing beyond that.
cdef void estimator_demand(Estimator* e, uint64_t sent_max_bps, uint64_t wanted_bps, int64_t now) noexcept nogil
# To be called at the time that it returned last, later than which only by what the clock's grain is.
cdef int64_t estimator_process(Estimator* e, int64_t now) noexcept nogil
