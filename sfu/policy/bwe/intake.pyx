"""Feedback messages, turned into what has become of each packet.

A message may come late, twice, out of order, or never, and may say anything at all. Each packet counts once as arrived; one that
was reported lost may still arrive. Messages that speak of packets which are not in the log say nothing about these.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from mediaserver.sfu.policy.bwe.delay cimport delay_above, delay_forget, delay_packet, delay_restart
from mediaserver.sfu.policy.bwe.meter cimport meter_add, meter_reset
from mediaserver.sfu.policy.bwe.probe cimport probe_arrived
from mediaserver.sfu.policy.bwe.sentlog cimport (
    SENT_ARRIVED, SENT_IN_FLIGHT, SENT_LOST, SENT_MOST, SentPacket, sentlog_passed, sentlog_stream,
)
from mediaserver.sfu.wire.congestion_feedback cimport CcfbBlock, ccfb_metric, ccfb_next, ccfb_time
from mediaserver.sfu.wire.rtcp cimport (
    RTCP_REFERENCE_US, RTCP_TICK_US, RtcpArrival, RtcpItem, RtcpTransport, rtcp_transport,
)

cdef enum:
    REPORT_MOST = 4096           # packets that one message may speak of: twice what the log holds
    FAR_JUMP_US = 60000000       # further than that the far clock has been set anew
    FAR_BACK_US = 2000000

cdef int64_t FAR_ORIGIN_US = 1000000000000      # what the far clock, unwrapped, starts from: 12 days above 0
cdef int64_t FAR_MOST_US = 1000000000000000

cdef void open_report(Estimator* e) noexcept nogil:
    memset(&e.report, 0, sizeof(e.report))


cdef void packet_arrived(Estimator* e, uint64_t number, int64_t arrival, int64_t now) noexcept nogil:
    """`arrival`: on the far clock, unwrapped; 0: not known."""
    cdef SentPacket* packet = &e.log.packets[number & e.log.mask]
    cdef int64_t sent = now - <uint32_t>(<uint32_t>now - packet.time)
    if packet.state & SENT_ARRIVED:
        return
    if packet.state & SENT_IN_FLIGHT:
        e.log.in_flight -= packet.size
    if packet.state & SENT_LOST:
        e.report.taken_back += packet.cluster == 0 and sent >= e.loss.ignore_before
    else:
        e.report.arrived += 1
        # What a probe loses says what the probe was for, nothing of the rate beside it.
        e.report.counted += packet.cluster == 0 and sent >= e.loss.ignore_before
    packet.state = (packet.state & ~(SENT_IN_FLIGHT | SENT_LOST)) | SENT_ARRIVED
    if number > e.report.newest:
        e.report.newest = number
        e.report.newest_sent = sent
    if arrival:
        meter_add(&e.acked, arrival, packet.size)
        delay_packet(&e.delay, sent, arrival, packet.size)
        if packet.cluster:
            probe_arrived(
                &e.prober, packet.cluster, sent, arrival, delay_above(&e.delay, arrival - sent), packet.size
            )


cdef void packet_lost(Estimator* e, uint64_t number, int64_t now) noexcept nogil:
    cdef SentPacket* packet = &e.log.packets[number & e.log.mask]
    if packet.state & (SENT_ARRIVED | SENT_LOST):
        return
    if packet.state & SENT_IN_FLIGHT:
        e.log.in_flight -= packet.size
    packet.state = (packet.state & ~SENT_IN_FLIGHT) | SENT_LOST
    e.report.lost += 1
    if packet.cluster == 0 and now - <uint32_t>(<uint32_t>now - packet.time) >= e.loss.ignore_before:
        e.report.counted += 1
        e.report.counted_lost += 1
        e.report.runs += number != e.report.last_lost + 1
        e.report.last_lost = number


cdef int close_report(Estimator* e, int64_t now) noexcept nogil:
    if e.report.arrived == 0:
        return 0
    # Messages come in the order of the packets: what this one passes over is told by one that is lost, or late.
    sentlog_passed(&e.log, e.report.newest)
    e.waiting_since = now
    return 1


cdef void far_restart(Estimator* e) noexcept nogil:
    """The far clock was set, or the message is not from there: nothing before compares with it."""
    e.far = FAR_ORIGIN_US
    meter_reset(&e.acked)
    delay_restart(&e.delay)
    delay_forget(&e.delay)


cdef void far_clock(Estimator* e, int64_t step) noexcept nogil:
    """Moves e.far by `step` µs, the wire's difference to the last reference time."""
    if not -FAR_JUMP_US < step < FAR_JUMP_US:
        far_restart(e)
        return
    e.far += step
    # Anything between two jumps is bounded, so that a clock that is turned on and on comes back as well.
    if e.far < FAR_ORIGIN_US // 2 or e.far > FAR_MOST_US or e.far + FAR_BACK_US < e.acked.last:
        far_restart(e)


