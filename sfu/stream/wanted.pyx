"""Which simulcast encodings of a track somebody has a use for: the publisher need not make the others.

What a leg is given now is needed, and what is above that as far as its viewer wishes and its line would carry it: by the
rates that were measured when it last came, for what is off shows none. A recorder needs the best there is.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from mediaserver.sfu.policy.allocator cimport ALLOC_PAUSED_LINE
from mediaserver.sfu.stream.meter cimport METER_LAYERS, meter_bps
from mediaserver.sfu.stream.outlet cimport outlets_need
from mediaserver.sfu.stream.report cimport REPORT_LAYERS_WANTED, report
from mediaserver.sfu.stream.sending cimport sender_limits
from mediaserver.sfu.stream.state cimport ALIVE_US, Encoding, Leg, Sender, Tap

cdef enum:
    UNNEEDED_US = 3000000    # before it is told: viewers come and go, and an encoder that starts begins at a low rate
    MARGIN = 4               # a fourth more than it took, so that it is not taken off again at once


cdef inline int is_on(const Encoding* encoding, int64_t now) noexcept nogil:
    return encoding.active != NULL and now - encoding.active.last_arrival < ALIVE_US


cdef inline uint32_t rate_of(const Encoding* encoding) noexcept nogil:
    """What it takes, or took; 0: never measured."""
    return meter_bps(&encoding.meter, METER_LAYERS - 1, METER_LAYERS - 1)


cdef int best_for(const Leg* leg) noexcept nogil:
    """The highest encoding that the viewer would have on the widest line."""
    cdef const Track* track = leg.track
    cdef uint32_t height
    cdef int i
    for i in range(track.config.encoding_count):
        height = track.encodings[i].height
        if i and leg.config.worth.max_height and height > leg.config.worth.max_height:
            return i - 1
        if leg.config.worth.desired_height and height >= leg.config.worth.desired_height:
            return i
    return track.config.encoding_count - 1


cdef int given(const Leg* leg) noexcept nogil:
    """The encoding that the line was last shared out for, -1: none is known."""
    return leg.given if leg.share.decided else -1


cdef int is_carried(const EngineState* engine, const Leg* leg, int encoding) noexcept nogil:
    """The leg's line would carry that one instead of what it is given."""
    cdef const Sender* sender = leg.peer.sender
    cdef uint64_t rate = rate_of(&leg.track.encodings[encoding])
    cdef uint64_t estimate, others
    if not sender_limits(engine, sender) or rate == 0:
        return 1
    estimate = sender.estimator.target_bps
    others = sender.allocated_bps - leg.share.cost_bps if sender.allocated_bps > leg.share.cost_bps else 0
    return others + rate + rate // MARGIN <= estimate


cdef uint32_t needed_by(const EngineState* engine, const Leg* leg) noexcept nogil:
    cdef int best = best_for(leg)
    cdef int now = given(leg)
    cdef uint32_t needed = 0
    cdef int i
    if leg.config.paused:
        return 0
    if leg.gate != NULL and leg.gate.open and leg.gate.encoding >= 0:
        needed |= <uint32_t>1 << leg.gate.encoding  # that it still shows
    if leg.held and leg.share.reason == ALLOC_PAUSED_LINE:
        return needed | 1
    if now < 0:
        return needed | ((<uint32_t>1 << (best + 1)) - 1)  # whatever comes
    needed |= <uint32_t>1 << now
    for i in range(now + 1, best + 1):
        if is_carried(engine, leg, i):
            needed |= <uint32_t>1 << i
    return needed


cdef uint32_t needed_of(const EngineState* engine, const Track* track) noexcept nogil:
    cdef uint32_t needed = <uint32_t>outlets_need(track)
    cdef const Tap* tap = track.taps
    cdef uint32_t i
    while tap != NULL:
        needed |= (<uint32_t>1 << tap.encoding) | (<uint32_t>1 << (track.config.encoding_count - 1))
        tap = tap.next
    for i in range(track.leg_count):
        needed |= needed_by(engine, track.legs[i])
    return needed


cdef void tend_wanted(EngineState* engine, Track* track) noexcept nogil:
    cdef uint32_t all_of = (<uint32_t>1 << track.config.encoding_count) - 1
    cdef uint32_t needed, wanted = 0
    cdef int i
    if track.config.encoding_count == 1:
        return
    if track.wanted_of != track.config.encoding_count:
        track.wanted_of = track.config.encoding_count
        track.wanted = <uint8_t>all_of  # as a publisher begins
        for i in range(track.config.encoding_count):
            track.needed_at[i] = engine.now
    needed = all_of if track.muted else needed_of(engine, track)
    for i in range(track.config.encoding_count):
        if (needed >> i) & 1:
            track.needed_at[i] = engine.now
        if engine.now - track.needed_at[i] < UNNEEDED_US and ((needed | track.wanted) >> i) & 1:
            wanted |= <uint32_t>1 << i
    if wanted != track.wanted:
        track.wanted = <uint8_t>wanted
        report(engine, REPORT_LAYERS_WANTED, track.id, wanted, NULL, 0)


cdef uint64_t unsent_bps(const EngineState* engine, const Peer* peer) noexcept nogil:
    cdef const Leg* leg
    cdef const Encoding* encoding
    cdef uint64_t more = 0
    cdef uint64_t rate
    cdef uint32_t i
    for i in range(peer.leg_count):
        leg = peer.legs[i]
        if leg.track.config.encoding_count == 1 or leg.config.paused or leg.track.muted:
            continue
        encoding = &leg.track.encodings[best_for(leg)]
        rate = rate_of(encoding)
        rate += rate // MARGIN
        if rate > leg.share.best_bps and not is_on(encoding, engine.now):
            more += rate - leg.share.best_bps
    return more
