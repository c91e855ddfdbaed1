"""One packet to everybody who listens.

Leg after leg, not packet after packet: a leg's state is touched once per batch, and its packets lie side by side in
the outbox, where equal sizes make one UDP_SEGMENT message.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from mediaserver.sfu.policy.missing cimport missing_lowest
from mediaserver.sfu.stream.buffers cimport packet_unref
from mediaserver.sfu.stream.inbound cimport Inbound
from mediaserver.sfu.stream.keyframes cimport want_keyframe
from mediaserver.sfu.stream.outlet cimport outlets_give
from mediaserver.sfu.stream.sending cimport send_media
from mediaserver.sfu.stream.state cimport ALIVE_US, PENDING_MAX, Leg, Tap
from mediaserver.sfu.stream.tap cimport TapQueue, tap_awaits, tap_push


cdef inline int is_alive(const Encoding* encoding, int64_t now) noexcept nogil:
    return encoding.active != NULL and now - encoding.active.last_arrival < ALIVE_US


cdef Encoding* best_encoding(Track* track, int64_t now) noexcept nogil:
    cdef int i
    for i in range(track.config.encoding_count - 1, -1, -1):
        if is_alive(&track.encodings[i], now):
            return &track.encodings[i]
    return &track.encodings[0]


cdef int takes_over(Tap* tap, const Packet* packet) noexcept nogil:
    """A recorder gets the best there is: it turns at a key picture, and down only when its own encoding is off."""
    if not packet.keyframe or packet.encoding >= tap.track.config.encoding_count:
        return 0
    if packet.encoding < tap.encoding and is_alive(&tap.track.encodings[tap.encoding], packet.arrival):
        return 0
    tap.encoding = packet.encoding
    tap.first = packet.sequence
    return 1


cdef inline int is_for(Tap* tap, const Packet* packet) noexcept nogil:
    if packet.encoding != tap.encoding:
        return takes_over(tap, packet)
    return packet.sequence >= tap.first


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
        if tap.encoding == packet.encoding and packet.sequence >= tap.first:
            tap_push(<TapQueue*>tap.ring, &engine.pool, packet)
        tap = tap.next
    engine.counters.recovered_late += 1


cdef void fanout_tend(EngineState* engine, Track* track) noexcept nogil:
    cdef Encoding* best
    cdef Tap* tap = track.taps
    if track.config.encoding_count == 1 or tap == NULL:
        return
    best = best_encoding(track, engine.now)
    while tap != NULL:
        if tap.encoding != best.index:
            want_keyframe(engine, best)
        tap = tap.next


cdef void fanout_flush_track(EngineState* engine, Track* track) noexcept nogil:
    cdef uint32_t count = track.pending_count
    cdef uint32_t i, j
    cdef Leg* leg
    cdef Tap* tap = track.taps
    if track.outlets != NULL:
        outlets_give(engine, track)
    while tap != NULL:
        for i in range(count):
            if is_for(tap, track.pending[i]):
                tap_push(<TapQueue*>tap.ring, &engine.pool, track.pending[i])
        tell_taps(&track.encodings[tap.encoding])
        tap = tap.next
    for j in range(track.leg_count):
        leg = track.legs[j]
        for i in range(count):
            send_media(engine, leg, track.pending[i])
    for i in range(count):
        packet_unref(&engine.pool, track.pending[i])
    track.pending_count = 0


cdef void fanout_add(EngineState* engine, Track* track, Packet* packet) noexcept nogil:
    if not track.pending_listed:
        track.pending_listed = 1
        track.pending_next = engine.pending
        engine.pending = track
    if track.pending_count == PENDING_MAX:
        fanout_flush_track(engine, track)
    track.pending[track.pending_count] = packet
    track.pending_count += 1


cdef void fanout_flush(EngineState* engine) noexcept nogil:
    cdef Track* track = engine.pending
    engine.pending = NULL
    while track != NULL:
        fanout_flush_track(engine, track)
        track.pending_listed = 0
        track = track.pending_next
