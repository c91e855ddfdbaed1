"""How much a viewer's line carries: the estimator of one transport, sending side."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from mediaserver.sfu.policy.bwe.control cimport (
    control_init, control_loss, control_moved, control_remb, control_report, control_update,
)
from mediaserver.sfu.policy.bwe.intake cimport intake_ccfb, intake_transport
from mediaserver.sfu.policy.bwe.meter cimport meter_add
from mediaserver.sfu.policy.bwe.probe cimport probe_beside
from mediaserver.sfu.policy.bwe.probing cimport probing_sent
from mediaserver.sfu.policy.bwe.sentlog cimport (
    SentLog, sentlog_add, sentlog_clear, sentlog_close, sentlog_init, sentlog_name, sentlog_shrink,
)
from mediaserver.sfu.wire.rtcp cimport RtcpItem

cdef enum:
    TICK_US = 100000             # while packets leave
    IDLE_TICK_US = 1000000
    IDLE_US = 10000000           # then nothing more is heard of what was sent


cdef int estimator_init(Estimator* e, int64_t now) noexcept nogil:
    memset(e, 0, sizeof(Estimator))
    if sentlog_init(&e.log) < 0:
        return -1
    control_init(e, now)
    return 0


cdef void estimator_restart(Estimator* e, int64_t now) noexcept nogil:
    cdef SentLog log
    sentlog_clear(&e.log)
    log = e.log
    log.origin = log.next
    memset(e, 0, sizeof(Estimator))
    e.log = log
    control_init(e, now)


cdef void estimator_close(Estimator* e) noexcept nogil:
    sentlog_close(&e.log)


cdef inline void count_sent(Estimator* e, uint32_t size, int64_t now) noexcept nogil:
    if e.first_sent == 0:
        e.first_sent = now
    e.last_sent = now
    meter_add(&e.sent, now, size)


cdef uint16_t estimator_sent(Estimator* e, uint32_t size, int64_t now, int kind) noexcept nogil:
    cdef int cluster = e.prober.active if e.probe_bps else 0
    count_sent(e, size, now)
    if e.log.in_flight == 0:
        e.waiting_since = now
    if cluster:
        probing_sent(e, size, now)
    return sentlog_add(&e.log, size, now, kind, cluster)


cdef void estimator_name(Estimator* e, uint32_t ssrc, uint16_t sequence) noexcept nogil:
    sentlog_name(&e.log, ssrc, sequence)


cdef void estimator_untracked(Estimator* e, uint32_t size, int64_t now) noexcept nogil:
    count_sent(e, size, now)
    meter_add(&e.untracked, now, size)
    if e.probe_bps:
        probe_beside(&e.prober, size)


cdef void estimator_transport(Estimator* e, const RtcpItem* item, int64_t now) noexcept nogil:
    if intake_transport(e, item, now):
        control_report(e, now)


cdef void estimator_ccfb(Estimator* e, const RtcpItem* item, int64_t now) noexcept nogil:
    if intake_ccfb(e, item, now):
        control_report(e, now)


cdef void estimator_remb(Estimator* e, uint64_t bps, int64_t now) noexcept nogil:
    control_remb(e, <double>bps, now)
    control_update(e, now)


cdef void estimator_try(Estimator* e, double bps, int64_t now) noexcept nogil:
    e.try_bps = bps
    if e.cap_bps < bps:
        e.cap_bps = bps
    control_update(e, now)


cdef void estimator_moved(Estimator* e, int64_t now) noexcept nogil:
    control_moved(e, now)


cdef void estimator_loss(Estimator* e, uint8_t fraction_lost, int64_t round_trip, int64_t now) noexcept nogil:
    if e.last_report == 0 and 0 < round_trip < 10000000:
        e.round_trip = round_trip
    control_loss(e, fraction_lost / 256.0, now)
    control_update(e, now)


cdef void estimator_demand(Estimator* e, uint64_t sent_max_bps, uint64_t wanted_bps, int64_t now) noexcept nogil:
    e.used_bps = <double>sent_max_bps
    e.wanted_bps = <double>wanted_bps
    control_update(e, now)


cdef int64_t estimator_process(Estimator* e, int64_t now) noexcept nogil:
    control_update(e, now)
    if now - e.last_sent > IDLE_US:
        sentlog_clear(&e.log)
        return now + IDLE_TICK_US
    sentlog_shrink(&e.log, now)
    return now + TICK_US
