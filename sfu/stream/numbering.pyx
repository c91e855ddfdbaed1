"""Whether what leaves to a viewer bears transport-wide numbers.

A browser reports on each packet that does: of sound two messages come for five packets, and what they cost is as much as
the sound itself. All that the estimate decides about sound is whether copies of it (RED) leave as well, for sound never waits and
is never left out. So a peer that is sent nothing but sound goes without numbers while its receiver reports tell of no
trouble. With its first picture they begin, as for a peer that has just come: nothing that is older is known of its line.
"""

from libc.stdint cimport int64_t, uint32_t

from mediaserver.sfu.policy.bwe.estimator cimport estimator_restart
from mediaserver.sfu.policy.round_trip cimport shortest, shortest_add
from mediaserver.sfu.stream.agenda cimport make_hot
from mediaserver.sfu.stream.leg cimport leg_number
from mediaserver.sfu.stream.state cimport Sender
from mediaserver.sfu.wire.packet cimport EXT_TWCC

cdef enum:
    PICTURE_GONE_US = 10000000   # often another follows
    CALM_US = 30000000           # after trouble: four reports at the least of who only listens (see below)
    # Browsers report each 2.5 to 7.5 s on sound, which are some 250 packets: 5 of these.
    LOST = 5                     # of 256: 2 %
    LONGER_US = 100000           # sound that waits for 150 ms begins to come too late
    WAY_US = 60000000            # the shortest round trip of these, and of those before: a dozen reports each


cdef int is_needed(const EngineState* engine, const Sender* sender) noexcept nogil:
    """The one place that decides. Feedback by RFC 8888 is given for all packets or none, and who complains by REMB is
    limited by that: these are as they are."""
    return sender.named or sender.capped or engine.now < sender.numbers_until


cdef void need_until(Sender* sender, int64_t until) noexcept nogil:
    if sender.numbers_until < until:
        sender.numbers_until = until


cdef int has_picture(const Peer* peer) noexcept nogil:
    cdef uint32_t i
    for i in range(peer.leg_count):
        if peer.legs[i].track.config.video:
            return 1
    return 0


cdef void begin(EngineState* engine, Peer* peer) noexcept nogil:
    """As for who has just come: what was known of the line is old by now, if anything was."""
    cdef Sender* sender = peer.sender
    estimator_restart(&sender.estimator, engine.now)
    sender.heard_at = sender.first_sent = sender.process_due = 0
    sender.credit = 0
    sender.credit_at = engine.now
    sender.allocated_for = 0
    sender.allocate_due = engine.now
    make_hot(engine, peer, engine.now)


cdef void end(Peer* peer) noexcept nogil:
    """Nothing is estimated any more: what was is not to be taken for what is."""
    peer.sender.stalled = 0
    peer.stats.estimate_bps = 0
    peer.stats.allocated_bps = 0
    peer.stats.backlog_us = 0
    peer.stats.lost_permille = 0


cdef void tend_numbers(EngineState* engine, Peer* peer) noexcept nogil:
    cdef Sender* sender = peer.sender
    cdef uint32_t i
    cdef int needed
    if sender == NULL or not (sender.agreed or sender.named):
        return
    if has_picture(peer):
        need_until(sender, engine.now + PICTURE_GONE_US)
    elif sender.numbered and sender.estimator.congested:
        need_until(sender, engine.now + CALM_US)    # not by the estimate's height: there is no padding to raise it with
    needed = is_needed(engine, sender)
    if needed == sender.numbered:
        return
    sender.numbered = <unsigned char>needed
    if needed:
        begin(engine, peer)
    else:
        end(peer)
    for i in range(peer.leg_count):
        leg_number(peer.legs[i], needed)


cdef void number_leg(EngineState* engine, Leg* leg) noexcept nogil:
    cdef Sender* sender = leg.peer.sender
    if leg.config.ext_ids[<int>EXT_TWCC]:
        sender.agreed = 1
    if leg.config.named:
        sender.named = 1  # for good: a browser that has begun with it does not leave it
    tend_numbers(engine, leg.peer)
    leg_number(leg, sender.numbered)


cdef int is_longer(Sender* sender, int64_t round_trip, int64_t now) noexcept nogil:
    """Packets wait, here or there: by more than what a long way varies by itself."""
    cdef int64_t least
    shortest_add(&sender.way, round_trip, WAY_US, now)
    least = shortest(&sender.way)
    return round_trip - least > max(<int64_t>LONGER_US, least // 2)


cdef void note_reception(EngineState* engine, Peer* peer, int lost, int64_t round_trip) noexcept nogil:
    cdef Sender* sender = peer.sender
    cdef int waits = round_trip > 0 and is_longer(sender, round_trip, engine.now)
    if lost >= LOST or waits:
        need_until(sender, engine.now + CALM_US)
        tend_numbers(engine, peer)
