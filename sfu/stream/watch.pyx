"""Watching what comes: each track's freshness, told to the control plane when it changes.

Deadlines are lazy: a frame moves none, so a round finds most sources fresh and looks again when the oldest frame of all
would be too old. That is a handful of rounds a second, whatever comes in.
"""

from libc.stdint cimport int64_t, uint64_t

from mediaserver.sfu.policy.freshness cimport (
    FRESH_LIVE,
    FRESH_STALE,
    FRESH_UNCHANGING,
    FRESH_WAITING,
    freshness_check,
    freshness_due,
    freshness_packet,
    freshness_resume,
    freshness_state,
)
from mediaserver.sfu.stream.outlet cimport outlets_freshness
from mediaserver.sfu.stream.report cimport REPORT_TRACK_FRESHNESS, report
from mediaserver.sfu.stream.state cimport Peer


cdef void tell(EngineState* engine, Track* track, int state) noexcept nogil:
    if state == track.freshness:
        return
    track.freshness = state
    outlets_freshness(track)
    report(engine, REPORT_TRACK_FRESHNESS, track.id, <uint64_t>state, NULL, 0)


cdef int state_of(const Track* track) noexcept nogil:
    """The best of its encodings' states: some may be switched off."""
    cdef const Inbound* source
    cdef int i, state, unchanging = 0, waiting = 0
    for i in range(track.config.encoding_count):
        source = track.encodings[i].active
        if source == NULL or not source.fresh.started:
            continue
        state = freshness_state(&source.fresh)
        if state == FRESH_LIVE:
            return FRESH_LIVE
        unchanging |= state == FRESH_UNCHANGING
        waiting |= state == FRESH_WAITING
    if unchanging:
        return FRESH_UNCHANGING
    return track.freshness if waiting else FRESH_STALE


cdef inline void wake_at(EngineState* engine, int64_t due) noexcept nogil:
    if due and (engine.watch_due == 0 or due < engine.watch_due):
        engine.watch_due = due


cdef void watch_packet(EngineState* engine, Track* track, Inbound* source, const Packet* packet,
                       uint32_t clock_rate) noexcept nogil:
    cdef uint32_t pixels = 0
    cdef int key = 0
    cdef int changed
    if track.config.freshness.stale_us == 0:
        return
    if track.config.video:
        key = packet.facts.keyframe
        pixels = <uint32_t>packet.facts.width * packet.facts.height
    changed = freshness_packet(&source.fresh, &track.config.freshness, packet.timestamp, clock_rate,
                               packet.payload_size, key, pixels, engine.now)
    # A source that begins was never stale itself, but that before it may have been.
    if changed or track.freshness != FRESH_LIVE:
        tell(engine, track, state_of(track))
    # Only what begins, or begins again, needs a deadline; that of a source which goes on is no later than it was.
    if changed or engine.watch_due == 0 or not source.fresh.flowing:
        wake_at(engine, freshness_due(&source.fresh, &track.config.freshness))


cdef void look_at(EngineState* engine, Track* track) noexcept nogil:
    cdef Inbound* source
    cdef int i
    if track.muted or not track.live or track.config.freshness.stale_us == 0:
        return
    for i in range(track.config.encoding_count):
        source = track.encodings[i].active
        if source != NULL:
            freshness_check(&source.fresh, &track.config.freshness, engine.now)
            wake_at(engine, freshness_due(&source.fresh, &track.config.freshness))
    tell(engine, track, state_of(track))


cdef void watch_round(EngineState* engine) noexcept nogil:
    cdef uint64_t at
    cdef Peer* peer
    cdef Track* track
    if engine.watch_due == 0 or engine.now < engine.watch_due:
        return
    engine.watch_due = 0
    for at in range(engine.peers.mask + 1):
        peer = <Peer*>engine.peers.entries[at].value
        track = peer.tracks if peer != NULL else NULL
        while track != NULL:
            look_at(engine, track)
            track = track.next


cdef void watch_muted(EngineState* engine, Track* track) noexcept nogil:
    cdef Inbound* source
    cdef int i
    if track.mirror != NULL:
        return  # its home watches, and tells
    tell(engine, track, FRESH_LIVE)
    for i in range(track.config.encoding_count):
        source = track.encodings[i].active
        if source != NULL and not track.muted:
            freshness_resume(&source.fresh, engine.now)
            wake_at(engine, freshness_due(&source.fresh, &track.config.freshness))