cdef int intake_transport(Estimator* e, const RtcpItem* item, int64_t now) noexcept nogil:
    cdef RtcpArrival arrivals[REPORT_MOST]
    cdef RtcpTransport transport
    cdef int count = rtcp_transport(item, &transport, arrivals, REPORT_MOST)
    cdef int i
    cdef uint64_t number
    cdef int32_t ahead
    cdef int64_t arrival
    if count <= 0:
        return 0
    # The newest number with these 16 bits that was given.
    number = e.log.next - 1 - <uint16_t>(<uint16_t>(e.log.next - 1) - transport.base)
    if number + count <= e.log.first or number >= e.log.next:
        return 0
    if e.reference_known != 1:
        e.reference_known = 1
        far_restart(e)
    else:
        ahead = <int32_t>(<uint32_t>(transport.reference - e.reference) << 8) >> 8  # modulo 2^24
        far_clock(e, <int64_t>ahead * RTCP_REFERENCE_US)
    e.reference = transport.reference
    arrival = e.far
    open_report(e)
    for i in range(count):
        if arrivals[i].received:
            arrival += <int64_t>arrivals[i].delta * RTCP_TICK_US
        if e.log.first <= number < e.log.next:
            if arrivals[i].received:
                packet_arrived(e, number, arrival if arrival > 0 else 0, now)
            else:
                packet_lost(e, number, now)
        number += 1
    return close_report(e, now)


cdef enum:
    UNTOLD = 0                   # of a packet in the window that a message of RFC 8888 speaks of; above: its arrival
    TOLD_LOST = -1
    TOLD_UNTIMED = -2


cdef void read_block(const Estimator* e, const CcfbBlock* block, int64_t* told, uint32_t* steps) noexcept nogil:
    """Walks the stream's packets from its newest back to the first that the block tells of, into `told`.

    A message's walks together take no more than `steps`.
    """
    cdef int64_t number = sentlog_stream(&e.log, block.ssrc)
    cdef int64_t arrival
    cdef uint16_t back, index
    cdef int32_t age = 0
    cdef uint8_t ecn = 0
    while number >= <int64_t>e.log.first and steps[0]:
        steps[0] -= 1
        index = <uint16_t>(e.log.names[number & <int64_t>e.log.mask].sequence - block.first)
        if index < block.count:
            arrival = TOLD_LOST
            if ccfb_metric(block, index, &age, &ecn):
                arrival = e.far - <int64_t>age * 1000000 // 1024 if age >= 0 else TOLD_UNTIMED
            told[number & <int64_t>e.log.mask] = arrival
        elif index >= 0x8000:
            return              # older than the block
        back = e.log.names[number & <int64_t>e.log.mask].back
        if back == 0:
            return
        number -= back


cdef int intake_ccfb(Estimator* e, const RtcpItem* item, int64_t now) noexcept nogil:
    cdef int64_t told[SENT_MOST]
    cdef CcfbBlock block
    cdef size_t offset = 0
    cdef uint32_t time = ccfb_time(item)
    cdef uint32_t steps = REPORT_MOST
    cdef uint64_t number
    if e.log.names == NULL or ccfb_next(item, &offset, &block) != 1:
        return 0
    if e.reference_known != 2:
        e.reference_known = 2
        far_restart(e)
    else:
        far_clock(e, <int64_t><int32_t>(time - <uint32_t>e.reference) * 1000000 // 65536)
    e.reference = <int32_t>time
    memset(told, 0, (e.log.mask + 1) * sizeof(int64_t))
    read_block(e, &block, told, &steps)
    while ccfb_next(item, &offset, &block) == 1:
        read_block(e, &block, told, &steps)
    open_report(e)
    # In the order of sending, which the blocks, one for each stream, have not.
    for number in range(e.log.first, e.log.next):
        if told[number & e.log.mask] == TOLD_LOST:
            packet_lost(e, number, now)
        elif told[number & e.log.mask] != UNTOLD:
            packet_arrived(e, number, told[number & e.log.mask] if told[number & e.log.mask] > 0 else 0, now)
    return close_report(e, now)
