"""From what the packets tell to the rates that the caller reads: what cuts the estimate, what lets it grow."""

from libc.math cimport exp2
from libc.stdint cimport INT64_MAX, int64_t, uint64_t

from mediaserver.sfu.policy.bwe.aimd cimport rate_decrease, rate_increase, rate_init
from mediaserver.sfu.policy.bwe.delay cimport (
    DELAY_BASE_US, LINE_OVER, LINE_UNDER, delay_drained, delay_init, delay_rebase, delay_report, delay_restart,
)
from mediaserver.sfu.policy.bwe.loss cimport (
    LOSS_CONFIRMED, LOSS_CONGESTED, LOSS_REFUTED, LOSS_SUSPECT, loss_count, loss_init, loss_judge, loss_restart,
)
from mediaserver.sfu.policy.bwe.meter cimport meter_rate, meter_reset
from mediaserver.sfu.policy.bwe.probe cimport probe_init, probe_queue
from mediaserver.sfu.policy.bwe.probing cimport (
    LIMITED_PERCENT, LONG, MOST_BPS, OVER_QUEUE_US, PROBE_PAUSE_US, PROBE_US, USEFUL_PERCENT, clamped, jitter, note_ceiling,
    probing_begin, probing_cancel, probing_failed, probing_pause, probing_take_result, probing_want, queue_free,
)
from mediaserver.sfu.policy.bwe.state cimport BY_LOSS, BY_PACKETS, BY_REMB
from mediaserver.sfu.policy.round_trip cimport shortest, shortest_add

cdef enum:
    # Delay
    STANDING_QUEUE_US = 60000
    STANDING_US = 500000
    ROW_US = 3000000             # cuts that follow each other within this are of one cause
    SHOWS_US = 400000            # after its first one the queue begins to drain, if it is ours,
    HELPED_US = 2500000          # and has drained
    DRAINS_US = 1000000          # so long another cut waits for it
    FLAT_US = 1200000            # a queue that never moves as long is none: the way has become longer
    FLAT_RANGE_US = 12000
    CEILING_US = 10000000        # what the line was seen to carry holds so long
    CONTENDED_US = 15000000
    CONTENDED_QUEUE_US = 40000
    CALM_US = 1000000
    DRAINED_US = 10000
    REACTION_US = 100000         # beyond the round trip, until a cut shows
    WINDOW_LEAST = 3000          # bytes: two packets, whatever the rate
    WINDOW_QUEUE_US = 50000
    WINDOW_LONG_US = 150000      # sound that waits for longer begins to come too late
    SHORT = 4                    # of a meter's buckets, where LONG is too slow
    # Probes
    PROBE_STALLED_US = 300000    # a cluster that takes as long is given up
    PROBE_DRAINS_US = 250000     # what it leaves in the line's queue
    # Silence
    QUIET_US = 200000            # beyond what the queue took: a report that is late
    SILENCE_US = 500000
    HALVED_US = 250000
    KNOCK_US = 100000            # as often a packet goes out to hear whether the line is back
    # Without reports about packets
    UNREPORTED_US = 2000000
    REMB_US = 10000000           # a REMB caps the other estimates as long

cdef double START_BPS = 1300000.0
cdef double BETA = 0.85
cdef double RESUME = 0.95        # of what arrived while the queue stood
cdef double TRIAL_SHARE = 0.8     # of the rate: what is tried when losses are suspect
cdef double PACING = 1.5
cdef double PACING_CONGESTED = 1.05      # and for a while after: where the line ends has been seen
cdef int64_t SEEN_US = 30000000
cdef double AHEAD = 1.05         # of what arrives: the estimate grows no further by itself
cdef double CONTENDED_LOST = 0.08
cdef double KNOCK_BPS = 100000.0
cdef double PURE_LOST = 0.005    # a line that loses fewer is one without losses


cdef void control_init(Estimator* e, int64_t now) noexcept nogil:
    delay_init(&e.delay)
    loss_init(&e.loss)
    rate_init(&e.rate, START_BPS, now)
    probe_init(&e.prober)
    meter_reset(&e.sent)
    meter_reset(&e.untracked)
    meter_reset(&e.acked)
    e.prober.interval = PROBE_PAUSE_US
    e.wanted_bps = -1
    e.cap_bps = START_BPS
    e.interval = 100000
    publish(e, now)


