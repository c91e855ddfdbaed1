"""Commands of the control plane, carried out between two batches."""

from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy

from mediaserver.sfu.policy.round_trip cimport round_trip_init
from mediaserver.sfu.policy.layers cimport LayerGate, gate_close, gate_init
from mediaserver.sfu.stream.agenda cimport agenda_forget, agenda_room
from mediaserver.sfu.stream.catchup cimport leg_begin
from mediaserver.sfu.stream.connectivity cimport forget_addresses, ufrag_key
from mediaserver.sfu.stream.feedback cimport send_bye
from mediaserver.sfu.stream.history cimport history_close, history_init
from mediaserver.sfu.stream.keyframes cimport leg_wants_keyframe, want_keyframe
from mediaserver.sfu.stream.leg cimport leg_configure, leg_restart
from mediaserver.sfu.stream.mirror cimport mirror_close, mirror_open
from mediaserver.sfu.stream.numbering cimport number_leg
from mediaserver.sfu.stream.outlet cimport outlets_close
from mediaserver.sfu.stream.outbox cimport DATAGRAM_MAX, outbox_add, outbox_room
from mediaserver.sfu.stream.renumber cimport renumber_close, renumber_init
from mediaserver.sfu.stream.report cimport REPORT_REFUSED, REPORT_REMOVED, report
from mediaserver.sfu.stream.fanout cimport best_encoding
from mediaserver.sfu.stream.floor cimport floor_begin, floor_set
from mediaserver.sfu.stream.sending cimport forget_waiting, sender_free, sender_new
from mediaserver.sfu.stream.share cimport share_again
from mediaserver.sfu.stream.source cimport forget_history, release_sources, update_sources
from mediaserver.sfu.stream.state cimport (
    AUDIO_HISTORY,
    ENCODINGS_MAX,
    VIDEO_HISTORY,
    Encoding,
    Leg,
    LegConfig,
    LegStats,
    Peer,
    PeerStats,
    Tap,
    Track,
    TrackConfig,
    TrackStats,
)
from mediaserver.sfu.stream.table cimport table_get, table_put, table_remove
from mediaserver.sfu.stream.tap cimport TapQueue, tap_reclaim
from mediaserver.sfu.stream.watch cimport watch_muted
from mediaserver.sfu.wire.lines cimport lines_new
from mediaserver.sfu.wire.packet cimport read_u16
from mediaserver.sfu.wire.srtp cimport srtp_free, srtp_new

cdef enum:
    USED_SSRCS_MAX = 8192    # of one peer's legs over its life


cdef void refuse(EngineState* engine, uint32_t id, const char* why, uint32_t size) noexcept nogil:
    report(engine, REPORT_REFUSED, id, 0, <const uint8_t*>why, size)


cdef void removed(EngineState* engine, uint32_t id) noexcept nogil:
    report(engine, REPORT_REMOVED, id, 0, NULL, 0)


# ---- peers


cdef void set_credentials(Peer* peer, const Credentials* credentials) noexcept nogil:
    peer.ufrag_size = credentials.ufrag_size
    memcpy(peer.ufrag, credentials.ufrag, credentials.ufrag_size)
    peer.pwd_size = credentials.pwd_size
    memcpy(peer.pwd, credentials.pwd, credentials.pwd_size)


cdef void add_peer(EngineState* engine, const Command* command) noexcept nogil:
    cdef Peer* peer
    if table_get(&engine.peers, command.id) != NULL:
        refuse(engine, command.id, b"this peer is there already", 26)
        return
    peer = <Peer*>lines_new(sizeof(Peer))
    if peer == NULL or agenda_room(engine, engine.peers.count + 1) < 0:
        free(peer)
        refuse(engine, command.id, b"out of memory", 13)
        removed(engine, command.id)
        return
    peer.id = command.id
    peer.stats = <PeerStats*>command.keep
    peer.feedback_ssrc = <uint32_t>command.random | 1
    round_trip_init(&peer.round_trip)
    peer.last_check = engine.now
    set_credentials(peer, <const Credentials*>command.data)
    table_put(&engine.peers, peer.id, peer)
    table_put(&engine.by_ufrag, ufrag_key(engine, peer.ufrag, peer.ufrag_size), peer)


