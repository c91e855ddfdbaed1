"""When to probe, how far, and what a result is worth."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from mediaserver.sfu.policy.bwe.meter cimport meter_rate
from mediaserver.sfu.policy.bwe.probe cimport (
    USABLE_PERCENT, probe_begin, probe_cancel, probe_queue, probe_result, probe_sent,
)
from mediaserver.sfu.policy.bwe.state cimport BY_PACKETS

cdef enum:
    SPREAD_OWN_US = 8000         # what a picture's packets differ by anyway
    EASED_LEAST_US = 4000        # less tells nothing of the line's rate
    SPREAD_MOST_US = 60000       # that a jittery line adds to a probe
    UNKNOWN_US = 5000000
    UNKNOWN_PAUSE_US = 200000    # after a probe that told nothing, while nothing is known of the line
    PROBE_PAUSE_MOST_US = 4000000
    PROBE_RESULT_US = 300000     # beyond the round trip and two intervals of feedback
    PROVEN_US = 10000000         # then a target that is not used is measured anew

cdef double FIRST = 2.0          # times the rate to start with
cdef double SECOND = 4.0
cdef double EASED = 0.6


cdef void probing_begin(Estimator* e, int64_t now) noexcept nogil:
    e.probe_bytes_left = 0
    e.probe_bps = <uint64_t>probe_begin(&e.prober, &e.probe_bytes_left, now)
    if e.probe_bps == 0:
        e.prober.waiting = now + e.round_trip + 2 * e.interval + PROBE_RESULT_US


cdef void probing_cancel(Estimator* e) noexcept nogil:
    probe_cancel(&e.prober)
    e.probe_bps = 0
    e.probe_bytes_left = 0
    e.prober.waiting = 0


cdef void probing_sent(Estimator* e, uint32_t size, int64_t now) noexcept nogil:
    probe_sent(&e.prober, size, now)
    if size < e.probe_bytes_left:
        e.probe_bytes_left -= size
    else:
        probing_begin(e, now)


cdef void probing_failed(Estimator* e, int64_t now) noexcept nogil:
    e.prober.waiting = 0
    if not e.measured and now - e.first_sent < UNKNOWN_US:
        e.prober.due = now + UNKNOWN_PAUSE_US
        return
    e.prober.due = now + e.prober.interval
    e.prober.spread_us = e.delay.spread_us
    e.prober.interval *= 2
    if e.prober.interval > PROBE_PAUSE_MOST_US:
        e.prober.interval = PROBE_PAUSE_MOST_US


cdef void probing_pause(Estimator* e, int64_t pause, int64_t now) noexcept nogil:
    probing_cancel(e)
    e.prober.interval = PROBE_PAUSE_US
    e.prober.spread_us = 0
    e.prober.due = now + pause


cdef void note_ceiling(Estimator* e, double bps, int64_t now) noexcept nogil:
    e.ceiling_bps = bps
    e.ceiling_at = now


cdef void probing_take_result(Estimator* e, double acked, int64_t now) noexcept nogil:
    cdef double aimed
    cdef int saturated
    cdef double found = probe_result(&e.prober, &saturated, &aimed)
    cdef bint last = e.prober.waiting == 0
    if found <= 0 or e.trial_bps > 0:
        return
    if e.contended_since and found > e.row_bps:
        found = e.row_bps       # not more than there was before the others came
    if found > 0.9 * e.rate.bps:
        e.proven_at = now
    if saturated:
        note_ceiling(e, found * 100.0 / USABLE_PERCENT, now)
    elif found > e.ceiling_bps:
        e.ceiling_bps = 0
    if found > 1.02 * e.rate.bps:
        e.rate.bps = clamped(found)
        e.measured = 1
        e.prober.interval = PROBE_PAUSE_US
        e.prober.spread_us = 0
        e.prober.due = now + e.prober.interval if saturated else now
        return
    e.measured = 1
    if saturated and found < e.rate.bps:
        # Once may be chance: half of the way.
        if found < 0.9 * e.rate.bps:
            found = found if found > 1.05 * acked else 1.05 * acked
        else:
            found = e.ceiling_bps if e.ceiling_bps > acked else acked
        if found < e.rate.bps:
            e.rate.bps = (e.rate.bps + found) / 2
    if last:
        probing_failed(e, now)


cdef bint is_eased(const Estimator* e) noexcept nogil:
    """Pictures leave in runs, which a line spreads out by its rate: when they come much closer together than after the
    last probe, it has become faster."""
    return e.prober.spread_us > EASED_LEAST_US and e.delay.spread_us < EASED * e.prober.spread_us


cdef void probing_want(Estimator* e, int64_t now) noexcept nogil:
    cdef double bps = e.rate.bps, useful = USEFUL_PERCENT / 100.0 * e.wanted_bps
    cdef double aim = 2 * bps, sent, spread
    if e.mode != BY_PACKETS or e.outage or e.congested or e.trial_bps > 0 or not queue_free(e):
        return
    if e.prober.active or e.prober.waiting or (now < e.prober.due and not is_eased(e)):
        return
    spread = 2 * (e.delay.spread_us - SPREAD_OWN_US)
    spread = 0 if spread < 0 else SPREAD_MOST_US if spread > SPREAD_MOST_US else spread
    e.prober.lasting = PROBE_US + <uint32_t>spread
    if not e.measured and e.last_report == 0 and (e.wanted_bps < 0 or e.wanted_bps > 1.02 * bps):
        # Nothing is known of the line yet.
        probe_queue(&e.prober, FIRST * bps if e.wanted_bps < 0 or useful > FIRST * bps else useful)
        if e.wanted_bps < 0 or useful > FIRST * bps:
            probe_queue(&e.prober, SECOND * bps if e.wanted_bps < 0 or useful > SECOND * bps else useful)
    elif e.wanted_bps > 1.02 * bps:
        if e.rate.before > aim and now - e.rate.decreased < 5000000:
            aim = e.rate.before
        probe_queue(&e.prober, clamped(aim if aim < useful else useful))
    else:
        sent = meter_rate(&e.sent, LONG, now)
        if e.last_report == 0 or now - e.proven_at < PROVEN_US or now - e.last_report > PROVEN_US:
            return
        if sent > LIMITED_PERCENT / 100.0 * bps or e.wanted_bps < 1.2 * sent:
            return
        # The target is more than is sent, and may be made use of any time: is it still true?
        probe_queue(&e.prober, clamped(bps if bps < useful else useful))
    if e.proven_at == 0:
        e.proven_at = now
    probing_begin(e, now)
