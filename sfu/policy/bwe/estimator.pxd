"""How much a viewer's line carries: the estimator of one transport, sending side.

Times are µs of one clock, which is monotonic; sizes are bytes with IP and UDP headers; rates are bits per second.
docs/congestion.md tells how it works.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.sfu.policy.bwe.aimd cimport RateControl
from mediaserver.sfu.policy.bwe.delay cimport DelayFilter
from mediaserver.sfu.policy.bwe.meter cimport Meter
from mediaserver.sfu.policy.bwe.probe cimport Prober
from mediaserver.sfu.policy.bwe.sentlog cimport SentLog
from mediaserver.sfu.wire.rtcp cimport RtcpItem

cpdef enum SentKind:
    SENT_MEDIA = 0
    SENT_REPAIR = 1              # retransmissions
    SENT_PADDING = 2             # of a probe, or to keep the line known

cdef struct Estimator:
    # What the caller reads. All are valid from estimator_init on and change in any of the calls.
    uint64_t target_bps          # what media and repair together may use, > 0
    uint64_t pacing_bps          # as fast as what waits may leave, >= target_bps
    uint64_t probe_bps           # 0: none; else send at this rate, with padding where media does not suffice,
    uint32_t probe_bytes_left    # until this has become 0
    uint64_t padding_bps         # 0, or what is to be sent at least, filled up with padding
    int64_t backlog_us           # how long a packet waits in the line's queue
    double lost_share            # of the packets, 0 to 1, over the last seconds
    int64_t round_trip           # µs, 0 unknown
    uint8_t congested            # the line's queue grows or stands, or nothing is heard of what was sent
    # The estimator's own.
    SentLog log
    DelayFilter delay
    RateControl rate
    Prober prober
    Meter sent                   # by departure
    Meter acked                  # by arrival, the far clock
    double remb_bps              # 0: none, or too old
    int64_t remb_at
    double wanted_bps            # demand; < 0 not told yet
    double used_bps
    int64_t last_sent            # µs, 0 nothing yet
    int64_t last_report          # of feedback about packets, 0 none yet
    int64_t last_round           # µs from sending the newest reported packet to its report
    int32_t reference            # of the last transport-wide feedback, 24 bits
    int64_t far                  # the same unwrapped, in 64 ms from an origin that keeps times above 0
    uint8_t reference_known
    uint8_t blind                # packets leave without numbers
    int64_t reported_sent        # departure of the newest packet of this report
    uint64_t newest              # its number
    uint32_t arrived_packets     # of this report
    uint32_t lost_packets

# 0, or -1 without memory (then nothing needs closing).
cdef int estimator_init(Estimator* e, int64_t now) noexcept nogil
cdef void estimator_close(Estimator* e) noexcept nogil
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
# From a receiver report: the fraction lost of 256, the round trip in µs, 0 unknown. Once a report, the worst of its blocks.
cdef void estimator_loss(Estimator* e, uint8_t fraction_lost, int64_t round_trip, int64_t now) noexcept nogil
# What the allocation uses at most now, and what all layers at their best would need: no probing beyond that.
cdef void estimator_demand(Estimator* e, uint64_t sent_max_bps, uint64_t wanted_bps, int64_t now) noexcept nogil
# To be called at the time that it returned last, later than which only by what the clock's grain is.
cdef int64_t estimator_process(Estimator* e, int64_t now) noexcept nogil
