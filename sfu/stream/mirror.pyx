"""The copy of a track on a worker that is not its publisher's.

It keeps what the publisher's own worker keeps (the same packets, by reference; what is known of the source; rates and
layers), so that its legs are served without a look at the other worker: histories, layers, catching up and pacing are as
they are there. What has to be asked of the publisher goes back to its home, which asks once for everybody.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from mediaserver.codecs.dependency cimport DependencyState
from mediaserver.sfu.stream.buffers cimport Packet, packet_ref, packet_unref
from mediaserver.sfu.stream.catchup cimport leg_begin
from mediaserver.sfu.stream.fanout cimport fanout_add
from mediaserver.sfu.stream.history cimport history_get, history_put
from mediaserver.sfu.stream.inbound cimport Inbound, inbound_init
from mediaserver.sfu.stream.ingest cimport note_rate
from mediaserver.sfu.stream.relay cimport (
    BACK_AGAIN,
    BACK_KEYFRAME,
    BACK_NEEDED,
    BACK_START,
    BACK_STOP,
    RELAY_AGAIN,
    RELAY_DEPENDENCY,
    RELAY_FRESHNESS,
    RELAY_KEPT,
    RELAY_REPORT,
    RELAY_SOURCE,
    RELAY_STARTED,
    RelayItem,
    Relayed,
    bell_ring,
    item_put,
    item_take,
    item_waits,
)
from mediaserver.sfu.stream.source cimport change_source
from mediaserver.sfu.stream.spread cimport Spread
from mediaserver.sfu.stream.state cimport ENCODINGS_MAX, RELAYED_MAX, Peer
from mediaserver.sfu.stream.table cimport table_get
from mediaserver.sfu.stream.wanted cimport needed_of
from mediaserver.sfu.wire.lines cimport lines_new

cdef enum:
    TURN = 512               # items of one other worker that a turn takes: as much as a turn of datagrams
    AGAIN_KEPT = 16


# ---- its life


cdef int mirror_open(EngineState* engine, Track* track, Relay* relay, uint32_t home) noexcept nogil:
    cdef Mirror* mirror = <Mirror*>calloc(1, sizeof(Mirror))
    if mirror == NULL:
        return -1
    mirror.peer = <Peer*>lines_new(sizeof(Peer))
    if mirror.peer == NULL:
        free(mirror)
        return -1
    mirror.relay = relay
    mirror.track = track
    mirror.home = home
    mirror.needed = (1 << ENCODINGS_MAX) - 1
    mirror.peer.tracks = track
    mirror.peer.clock_known = 1
    track.peer = mirror.peer
    track.mirror = mirror
    mirror.next = engine.mirrors
    engine.mirrors = mirror
    ask_start(mirror)
    return 0


cdef void mirror_close(EngineState* engine, Track* track) noexcept nogil:
    cdef Mirror* mirror = track.mirror
    cdef Mirror** link = &engine.mirrors
    cdef int i
    tell(mirror, BACK_STOP, 0, mirror.track.id, 0)
    while link[0] != mirror:
        link = &link[0].next
    link[0] = mirror.next
    for i in range(ENCODINGS_MAX):
        free(mirror.sources[i])
    free(mirror.peer)
    free(mirror)
    track.mirror = NULL
    track.peer = NULL


# ---- what the home is told


cdef int tell_home(Relay* relay, int kind, uint32_t home, int encoding, uint16_t generation, uint64_t a,
                   int64_t b) noexcept nogil:
    cdef RelayItem item
    memset(&item, 0, sizeof(RelayItem))
    item.kind = <uint8_t>kind
    item.encoding = <uint8_t>encoding
    item.generation = generation
    item.track = home
    item.a = a
    item.b = b
    if not item_put(&relay.back, &item):
        return 0
    bell_ring(relay.home_bell)
    return 1


cdef int tell(Mirror* mirror, int kind, int encoding, uint64_t a, int64_t b) noexcept nogil:
    return tell_home(mirror.relay, kind, mirror.home, encoding, mirror.generation[encoding], a, b)


cdef void ask_start(Mirror* mirror) noexcept nogil:
    tell(mirror, BACK_START, 0, mirror.track.id, 0)


cdef void ask_keyframes(EngineState* engine, Mirror* mirror) noexcept nogil:
    """As often as the home may ask the publisher: it holds the requests of all workers together."""
    cdef Track* track = mirror.track
    cdef uint64_t last
    cdef int again = engine.now - mirror.asked_at >= track.config.keyframe_interval
    cdef int i
    if not mirror.started or track.muted:
        return  # what comes with the start may do; and a muted track is asked for when it is heard again
    for i in range(track.config.encoding_count):
        if track.encodings[i].want_keyframe and (again or not (mirror.asked >> i) & 1):
            last = track.encodings[i].active.missing.keyframe if track.encodings[i].active != NULL else 0
            if tell(mirror, BACK_KEYFRAME, i, track.id, <int64_t>last):
                mirror.asked |= <uint8_t>(1 << i)
                mirror.asked_at = engine.now


cdef void mirror_wants(EngineState* engine, Encoding* encoding) noexcept nogil:
    encoding.want_keyframe = 1
    ask_keyframes(engine, encoding.track.mirror)


cdef void mirror_lacks(EngineState* engine, Leg* leg, uint64_t sequence) noexcept nogil:
    cdef Mirror* mirror = leg.track.mirror
    cdef const Inbound* source = leg.source.active
    cdef int i
    # Only what stands between what has come: nobody is to have older packets sent to all who are here.
    if source == NULL or not source.first < sequence < source.highest:
        return
    if source.highest - sequence > leg.source.history.mask:
        return
    for i in range(AGAIN_KEPT):
        if mirror.again[i] == sequence:
            return  # others lack it too
    if tell(mirror, BACK_AGAIN, leg.source.index, mirror.track.id, <int64_t>sequence):
        mirror.again[mirror.again_at] = sequence
        mirror.again_at = (mirror.again_at + 1) % AGAIN_KEPT


cdef void mirrors_tend(EngineState* engine) noexcept nogil:
    cdef Mirror* mirror = engine.mirrors
    cdef int needed
    while mirror != NULL:
        memset(mirror.again, 0, sizeof(mirror.again))
        if not mirror.started:
            ask_start(mirror)
        else:
            ask_keyframes(engine, mirror)
            needed = needed_of(engine, mirror.track)
            if needed != mirror.needed and tell(mirror, BACK_NEEDED, 0, mirror.track.id, needed):
                mirror.needed = <uint8_t>needed
        mirror = mirror.next


# ---- what comes


cdef void set_source(EngineState* engine, Mirror* mirror, Encoding* encoding, const RelayItem* item) noexcept nogil:
    cdef int i = encoding.index
    cdef Inbound* source = mirror.sources[i]
    if source == NULL:
        source = mirror.sources[i] = <Inbound*>malloc(sizeof(Inbound))
        if source == NULL:
            return
    elif encoding.active != NULL:
        change_source(engine, encoding)
    inbound_init(source, <uint32_t>item.a, 0, engine.now)
    mirror.generation[i] = item.generation
    encoding.active = source


cdef void note_facts(EngineState* engine, Mirror* mirror, Encoding* encoding, const Packet* packet) noexcept nogil:
    """As the home has read them; see ingest."""
    cdef Inbound* source = encoding.active
    if not source.started:
        source.started = 1
        source.first = source.highest = packet.sequence
    elif packet.sequence > source.highest:
        source.highest = packet.sequence
    if packet.arrival > source.last_arrival:
        source.last_arrival = packet.arrival
    mirror.track.live |= packet.payload_size != 0
    if not mirror.track.config.video or packet.payload_size == 0:
        return
    if packet.facts.width:
        encoding.inband_config = 1
        encoding.width = packet.facts.width
        encoding.height = packet.facts.height
    if packet.keyframe:
        if packet.sequence > source.missing.keyframe:
            source.missing.keyframe = packet.sequence
        encoding.want_keyframe = 0
        mirror.asked &= ~<uint8_t>(1 << encoding.index)


cdef void note_stamp(EngineState* engine, Spread* served, int64_t stamped) noexcept nogil:
    cdef Relayed* last = NULL
    if stamped == 0:
        return
    if engine.relayed_count:
        last = &engine.relayed[engine.relayed_count - 1]
    if last == NULL or last.stamped != stamped or last.served != served:
        last = &engine.relayed[engine.relayed_count]
        last.stamped = stamped
        last.served = served
        last.count = 0
        engine.relayed_count += 1
    last.count += 1


cdef void take_packet(EngineState* engine, Mirror* mirror, const RelayItem* item) noexcept nogil:
    cdef Packet* packet = <Packet*>item.a
    cdef Track* track = mirror.track
    cdef Encoding* encoding
    cdef int i = item.encoding
    if i >= track.config.encoding_count or item.generation != mirror.generation[i] or track.muted:
        return
    encoding = &track.encodings[i]
    if encoding.active == NULL or (item.kind == RELAY_AGAIN and history_get(&encoding.history, packet.sequence) != NULL):
        return
    engine.counters.relay_taken += 1
    if mirror.came != engine.now:
        mirror.came = engine.now
        memset(mirror.came_from, 255, sizeof(mirror.came_from))
    if packet.sequence < mirror.came_from[i]:
        mirror.came_from[i] = packet.sequence
    note_facts(engine, mirror, encoding, packet)
    note_rate(engine, encoding, packet)
    history_put(&encoding.history, &engine.pool, packet)
    if item.kind == RELAY_KEPT:
        return
    if item.kind == RELAY_AGAIN:
        engine.counters.relay_again += 1
    else:
        note_stamp(engine, &track.stats.served, item.b)
    fanout_add(engine, track, packet_ref(packet))


cdef void begin(EngineState* engine, Mirror* mirror) noexcept nogil:
    cdef Track* track = mirror.track
    cdef uint32_t i
    if mirror.started:
        return
    mirror.started = 1
    for i in range(track.leg_count):
        if track.legs[i].await_keyframe and not track.legs[i].config.paused and track.legs[i].peer.tx != NULL:
            leg_begin(engine, track.legs[i])
    ask_keyframes(engine, mirror)


cdef void take_report(Mirror* mirror, const RelayItem* item) noexcept nogil:
    cdef Encoding* encoding = &mirror.track.encodings[item.encoding]
    cdef uint32_t i
    if encoding.active == NULL or item.generation != mirror.generation[item.encoding]:
        return
    if encoding.active.sender_arrival == 0:
        for i in range(mirror.track.leg_count):  # the legs can give theirs now
            mirror.track.legs[i].report_due = 0
    encoding.active.sender_ntp = item.a
    encoding.active.sender_arrival = item.b
    encoding.active.sender_rtp = item.d
    mirror.peer.clock_offset = item.c


cdef void take_item(EngineState* engine, Relay* relay, const RelayItem* item) noexcept nogil:
    cdef Track* track = <Track*>table_get(&engine.tracks, item.track)
    cdef Mirror* mirror = track.mirror if track != NULL else NULL
    cdef Encoding* encoding
    if item.encoding >= ENCODINGS_MAX:
        return
    if mirror == NULL:
        # It has gone meanwhile, and the home has been told; but perhaps that did not fit.
        tell_home(relay, BACK_STOP, item.home, 0, 0, item.track, 0)
        return
    encoding = &track.encodings[item.encoding]
    if item.kind == RELAY_SOURCE:
        if encoding.history.slots != NULL:
            set_source(engine, mirror, encoding, item)
    elif item.kind == RELAY_REPORT:
        take_report(mirror, item)
    elif item.kind == RELAY_FRESHNESS:
        track.freshness = <int>item.a
    elif item.kind == RELAY_STARTED:
        begin(engine, mirror)
    elif item.kind == RELAY_DEPENDENCY:
        if item.generation == mirror.generation[item.encoding]:
            if encoding.dependency == NULL:
                encoding.dependency = <DependencyState*>malloc(sizeof(DependencyState))
            if encoding.dependency != NULL:
                encoding.dependency[0] = (<const DependencyState*>item.a)[0]
    else:
        take_packet(engine, mirror, item)


cdef int mirrors_take(EngineState* engine) noexcept nogil:
    cdef Relay* relay = engine.incoming
    cdef RelayItem item
    cdef int left, more = 0
    engine.relayed_count = 0
    while relay != NULL:
        left = TURN
        while left and engine.relayed_count < RELAYED_MAX and item_take(&relay.out, &item):
            take_item(engine, relay, &item)
            if item.kind == RELAY_DEPENDENCY:
                free(<void*>item.a)
            elif item.kind <= RELAY_AGAIN and item.kind >= RELAY_KEPT:
                packet_unref(&engine.pool, <Packet*>item.a)
            left -= 1
        more |= left == 0 or engine.relayed_count == RELAYED_MAX
        relay = relay.next_in
    return more


cdef int mirrors_wait(EngineState* engine) noexcept nogil:
    cdef Relay* relay = engine.incoming
    while relay != NULL:
        if item_waits(&relay.out):
            return 1
        relay = relay.next_in
    relay = engine.outgoing
    while relay != NULL:
        if item_waits(&relay.back):
            return 1
        relay = relay.next_out
    return 0