cdef void forget_ufrag(EngineState* engine, Peer* peer, const uint8_t* ufrag, size_t size) noexcept nogil:
    cdef uint64_t key = ufrag_key(engine, ufrag, size)
    if size and table_get(&engine.by_ufrag, key) == peer:
        table_remove(&engine.by_ufrag, key)


cdef void restart_peer(EngineState* engine, Peer* peer, const Command* command) noexcept nogil:
    forget_ufrag(engine, peer, peer.old_ufrag, peer.old_ufrag_size)
    memcpy(peer.old_ufrag, peer.ufrag, peer.ufrag_size)
    peer.old_ufrag_size = peer.ufrag_size
    memcpy(peer.old_pwd, peer.pwd, peer.pwd_size)
    peer.old_pwd_size = peer.pwd_size
    set_credentials(peer, <const Credentials*>command.data)
    table_put(&engine.by_ufrag, ufrag_key(engine, peer.ufrag, peer.ufrag_size), peer)
    peer.last_check = engine.now


cdef void set_remote(Peer* peer, const Credentials* credentials) noexcept nogil:
    peer.remote_ufrag_size = credentials.ufrag_size
    memcpy(peer.remote_ufrag, credentials.ufrag, credentials.ufrag_size)
    peer.remote_pwd_size = credentials.pwd_size
    memcpy(peer.remote_pwd, credentials.pwd, credentials.pwd_size)


cdef void post(EngineState* engine, const Peer* peer, const uint8_t* datagram, uint32_t size) noexcept nogil:
    cdef uint8_t* out
    if not peer.connected or size > DATAGRAM_MAX:
        return
    out = outbox_room(&engine.outbox)
    if out == NULL:
        return
    memcpy(out, datagram, size)
    outbox_add(&engine.outbox, &peer.addr, size)


cdef void set_keys(EngineState* engine, Peer* peer, const Command* command) noexcept nogil:
    cdef const Keys* keys = <const Keys*>command.data
    cdef uint32_t at = sizeof(Keys), size
    cdef int i
    if peer.rx != NULL:
        # The counters of a context go on for its life; new ones under the same keys would repeat an index.
        refuse(engine, peer.id, b"this peer has its keys already", 30)
        return
    peer.rx = srtp_new(<int>command.value, keys.rx_key, keys.key_size, keys.rx_salt, keys.salt_size)
    peer.tx = srtp_new(<int>command.value, keys.tx_key, keys.key_size, keys.tx_salt, keys.salt_size)
    if peer.rx == NULL or peer.tx == NULL:
        srtp_free(peer.rx)
        srtp_free(peer.tx)
        peer.rx = NULL
        peer.tx = NULL
        refuse(engine, peer.id, b"these keys do not fit the profile", 33)
        return
    while at < command.size:
        size = read_u16(command.data + at)
        post(engine, peer, command.data + at + 2, size)
        at += 2 + size
    for i in range(<int>peer.leg_count):
        if peer.legs[i].await_keyframe:
            leg_begin(engine, peer.legs[i])
    # Without keys nothing could be sent to find out what the line carries, and it cooled down.
    share_again(engine, peer)


cdef void free_peer(EngineState* engine, Peer* peer) noexcept nogil:
    cdef int i
    agenda_forget(engine, peer)
    forget_addresses(engine, peer)
    forget_ufrag(engine, peer, peer.ufrag, peer.ufrag_size)
    forget_ufrag(engine, peer, peer.old_ufrag, peer.old_ufrag_size)
    table_remove(&engine.peers, peer.id)
    for i in range(peer.inbound_count):
        free(peer.inbounds[i])
    sender_free(engine, peer.sender)
    srtp_free(peer.rx)
    srtp_free(peer.tx)
    free(peer.legs)
    free(peer.used_ssrcs)
    free(peer.arrivals)
    free(peer)


cdef void remove_peer(EngineState* engine, Peer* peer) noexcept nogil:
    cdef uint32_t id = peer.id
    while peer.leg_count:
        remove_leg(engine, peer.legs[peer.leg_count - 1], 0)
    while peer.tracks != NULL:
        remove_track(engine, peer.tracks)
    free_peer(engine, peer)
    removed(engine, id)


# ---- tracks


