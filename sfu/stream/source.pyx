"""The sources of a peer's tracks: whose an SSRC is, and what follows when that changes.

A source outlives its track, for its replay state must: it is kept without one until another track claims it.
"""

from libc.stddef cimport size_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memmove

from mediaserver.sfu.stream.buffers cimport packet_unref
from mediaserver.sfu.stream.fanout cimport fanout_flush_track
from mediaserver.sfu.stream.agenda cimport make_hot
from mediaserver.sfu.stream.floor cimport floor_set
from mediaserver.sfu.stream.history cimport History
from mediaserver.sfu.stream.inbound cimport Inbound, inbound_init
from mediaserver.sfu.stream.keyframes cimport want_keyframe
from mediaserver.sfu.stream.leg cimport leg_restart
from mediaserver.sfu.stream.sending cimport forget_waiting
from mediaserver.sfu.stream.state cimport INBOUNDS_MAX, Tap
from mediaserver.sfu.wire.packet cimport EXT_MID, EXT_RID, EXT_RRID, ExtValues, ext_read


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


cdef size_t read_name(Peer* peer, const uint8_t* data, const RtpHeader* header, int kind,
                      const uint8_t** name) noexcept nogil:
    """The bytes of the packet's mid or rid, 0 when it has none. Their ids are the same for all tracks of a bundle."""
    cdef Track* track = peer.tracks
    cdef ExtValues values
    while track != NULL:
        ext_read(data, header, &track.config.ext, &values)
        if values.present & (<uint32_t>1 << kind):
            name[0] = values.data[kind]
            return values.size[kind]
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


cdef Encoding* encoding_of(Peer* peer, Track* track, const uint8_t* data, const RtpHeader* header) noexcept nogil:
    """RFC 8853: a rid tells, or else the place of the SSRC among those that the SDP names. NULL: neither does."""
    cdef const uint8_t* rid = NULL
    cdef int repair = track.config.repaired_at[header.payload_type] != 0
    cdef size_t size
    cdef int i
    if track.config.encoding_count == 1:
        return &track.encodings[0]
    size = read_name(peer, data, header, EXT_RRID if repair else EXT_RID, &rid)
    if size == 0 and repair:
        size = read_name(peer, data, header, EXT_RID, &rid)
    if size:
        for i in range(track.config.encoding_count):
            if track.config.rid_size[i] == size and memcmp(track.config.rids[i], rid, size) == 0:
                return &track.encodings[i]
        return NULL
    for i in range(track.config.ssrc_count):
        if track.config.ssrcs[i] == header.ssrc or track.config.rtx_ssrcs[i] == header.ssrc:
            return &track.encodings[i] if i < track.config.encoding_count else NULL
    return NULL


cdef Encoding* owner_of(Peer* peer, const uint8_t* data, const RtpHeader* header) noexcept nogil:
    """RFC 8843, section 9.2: a mid decides, and a packet of an unknown mid is nobody's."""
    cdef const uint8_t* mid = NULL
    cdef size_t size = read_name(peer, data, header, EXT_MID, &mid)
    cdef Track* track
    if size:
        track = by_mid(peer, mid, size)
    else:
        track = by_ssrc(peer, header.ssrc)
        if track == NULL:
            track = by_payload_type(peer, header.payload_type)
    if track == NULL or not carries(track, header.payload_type):
        return NULL
    return encoding_of(peer, track, data, header)


# ---- what follows


cdef void forget_history(EngineState* engine, Encoding* encoding) noexcept nogil:
    cdef History* history = &encoding.history
    cdef uint32_t i
    if history.slots == NULL:
        return
    for i in range(history.mask + 1):
        if history.slots[i] != NULL:
            packet_unref(&engine.pool, history.slots[i])
            history.slots[i] = NULL


cdef void change_source(EngineState* engine, Encoding* encoding) noexcept nogil:
    """The encoding's packets come from another SSRC from now on."""
    cdef Track* track = encoding.track
    cdef uint32_t i
    fanout_flush_track(engine, track)  # what waits is of the old source: it leaves by the old source's numbers
    forget_history(engine, encoding)
    encoding.generation += 1
    encoding.inband_config = 0
    encoding.meter.started = 0
    encoding.meter.measured = 0
    free(encoding.dependency)
    encoding.dependency = NULL
    for i in range(track.leg_count):
        if track.legs[i].source == encoding:
            leg_restart(engine, track.legs[i], 1)
        else:
            forget_waiting(engine, track.legs[i], encoding.index)  # it was to turn to this one
            track.legs[i].catch_up.until = 0
    if track.leg_count or track.taps != NULL:
        want_keyframe(engine, encoding)


