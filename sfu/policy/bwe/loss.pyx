"""What losses say: those that the line has anyway, and those that come with the rate.

A line that loses 3 % by its nature loses 3 % at any rate; one that is too narrow loses what is too much. So the usual
share is learned while nothing points to congestion. What exceeds it counts as congestion at once when packets wait as well.
When they don't, a lower rate is tried: if the losses go on, they were none of ours.
"""

from libc.math cimport sqrt
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset

cdef enum:
    WINDOW_US = 400000
    WINDOW_LONGEST_US = 1000000
    PACKETS_LEAST = 20
    PACKETS_ENOUGH = 60
    QUEUE_US = 10000             # mean over a window: packets wait as well
    TRIAL_LEAD_US = 400000       # after which reports are of the lower rate
    TRIAL_US = 1200000           # altogether
    TRIAL_PAUSE_US = 5000000     # after one that was refuted; doubled each time
    TRIAL_PAUSE_MOST_US = 80000000

cdef double MARGIN = 0.02
cdef double USUAL_MOST = 0.2
cdef double MANY = 0.06          # worth a trial now and then, even if it is as usual
cdef double HEAVY = 0.4          # nobody sees a picture through that: less load in any case


cdef void loss_init(LossFilter* filter) noexcept nogil:
    memset(filter, 0, sizeof(LossFilter))
    filter.trial_pause = TRIAL_PAUSE_US


cdef void begin_window(LossFilter* filter, int64_t now) noexcept nogil:
    filter.packets = filter.lost = filter.runs = filter.reports = 0
    filter.queue_sum = 0
    filter.since = now


cdef void loss_restart(LossFilter* filter, int64_t now) noexcept nogil:
    begin_window(filter, 0)
    filter.tried = 0
    filter.ignore_before = now


cdef void loss_count(LossFilter* filter, uint32_t packets, uint32_t lost, uint32_t runs, uint32_t taken_back,
                     int64_t now) noexcept nogil:
    if filter.since == 0:
        filter.since = now
    filter.packets += packets
    filter.lost += lost
    filter.runs += runs
    filter.lost = filter.lost - taken_back if filter.lost > taken_back else 0


cdef double margin(const LossFilter* filter) noexcept nogil:
    """How far above the usual a window may be by chance: three standard deviations, where losses come in runs."""
    cdef double p = filter.usual if filter.usual > 0.01 else 0.01
    cdef double run = <double>filter.lost / filter.runs if filter.runs and filter.lost > filter.runs else 1.0
    # A run of n weighs as n packets of one fate; runs vary in length themselves.
    return MARGIN + 3 * sqrt(p * (1 - p) * (2 * run - 1) / filter.packets)


cdef int judge_trial(LossFilter* filter, double share, bint waits, int64_t now) noexcept nogil:
    if waits or share < 0.5 * filter.tried:
        filter.tried = 0
        filter.trial_pause = TRIAL_PAUSE_US
        filter.trial_due = now + TRIAL_PAUSE_US
        return LOSS_CONFIRMED
    filter.usual = share if share < USUAL_MOST else USUAL_MOST
    filter.tried = 0
    filter.trial_due = now + filter.trial_pause
    filter.trial_pause = 2 * filter.trial_pause if filter.trial_pause < TRIAL_PAUSE_MOST_US else TRIAL_PAUSE_MOST_US
    return LOSS_REFUTED


cdef int judge(LossFilter* filter, double share, bint waits, bint limited, int64_t now) noexcept nogil:
    cdef bint more = share - filter.usual > margin(filter)
    filter.excess = share - filter.usual
    if share > HEAVY or (waits and more):
        filter.tried = 0
        return LOSS_CONGESTED
    if not limited and now >= filter.trial_due and (more or filter.share > MANY):
        filter.tried = share if share > filter.share else filter.share
        filter.trial_since = now
        return LOSS_SUSPECT
    if not waits:
        filter.usual += (share - filter.usual) * (0.1 if share > filter.usual else 0.2)
        if filter.usual > USUAL_MOST:
            filter.usual = USUAL_MOST
    return LOSS_USUAL


cdef int loss_judge(LossFilter* filter, int64_t queue_us, bint limited, int64_t now) noexcept nogil:
    cdef int64_t passed = now - filter.since
    cdef double share
    cdef bint waits
    cdef int verdict
    filter.queue_sum += queue_us
    filter.reports += 1
    if filter.since == 0:
        return LOSS_USUAL
    if filter.tried > 0 and filter.since < filter.trial_since + TRIAL_LEAD_US:
        if now - filter.trial_since >= TRIAL_LEAD_US:
            begin_window(filter, now)
        return LOSS_USUAL
    if filter.packets < PACKETS_LEAST or passed < WINDOW_US:
        return LOSS_USUAL
    if filter.packets < PACKETS_ENOUGH and passed < WINDOW_LONGEST_US:
        return LOSS_USUAL
    if filter.tried > 0 and now - filter.trial_since < TRIAL_US:
        return LOSS_USUAL       # one window up to the end of the trial
    share = <double>filter.lost / filter.packets
    if share > 1:
        share = 1
    waits = filter.queue_sum > <double>QUEUE_US * filter.reports
    filter.share += (share - filter.share) * 0.3
    if filter.tried > 0:
        verdict = judge_trial(filter, share, waits, now)
    else:
        verdict = judge(filter, share, waits, limited, now)
    begin_window(filter, now)
    return verdict
