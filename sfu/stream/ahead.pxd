"""Cache lines that are needed in a moment, asked for all at once: a viewer's state is not in the cache when its turn
comes, and one pointer after the other would be waited for."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from mediaserver.sfu.stream.state cimport Leg, Peer, Sender

cdef extern from *:
    void prefetch "__builtin_prefetch" (const void*) noexcept nogil

cdef enum:
    LINE = 64
    AHEAD_STEPS = 3          # of ahead_leg, each needs what the one before it has asked for

cdef inline void ahead_bytes(const void* data, size_t size) noexcept nogil:
    cdef const uint8_t* line = <const uint8_t*>data
    cdef const uint8_t* end = line + size
    while line < end:
        prefetch(line)
        line += LINE

cdef inline void ahead_leg(const Leg* leg, int step, uint8_t payload_type) noexcept nogil:
    """What forwarding a packet touches."""
    cdef const Peer* peer
    cdef const Sender* sender
    if step == 0:
        prefetch(&leg.peer)
        prefetch(&leg.config.ssrc)
        prefetch(&leg.config.payload_at[payload_type & 127])
        prefetch(&leg.config.payloads[0])
        prefetch(&leg.config.stamp)
        prefetch(&leg.config.fixed_ext_size)
        prefetch(&leg.gate)
        prefetch(&leg.renumber.segments)
        prefetch(&leg.renumber.count)
        prefetch(&leg.renumber.started)
        prefetch(&leg.packets)
        return
    peer = leg.peer
    if step == 1:
        prefetch(&peer.addr)
        prefetch(&peer.addr.port)
        prefetch(&peer.tx)
        prefetch(&peer.sender)
        prefetch(&leg.stats.packets)
        if leg.renumber.segments != NULL:
            prefetch(&leg.renumber.segments[leg.renumber.newest])
        if leg.gate != NULL:
            ahead_bytes(leg.gate, 2 * LINE)
        return
    sender = peer.sender
    if peer.tx != NULL:
        prefetch(&peer.tx.rtp)
    if sender != NULL:
        prefetch(&sender.estimator.window_bytes)
        prefetch(&sender.estimator.log.in_flight)
        prefetch(&sender.estimator.prober.active)
        ahead_bytes(&sender.estimator.sent, sizeof(sender.estimator.sent))
        prefetch(&sender.estimator.first_sent)
        prefetch(&sender.numbered)
        prefetch(&sender.credit)
        prefetch(&sender.waiting_count)

cdef inline void ahead_feedback(const Peer* peer) noexcept nogil:
    """What a viewer's feedback touches: nearly all that is known of its line."""
    prefetch(&peer.round_trip)
    prefetch(&peer.hot_due)
    if peer.sender != NULL:
        ahead_bytes(peer.sender, sizeof(Sender))
