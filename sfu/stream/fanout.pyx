"""One packet to everybody who listens.

Leg after leg, not packet after packet: a leg's state is touched once per batch, and its packets lie side by side in
the outbox, where equal sizes make one UDP_SEGMENT message.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from mediaserver.sfu.policy.missing cimport missing_lowest
from mediaserver.sfu.stream.ahead cimport AHEAD_STEPS, AHEAD_TURNS, ahead_leg
from mediaserver.sfu.stream.buffers cimport PACKET_LARGE, PACKET_SMALL, packet_unref
from mediaserver.sfu.stream.floor cimport floor_admits, floor_tend
from mediaserver.sfu.stream.inbound cimport Inbound
from mediaserver.sfu.stream.keyframes cimport want_keyframe
from mediaserver.sfu.stream.outlet cimport outlets_give
from mediaserver.sfu.stream.sending cimport send_media
from mediaserver.sfu.stream.state cimport ALIVE_US, PENDING_MAX, Leg, Tap
from mediaserver.sfu.stream.tap cimport TapQueue, tap_awaits, tap_push

cdef enum:
    PADDING_MOST = 12        # bytes: what a run of equal packets is worth
    GATHER_LEGS = 4          # viewers from which on a picture's packets are waited for
    ALONE_MOST = 8           # waits in vain, after which only every so many-th packet
    ALONE_AGAIN = 32         # is waited with


cdef inline int is_alive(const Encoding* encoding, int64_t now) noexcept nogil:
    return encoding.active != NULL and now - encoding.active.last_arrival < ALIVE_US


cdef Encoding* best_encoding(Track* track, int64_t now) noexcept nogil:
    cdef int i
    for i in range(track.config.encoding_count - 1, -1, -1):
        if is_alive(&track.encodings[i], now):
            return &track.encodings[i]
    return &track.encodings[0]


cdef int takes_over(EngineState* engine, Tap* tap, const Packet* packet) noexcept nogil:
    """A recorder gets the best there is: it turns at a key picture, and down only when its own encoding is off."""
    if not packet.keyframe or packet.encoding >= tap.track.config.encoding_count:
        return 0
    if packet.encoding < tap.encoding and is_alive(&tap.track.encodings[tap.encoding], packet.arrival):
        return 0
    if not floor_admits(engine, tap, packet):
        return 0
    tap.encoding = packet.encoding
    tap.floors[tap.encoding].first = packet.sequence
    return 1


cdef inline int is_for(EngineState* engine, Tap* tap, const Packet* packet) noexcept nogil:
    if packet.encoding != tap.encoding:
        return takes_over(engine, tap, packet)
    return floor_admits(engine, tap, packet)


cdef int is_tapped(const Encoding* encoding) noexcept nogil:
    cdef Tap* tap = encoding.track.taps
    while tap != NULL:
        if tap.encoding == encoding.index:
            return 1
        tap = tap.next
    return 0


cdef void tell_taps(Encoding* encoding) noexcept nogil:
    cdef Inbound* source = encoding.active
    cdef uint64_t lowest = 0
    cdef Tap* tap = encoding.track.taps
    if source != NULL and source.asks and not encoding.track.muted:
        lowest = missing_lowest(&source.missing)
    while tap != NULL:
        if tap.encoding == encoding.index:
            tap_awaits(<TapQueue*>tap.ring, lowest)
        tap = tap.next


cdef void fanout_late(EngineState* engine, Track* track, Packet* packet) noexcept nogil:
    cdef Tap* tap = track.taps
    while tap != NULL:
        if tap.encoding == packet.encoding and floor_admits(engine, tap, packet):
            tap_push(<TapQueue*>tap.ring, &engine.pool, packet)
        tap = tap.next
    engine.counters.recovered_late += 1


cdef void fanout_tend(EngineState* engine, Track* track) noexcept nogil:
    cdef Encoding* best
    cdef Tap* tap = track.taps
    if tap == NULL:
        return
    best = best_encoding(track, engine.now)
    while tap != NULL:
        floor_tend(engine, tap)
        if tap.encoding != best.index:
            want_keyframe(engine, best)
        tap = tap.next


cdef inline void pad(Packet* packet, uint16_t size) noexcept nogil:
    cdef uint8_t* end = packet.data + packet.payload_offset + packet.payload_size
    cdef uint8_t more = <uint8_t>(size - packet.payload_size)
    if packet.settled or packet.payload_size == size:
        return
    if packet.payload_offset + size > (PACKET_LARGE if packet.large else PACKET_SMALL):
        return
    memset(end, 0, more)
    end[more - 1] = more
    packet.padding = more


cdef void equalise(Packet** packets, uint32_t count) noexcept nogil:
    """Pads packets that differ by a few bytes, as the fragments of a picture do, to the size of the longest: then they
    leave as one message to each viewer, which saves much more than these bytes cost. The last of a run may be shorter."""
    cdef uint32_t first = 0, end, i
    cdef uint16_t least, most, size
    while first < count:
        least = most = packets[first].payload_size
        end = first + 1
        while end < count:
            size = packets[end].payload_size
            if max(size, most) - min(size, least) > PADDING_MOST or least == 0:
                break
            most = max(size, most)
            least = min(size, least)
            end += 1
        for i in range(first, end if end < count else end - 1):
            pad(packets[i], most)
        first = end


cdef inline void look_ahead(const Track* track, uint32_t turn) noexcept nogil:
    """Each turn takes a step for each of the legs that come next."""
    cdef uint32_t step
    for step in range(AHEAD_STEPS):
        if turn >= step * AHEAD_TURNS and turn - step * AHEAD_TURNS < track.leg_count:
            ahead_leg(track.legs[turn - step * AHEAD_TURNS], step)


cdef void fanout_flush_track(EngineState* engine, Track* track) noexcept nogil:
    cdef uint32_t count = track.pending_count
    cdef uint32_t i, j, step
    cdef Leg* leg
    cdef Tap* tap = track.taps
    if count == 0:
        return
    # Before anybody has them: what other workers have too is not changed any more.
    if track.config.video and (track.leg_count or track.outlets != NULL):
        equalise(track.pending, count)
    if track.outlets != NULL:
        outlets_give(engine, track)
    while tap != NULL:
        for i in range(count):
            if is_for(engine, tap, track.pending[i]):
                tap_push(<TapQueue*>tap.ring, &engine.pool, track.pending[i])
        tell_taps(&track.encodings[tap.encoding])
        tap = tap.next
    for step in range(AHEAD_STEPS * AHEAD_TURNS):
        look_ahead(track, step)
    for j in range(track.leg_count):
        look_ahead(track, j + AHEAD_STEPS * AHEAD_TURNS)
        leg = track.legs[j]
        for i in range(count):
            send_media(engine, leg, track.pending[i])
    for i in range(count):
        packet_unref(&engine.pool, track.pending[i])
    track.pending_count = 0
    track.gathered = 0


cdef void fanout_add(EngineState* engine, Track* track, Packet* packet) noexcept nogil:
    if not track.pending_listed:
        track.pending_listed = 1
        track.pending_next = engine.pending
        engine.pending = track
    if track.pending_count == PENDING_MAX:
        fanout_flush_track(engine, track)
    track.pending[track.pending_count] = packet
    track.pending_count += 1


cdef inline int gathers(Track* track) noexcept nogil:
    cdef uint32_t count = track.pending_count
    if not track.config.video or track.leg_count < GATHER_LEGS or count == 0 or count > PENDING_MAX // 2:
        return 0
    if track.pending[count - 1].marker:
        return 0
    if track.gathered == count:
        track.gathered = 0
        track.alone += 1
        return 0
    if track.gathered:
        track.alone = 0
    elif track.alone >= ALONE_MOST:
        # Its publisher lets its packets go one by one; now and then it is tried again.
        track.alone += 1
        if track.alone % ALONE_AGAIN:
            return 0
    track.gathered = count
    return 1


cdef int fanout_gathers(EngineState* engine) noexcept nogil:
    cdef Track* track = engine.pending
    cdef int found = 0
    while track != NULL:
        found |= gathers(track)
        track = track.pending_next
    return found


cdef void fanout_flush(EngineState* engine) noexcept nogil:
    cdef Track* track = engine.pending
    engine.pending = NULL
    while track != NULL:
        fanout_flush_track(engine, track)
        track.pending_listed = 0
        track = track.pending_next
