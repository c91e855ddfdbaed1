"""What waits for its turn on the way to one viewer: its line, and the pace at which that is filled.

A packet waits as it came: it is gated, numbered and encrypted when it leaves. So what is let go on the way leaves no
hole, and a run of packets that leave together is still one message. On a wide line nothing ever waits.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc

from mediaserver.sfu.policy.bwe.estimator cimport (
    estimator_close,
    estimator_init,
    estimator_moved,
    estimator_name,
    estimator_process,
    estimator_sent,
    estimator_try,
    estimator_untracked,
)
from mediaserver.sfu.stream.agenda cimport earlier, make_hot
from mediaserver.sfu.stream.buffers cimport packet_ref, packet_unref
from mediaserver.sfu.stream.catchup cimport catch_up_overtaken
from mediaserver.sfu.stream.keyframes cimport leg_wants_keyframe
from mediaserver.sfu.stream.leg cimport leg_forward, leg_restart
from mediaserver.sfu.stream.repairing cimport leg_pad, leg_retransmit
from mediaserver.sfu.stream.share cimport share_line
from mediaserver.sfu.stream.state cimport LANE_PARKED, LANE_PICTURES, LANE_REPAIR, LANE_SOUND, LANES, Waiting
from mediaserver.sfu.wire.lines cimport lines_new
from mediaserver.sfu.wire.packet cimport EXT_TWCC

cdef enum:
    BURST_US = 10000         # of the target rate may leave at once
    WIDE_BURST_US = 80000    # the same on a wide line: a picture, but not a key picture
    BURST_LEAST = 2500       # bytes
    GRAIN_US = 1000          # between two runs
    FULL_US = 20000          # where the line's queue is to drain first: the next report wakes it sooner
    IDLE_US = 1000000        # after which a burst may leave again
    WAIT_MOST_US = 400000    # pictures that would wait for longer are let go, the least important first
    HEADERS = 28             # bytes of IP and UDP
    WAITING_MOST = 4096      # packets of one viewer
    UNKNOWN_BPS = 20000000   # at which what waits leaves where the line is not estimated

cdef double LESS = 0.97      # than the viewer has said before: it sees its line fill
cdef double MORE = 1.05      # within the time of a step: it does not; browsers raise what they say by 8 % a second
cdef double TRY_MOST = 1.1   # of what is wanted
cdef double TRY_LOST = 0.1   # of the packets: then it is too much, whatever the viewer says


# ---- its life


cdef Sender* sender_new(int64_t now) noexcept nogil:
    cdef Sender* sender = <Sender*>lines_new(sizeof(Sender))
    if sender == NULL:
        return NULL
    if estimator_init(&sender.estimator, now) < 0:
        free(sender)
        return NULL
    sender.credit_at = now
    return sender


cdef void sender_free(EngineState* engine, Sender* sender) noexcept nogil:
    cdef int lane
    if sender == NULL:
        return
    for lane in range(LANES):
        while sender.first[lane] != NULL:
            let_go(engine, sender, lane)
    estimator_close(&sender.estimator)
    free(sender)


# ---- the lanes


cdef inline int lane_of(const Leg* leg) noexcept nogil:
    cdef int lane
    if not leg.track.config.video:
        return LANE_SOUND
    if leg.parked:
        return LANE_PARKED
    # Ranks below 2 are sound's; ultrasound (2) must not stand behind what catches up for the camera (3).
    lane = LANE_PICTURES + max(leg.config.worth.rank - 2, 0)
    return lane if lane < LANE_PARKED else LANE_PARKED - 1


cdef inline int is_next(const Sender* sender) noexcept nogil:
    """Nothing waits, apart from what is parked."""
    cdef int lane
    if sender.waiting_count:
        for lane in range(LANE_PARKED):
            if sender.first[lane] != NULL:
                return 0
    return 1


cdef void queue(EngineState* engine, Sender* sender, int lane, Leg* leg, Packet* packet, int repair,
                uint16_t sequence) noexcept nogil:
    cdef Waiting* entry
    if sender.waiting_count >= WAITING_MOST:
        engine.counters.drop_pace += 1
        return
    entry = <Waiting*>malloc(sizeof(Waiting))
    if entry == NULL:
        engine.counters.drop_memory += 1
        return
    entry.next = NULL
    entry.leg = leg
    entry.packet = packet_ref(packet) if packet != NULL else NULL
    entry.since = engine.now
    entry.repair = repair
    entry.sequence = sequence
    if sender.last[lane] != NULL:
        sender.last[lane].next = entry
    else:
        sender.first[lane] = entry
    sender.last[lane] = entry
    sender.waiting_count += 1
    sender.waiting_bytes += packet.payload_size if packet != NULL else 0


cdef void let_go(EngineState* engine, Sender* sender, int lane) noexcept nogil:
    """Takes the first of a lane away."""
    cdef Waiting* entry = sender.first[lane]
    sender.first[lane] = entry.next
    if entry.next == NULL:
        sender.last[lane] = NULL
    sender.waiting_count -= 1
    if entry.packet != NULL:
        sender.waiting_bytes -= entry.packet.payload_size
        packet_unref(&engine.pool, entry.packet)
    free(entry)


cdef void forget_waiting(EngineState* engine, Leg* leg, int encoding) noexcept nogil:
    cdef Sender* sender = leg.peer.sender
    cdef Waiting** link
    cdef Waiting* entry
    cdef int lane
    if sender == NULL or sender.waiting_count == 0:
        return
    for lane in range(LANES):
        link = &sender.first[lane]
        sender.last[lane] = NULL
        while link[0] != NULL:
            entry = link[0]
            if entry.leg != leg or (encoding >= 0 and (entry.repair or entry.packet.encoding != encoding)):
                sender.last[lane] = entry
                link = &entry.next
                continue
            link[0] = entry.next
            sender.waiting_count -= 1
            if entry.packet != NULL:
                sender.waiting_bytes -= entry.packet.payload_size
                packet_unref(&engine.pool, entry.packet)
            free(entry)


cdef void park(EngineState* engine, Leg* leg, int parked) noexcept nogil:
    """Moves what waits of it to the other lane."""
    cdef Sender* sender = leg.peer.sender
    cdef int source = lane_of(leg), target
    cdef Waiting** link = &sender.first[source]
    cdef Waiting* entry
    leg.parked = parked
    target = lane_of(leg)
    sender.last[source] = NULL
    while link[0] != NULL:
        entry = link[0]
        if entry.leg != leg:
            sender.last[source] = entry
            link = &entry.next
            continue
        link[0] = entry.next
        entry.next = NULL
        entry.since = engine.now
        if sender.last[target] != NULL:
            sender.last[target].next = entry
        else:
            sender.first[target] = entry
        sender.last[target] = entry
    make_hot(engine, leg.peer, engine.now)


# ---- the pace


cdef int waits_before(const Leg* leg, uint64_t sequence) noexcept nogil:
    cdef const Waiting* entry
    if leg.peer.sender == NULL or leg.peer.sender.waiting_count == 0:
        return 0
    entry = leg.peer.sender.first[lane_of(leg)]
    while entry != NULL:
        if entry.leg == leg and not entry.repair and entry.packet.encoding == leg.catch_up.encoding \
                and entry.packet.sequence < sequence:
            return 1
        entry = entry.next
    return 0


cdef uint64_t pace_bps(const EngineState* engine, const Sender* sender) noexcept nogil:
    if not sender_limits(engine, sender):
        return UNKNOWN_BPS
    if sender.estimator.probe_bytes_left and sender.estimator.probe_bps > sender.estimator.pacing_bps:
        return sender.estimator.probe_bps
    if sender.first[<int>LANE_PARKED] != NULL:
        return sender.estimator.target_bps  # it may be more than the line carries for as long as it lasts
    return sender.estimator.pacing_bps


cdef void refill(const EngineState* engine, Sender* sender) noexcept nogil:
    cdef int64_t now = engine.now
    cdef int64_t burst = WIDE_BURST_US if sender.estimator.wide else BURST_US
    burst *= <int64_t>(sender.estimator.target_bps if sender_limits(engine, sender) else UNKNOWN_BPS)
    if burst < <int64_t>BURST_LEAST * 8 * 1000000:
        burst = <int64_t>BURST_LEAST * 8 * 1000000
    if now - sender.credit_at >= IDLE_US:
        sender.credit = burst
    else:
        sender.credit += <int64_t>pace_bps(engine, sender) * (now - sender.credit_at)
        if sender.credit > burst:
            sender.credit = burst
        elif sender.credit < -burst:
            sender.credit = -burst  # sound never waits: where it is more than the estimate, probes have their turn all the same
    sender.credit_at = now


cdef void note_feedback(EngineState* engine, Peer* peer) noexcept nogil:
    cdef Sender* sender = peer.sender
    sender.heard_at = engine.now
    make_hot(engine, peer, engine.now)


cdef void note_path(EngineState* engine, Peer* peer) noexcept nogil:
    if peer.sender != NULL:
        estimator_moved(&peer.sender.estimator, engine.now)
        make_hot(engine, peer, engine.now)


cdef void note_complaint(EngineState* engine, Sender* sender) noexcept nogil:
    if sender.capped and sender.estimator.try_bps == 0:
        if sender.capped_until - engine.now < CAPPED_US:
            sender.capped_until = engine.now + CAPPED_US    # even what is left now is too much
        return
    if sender.capped:
        sender.capped_hold = min(2 * sender.capped_hold, CAPPED_MOST_US)
    else:
        sender.capped_hold = CAPPED_US
    sender.capped = 1
    sender.capped_until = engine.now + sender.capped_hold
    estimator_try(&sender.estimator, 0, engine.now)


cdef void note_remb(EngineState* engine, Sender* sender, uint64_t bps) noexcept nogil:
    """Who gets little says little: only what is less than it is sent tells of its line, and of a try only what is less
    than was said before it, for what it says grows slowly."""
    if sender.numbered and sender.heard_at:
        return                  # it tells more of its line than that
    if sender.estimator.try_bps > 0:
        if bps < LESS * sender.tried_remb:
            note_complaint(engine, sender)
    elif bps < sender.allocated_bps:
        note_complaint(engine, sender)


cdef void try_more(EngineState* engine, Sender* sender) noexcept nogil:
    """All at once would be far too much for a line that carries a little more: twice as much with each step."""
    cdef double said = sender.estimator.remb_bps, tried = sender.estimator.try_bps
    cdef bint used = sender.allocated_bps * 100 > sender.tried_bps * 105
    if tried > 0 and sender.estimator.lost_share > TRY_LOST:
        note_complaint(engine, sender)
        return
    if engine.now < sender.capped_until and (tried == 0 or used or engine.now - sender.tried_at < TRY_UNUSED_US):
        return
    if tried > 0 and used and sender.estimator.remb_at > sender.tried_at \
            and said < sender.allocated_bps and said < MORE * sender.tried_remb:
        note_complaint(engine, sender)
        return
    sender.tried_at = engine.now
    sender.tried_bps = sender.allocated_bps
    sender.tried_remb = said
    sender.capped_until = engine.now + TRY_US
    tried = 2 * (said if said > tried else tried)
    if sender.estimator.wanted_bps > 0 and tried > TRY_MOST * sender.estimator.wanted_bps:
        tried = TRY_MOST * sender.estimator.wanted_bps
    estimator_try(&sender.estimator, tried, engine.now)


cdef void note_leaves(EngineState* engine, Leg* leg, uint32_t size, int once, uint32_t ssrc, uint16_t sequence,
                      int kind) noexcept nogil:
    cdef Sender* sender = leg.peer.sender
    if sender == NULL:
        return
    size += HEADERS
    if once and (leg.config.stamp == EXT_TWCC or sender.named):
        estimator_sent(&sender.estimator, size, engine.now, kind)
        if sender.named:
            estimator_name(&sender.estimator, ssrc, sequence)
        if sender.first_sent == 0:
            sender.first_sent = engine.now
            make_hot(engine, leg.peer, engine.now)
    elif sender_limits(engine, sender):
        estimator_untracked(&sender.estimator, size, engine.now)
    elif sender.waiting_count == 0:
        return                  # nothing is paced
    sender.credit -= <int64_t>size * 8 * 1000000


cdef inline int is_full(const EngineState* engine, const Sender* sender) noexcept nogil:
    """A queue of ours stands in the line: what pictures add to it now, sound would wait for."""
    return 0 < sender.estimator.window_bytes < sender.estimator.log.in_flight and sender_limits(engine, sender)


cdef inline int may_leave(const EngineState* engine, Sender* sender) noexcept nogil:
    if engine.now != sender.credit_at:
        refill(engine, sender)
    return sender.credit > 0 and not is_full(engine, sender)


cdef void send_media(EngineState* engine, Leg* leg, Packet* packet) noexcept nogil:
    cdef Sender* sender = leg.peer.sender
    cdef int lane
    cdef int limits = sender_limits(engine, sender)
    if leg.config.paused or leg.held or (not limits and (sender == NULL or sender.waiting_count == 0)):
        leg_forward(engine, leg, packet)
        return
    if packet.encoding != leg.source.index and leg.gate != NULL and packet.encoding != leg.gate.want_key_of:
        leg_forward(engine, leg, packet)  # it will not leave; but the gate is to know that it comes
        return
    lane = lane_of(leg)
    # Sound is next to nothing, and never waits.
    if lane == LANE_SOUND or (is_next(sender) and sender.first[lane] == NULL and may_leave(engine, sender)):
        leg_forward(engine, leg, packet)
        return
    if packet.keyframe and leg.catch_up.until:
        catch_up_overtaken(engine, leg, packet)
    # Where the line is not estimated nothing waits but what catches up, and what must not overtake that.
    if not limits and sender.first[lane] == NULL:
        leg_forward(engine, leg, packet)
        return
    queue(engine, sender, lane, leg, packet, 0, 0)
    make_hot(engine, leg.peer, engine.now + GRAIN_US)


cdef void queue_picture(EngineState* engine, Leg* leg, Packet* packet) noexcept nogil:
    cdef Sender* sender = leg.peer.sender
    if sender.waiting_count == 0 and not sender_limits(engine, sender):
        sender.credit_at = engine.now - IDLE_US  # nobody has kept account until now
    queue(engine, sender, lane_of(leg), leg, packet, 0, 0)


cdef void send_repair(EngineState* engine, Leg* leg, uint16_t sequence) noexcept nogil:
    cdef Sender* sender = leg.peer.sender
    if not sender_limits(engine, sender) or lane_of(leg) == LANE_SOUND or (
        sender.first[<int>LANE_REPAIR] == NULL and may_leave(engine, sender)
    ):
        leg_retransmit(engine, leg, sequence)
        return
    queue(engine, sender, LANE_REPAIR, leg, NULL, 1, sequence)
    make_hot(engine, leg.peer, engine.now + GRAIN_US)


cdef void drain(EngineState* engine, Sender* sender) noexcept nogil:
    """What may leave now, by order of the lanes."""
    cdef Waiting* entry
    cdef int lane
    for lane in range(LANES):
        while sender.first[lane] != NULL and sender.credit > 0 and not is_full(engine, sender):
            entry = sender.first[lane]
            if entry.repair:
                leg_retransmit(engine, entry.leg, entry.sequence)
            else:
                leg_forward(engine, entry.leg, entry.packet)
            let_go(engine, sender, lane)


cdef void shed(EngineState* engine, Sender* sender) noexcept nogil:
    """A lane that has waited too long begins anew at a key picture: late pictures would be of no use, and in the way."""
    cdef int lane
    cdef Leg* leg
    for lane in range(LANE_PARKED - 1, LANE_REPAIR - 1, -1):
        while sender.first[lane] != NULL and engine.now - sender.first[lane].since > WAIT_MOST_US:
            if lane == LANE_REPAIR:
                let_go(engine, sender, lane)
                continue
            leg = sender.first[lane].leg
            engine.counters.drop_pace += 1
            leg_restart(engine, leg, 0)
            leg_wants_keyframe(engine, leg)


cdef void fill_up(EngineState* engine, Peer* peer, Sender* sender) noexcept nogil:
    """Padding, where a probe asks for more than there is to send."""
    cdef uint32_t i
    cdef int sent
    # In an outage what sound takes leaves no credit: whether the line is back is asked all the same.
    while sender.estimator.probe_bytes_left and (sender.credit > 0 or sender.stalled) and sender.waiting_count == 0:
        sent = 0
        for i in range(peer.leg_count):
            if leg_pad(engine, peer.legs[i]):
                sent = 1
                break
        if not sent:
            return


cdef int64_t turn_after(const EngineState* engine, const Sender* sender) noexcept nogil:
    """When there is credit again (µs)."""
    cdef int64_t wait = 0
    if is_full(engine, sender):
        return engine.now + FULL_US
    if sender.credit < 0:
        wait = -sender.credit // <int64_t>pace_bps(engine, sender) + 1
    return engine.now + (wait if wait > GRAIN_US else GRAIN_US)


cdef int64_t serve_waiting(EngineState* engine, Sender* sender) noexcept nogil:
    if sender.waiting_count == 0:
        return 0
    refill(engine, sender)
    drain(engine, sender)
    if sender.waiting_count:
        shed(engine, sender)
    return turn_after(engine, sender) if sender.waiting_count else 0


cdef int64_t serve_sender(EngineState* engine, Peer* peer) noexcept nogil:
    cdef Sender* sender = peer.sender
    cdef int64_t due
    cdef int told = 0  # as often as the estimator has its turn: whoever reads it is not faster
    if sender == NULL or peer.tx == NULL or not peer.connected:
        return 0
    if not sender_limits(engine, sender):
        share_line(engine, peer)
        return serve_waiting(engine, sender)
    if sender.process_due == 0 or sender.process_due <= engine.now:
        sender.process_due = estimator_process(&sender.estimator, engine.now)
        told = 1
    if sender.capped:
        try_more(engine, sender)
    share_line(engine, peer)
    due = serve_waiting(engine, sender)
    if sender.estimator.probe_bytes_left:
        refill(engine, sender)
        fill_up(engine, peer, sender)
        due = turn_after(engine, sender)
    if told:
        peer.stats.estimate_bps = sender.estimator.target_bps
        peer.stats.backlog_us = <uint64_t>sender.waiting_bytes * 8000000 // sender.estimator.pacing_bps
        peer.stats.lost_permille = <uint64_t>(sender.estimator.lost_share * 1000)
        peer.stats.allocated_bps = sender.allocated_bps
    return earlier(due, sender.process_due)
