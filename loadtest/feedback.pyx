"""Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01), at the pace at which libwebrtc gives it.

That is every 50 to 250 ms, so that feedback takes 5 % of what comes at most: 50 ms from about 250 kbit/s on. A packet
that comes after the feedback that called it lost is told by the next, which then begins with it.
"""

from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint64_t

from mediaserver.loadtest.sender cimport send_protected_rtcp
from mediaserver.loadtest.state cimport ARRIVALS
from mediaserver.sfu.wire.rtcp cimport RTCP_LOST, rtcp_write_transport
from mediaserver.sfu.wire.srtp cimport SRTCP_MAX_OVERHEAD

cdef enum:
    CAPACITY = 1200
    HEADERS = 28             # of IPv4 and UDP
    SHARE = 20               # one part in so many of what comes

cdef int64_t LEAST_INTERVAL = 50 * 1000000
cdef int64_t MOST_INTERVAL = 250 * 1000000


cdef void note_arrival(Peer* peer, uint16_t sequence, size_t size, int64_t arrived) noexcept nogil:
    cdef uint64_t number
    peer.numbered_octets += size + HEADERS
    if not peer.feedback_started:
        peer.feedback_started = 1
        # Far from zero, so that an older number does not wrap.
        peer.feedback_base = 65536 + sequence
        peer.feedback_highest = peer.feedback_base - 1
        for number in range(ARRIVALS):
            peer.arrivals[number] = RTCP_LOST
        peer.last_feedback = arrived
        peer.next_feedback = arrived + LEAST_INTERVAL
    number = peer.feedback_highest + <int64_t><int16_t>(sequence - <uint16_t>peer.feedback_highest)
    if number + ARRIVALS <= peer.feedback_highest:
        return
    if number < peer.feedback_base:
        if peer.arrivals[number & (ARRIVALS - 1)] != RTCP_LOST:
            return
        peer.feedback_base = number
    elif number - peer.feedback_base >= ARRIVALS:
        # More than is kept: begin anew, the sender takes the rest for lost.
        peer.feedback_base = number
        peer.feedback_highest = number - 1
    while peer.feedback_highest < number:
        peer.feedback_highest += 1
        peer.arrivals[peer.feedback_highest & (ARRIVALS - 1)] = RTCP_LOST
    if peer.arrivals[number & (ARRIVALS - 1)] == RTCP_LOST:
        peer.arrivals[number & (ARRIVALS - 1)] = arrived // 1000


cdef int64_t interval(const Peer* peer, uint64_t octets, int64_t now) noexcept nogil:
    """Until the next feedback, if it is as large as the last and packets come as fast as since the one before."""
    cdef double rate = <double>peer.numbered_octets / <double>(now - peer.last_feedback + 1)
    cdef double wanted = octets * SHARE / rate
    return LEAST_INTERVAL if wanted < LEAST_INTERVAL else MOST_INTERVAL if wanted > MOST_INTERVAL else <int64_t>wanted


cdef void send_feedback(Peer* peer, int64_t now, Totals* totals) noexcept nogil:
    cdef uint8_t out[CAPACITY + SRTCP_MAX_OVERHEAD]
    cdef int64_t arrivals[ARRIVALS]
    cdef size_t count, position, consumed = 0
    cdef uint64_t octets = 0
    cdef int size
    while peer.feedback_highest >= peer.feedback_base:
        count = <size_t>(peer.feedback_highest - peer.feedback_base + 1)
        for position in range(count):
            arrivals[position] = peer.arrivals[(peer.feedback_base + position) & (ARRIVALS - 1)]
        size = rtcp_write_transport(out, CAPACITY, peer.ssrc, peer.ins[0].ssrc, peer.feedback_count,
                                    <uint16_t>peer.feedback_base, arrivals, count, &consumed)
        if consumed == 0:
            peer.feedback_base = peer.feedback_highest + 1
            break
        peer.feedback_base += consumed
        if size > 0:
            peer.feedback_count += 1
            octets += size + SRTCP_MAX_OVERHEAD + HEADERS
            totals.feedbacks += 1
            send_protected_rtcp(peer, out, size, sizeof(out), totals)
    if octets:
        totals.feedback_octets += octets
        peer.next_feedback = now + interval(peer, octets, now)
        peer.last_feedback = now
        peer.numbered_octets = 0
