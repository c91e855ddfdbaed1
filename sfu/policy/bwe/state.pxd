"""The estimator of one transport: what its parts share."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.sfu.policy.bwe.aimd cimport RateControl
from mediaserver.sfu.policy.bwe.delay cimport DelayFilter
from mediaserver.sfu.policy.bwe.loss cimport LossFilter
from mediaserver.sfu.policy.bwe.meter cimport Meter
from mediaserver.sfu.policy.bwe.probe cimport Prober
from mediaserver.sfu.policy.bwe.sentlog cimport SentLog
from mediaserver.sfu.policy.round_trip cimport Shortest

# Which feedback leads.
cdef enum FeedbackMode:
    BY_PACKETS = 0               # reports about each packet, or the wait for the first of them
    BY_REMB = 1                  # packets without numbers, or no reports about them: the far end's estimate
    BY_LOSS = 2                  # not even that: receiver reports alone

# What one message has told.
cdef struct PacketReport:
    uint64_t newest              # number of the newest packet that arrived
    int64_t newest_sent          # µs, when that one left
    uint32_t arrived             # packets heard of for the first time
    uint32_t lost
    uint32_t taken_back          # were reported lost before
    uint32_t counted             # of those arrived and lost, which the loss filter may know
    uint32_t counted_lost
    uint32_t runs                # of these, in a row
    uint64_t last_lost           # number

cdef struct Estimator:
    # What each packet that leaves touches; the caller reads the window.
    uint64_t probe_bps           # 0: no probe is under way; else send at this rate, with padding where media does not
    uint32_t probe_bytes_left    # suffice, until this has become 0
    uint64_t window_bytes        # while the queue drains: with more in flight than this no picture leaves; 0: no limit
    int64_t first_sent           # µs, 0 nothing yet
    int64_t last_sent
    int64_t waiting_since        # since when something is in flight and nothing is heard; of use while in_flight > 0
    SentLog log
    Meter sent                   # by departure
    # What the caller reads. All are valid from estimator_init on and change in any of the calls.
    uint64_t target_bps          # what media and repair together may use, > 0
    uint64_t pacing_bps          # as fast as what waits may leave, >= target_bps
    int64_t backlog_us           # how long a packet waits in the line's queue
    double lost_share            # of the packets, 0 to 1, over the last seconds
    int64_t round_trip           # µs, 0 unknown
    uint8_t wide                 # carries all that is wanted, and where it ends was not seen lately: longer bursts
    uint8_t open                 # where it ends was not seen lately: what is too much for the estimate may fit in a moment
    uint8_t congested            # the line's queue grows or stands, or nothing is heard of what was sent
    # The estimator's own.
    uint8_t mode                 # FeedbackMode
    uint8_t outage               # nothing is heard
    uint8_t measured             # a probe has told something of the line
    uint8_t limited              # less is sent than may be
    DelayFilter delay
    LossFilter loss
    RateControl rate
    Meter untracked              # of that, what is never reported on: it leaves whatever the estimate says
    Meter acked                  # by arrival, the far clock
    double ceiling_bps           # what the line was last measured to carry while it was full, 0 never
    int64_t ceiling_at
    double resume_bps            # what to go on with when the queue has drained, 0 none
    double trial_bps             # the rate before a lower one was tried for its losses
    double remb_bps              # 0: none
    int64_t remb_at
    double try_bps               # what is tried beyond it, 0: nothing
    double wanted_bps            # demand; < 0 not told yet
    double used_bps
    double cap_bps               # that losses reported by a receiver allow, where they lead
    int64_t last_report          # of feedback about packets, 0 none yet
    int64_t interval             # between two of these, smoothed
    Shortest way                 # round trip, by spans of 10 s
    int64_t standing_since       # since when the queue stands, 0: it does not
    int64_t standing_us          # the longest that it was since
    int64_t row_since            # the first of the last cuts in a row for delay, 0 none
    double row_bps               # the estimate before it,
    double row_acked             # what arrived then,
    int64_t row_queue_us         # the longest queue since
    int64_t row_low_us           # and the range of the queue since the first cut had to show
    int64_t row_high_us
    uint32_t row_lost            # packets since
    int64_t contended_since      # others keep the queue full: it tells nothing of us. 0: they don't
    int64_t calm_since           # since when there is no queue all the same
    int64_t proven_at            # when the target was last seen to be carried
    int64_t far                  # µs of the last reference time, the far clock unwrapped
    int32_t reference            # the same as the wire had it
    uint8_t reference_known      # 1: 24 bits of 64 ms, 2: 32 bits of 1/65536 s
    PacketReport report
    Prober prober                # its clusters, which are seldom looked at, last