# ---- reports

cdef void cut_for_delay(Estimator* e, double acked, double arriving, double sent, double steep, int64_t now) noexcept nogil:
    cdef double drain = (e.delay.queue_us - 30000) / 500000.0
    cdef int64_t pause = REACTION_US if e.delay.use == LINE_OVER else STANDING_US
    if e.delay.queue_us > e.row_queue_us:
        e.row_queue_us = e.delay.queue_us
    if 0 < steep < e.rate.bps / 2:
        acked = steep           # what came before the line became so much thinner is no measure of it
    elif e.report.newest_sent < e.rate.decreased + pause:
        return                  # what left before the last cut tells nothing of it
    elif e.row_since and now - e.rate.decreased < DRAINS_US and 10 * e.delay.queue_us < 9 * e.row_queue_us:
        return                  # it has helped
    if e.row_since and now - e.rate.decreased < ROW_US and arriving > 0.9 * sent and sent < 0.5 * e.row_acked:
        return                  # so much less that the queue drains, if it is ours
    if e.row_since == 0 or now - e.rate.decreased > ROW_US:
        e.row_since = now
        e.row_bps = e.rate.bps
        e.row_acked = acked
        e.row_queue_us = e.delay.queue_us
        e.row_high_us = 0
        e.row_lost = 0
        e.row_low_us = INT64_MAX
    if drain < 0:
        drain = 0
    elif drain > 0.3:
        drain = 0.3
    e.resume_bps = RESUME * acked
    if e.delay.queue_us > CONTENDED_QUEUE_US or steep > 0:
        note_ceiling(e, acked, now)
    rate_decrease(&e.rate, acked, BETA - drain, now)
    probing_pause(e, e.round_trip + 500000, now)


cdef void watch_contention(Estimator* e, double acked, double sent, int64_t now) noexcept nogil:
    """Whether the queue is that of others: it would have drained since we send so much less."""
    cdef int64_t queue = e.delay.queue_us
    if e.contended_since:
        if e.loss.share > CONTENDED_LOST and now - e.contended_since > SHOWS_US:
            # As much is lost by who sends more than the line carries, not by who shares it.
            e.contended_since = 0
            if acked < e.rate.bps:
                e.rate.bps = clamped(acked)
            return
        if queue > CONTENDED_QUEUE_US // 2:
            e.calm_since = now
        if queue > 2 * e.row_queue_us + CONTENDED_QUEUE_US:
            e.contended_since = 0   # longer than others had filled it: the line has become thinner
            return
        if now - e.calm_since > CALM_US or now - e.contended_since > CONTENDED_US:
            e.contended_since = 0
        return
    if queue < DRAINED_US:
        e.row_since = 0         # it was ours
    if e.row_since == 0 or now - e.rate.decreased > ROW_US or now - e.row_since < SHOWS_US:
        return
    if now - e.row_since > FLAT_US:
        e.row_lost += e.report.lost  # before, those were ours
    if queue < e.row_low_us:
        e.row_low_us = queue
    if queue > e.row_high_us:
        e.row_high_us = queue
    if sent > 0.75 * e.row_acked or acked < 0.9 * sent or queue < CONTENDED_QUEUE_US:
        return
    if now - e.row_since > FLAT_US and e.row_high_us - e.row_low_us < FLAT_RANGE_US:
        delay_rebase(&e.delay, now)
        e.resume_bps = e.row_acked
        e.row_since = 0
    elif now - e.row_since > HELPED_US and e.row_lost and 10 * queue > 7 * e.row_queue_us:
        e.contended_since = e.calm_since = now
        e.row_since = 0
        if e.rate.bps < e.row_bps / 2:
            e.rate.bps = clamped(e.row_bps / 2)
        e.prober.due = now