cdef int prepare_encodings(Track* track, const TrackConfig* config) noexcept nogil:
    """What each encoding needs before its first packet comes; -1 without memory."""
    cdef Encoding* encoding
    cdef int i
    for i in range(config.encoding_count):
        encoding = &track.encodings[i]
        encoding.track = track
        encoding.index = <uint8_t>i
        if encoding.history.slots == NULL and history_init(
            &encoding.history, VIDEO_HISTORY if config.video else AUDIO_HISTORY
        ) < 0:
            return -1
    return 0


cdef void forget_track(EngineState* engine, Track* track) noexcept nogil:
    cdef int i
    if track == NULL:
        return
    for i in range(ENCODINGS_MAX):
        free(track.encodings[i].dependency)
        history_close(&track.encodings[i].history, &engine.pool)
    free(track.legs)
    free(track)


cdef void add_track(EngineState* engine, Peer* peer, const Command* command) noexcept nogil:
    cdef const TrackConfig* config = <const TrackConfig*>command.data
    cdef Track* track
    if table_get(&engine.tracks, command.id) != NULL:
        refuse(engine, command.id, b"this track is there already", 27)
        return
    track = <Track*>calloc(1, sizeof(Track))
    if track == NULL or prepare_encodings(track, config) < 0:
        forget_track(engine, track)
        refuse(engine, command.id, b"out of memory", 13)
        removed(engine, command.id)
        return
    track.id = command.id
    track.peer = peer
    track.config = config[0]
    track.stats = <TrackStats*>command.keep
    track.next = peer.tracks
    peer.tracks = track
    table_put(&engine.tracks, track.id, track)


cdef void add_mirror(EngineState* engine, const Command* command) noexcept nogil:
    cdef const TrackConfig* config = <const TrackConfig*>command.data
    cdef Track* track
    if table_get(&engine.tracks, command.id) != NULL:
        refuse(engine, command.id, b"this track is there already", 27)
        return
    track = <Track*>calloc(1, sizeof(Track))
    if track != NULL:
        track.id = command.id
        track.config = config[0]
        track.stats = <TrackStats*>command.keep
    if track == NULL or prepare_encodings(track, config) < 0 or mirror_open(engine, track, command.relay,
                                                                              command.track) < 0:
        forget_track(engine, track)
        refuse(engine, command.id, b"out of memory", 13)
        removed(engine, command.id)
        return
    table_put(&engine.tracks, track.id, track)


cdef void link_up(EngineState* engine, Relay* relay, int far) noexcept nogil:
    if far:
        relay.next_in = engine.incoming
        engine.incoming = relay
    else:
        relay.next_out = engine.outgoing
        engine.outgoing = relay


cdef void update_track(EngineState* engine, Track* track, const TrackConfig* config) noexcept nogil:
    cdef uint32_t i
    cdef int moved = (
        config.mid_size != track.config.mid_size or memcmp(config.mid, track.config.mid, config.mid_size) != 0
    )
    if prepare_encodings(track, config) < 0:
        refuse(engine, track.id, b"out of memory", 13)
        return
    if config.encoding_count != track.config.encoding_count:
        for i in range(track.leg_count):
            if track.legs[i].gate != NULL:
                gate_close(track.legs[i].gate)
                gate_init(track.legs[i].gate, config.encoding_count)
                leg_restart(engine, track.legs[i], 0)
                share_again(engine, track.legs[i].peer)
    track.config = config[0]
    update_sources(engine, track, moved)


cdef void want_pictures(EngineState* engine, Track* track) noexcept nogil:
    """A keyframe of each encoding that somebody gets."""
    cdef Tap* tap = track.taps
    cdef uint32_t i
    for i in range(track.leg_count):
        leg_wants_keyframe(engine, track.legs[i])
    while tap != NULL:
        want_keyframe(engine, &track.encodings[tap.encoding])
        tap = tap.next


cdef void mute_track(EngineState* engine, Track* track, int muted) noexcept nogil:
    cdef uint32_t i
    if track.muted == muted:
        return
    track.muted = muted
    watch_muted(engine, track)
    if muted:
        for i in range(track.config.encoding_count):
            forget_history(engine, &track.encodings[i])  # what was said before is not to be had any more
        for i in range(track.leg_count):
            leg_restart(engine, track.legs[i], 0)
    else:
        want_pictures(engine, track)


