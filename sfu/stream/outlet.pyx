"""The home's side of a track that other workers' viewers get.

A packet is handed over by reference. One that does not fit into the ring is counted, and a key picture is asked for
once there is room again; who lacks it may ask for it before that.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from mediaserver.codecs.dependency cimport DependencyState
from mediaserver.sfu.stream.buffers cimport Packet, packet_settle, packet_share, packet_unref
from mediaserver.sfu.stream.clocks cimport engine_minus_peer
from mediaserver.sfu.stream.fanout cimport fanout_flush_track
from mediaserver.sfu.stream.history cimport history_get
from mediaserver.sfu.stream.keyframes cimport want_keyframe
from mediaserver.sfu.stream.relay cimport (
    BACK_AGAIN,
    BACK_KEYFRAME,
    BACK_NEEDED,
    BACK_START,
    BACK_STOP,
    RELAY_AGAIN,
    RELAY_DEPENDENCY,
    RELAY_FRESHNESS,
    RELAY_ITEMS,
    RELAY_KEPT,
    RELAY_PACKET,
    RELAY_REPORT,
    RELAY_SOURCE,
    RELAY_STARTED,
    RelayItem,
    bell_ring,
    item_put,
    item_take,
)
from mediaserver.sfu.stream.state cimport ENCODINGS_MAX, Outlet
from mediaserver.sfu.stream.table cimport table_get
from mediaserver.sfu.stream.wanted cimport tend_wanted

cdef enum:
    BACK_TURN = 256          # requests of one other worker that are looked at in a turn
    KEPT_SHARE = RELAY_ITEMS // 2    # of the ring that what was kept may fill


cdef inline void prepare(RelayItem* item, const Outlet* outlet, int kind, int encoding) noexcept nogil:
    memset(item, 0, sizeof(RelayItem))
    item.kind = <uint8_t>kind
    item.encoding = <uint8_t>encoding
    item.track = outlet.mirror
    item.home = outlet.home
    item.generation = outlet.generation[encoding]


# ---- what goes with the packets


cdef int tell_source(Outlet* outlet, const Encoding* encoding) noexcept nogil:
    """The far worker knows of the encoding's source; 0 where that did not fit."""
    cdef RelayItem item
    cdef int i = encoding.index
    if outlet.has_source[i] and outlet.generation[i] == encoding.generation:
        return 1
    outlet.generation[i] = encoding.generation
    prepare(&item, outlet, RELAY_SOURCE, i)
    item.a = encoding.active.ssrc
    outlet.has_source[i] = <uint8_t>item_put(&outlet.relay.out, &item)
    outlet.dependency[i] = 0
    outlet.keyframe[i] = 0
    return outlet.has_source[i]


cdef int tell_dependency(Outlet* outlet, const Encoding* encoding) noexcept nogil:
    """What a dependency descriptor has said for all pictures to come is kept on both sides, each its own."""
    cdef RelayItem item
    cdef DependencyState* copied
    cdef int i = encoding.index
    if encoding.dependency == NULL or encoding.dependency.version == outlet.dependency[i]:
        return 1
    copied = <DependencyState*>malloc(sizeof(DependencyState))
    if copied == NULL:
        return 0
    copied[0] = encoding.dependency[0]
    prepare(&item, outlet, RELAY_DEPENDENCY, i)
    item.a = <uint64_t>copied
    if not item_put(&outlet.relay.out, &item):
        free(copied)
        return 0
    outlet.dependency[i] = copied.version
    return 1


cdef void tell_report(Outlet* outlet, const Encoding* encoding) noexcept nogil:
    cdef RelayItem item
    if encoding.active == NULL or encoding.active.sender_arrival == 0 or not outlet.has_source[encoding.index]:
        return
    prepare(&item, outlet, RELAY_REPORT, encoding.index)
    item.a = encoding.active.sender_ntp
    item.b = encoding.active.sender_arrival
    item.c = engine_minus_peer(encoding.track.peer)
    item.d = encoding.active.sender_rtp
    item_put(&outlet.relay.out, &item)