cdef bint congested_by_delay(Estimator* e, int64_t now) noexcept nogil:
    cdef int64_t queue = e.delay.queue_us
    cdef int64_t since = e.report.newest_sent - e.prober.ended - 3 * <int64_t>e.prober.lasting
    if e.contended_since:
        return False
    if queue < STANDING_QUEUE_US:
        e.standing_since = 0
    elif e.standing_since == 0 or 4 * queue < 3 * e.standing_us:
        e.standing_since = now  # one that drains doesn't stand
        e.standing_us = queue
    elif queue > e.standing_us:
        e.standing_us = queue
    if e.standing_since and now - e.standing_since > STANDING_US:
        return True
    if e.delay.steep_bps > 0 and not e.prober.active and since >= 0:
        return True
    # A probe makes a queue of its own, which is gone soon, though not at once on a line that is full otherwise.
    if e.prober.active or since < PROBE_DRAINS_US:
        return e.delay.use == LINE_OVER and queue > STANDING_QUEUE_US
    return e.delay.use == LINE_OVER and queue > OVER_QUEUE_US + jitter(e)


cdef void judge_losses(Estimator* e, double acked, int64_t now) noexcept nogil:
    cdef int verdict
    cdef double lower
    loss_count(&e.loss, e.report.counted, e.report.counted_lost, e.report.runs, e.report.taken_back, now)
    verdict = loss_judge(&e.loss, e.delay.queue_us, e.limited, now)
    if verdict == LOSS_CONGESTED or verdict == LOSS_SUSPECT:
        lower = (1 - e.loss.excess) * e.rate.bps
        if lower < 0.95 * acked:
            lower = 0.95 * acked
        if lower > TRIAL_SHARE * e.rate.bps and verdict == LOSS_SUSPECT:
            lower = TRIAL_SHARE * e.rate.bps
        if verdict == LOSS_SUSPECT:
            e.trial_bps = e.rate.bps
        elif lower < e.rate.bps:
            e.trial_bps = 0
            e.rate.decreased = now
        if lower < e.rate.bps:
            e.rate.bps = clamped(lower)
        probing_pause(e, PROBE_PAUSE_US, now)
    elif verdict == LOSS_REFUTED:
        if e.trial_bps > e.rate.bps:
            e.rate.bps = e.trial_bps
        e.trial_bps = 0
    elif verdict == LOSS_CONFIRMED:
        e.trial_bps = 0
        probing_pause(e, PROBE_PAUSE_US, now)


cdef void end_outage(Estimator* e, int64_t now) noexcept nogil:
    cdef double before = e.rate.bps
    e.outage = 0
    probing_cancel(e)
    delay_restart(&e.delay)
    loss_restart(&e.loss, now)
    e.report.counted = e.report.counted_lost = e.report.runs = e.report.taken_back = 0
    e.prober.due = now
    e.prober.interval = PROBE_PAUSE_US
    e.rate.updated = now
    e.contended_since = 0
    if e.report.lost * 10 > e.report.arrived + e.report.lost or e.report.arrived < 5:
        # Half at once, and a probe for the rest.
        meter_reset(&e.acked)
        if e.rate.before < before or now - e.rate.decreased > ROW_US:
            e.rate.before = before
        e.rate.decreased = now
        e.rate.bps = clamped(before / 2)
        e.trial_bps = 0


cdef void control_moved(Estimator* e, int64_t now) noexcept nogil:
    if not e.outage:
        return
    e.report.arrived = e.report.lost = 0
    end_outage(e, now)          # of the new path nothing is known: half
    e.waiting_since = now       # what left by the old one is not waited for
    control_update(e, now)


cdef double whole(double reported, double untracked, double sent) noexcept nogil:
    """All that passes a line that has become much too thin, by what of it is reported on: each gets its part of it."""
    if untracked >= sent / 2:
        return reported + untracked if reported > 0 else 0
    return reported * sent / (sent - untracked)


