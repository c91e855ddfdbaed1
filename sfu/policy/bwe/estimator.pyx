"""How much a viewer's line carries: the estimator of one transport, sending side."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from mediaserver.sfu.policy.bwe.aimd cimport rate_decrease, rate_increase, rate_init
from mediaserver.sfu.policy.bwe.delay cimport LINE_OVER, LINE_UNDER, delay_init, delay_packet, delay_report
from mediaserver.sfu.policy.bwe.meter cimport meter_add, meter_rate, meter_reset
from mediaserver.sfu.policy.bwe.probe cimport (
    probe_arrived, probe_begin, probe_cancel, probe_init, probe_queue, probe_result, probe_sent,
)
from mediaserver.sfu.policy.bwe.sentlog cimport (
    SENT_ARRIVED, SENT_IN_FLIGHT, SENT_LOST, SentPacket, sentlog_add, sentlog_clear, sentlog_close, sentlog_init,
    sentlog_name, sentlog_passed,
)
from mediaserver.sfu.wire.rtcp cimport (
    RTCP_REFERENCE_US, RTCP_TICK_US, RtcpArrival, RtcpItem, RtcpTransport, rtcp_transport,
)

cdef enum:
    REPORT_MOST = 4096           # packets that one message may speak of
    FAR_ORIGIN = 1 << 24         # in 64 ms: what an unwrapped reference time starts from
    PROBE_US = 20000             # how long a probe lasts
    PROBE_WAIT_US = 1000000
    TICK_US = 100000

cdef double START_BPS = 500000.0
cdef double LEAST_BPS = 50000.0
cdef double MOST_BPS = 200e6
cdef double BETA = 0.85
cdef double PACING = 1.5


cdef double clamped(double bps) noexcept nogil:
    if not bps > LEAST_BPS:     # nor is a NaN
        return LEAST_BPS
    return bps if bps < MOST_BPS else MOST_BPS


cdef int estimator_init(Estimator* e, int64_t now) noexcept nogil:
    memset(e, 0, sizeof(Estimator))
    if sentlog_init(&e.log) < 0:
        return -1
    delay_init(&e.delay)
    rate_init(&e.rate, START_BPS, now)
    probe_init(&e.prober, now)
    meter_reset(&e.sent)
    meter_reset(&e.acked)
    e.wanted_bps = -1
    e.far = FAR_ORIGIN
    probe_queue(&e.prober, 3 * START_BPS)
    probe_queue(&e.prober, 6 * START_BPS)
    start_probe(e, now)
    publish(e, now)
    return 0


cdef void estimator_close(Estimator* e) noexcept nogil:
    sentlog_close(&e.log)


cdef void start_probe(Estimator* e, int64_t now) noexcept nogil:
    e.probe_bytes_left = 0
    e.probe_bps = <uint64_t>probe_begin(&e.prober, PROBE_US, &e.probe_bytes_left)
    if e.probe_bps == 0:
        e.prober.waiting = now + PROBE_WAIT_US


cdef void count_probe(Estimator* e, uint32_t size, int64_t now) noexcept nogil:
    probe_sent(&e.prober, size, now)
    if size < e.probe_bytes_left:
        e.probe_bytes_left -= size
    else:
        start_probe(e, now)


cdef uint16_t estimator_sent(Estimator* e, uint32_t size, int64_t now, int kind) noexcept nogil:
    cdef int cluster = e.prober.active
    e.last_sent = now
    meter_add(&e.sent, now, size)
    if cluster:
        count_probe(e, size, now)
    return sentlog_add(&e.log, size, now, kind, cluster)


cdef void estimator_name(Estimator* e, uint32_t ssrc, uint16_t sequence) noexcept nogil:
    sentlog_name(&e.log, ssrc, sequence)


cdef void estimator_untracked(Estimator* e, uint32_t size, int64_t now) noexcept nogil:
    e.last_sent = now
    meter_add(&e.sent, now, size)


# ---- reports

cdef void open_report(Estimator* e) noexcept nogil:
    e.arrived_packets = 0
    e.lost_packets = 0
    e.newest = 0


cdef void packet_arrived(Estimator* e, uint64_t number, int64_t arrival, int64_t now) noexcept nogil:
    """`arrival` is on the far clock, which is unwrapped and above 0."""
    cdef SentPacket* packet = &e.log.packets[number & e.log.mask]
    cdef int64_t sent
    if number - e.log.first >= e.log.next - e.log.first or packet.state & SENT_ARRIVED:
        return
    if packet.state & SENT_IN_FLIGHT:
        e.log.in_flight -= packet.size
    packet.state = (packet.state & ~(SENT_IN_FLIGHT | SENT_LOST)) | SENT_ARRIVED
    sent = now - <uint32_t>(<uint32_t>now - packet.time)
    e.arrived_packets += 1
    if number > e.newest:
        e.newest = number
        e.reported_sent = sent
    meter_add(&e.acked, arrival, packet.size)
    delay_packet(&e.delay, sent, arrival)
    if packet.cluster:
        probe_arrived(&e.prober, packet.cluster, sent, arrival, packet.size)


cdef void packet_lost(Estimator* e, uint64_t number) noexcept nogil:
    cdef SentPacket* packet = &e.log.packets[number & e.log.mask]
    if number - e.log.first >= e.log.next - e.log.first or packet.state & (SENT_ARRIVED | SENT_LOST):
        return
    if packet.state & SENT_IN_FLIGHT:
        e.log.in_flight -= packet.size
    packet.state = (packet.state & ~SENT_IN_FLIGHT) | SENT_LOST
    e.lost_packets += 1


cdef void close_report(Estimator* e, int64_t now) noexcept nogil:
    if e.arrived_packets == 0:
        return
    sentlog_passed(&e.log, e.newest)
    e.last_report = now
    e.last_round = now - e.reported_sent
    if e.round_trip == 0 or e.last_round < e.round_trip:
        e.round_trip = e.last_round
    delay_report(&e.delay, now)
    e.backlog_us = e.delay.queue_us
    control(e, now)
    publish(e, now)


cdef void control(Estimator* e, int64_t now) noexcept nogil:
    cdef double acked = meter_rate(&e.acked, 4, 0)
    cdef double most
    cdef double aimed
    cdef int saturated
    cdef double probed = probe_result(&e.prober, &saturated, &aimed)
    e.congested = e.delay.use == LINE_OVER and e.delay.queue_us > 10000
    if e.congested:
        if now - e.rate.decreased > e.round_trip + 100000:
            rate_decrease(&e.rate, acked, BETA, now)
            e.prober.due = now + 1000000
        return
    if probed > e.rate.bps:
        e.rate.bps = clamped(probed)
        if not saturated:
            e.prober.due = now
    elif e.delay.use != LINE_UNDER:
        most = 1.5 * meter_rate(&e.acked, 10, 0) + 10000
        rate_increase(&e.rate, acked, most if most > e.rate.bps else e.rate.bps, e.round_trip + 100000, now)
    more_probes(e, now)


cdef void more_probes(Estimator* e, int64_t now) noexcept nogil:
    cdef double bps = 2 * e.rate.bps, useful = 1.15 * e.wanted_bps
    if e.probe_bps or now < e.prober.due or (e.wanted_bps >= 0 and e.wanted_bps < 1.02 * e.rate.bps):
        return
    if e.wanted_bps >= 0 and bps > useful:
        bps = useful
    probe_queue(&e.prober, clamped(bps))
    start_probe(e, now)
    e.prober.due = now + 2000000


cdef int64_t unwrapped(Estimator* e, int32_t reference) noexcept nogil:
    """The reference time in µs on a line that goes on where 24 bits wrap."""
    cdef int32_t step
    if e.reference_known:
        step = (reference - e.reference) << 8 >> 8
        if e.far + step > 0:
            e.far += step
    e.reference_known = 1
    e.reference = reference
    return e.far * RTCP_REFERENCE_US


cdef void estimator_transport(Estimator* e, const RtcpItem* item, int64_t now) noexcept nogil:
    cdef RtcpArrival arrivals[REPORT_MOST]
    cdef RtcpTransport transport
    cdef int count = rtcp_transport(item, &transport, arrivals, REPORT_MOST)
    cdef int i
    cdef uint64_t number
    cdef int64_t arrival
    if count <= 0:
        return
    # The nearest to the newest that was sent: the wire has 16 bits of it.
    number = e.log.next - <uint16_t>(<uint16_t>e.log.next - transport.base)
    arrival = unwrapped(e, transport.reference)
    open_report(e)
    for i in range(count):
        if number >= e.log.next:
            break               # never sent
        if arrivals[i].received:
            arrival += <int64_t>arrivals[i].delta * RTCP_TICK_US
            if arrival > 0:
                packet_arrived(e, number, arrival, now)
        else:
            packet_lost(e, number)
        number += 1
    close_report(e, now)


cdef void estimator_ccfb(Estimator* e, const RtcpItem* item, int64_t now) noexcept nogil:
    pass


cdef void estimator_remb(Estimator* e, uint64_t bps, int64_t now) noexcept nogil:
    e.remb_bps = clamped(<double>bps)
    e.remb_at = now
    publish(e, now)


cdef void estimator_loss(Estimator* e, uint8_t fraction_lost, int64_t round_trip, int64_t now) noexcept nogil:
    e.lost_share = fraction_lost / 256.0
    if round_trip > 0:
        e.round_trip = round_trip


cdef void estimator_demand(Estimator* e, uint64_t sent_max_bps, uint64_t wanted_bps, int64_t now) noexcept nogil:
    e.used_bps = <double>sent_max_bps
    e.wanted_bps = <double>wanted_bps
    more_probes(e, now)
    publish(e, now)


cdef int64_t estimator_process(Estimator* e, int64_t now) noexcept nogil:
    if e.log.in_flight and now - e.last_sent > 10000000:
        sentlog_clear(&e.log)
    if e.probe_bps == 0:
        more_probes(e, now)
    publish(e, now)
    return now + TICK_US


cdef void publish(Estimator* e, int64_t now) noexcept nogil:
    cdef double bps = e.rate.bps
    if e.remb_bps > 0 and now - e.remb_at < 5000000 and e.remb_bps < bps:
        bps = e.remb_bps
    bps = clamped(bps)
    e.target_bps = <uint64_t>bps
    e.pacing_bps = <uint64_t>(PACING * bps)
