"""A viewer that needs a key picture gets the last one and what followed it from the history, and then goes on live."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memset

from mediaserver.sfu.policy.freshness cimport FRESH_STALE
from mediaserver.sfu.policy.missing cimport missing_awaits
from mediaserver.sfu.stream.agenda cimport make_hot
from mediaserver.sfu.stream.fanout cimport fanout_flush_track
from mediaserver.sfu.stream.history cimport history_get
from mediaserver.sfu.stream.inbound cimport Inbound
from mediaserver.sfu.stream.keyframes cimport leg_wants_keyframe, want_keyframe
from mediaserver.sfu.stream.leg cimport leg_restart
from mediaserver.sfu.stream.renumber cimport renumber_align
from mediaserver.sfu.stream.sending cimport (
    forget_waiting,
    pace_bps,
    queue_picture,
    sender_limits,
    waits_before,
)
from mediaserver.sfu.stream.state cimport Encoding, Sender, Track

cdef enum:
    OLDEST_US = 2000000      # decoding what is older would take too long
    QUIET_US = 500000        # a publisher that is silent for longer has nothing live to go on with
    LINE_US = 300000         # of what the viewer's line carries, at most
    UNKNOWN_LINE = 262144    # bytes, where nothing is known of the line
    CROSSING_US = 100000     # a request that comes so soon after it was made without knowing of it
    RATE = 16000000          # bytes a second, of all legs of a worker
    BURST = 8388608
    VIEWERS_LEAST = 16       # a key picture costs the publisher too: as much as so many viewers
    SHIFT_MOST = 10
    SHIFT_LEAST = 4          # pictures that are nearer to each other than 1 << this (ticks) are no video


# What the history holds, from the first packet of the last key picture up to the newest.
cdef struct Group:
    uint64_t first
    uint64_t newest
    uint32_t bytes
    uint32_t key_bytes
    uint32_t anchor          # timestamp of the latest picture
    uint32_t least           # ticks between two pictures in a row, at the least; 0: there is but one


cdef uint64_t first_of_picture(const Encoding* encoding, uint64_t sequence) noexcept nogil:
    """Several packets of a key picture may say that one can start there; the earliest of them."""
    cdef const Packet* packet = history_get(&encoding.history, sequence)
    cdef uint32_t timestamp = packet.timestamp
    cdef uint64_t first = sequence
    while True:
        sequence -= 1
        packet = history_get(&encoding.history, sequence)
        if packet == NULL or packet.timestamp != timestamp:
            return first
        if packet.keyframe:
            first = sequence


cdef void count_in(Group* group, const Packet* packet, uint32_t key_timestamp, uint32_t* before) noexcept nogil:
    cdef uint32_t step = packet.timestamp - before[0]
    group.bytes += packet.payload_size
    if packet.timestamp == key_timestamp:
        group.key_bytes += packet.payload_size
    if step:
        if step >> 31:
            step = 0 - step  # backwards; half the circle is as far either way
        if group.least == 0 or step < group.least:
            group.least = step
        before[0] = packet.timestamp
    if <int32_t>(packet.timestamp - group.anchor) > 0:
        group.anchor = packet.timestamp


cdef int find_group(const EngineState* engine, const Encoding* encoding, Group* group) noexcept nogil:
    """1 where everything is there that a decoder needs in order to arrive at the present."""
    cdef const Inbound* source = encoding.active
    cdef const Packet* packet
    cdef uint64_t key = source.missing.keyframe
    cdef uint64_t sequence
    cdef uint32_t key_timestamp, before
    if key == 0 or engine.now - source.last_arrival > QUIET_US or source.highest - key >= encoding.history.mask:
        return 0
    packet = history_get(&encoding.history, key)
    if packet == NULL or not packet.keyframe or engine.now - packet.arrival > OLDEST_US:
        return 0
    memset(group, 0, sizeof(Group))
    group.first = first_of_picture(encoding, key)
    group.newest = source.highest
    group.anchor = key_timestamp = before = packet.timestamp
    for sequence in range(group.first, group.newest + 1):
        packet = history_get(&encoding.history, sequence)
        if packet == NULL:
            # What is still awaited from the publisher is so by all who watch: it comes later, under its number.
            if not missing_awaits(&source.missing, sequence):
                return 0
        elif packet.payload_size:
            count_in(group, packet, key_timestamp, &before)
    return group.bytes != 0 and (group.least == 0 or group.least >= 1 << SHIFT_LEAST)


cdef int leads_back(const Leg* leg, const Encoding* encoding, const Group* group) noexcept nogil:
    """What the viewer may have been shown is newer: nobody is to see an old picture after it, however shortly."""
    return leg.renumber.started and history_get(&encoding.history, group.first).arrival <= leg.renumber.last_time


cdef int is_cheap(EngineState* engine, const Leg* leg, const Group* group) noexcept nogil:
    """Against a new key picture, which everybody gets and the publisher has to make room for."""
    cdef const Sender* sender = leg.peer.sender
    cdef uint64_t line
    if not sender_limits(engine, sender):
        return group.bytes <= UNKNOWN_LINE or group.bytes <= 2 * group.key_bytes
    line = pace_bps(engine, sender) * LINE_US // 8000000
    return group.bytes + sender.waiting_bytes <= line or 4 * group.bytes <= 5 * group.key_bytes


cdef int is_worth_it(Encoding* encoding, const Group* group) noexcept nogil:
    """Whoever comes needs a key picture; what comes with this one is the price of not asking for another. When all
    have paid as much as another would cost everybody, it is better to ask: who comes after that gets little with it."""
    cdef uint64_t viewers = max(encoding.track.leg_count, <uint32_t>VIEWERS_LEAST)
    if encoding.catch_up_from != group.first:
        encoding.catch_up_from = group.first
        encoding.catch_up_spent = 0
    if encoding.catch_up_spent + group.bytes - group.key_bytes > viewers * group.key_bytes:
        return 0
    encoding.catch_up_spent += group.bytes - group.key_bytes
    return 1


cdef int is_affordable(EngineState* engine, const Group* group) noexcept nogil:
    """A bucket of tokens for all legs together."""
    engine.catch_up_credit += (engine.now - engine.catch_up_credit_at) * RATE
    engine.catch_up_credit_at = engine.now
    if engine.catch_up_credit > <int64_t>BURST * 1000000:
        engine.catch_up_credit = <int64_t>BURST * 1000000
    if engine.catch_up_credit < <int64_t>group.bytes * 1000000:
        return 0
    engine.catch_up_credit -= <int64_t>group.bytes * 1000000
    return 1


cdef uint8_t shift_for(uint32_t least) noexcept nogil:
    """The most by which times can be drawn together so that each picture keeps one of its own."""
    cdef uint8_t shift = 0
    while shift < SHIFT_MOST and least >> (shift + 1):
        shift += 1
    return shift


cdef void start(EngineState* engine, Leg* leg, const Encoding* encoding, const Group* group) noexcept nogil:
    cdef uint32_t offset = leg.renumber.timestamp_offset
    cdef Packet* packet
    cdef uint64_t sequence
    if leg.renumber.started:
        # What left before, and may leave again now, has its numbers: these are new ones, as another source's would be.
        leg_restart(engine, leg, 1)
        renumber_align(&leg.renumber, offset)
    else:
        forget_waiting(engine, leg, -1)
    leg.catch_up.until = group.newest + 1
    leg.catch_up.anchor = group.anchor
    leg.catch_up.shift = shift_for(group.least)
    leg.catch_up.encoding = encoding.index
    leg.catch_up.since = engine.now
    engine.counters.caught_up += 1
    for sequence in range(group.first, group.newest + 1):
        packet = history_get(&encoding.history, sequence)
        if packet != NULL:
            queue_picture(engine, leg, packet)
            engine.counters.caught_up_packets += 1
            engine.counters.caught_up_bytes += packet.payload_size
    make_hot(engine, leg.peer, engine.now)


cdef int catch_up(EngineState* engine, Leg* leg, Encoding* encoding) noexcept nogil:
    """1 when the leg is served, or being served, from the history."""
    cdef Track* track = leg.track
    cdef Group group
    if leg.peer.sender == NULL or leg.peer.tx == NULL or leg.config.paused or leg.held or track.muted:
        return 0
    if encoding.active == NULL or not encoding.active.started or track.freshness == FRESH_STALE:
        return 0
    if leg.catch_up.encoding == encoding.index and waits_before(leg, leg.catch_up.until):
        return 1
    if track.pending_count:
        fanout_flush_track(engine, track)  # what is in the history has been sent to this leg, or never will be
    if not find_group(engine, encoding, &group) or leads_back(leg, encoding, &group):
        return 0
    if not is_cheap(engine, leg, &group):
        return 0
    if not is_affordable(engine, &group) or not is_worth_it(encoding, &group):
        return 0
    start(engine, leg, encoding, &group)
    return 1


cdef Encoding* wanted_of(Leg* leg) noexcept nogil:
    if leg.gate.seen and leg.gate.want_key_of >= 0:
        return &leg.track.encodings[<int>leg.gate.want_key_of]
    return leg.source


cdef void leg_begin(EngineState* engine, Leg* leg) noexcept nogil:
    # While another encoding is shown, a step back in time would be worse than a moment more of that.
    if leg.gate == NULL or not leg.await_keyframe or not catch_up(engine, leg, wanted_of(leg)):
        leg_wants_keyframe(engine, leg)


cdef void leg_begin_again(EngineState* engine, Leg* leg) noexcept nogil:
    if leg.catch_up.until and engine.now - leg.catch_up.since < CROSSING_US:
        return
    if leg.gate == NULL or not catch_up(engine, leg, leg.source):
        want_keyframe(engine, leg.source)


cdef void catch_up_overtaken(EngineState* engine, Leg* leg, const Packet* packet) noexcept nogil:
    if packet.encoding == leg.catch_up.encoding and waits_before(leg, leg.catch_up.until):
        leg_restart(engine, leg, 0)