cdef void set_floors(const Encoding* encoding) noexcept nogil:
    cdef Tap* tap = encoding.track.taps
    while tap != NULL:
        floor_set(tap, encoding)
        tap = tap.next


cdef void bind(EngineState* engine, Peer* peer, int at, Encoding* encoding) noexcept nogil:
    cdef Inbound* source = peer.inbounds[at]
    peer.inbound_encodings[at] = encoding
    if source.repair:
        encoding.repair = source
        return
    if encoding.active != NULL:
        change_source(engine, encoding)
    encoding.active = source
    set_floors(encoding)
    if encoding.want_keyframe:
        make_hot(engine, peer, engine.now)  # a leg or a tap was there before anybody could be asked


cdef void unbind(EngineState* engine, Peer* peer, int at) noexcept nogil:
    cdef Inbound* source = peer.inbounds[at]
    cdef Encoding* encoding = peer.inbound_encodings[at]
    peer.inbound_encodings[at] = NULL
    if encoding.repair == source:
        encoding.repair = NULL
    if encoding.active == source:
        encoding.active = NULL
        change_source(engine, encoding)
        set_floors(encoding)


cdef void evict_source(Peer* peer) noexcept nogil:
    """Makes room: the first source that no track uses any more."""
    cdef int i
    cdef Encoding* encoding
    for i in range(peer.inbound_count):
        encoding = peer.inbound_encodings[i]
        if encoding == NULL or (encoding.active != peer.inbounds[i] and encoding.repair != peer.inbounds[i]):
            free(peer.inbounds[i])
            peer.inbound_count -= 1
            memmove(&peer.inbounds[i], &peer.inbounds[i + 1], (peer.inbound_count - i) * sizeof(Inbound*))
            memmove(&peer.inbound_encodings[i], &peer.inbound_encodings[i + 1],
                    (peer.inbound_count - i) * sizeof(Encoding*))
            return


cdef int adopt_source(EngineState* engine, Peer* peer, const uint8_t* data, const RtpHeader* header,
                      const SrtpReceiver* receiver) noexcept nogil:
    cdef Encoding* encoding = owner_of(peer, data, header)
    cdef Inbound* source
    cdef int at
    if encoding != NULL and peer.inbound_count == INBOUNDS_MAX:
        evict_source(peer)
    if encoding == NULL or peer.inbound_count == INBOUNDS_MAX:
        engine.counters.drop_unknown_ssrc += 1
        return -1
    source = <Inbound*>malloc(sizeof(Inbound))
    if source == NULL:
        engine.counters.drop_memory += 1
        return -1
    inbound_init(source, header.ssrc, encoding.track.config.repaired_at[header.payload_type] != 0, engine.now)
    source.srtp = receiver[0]
    at = peer.inbound_count
    peer.inbounds[at] = source
    peer.inbound_count += 1
    bind(engine, peer, at, encoding)
    return at


cdef Encoding* claim_source(EngineState* engine, Peer* peer, int at, const uint8_t* data,
                            const RtpHeader* header) noexcept nogil:
    cdef Encoding* encoding = owner_of(peer, data, header)
    cdef Inbound* source = peer.inbounds[at]
    if encoding == NULL or source.repair != (encoding.track.config.repaired_at[header.payload_type] != 0):
        return NULL
    # What the m-line carried before may still send: it must not take the place of what it carries now.
    if (encoding.repair if source.repair else encoding.active) != NULL and not names(encoding.track, header.ssrc):
        return NULL
    bind(engine, peer, at, encoding)
    return encoding


cdef void update_sources(EngineState* engine, Track* track, int moved) noexcept nogil:
    cdef Peer* peer = track.peer
    cdef Track* owner
    cdef int i, named
    for i in range(peer.inbound_count):
        owner = peer.inbound_encodings[i].track if peer.inbound_encodings[i] != NULL else NULL
        named = names(track, peer.inbounds[i].ssrc)
        if (owner == track and moved and not named) or (owner != NULL and owner != track and named):
            unbind(engine, peer, i)


cdef void release_sources(Track* track) noexcept nogil:
    cdef Encoding* encoding
    cdef int i
    for i in range(track.peer.inbound_count):
        encoding = track.peer.inbound_encodings[i]
        if encoding != NULL and encoding.track == track:
            track.peer.inbound_encodings[i] = NULL