cdef void tell_freshness(Outlet* outlet, const Track* track) noexcept nogil:
    cdef RelayItem item
    prepare(&item, outlet, RELAY_FRESHNESS, 0)
    item.a = <uint64_t>track.freshness
    item_put(&outlet.relay.out, &item)


cdef void outlets_report(EngineState* engine, Encoding* encoding) noexcept nogil:
    cdef Outlet* outlet = encoding.track.outlets
    while outlet != NULL:
        tell_report(outlet, encoding)
        bell_ring(outlet.relay.far_bell)
        outlet = outlet.next


cdef void outlets_freshness(Track* track) noexcept nogil:
    cdef Outlet* outlet = track.outlets
    while outlet != NULL:
        tell_freshness(outlet, track)
        outlet = outlet.next


# ---- packets


cdef int give(EngineState* engine, Outlet* outlet, const Encoding* encoding, Packet* packet, int kind) noexcept nogil:
    cdef RelayItem item
    if not tell_source(outlet, encoding) or not tell_dependency(outlet, encoding):
        return 0
    prepare(&item, outlet, kind, encoding.index)
    packet_settle(packet)
    item.a = <uint64_t>packet_share(packet)
    item.b = packet.stamped
    if not item_put(&outlet.relay.out, &item):
        packet_unref(&engine.pool, packet)
        return 0
    engine.counters.relayed += 1
    if packet.keyframe and packet.sequence > outlet.keyframe[encoding.index]:
        outlet.keyframe[encoding.index] = packet.sequence
    return 1


cdef void outlets_give(EngineState* engine, Track* track) noexcept nogil:
    cdef Outlet* outlet = track.outlets
    cdef Encoding* encoding
    cdef uint8_t bit
    cdef uint32_t i
    while outlet != NULL:
        for i in range(track.pending_count):
            encoding = &track.encodings[track.pending[i].encoding]
            bit = <uint8_t>(1 << encoding.index)
            if encoding.active == NULL:
                continue
            if not give(engine, outlet, encoding, track.pending[i], RELAY_PACKET):
                engine.counters.relay_dropped += 1
                outlet.holed |= bit
            elif outlet.holed & bit:
                outlet.holed &= ~bit
                want_keyframe(engine, encoding)  # there is room again
        bell_ring(outlet.relay.far_bell)
        outlet = outlet.next


# ---- beginning and ending


cdef Outlet* outlet_of(const Track* track, const Relay* relay, uint64_t mirror) noexcept nogil:
    cdef Outlet* outlet = track.outlets
    while outlet != NULL:
        if outlet.relay == relay and outlet.mirror == mirror:
            return outlet
        outlet = outlet.next
    return NULL


cdef void give_kept(EngineState* engine, Outlet* outlet, Encoding* encoding) noexcept nogil:
    """What a viewer there may begin from: the last key picture and what followed it."""
    cdef uint64_t sequence = encoding.active.missing.keyframe
    cdef uint64_t newest = encoding.active.highest
    cdef uint64_t least = newest - encoding.history.mask if newest > encoding.history.mask else 0
    cdef Packet* packet
    if sequence == 0 or sequence < least or newest - sequence >= KEPT_SHARE // ENCODINGS_MAX:
        return
    # Several packets of a key picture may say that one can start there; the last of these stands here.
    while sequence > least:
        packet = history_get(&encoding.history, sequence - 1)
        if packet == NULL or packet.timestamp != history_get(&encoding.history, sequence).timestamp:
            break
        sequence -= 1
    while sequence <= newest:
        packet = history_get(&encoding.history, sequence)
        if packet != NULL and not give(engine, outlet, encoding, packet, RELAY_KEPT):
            return
        sequence += 1