cdef void remove_track(EngineState* engine, Track* track) noexcept nogil:
    cdef Track** link = &track.peer.tracks
    cdef uint32_t id = track.id
    while track.leg_count:
        remove_leg(engine, track.legs[track.leg_count - 1], 1)
    while track.taps != NULL:
        close_tap(engine, track.taps)
    while link[0] != track:
        link = &link[0].next
    link[0] = track.next
    release_sources(track)
    table_remove(&engine.tracks, id)
    outlets_close(track)
    if track.mirror != NULL:
        mirror_close(engine, track)
    forget_track(engine, track)
    removed(engine, id)


# ---- legs


cdef int use_ssrc(Peer* peer, uint32_t ssrc) noexcept nogil:
    """Notes an SSRC for the life of the peer's keys; -1 when it was used before."""
    cdef uint32_t i, room
    cdef uint32_t* larger
    if ssrc == 0:
        return 0
    for i in range(peer.used_count):
        if peer.used_ssrcs[i] == ssrc:
            return -1
    if peer.used_count == USED_SSRCS_MAX:
        return -1
    if peer.used_count == peer.used_room:
        room = peer.used_room * 2 if peer.used_room else 8
        larger = <uint32_t*>realloc(peer.used_ssrcs, room * sizeof(uint32_t))
        if larger == NULL:
            return -1
        peer.used_ssrcs = larger
        peer.used_room = room
    peer.used_ssrcs[peer.used_count] = ssrc
    peer.used_count += 1
    return 0


cdef int append_leg(Leg*** legs, uint32_t* count, uint32_t* room, Leg* leg) noexcept nogil:
    cdef uint32_t size
    cdef Leg** larger
    if count[0] == room[0]:
        size = room[0] * 2 if room[0] else 4
        larger = <Leg**>realloc(legs[0], size * sizeof(Leg*))
        if larger == NULL:
            return -1
        legs[0] = larger
        room[0] = size
    legs[0][count[0]] = leg
    count[0] += 1
    return 0


cdef void drop_leg(Leg** legs, uint32_t* count, Leg* leg) noexcept nogil:
    cdef uint32_t i
    for i in range(count[0]):
        if legs[i] == leg:
            count[0] -= 1
            legs[i] = legs[count[0]]
            return


cdef void note_line(EngineState* engine, Peer* peer, Leg* leg) noexcept nogil:
    """A viewer's line is estimated as soon as feedback speaks of one of its legs. Without memory it is not."""
    if peer.sender == NULL:
        peer.sender = sender_new(engine.now)
    if peer.sender == NULL:
        return
    number_leg(engine, leg)


cdef void free_leg(Leg* leg) noexcept nogil:
    if leg != NULL:
        gate_close(leg.gate)
        free(leg.gate)
        free(leg.repairs)
        renumber_close(&leg.renumber)
        free(leg)


cdef void add_leg(EngineState* engine, Track* track, Peer* peer, const Command* command) noexcept nogil:
    cdef const LegConfig* config = <const LegConfig*>command.data
    cdef Leg* leg
    if table_get(&engine.legs, command.id) != NULL:
        refuse(engine, command.id, b"this leg is there already", 25)
        return
    if config.ssrc == 0 or use_ssrc(peer, config.ssrc) < 0 or use_ssrc(peer, config.rtx_ssrc) < 0:
        refuse(engine, command.id, b"an SSRC was used before under these keys", 40)
        removed(engine, command.id)
        return
    leg = <Leg*>lines_new(sizeof(Leg))
    if leg != NULL and track.config.video:
        leg.gate = <LayerGate*>malloc(sizeof(LayerGate))
    if leg == NULL or (track.config.video and leg.gate == NULL) or append_leg(&track.legs, &track.leg_count, &track.leg_room, leg) < 0:
        free_leg(leg)
        refuse(engine, command.id, b"out of memory", 13)
        removed(engine, command.id)
        return
    if append_leg(&peer.legs, &peer.leg_count, &peer.leg_room, leg) < 0:
        drop_leg(track.legs, &track.leg_count, leg)
        free_leg(leg)
        refuse(engine, command.id, b"out of memory", 13)
        removed(engine, command.id)
        return
    leg.id = command.id
    leg.track = track
    if leg.gate != NULL:
        gate_init(leg.gate, track.config.encoding_count)
    leg.source = best_encoding(track, engine.now)
    leg.peer = peer
    leg.stats = <LegStats*>command.keep
    leg.added = engine.now
    leg.clock_rate = track.config.payloads[0].clock_rate if track.config.payload_count else 90000
    leg.repair_sequence = (command.random >> 16) & 0x7FFF  # far from a roll-over, as the first may be lost
    renumber_init(&leg.renumber, <uint32_t>(command.random & 0x7FFF))
    leg_configure(leg, config)
    note_line(engine, peer, leg)
    share_again(engine, peer)
    leg.await_keyframe = track.config.video
    table_put(&engine.legs, leg.id, leg)
    if not leg.config.paused and peer.tx != NULL:
        leg_begin(engine, leg)


