"""The sources of a peer's tracks: whose an SSRC is, and what follows when that changes.

A source outlives its track, for its replay state must: it is kept without one until another track claims it.
"""

from libc.stddef cimport size_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memmove

from mediaserver.sfu.stream.buffers cimport packet_unref
from mediaserver.sfu.stream.fanout cimport fanout_flush_track
from mediaserver.sfu.stream.feedback cimport make_hot, want_keyframe
from mediaserver.sfu.stream.inbound cimport Inbound, inbound_init
from mediaserver.sfu.stream.leg cimport leg_restart
from mediaserver.sfu.stream.state cimport INBOUNDS_MAX
from mediaserver.sfu.wire.packet cimport EXT_MID, ExtValues, ext_read


# ---- whose it is


cdef int names(const Track* track, uint32_t ssrc) noexcept nogil:
    """The SDP gives the SSRC to this track."""
    cdef int i
    for i in range(track.config.ssrc_count):
        if track.config.ssrcs[i] == ssrc or track.config.rtx_ssrcs[i] == ssrc:
            return 1
    return 0


cdef inline int carries(const Track* track, uint8_t payload_type) noexcept nogil:
    return track.config.payload_at[payload_type] or track.config.repaired_at[payload_type]


cdef size_t read_mid(Peer* peer, const uint8_t* data, const RtpHeader* header, const uint8_t** mid) noexcept nogil:
    """The bytes of the packet's mid, 0 when it has none. Its id is the same for all tracks of a bundle."""
    cdef Track* track = peer.tracks
    cdef ExtValues values
    while track != NULL:
        ext_read(data, header, &track.config.ext, &values)
        if values.present & (1 << EXT_MID):
            mid[0] = values.data[<int>EXT_MID]
            return values.size[<int>EXT_MID]
        track = track.next
    return 0


cdef Track* by_mid(Peer* peer, const uint8_t* mid, size_t size) noexcept nogil:
    cdef Track* track = peer.tracks
    while track != NULL:
        if track.config.mid_size == size and memcmp(track.config.mid, mid, size) == 0:
            return track
        track = track.next
    return NULL


cdef Track* by_ssrc(Peer* peer, uint32_t ssrc) noexcept nogil:
    cdef Track* track = peer.tracks
    while track != NULL:
        if names(track, ssrc):
            return track
        track = track.next
    return NULL


cdef Track* by_payload_type(Peer* peer, uint8_t payload_type) noexcept nogil:
    """The only track that may carry this payload type; NULL when there are several."""
    cdef Track* track = peer.tracks
    cdef Track* found = NULL
    while track != NULL:
        if carries(track, payload_type):
            if found != NULL:
                return NULL
            found = track
        track = track.next
    return found


cdef Track* owner_of(Peer* peer, const uint8_t* data, const RtpHeader* header) noexcept nogil:
    """RFC 8843, section 9.2: a mid decides, and a packet of an unknown mid is nobody's."""
    cdef const uint8_t* mid = NULL
    cdef size_t size = read_mid(peer, data, header, &mid)
    cdef Track* track
    if size:
        track = by_mid(peer, mid, size)
    else:
        track = by_ssrc(peer, header.ssrc)
        if track == NULL:
            track = by_payload_type(peer, header.payload_type)
    if track == NULL or not carries(track, header.payload_type):
        return NULL
    return track


# ---- what follows


cdef void forget_history(EngineState* engine, Track* track) noexcept nogil:
    cdef uint32_t i
    for i in range(track.history.mask + 1):
        if track.history.slots[i] != NULL:
            packet_unref(&engine.pool, track.history.slots[i])
            track.history.slots[i] = NULL


cdef void change_source(EngineState* engine, Track* track) noexcept nogil:
    """The track's packets come from another SSRC from now on."""
    cdef uint32_t i
    fanout_flush_track(engine, track)  # what waits is of the old source: it leaves by the old source's numbers
    forget_history(engine, track)
    track.inband_config = 0
    for i in range(track.leg_count):
        leg_restart(track.legs[i], 1)
    if track.leg_count or track.taps != NULL:
        want_keyframe(engine, track)