cdef void control_report(Estimator* e, int64_t now) noexcept nogil:
    cdef int64_t round_trip = now - e.report.newest_sent
    cdef int64_t passed = now - e.last_report
    cdef double untracked, acked, arriving, sent, most
    if e.last_report and passed < 1000000:
        e.interval += (passed - e.interval) // 8
    e.last_report = now
    e.mode = BY_PACKETS
    e.round_trip = round_trip if e.round_trip == 0 else e.round_trip + (round_trip - e.round_trip) // 8
    shortest_add(&e.way, round_trip, DELAY_BASE_US, now)
    if e.outage:
        end_outage(e, now)
    delay_report(&e.delay, now)
    e.backlog_us = e.delay.queue_us
    untracked = meter_rate(&e.untracked, LONG, now)
    acked = meter_rate(&e.acked, SHORT, 0) + untracked
    arriving = meter_rate(&e.acked, LONG, 0) + untracked
    sent = meter_rate(&e.sent, LONG, now)
    # A key picture by itself makes no full line of one that is allotted little.
    e.limited = sent < LIMITED_PERCENT / 100.0 * e.rate.bps or (e.wanted_bps >= 0 and e.used_bps < LIMITED_PERCENT / 100.0 * e.rate.bps)
    if not e.limited:
        e.proven_at = now
    watch_contention(e, arriving, sent, now)
    e.congested = congested_by_delay(e, now)
    judge_losses(e, arriving, now)
    e.lost_share = e.loss.share
    if e.congested:
        cut_for_delay(e, acked, arriving, sent, whole(e.delay.steep_bps, untracked, sent), now)
        if e.rate.bps < untracked:
            e.rate.bps = clamped(untracked)     # less than what leaves in any case is no use to anybody
    else:
        if e.resume_bps > 0 and e.delay.queue_us < DRAINED_US:
            if e.resume_bps > e.rate.bps:
                e.rate.bps = clamped(e.resume_bps)
            e.resume_bps = 0
        probing_take_result(e, arriving, now)
        most = AHEAD * arriving + 10000
        if 0 < e.ceiling_bps < most and now - e.ceiling_at < CEILING_US:
            most = e.ceiling_bps if e.ceiling_bps > arriving else arriving
        if e.trial_bps == 0 and queue_free(e) and (e.delay.use != LINE_UNDER or e.contended_since):
            rate_increase(&e.rate, arriving, most, e.round_trip + REACTION_US, now)
        else:
            e.rate.updated = now
    control_update(e, now)


# ---- without reports about packets

cdef void watch_reports(Estimator* e, int64_t now) noexcept nogil:
    """Whether reports about packets can be waited for."""
    cdef bint numbered = e.log.next > e.log.origin
    if e.last_report or e.first_sent == 0 or (numbered and now - e.first_sent < UNREPORTED_US):
        return
    if e.mode == BY_PACKETS:
        probing_cancel(e)
    if e.remb_bps > 0 and e.mode != BY_REMB:
        e.mode = BY_REMB
        e.cap_bps = MOST_BPS
    elif e.mode == BY_PACKETS:
        e.mode = BY_LOSS


cdef inline double told(const Estimator* e) noexcept nogil:
    """What the receiver has said, or what is tried all the same: it doesn't say much more than what it gets."""
    return e.remb_bps if e.remb_bps > e.try_bps else e.try_bps


cdef void control_remb(Estimator* e, double bps, int64_t now) noexcept nogil:
    e.remb_bps = bps if bps > 1 else 1.0
    e.remb_at = now
    watch_reports(e, now)


cdef void control_loss(Estimator* e, double share, int64_t now) noexcept nogil:
    watch_reports(e, now)
    if e.mode == BY_PACKETS:
        return
    e.lost_share += (share - e.lost_share) / 2
    if e.mode == BY_REMB and told(e) < e.cap_bps:
        e.cap_bps = told(e)
    if share > 0.1:
        e.cap_bps = clamped(e.cap_bps * (1 - share / 2))
    elif share < 0.02 and (e.wanted_bps < 0 or e.cap_bps < USEFUL_PERCENT / 100.0 * e.wanted_bps):
        e.cap_bps = clamped(1.3 * e.cap_bps)


cdef void watch_silence(Estimator* e, int64_t now) noexcept nogil:
    cdef int64_t limit = e.round_trip + 4 * e.interval
    if limit < SILENCE_US:
        limit = SILENCE_US
    if e.outage:
        # As a probe of one packet: what else is sent may be nothing.
        if e.prober.active == 0 and now >= e.prober.due:
            e.prober.lasting = PROBE_US
            probe_queue(&e.prober, KNOCK_BPS)
            probing_begin(e, now)
            e.prober.due = now + KNOCK_US
        e.prober.waiting = 0
        return
    if e.last_report == 0 or e.log.in_flight == 0 or now - e.waiting_since < limit:
        return
    e.outage = 1
    probing_cancel(e)
    e.prober.due = now