cdef void update_leg(EngineState* engine, Leg* leg, const Command* command) noexcept nogil:
    cdef LegConfig config = (<const LegConfig*>command.data)[0]
    config.ssrc = leg.config.ssrc  # an SSRC is a leg's for life
    config.rtx_ssrc = leg.config.rtx_ssrc
    config.paused = leg.config.paused
    leg_configure(leg, &config)
    note_line(engine, leg.peer, leg)
    share_again(engine, leg.peer)
    leg.floor_out = leg.renumber.next_out


cdef void pause_leg(EngineState* engine, Leg* leg, int paused) noexcept nogil:
    if leg.config.paused == paused:
        return
    leg.config.paused = paused
    share_again(engine, leg.peer)
    if paused:
        leg_restart(engine, leg, 0)
    else:
        leg_begin(engine, leg)


cdef void remove_leg(EngineState* engine, Leg* leg, int say_bye) noexcept nogil:
    cdef uint32_t ssrcs[2]
    cdef uint32_t id = leg.id
    ssrcs[0] = leg.config.ssrc
    ssrcs[1] = leg.config.rtx_ssrc
    forget_waiting(engine, leg, -1)
    share_again(engine, leg.peer)
    if say_bye and leg.packets:
        send_bye(engine, leg.peer, ssrcs, 2 if leg.config.rtx_ssrc else 1)
    drop_leg(leg.track.legs, &leg.track.leg_count, leg)
    drop_leg(leg.peer.legs, &leg.peer.leg_count, leg)
    table_remove(&engine.legs, id)
    free_leg(leg)
    removed(engine, id)


# ---- taps


cdef void add_tap(EngineState* engine, Track* track, const Command* command) noexcept nogil:
    cdef Encoding* best
    cdef int i
    cdef Tap* tap = <Tap*>calloc(1, sizeof(Tap))
    if tap == NULL or table_get(&engine.taps, command.id) != NULL:
        free(tap)
        (<TapQueue*>command.keep).closed = 1
        refuse(engine, command.id, b"this tap is there already, or out of memory", 43)
        removed(engine, command.id)
        return
    tap.id = command.id
    tap.track = track
    tap.ring = command.keep
    tap.next = track.taps
    track.taps = tap
    best = best_encoding(track, engine.now)
    tap.encoding = best.index
    tap.opened = engine.now
    tap.from_now = command.value != 0
    for i in range(track.config.encoding_count):
        floor_set(tap, &track.encodings[i])
    table_put(&engine.taps, tap.id, tap)
    floor_begin(engine, tap)


cdef void close_tap(EngineState* engine, Tap* tap) noexcept nogil:
    """Takes it off its track. It goes when the consumer has given everything back."""
    cdef Tap** link
    if tap.track == NULL:
        return
    link = &tap.track.taps
    while link[0] != tap:
        link = &link[0].next
    link[0] = tap.next
    tap.track = NULL
    (<TapQueue*>tap.ring).closed = 1


cdef void serve_taps(EngineState* engine) noexcept nogil:
    cdef uint64_t at = 0
    cdef Tap* tap
    cdef uint32_t id
    if engine.taps.count == 0:
        return
    while at <= engine.taps.mask:
        tap = <Tap*>engine.taps.entries[at].value
        if tap != NULL and tap_reclaim(<TapQueue*>tap.ring, &engine.pool) == 0 and tap.track == NULL:
            id = tap.id
            table_remove(&engine.taps, id)  # may move another entry to this place: look at it again
            free(tap)
            removed(engine, id)
            continue
        at += 1


# ---- all


