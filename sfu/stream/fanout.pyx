"""One packet to everybody who listens.

Leg after leg, not packet after packet: a leg's state is touched once per batch, and its packets lie side by side in
the outbox, where equal sizes make one UDP_SEGMENT message.
"""

from libc.stdint cimport uint32_t

from mediaserver.sfu.stream.buffers cimport packet_unref
from mediaserver.sfu.stream.leg cimport leg_forward
from mediaserver.sfu.stream.state cimport PENDING_MAX, Leg, Tap
from mediaserver.sfu.stream.tap cimport TapQueue, tap_push


cdef void fanout_flush_track(EngineState* engine, Track* track) noexcept nogil:
    cdef uint32_t count = track.pending_count
    cdef uint32_t i, j
    cdef Leg* leg
    cdef Tap* tap = track.taps
    while tap != NULL:
        for i in range(count):
            tap_push(<TapQueue*>tap.ring, &engine.pool, track.pending[i])
        tap = tap.next
    for j in range(track.leg_count):
        leg = track.legs[j]
        for i in range(count):
            leg_forward(engine, leg, track.pending[i])
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