cdef void start(EngineState* engine, Track* track, Relay* relay, uint64_t mirror) noexcept nogil:
    cdef Outlet* outlet = outlet_of(track, relay, mirror)
    cdef Encoding* encoding
    cdef RelayItem item
    cdef int i
    if outlet == NULL:
        outlet = <Outlet*>calloc(1, sizeof(Outlet))
        if outlet == NULL:
            return  # it asks again
        fanout_flush_track(engine, track)  # what waits is kept too, and would come twice
        outlet.relay = relay
        outlet.home = track.id
        outlet.mirror = <uint32_t>mirror
        outlet.needed = (1 << ENCODINGS_MAX) - 1
        outlet.next = track.outlets
        track.outlets = outlet
        for i in range(track.config.encoding_count):
            encoding = &track.encodings[i]
            if encoding.active != NULL and track.config.video and not track.muted and history_has(encoding):
                give_kept(engine, outlet, encoding)
            elif encoding.active != NULL:
                tell_source(outlet, encoding)
            tell_report(outlet, encoding)
        tell_freshness(outlet, track)
    prepare(&item, outlet, RELAY_STARTED, 0)
    item_put(&relay.out, &item)
    bell_ring(relay.far_bell)


cdef inline int history_has(const Encoding* encoding) noexcept nogil:
    return history_get(&encoding.history, encoding.active.missing.keyframe) != NULL


cdef void stop(Track* track, const Relay* relay, uint64_t mirror) noexcept nogil:
    cdef Outlet** link = &track.outlets
    cdef Outlet* outlet
    while link[0] != NULL:
        outlet = link[0]
        if outlet.relay == relay and outlet.mirror == mirror:
            link[0] = outlet.next
            free(outlet)
            return
        link = &outlet.next


cdef void outlets_close(Track* track) noexcept nogil:
    cdef Outlet* outlet
    while track.outlets != NULL:
        outlet = track.outlets
        track.outlets = outlet.next
        free(outlet)


cdef int outlets_need(const Track* track) noexcept nogil:
    cdef const Outlet* outlet = track.outlets
    cdef int needed = 0
    while outlet != NULL:
        needed |= outlet.needed
        outlet = outlet.next
    return needed


# ---- what they want


cdef void give_again(EngineState* engine, Track* track, Relay* relay, const RelayItem* asked) noexcept nogil:
    cdef Outlet* outlet = outlet_of(track, relay, asked.a)
    cdef Encoding* encoding = &track.encodings[asked.encoding]
    cdef Packet* packet = NULL
    if outlet == NULL or encoding.active == NULL or asked.generation != encoding.generation:
        return
    if encoding.history.slots != NULL:
        packet = history_get(&encoding.history, <uint64_t>asked.b)
    if packet != NULL and give(engine, outlet, encoding, packet, RELAY_AGAIN):
        bell_ring(relay.far_bell)


cdef void ask_keyframe_for(EngineState* engine, Track* track, Relay* relay, const RelayItem* asked) noexcept nogil:
    cdef Outlet* outlet = outlet_of(track, relay, asked.a)
    cdef Encoding* encoding = &track.encodings[asked.encoding]
    # One that has been given meanwhile crosses the request: it is the answer.
    if outlet != NULL and (asked.generation != encoding.generation or outlet.keyframe[asked.encoding] <= <uint64_t>asked.b):
        want_keyframe(engine, encoding)


cdef void carry_out_wish(EngineState* engine, Relay* relay, const RelayItem* item) noexcept nogil:
    cdef Track* track = <Track*>table_get(&engine.tracks, item.track)
    cdef Outlet* outlet
    if track == NULL or item.encoding >= track.config.encoding_count:
        return
    if item.kind == BACK_START:
        start(engine, track, relay, item.a)
    elif item.kind == BACK_STOP:
        stop(track, relay, item.a)
    elif item.kind == BACK_KEYFRAME:
        ask_keyframe_for(engine, track, relay, item)
    elif item.kind == BACK_NEEDED:
        outlet = outlet_of(track, relay, item.a)
        if outlet != NULL:
            outlet.needed = <uint8_t>item.b
            tend_wanted(engine, track)
    elif item.kind == BACK_AGAIN:
        give_again(engine, track, relay, item)


cdef void outlets_serve(EngineState* engine) noexcept nogil:
    cdef Relay* relay = engine.outgoing
    cdef RelayItem item
    cdef int left
    while relay != NULL:
        left = BACK_TURN
        while left and item_take(&relay.back, &item):
            carry_out_wish(engine, relay, &item)
            left -= 1
        relay = relay.next_out