cdef void on_peer(EngineState* engine, Peer* peer, const Command* command) noexcept nogil:
    if command.kind == COMMAND_RESTART_PEER:
        restart_peer(engine, peer, command)
    elif command.kind == COMMAND_SET_REMOTE:
        set_remote(peer, <const Credentials*>command.data)
    elif command.kind == COMMAND_SET_KEYS:
        set_keys(engine, peer, command)
    elif command.kind == COMMAND_SEND_DTLS:
        post(engine, peer, command.data, command.size)
    elif command.kind == COMMAND_REMOVE_PEER:
        remove_peer(engine, peer)


cdef void on_track(EngineState* engine, Track* track, const Command* command) noexcept nogil:
    if command.kind == COMMAND_UPDATE_TRACK:
        update_track(engine, track, <const TrackConfig*>command.data)
    elif command.kind == COMMAND_MUTE_TRACK:
        mute_track(engine, track, command.value != 0)
    elif command.kind == COMMAND_REMOVE_TRACK:
        remove_track(engine, track)
    elif command.kind == COMMAND_KEYFRAME:
        want_pictures(engine, track)


cdef void on_leg(EngineState* engine, Leg* leg, const Command* command) noexcept nogil:
    if command.kind == COMMAND_UPDATE_LEG:
        update_leg(engine, leg, command)
    elif command.kind == COMMAND_PAUSE_LEG:
        pause_leg(engine, leg, command.value != 0)
    elif command.kind == COMMAND_REMOVE_LEG:
        remove_leg(engine, leg, 1)


cdef void carry_out(EngineState* engine, const Command* command) noexcept nogil:
    """What a command names may have gone already; then there is nothing to do, save that ADD gives its block back."""
    cdef int kind = command.kind
    cdef Peer* peer
    cdef Track* track
    cdef Leg* leg
    cdef Tap* tap
    if kind == COMMAND_ADD_PEER:
        add_peer(engine, command)
    elif kind <= COMMAND_REMOVE_PEER:
        peer = <Peer*>table_get(&engine.peers, command.id)
        if peer != NULL:
            on_peer(engine, peer, command)
    elif kind == COMMAND_ADD_TRACK:
        peer = <Peer*>table_get(&engine.peers, command.peer)
        if peer != NULL:
            add_track(engine, peer, command)
        else:
            removed(engine, command.id)
    elif kind <= COMMAND_REMOVE_TRACK or kind == COMMAND_KEYFRAME:
        track = <Track*>table_get(&engine.tracks, command.id)
        if track != NULL:
            on_track(engine, track, command)
    elif kind == COMMAND_ADD_LEG:
        track = <Track*>table_get(&engine.tracks, command.track)
        peer = <Peer*>table_get(&engine.peers, command.peer)
        if track != NULL and peer != NULL:
            add_leg(engine, track, peer, command)
        else:
            removed(engine, command.id)
    elif kind <= COMMAND_REMOVE_LEG:
        leg = <Leg*>table_get(&engine.legs, command.id)
        if leg != NULL:
            on_leg(engine, leg, command)
    elif kind == COMMAND_ADD_TAP:
        track = <Track*>table_get(&engine.tracks, command.track)
        if track != NULL:
            add_tap(engine, track, command)
        else:
            (<TapQueue*>command.keep).closed = 1
            removed(engine, command.id)
    elif kind == COMMAND_REMOVE_TAP:
        tap = <Tap*>table_get(&engine.taps, command.id)
        if tap != NULL:
            close_tap(engine, tap)
    elif kind == COMMAND_ADD_MIRROR:
        add_mirror(engine, command)
    elif kind == COMMAND_LINK:
        link_up(engine, command.relay, <int>command.value)


cdef void remove_everything(EngineState* engine) noexcept nogil:
    cdef uint64_t at
    cdef Peer* peer
    cdef Tap* tap
    # Taps first, and without a look at their rings: those are Python objects, and may have gone before the engine.
    for at in range(engine.taps.mask + 1):
        tap = <Tap*>engine.taps.entries[at].value
        if tap != NULL:
            if tap.track != NULL:
                tap.track.taps = NULL
            free(tap)
            engine.taps.entries[at].value = NULL
    engine.taps.count = 0
    at = 0
    while at <= engine.peers.mask:
        peer = <Peer*>engine.peers.entries[at].value
        if peer != NULL:
            remove_peer(engine, peer)
            continue
        at += 1
    while engine.mirrors != NULL:
        remove_track(engine, engine.mirrors.track)
