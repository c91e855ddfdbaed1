"""When to probe, how far, and what a result is worth."""

from libc.stdint cimport int64_t, uint32_t

from mediaserver.sfu.policy.bwe.state cimport Estimator

cdef enum:
    LEAST_BPS = 50000
    MOST_BPS = 200000000
    OVER_QUEUE_US = 10000        # a trend without as much of a queue is jitter,
    JITTER_MOST_US = 40000       # or with so much more where the packets' delays differ anyway
    LONG = 12                    # buckets of a meter, 0.6 s
    LIMITED_PERCENT = 70         # of the target sent: less is application limited
    USEFUL_PERCENT = 115         # of what is wanted: no probe beyond
    PROBE_US = 20000             # how long one lasts
    PROBE_PAUSE_US = 1000000     # after one that found nothing more; doubled each time

# The next cluster of the queue, or the wait for the results.
cdef void probing_begin(Estimator* e, int64_t now) noexcept nogil
cdef void probing_cancel(Estimator* e) noexcept nogil
# A packet of the probe under way leaves.
cdef void probing_sent(Estimator* e, uint32_t size, int64_t now) noexcept nogil
cdef void probing_failed(Estimator* e, int64_t now) noexcept nogil
# No probe now, nor for a while: there was congestion.
cdef void probing_pause(Estimator* e, int64_t pause, int64_t now) noexcept nogil
# What the last report told of probes, into the estimate. `acked`: what arrives.
cdef void probing_take_result(Estimator* e, double acked, int64_t now) noexcept nogil
# Begins a probe if there is a reason for one and none against it.
cdef void probing_want(Estimator* e, int64_t now) noexcept nogil

# The line was full, and this is what came through: growth by itself stops there, until a probe or what arrives proves more.
cdef void note_ceiling(Estimator* e, double bps, int64_t now) noexcept nogil

cdef inline double clamped(double bps) noexcept nogil:
    if not bps > LEAST_BPS:     # nor is a NaN
        return LEAST_BPS
    return bps if bps < MOST_BPS else MOST_BPS

cdef inline int64_t jitter(const Estimator* e) noexcept nogil:
    """By how much the lowest delay may be above the base without a queue."""
    cdef double most = 8 * e.delay.wander_us
    return <int64_t>most if most < JITTER_MOST_US else JITTER_MOST_US

cdef inline bint queue_free(const Estimator* e) noexcept nogil:
    return e.delay.queue_us < 2 * OVER_QUEUE_US + jitter(e) or e.contended_since != 0
