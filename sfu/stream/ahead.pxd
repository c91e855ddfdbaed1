"""Cache lines that are needed in a moment, asked for all at once: a viewer's state is not in the cache when its turn
comes, and one pointer after the other would be waited for."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from mediaserver.sfu.policy.bwe.sentlog cimport sentlog_ahead
from mediaserver.sfu.stream.state cimport Leg, Peer, Sender
from mediaserver.sfu.wire.gcm cimport gcm_ahead
from mediaserver.sfu.wire.lines cimport LINE, ahead_bytes, prefetch
from mediaserver.sfu.wire.packet cimport EXT_TWCC

cdef enum:
    AHEAD_STEPS = 4          # of ahead_leg, each needs what the one before it has asked for
    AHEAD_TURNS = 2          # legs that are served meanwhile: what comes from the memory takes as long

cdef inline int is_told_of(const Leg* leg) noexcept nogil:
    """When its packets came: then the estimator keeps account of them."""
    return leg.config.stamp == EXT_TWCC or leg.config.named

cdef inline void ahead_leg(const Leg* leg, int step) noexcept nogil:
    """What forwarding a packet touches."""
    cdef const Peer* peer
    cdef const Sender* sender
    if step == 0:
        # All up to what is told of extensions.
        ahead_bytes(leg, <const uint8_t*>&leg.config.playout_delay[0] - <const uint8_t*>leg)
        return
    peer = leg.peer
    if step == 1:
        prefetch(peer)
        prefetch(&leg.stats.packets)
        if leg.gate != NULL:
            ahead_bytes(leg.gate, 2 * LINE)
        return
    sender = peer.sender
    if step == 2:
        if peer.tx != NULL:
            prefetch(&peer.tx.rtp)
        if sender != NULL and is_told_of(leg):
            ahead_bytes(&sender.numbered, <const uint8_t*>(&sender.estimator.sent + 1) - &sender.numbered)
        elif sender != NULL:
            prefetch(&sender.numbered)
        return
    if peer.tx != NULL:
        gcm_ahead(peer.tx.rtp.gcm)
    if sender != NULL and is_told_of(leg):
        sentlog_ahead(&sender.estimator.log)

cdef inline void ahead_peer(const Peer* peer) noexcept nogil:
    """What any datagram from it touches."""
    ahead_bytes(peer, <const uint8_t*>&peer.known[1] - <const uint8_t*>peer)

cdef inline void ahead_feedback(const Peer* peer) noexcept nogil:
    """What a viewer's feedback touches: nearly all that is known of its line."""
    cdef const Sender* sender = peer.sender
    if peer.rx != NULL:
        prefetch(&peer.rx.rtcp)
        prefetch(&peer.rx.sources)
    if sender != NULL:
        ahead_bytes(sender, <const uint8_t*>&sender.estimator.prober.clusters[0] - <const uint8_t*>sender)