cdef void watch_quiet(Estimator* e, int64_t now) noexcept nogil:
    """Who has paused all that is reported on hears no more of the line: a queue has drained meanwhile, and whether fewer
    packets get lost at a lower rate is not found out by sending none."""
    if e.outage or e.log.in_flight or now - e.last_report <= e.delay.queue_us + QUIET_US:
        return
    if e.congested or e.delay.queue_us >= DRAINED_US:
        delay_drained(&e.delay)
        e.backlog_us = 0
        e.standing_since = 0
        e.congested = 0
    if e.trial_bps > 0:
        e.trial_bps = 0
        loss_restart(&e.loss, now)


cdef void control_update(Estimator* e, int64_t now) noexcept nogil:
    watch_silence(e, now)
    watch_quiet(e, now)
    if e.prober.active and e.prober.begun and now - e.prober.begun > PROBE_STALLED_US:
        probing_cancel(e)
        if not e.outage:
            probing_failed(e, now)
    if e.prober.waiting and now >= e.prober.waiting:
        probing_failed(e, now)
    probing_want(e, now)
    publish(e, now)


cdef double allowed(const Estimator* e, int64_t now) noexcept nogil:
    cdef double bps = e.rate.bps
    if e.mode == BY_LOSS:
        bps = e.cap_bps
    elif e.mode == BY_REMB:
        bps = told(e) if told(e) < e.cap_bps else e.cap_bps
    elif e.remb_bps > 0 and told(e) < bps and now - e.remb_at < REMB_US:
        bps = told(e)
    if e.outage:
        bps *= exp2(-<double>(now - e.waiting_since) / HALVED_US)
    if e.wanted_bps >= 0 and bps > 1.5 * e.wanted_bps + 100000:
        bps = 1.5 * e.wanted_bps + 100000
    return bps


cdef uint64_t window(const Estimator* e, double bps) noexcept nogil:
    """What may be in flight while a queue of ours drains: as much as the way holds, what a report may keep back, and a
    queue that is no longer than what pictures wait for in any case."""
    cdef int64_t way = shortest(&e.way)
    if e.resume_bps <= 0 or e.contended_since or e.outage or e.delay.queue_us < DRAINED_US:
        return 0
    if e.delay.queue_us > WINDOW_LONG_US:
        return WINDOW_LEAST     # sound stands in it too, which is not counted in flight: no more than to hear of its end
    return WINDOW_LEAST + <uint64_t>(bps * (way + e.interval + WINDOW_QUEUE_US + jitter(e)) / 8e6)


cdef inline bint is_seen(const Estimator* e, int64_t now) noexcept nogil:
    """The line's end, by a queue."""
    return e.rate.capacity > 0 and now - e.rate.decreased <= SEEN_US


cdef double pace(const Estimator* e, double bps, int64_t now) noexcept nogil:
    """Where a probe has lately seen the line's end, what waits leaves no faster than that: it would only wait there. What
    probes find on a line that jitters or loses packets is too little for this."""
    cdef double bounded = PACING * bps
    if 0 < e.ceiling_bps < bounded and now - e.ceiling_at < CEILING_US and jitter(e) == 0 and e.loss.share < PURE_LOST:
        bounded = e.ceiling_bps
    return bounded if bounded > PACING_CONGESTED * bps else PACING_CONGESTED * bps


cdef void publish(Estimator* e, int64_t now) noexcept nogil:
    cdef double bps = clamped(allowed(e, now))
    if e.outage:
        e.congested = 1
    e.target_bps = <uint64_t>bps
    e.window_bytes = window(e, bps)
    e.pacing_bps = <uint64_t>(bps * PACING_CONGESTED)
    e.wide = 0
    e.open = e.mode == BY_PACKETS and not e.congested and e.trial_bps == 0 and not is_seen(e, now) \
        and (e.ceiling_bps == 0 or now - e.ceiling_at > CEILING_US)
    if e.measured and not e.congested and not is_seen(e, now):
        e.pacing_bps = <uint64_t>pace(e, bps, now)
        e.wide = e.wanted_bps >= 0 and bps >= e.wanted_bps