cdef void bind(EngineState* engine, Peer* peer, int at, Track* track) noexcept nogil:
    cdef Inbound* source = peer.inbounds[at]
    peer.inbound_tracks[at] = track
    if source.repair:
        track.repair = source
        return
    if track.active != NULL:
        change_source(engine, track)
    track.active = source
    if track.want_keyframe:
        make_hot(engine, peer, engine.now)  # a leg or a tap was there before anybody could be asked


cdef void unbind(EngineState* engine, Peer* peer, int at) noexcept nogil:
    cdef Inbound* source = peer.inbounds[at]
    cdef Track* track = peer.inbound_tracks[at]
    peer.inbound_tracks[at] = NULL
    if track.repair == source:
        track.repair = NULL
    if track.active == source:
        track.active = NULL
        change_source(engine, track)


cdef void evict_source(Peer* peer) noexcept nogil:
    """Makes room: the first source that no track uses any more."""
    cdef int i
    cdef Track* track
    for i in range(peer.inbound_count):
        track = peer.inbound_tracks[i]
        if track == NULL or (track.active != peer.inbounds[i] and track.repair != peer.inbounds[i]):
            free(peer.inbounds[i])
            peer.inbound_count -= 1
            memmove(&peer.inbounds[i], &peer.inbounds[i + 1], (peer.inbound_count - i) * sizeof(Inbound*))
            memmove(&peer.inbound_tracks[i], &peer.inbound_tracks[i + 1], (peer.inbound_count - i) * sizeof(Track*))
            return


cdef int adopt_source(EngineState* engine, Peer* peer, const uint8_t* data, const RtpHeader* header,
                      const SrtpReceiver* receiver) noexcept nogil:
    cdef Track* track = owner_of(peer, data, header)
    cdef Inbound* source
    cdef int at
    if track != NULL and peer.inbound_count == INBOUNDS_MAX:
        evict_source(peer)
    if track == NULL or peer.inbound_count == INBOUNDS_MAX:
        engine.counters.drop_unknown_ssrc += 1
        return -1
    source = <Inbound*>malloc(sizeof(Inbound))
    if source == NULL:
        engine.counters.drop_memory += 1
        return -1
    inbound_init(source, header.ssrc, track.config.repaired_at[header.payload_type] != 0)
    source.srtp = receiver[0]
    at = peer.inbound_count
    peer.inbounds[at] = source
    peer.inbound_count += 1
    bind(engine, peer, at, track)
    return at


cdef Track* claim_source(EngineState* engine, Peer* peer, int at, const uint8_t* data,
                         const RtpHeader* header) noexcept nogil:
    cdef Track* track = owner_of(peer, data, header)
    cdef Inbound* source = peer.inbounds[at]
    if track == NULL or source.repair != (track.config.repaired_at[header.payload_type] != 0):
        return NULL
    # What the m-line carried before may still send: it must not take the place of what it carries now.
    if (track.repair if source.repair else track.active) != NULL and not names(track, header.ssrc):
        return NULL
    bind(engine, peer, at, track)
    return track


cdef void update_sources(EngineState* engine, Track* track, int moved) noexcept nogil:
    cdef Peer* peer = track.peer
    cdef Track* owner
    cdef int i, named
    for i in range(peer.inbound_count):
        owner = peer.inbound_tracks[i]
        named = names(track, peer.inbounds[i].ssrc)
        if (owner == track and moved and not named) or (owner != NULL and owner != track and named):
            unbind(engine, peer, i)


cdef void release_sources(Track* track) noexcept nogil:
    cdef int i
    for i in range(track.peer.inbound_count):
        if track.peer.inbound_tracks[i] == track:
            track.peer.inbound_tracks[i] = NULL
