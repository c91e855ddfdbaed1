"""The sources of a peer's tracks: whose an SSRC is, and what follows when that changes."""

from libc.stdint cimport uint8_t, uint32_t

from mediaserver.sfu.stream.state cimport Encoding, EngineState, Peer, Track
from mediaserver.sfu.wire.packet cimport RtpHeader
from mediaserver.sfu.wire.srtp cimport SrtpReceiver

# The place of an SSRC among the peer's sources, or -1.
cdef inline int find_source(Peer* peer, uint32_t ssrc) noexcept nogil:
    cdef int i = peer.inbound_last
    if i < peer.inbound_count and peer.inbounds[i].ssrc == ssrc:
        return i
    for i in range(peer.inbound_count):
        if peer.inbounds[i].ssrc == ssrc:
            peer.inbound_last = i
            return i
    return -1

# A packet of a new SSRC has verified, and this is its replay state: its place among the peer's sources from now on, or
# -1 when it is nobody's. `data` is the packet.
cdef int adopt_source(EngineState* engine, Peer* peer, const uint8_t* data, const RtpHeader* header,
                      const SrtpReceiver* receiver) noexcept nogil
# A packet of a source that has lost its track: the encoding that is to have it from now on, or NULL.
cdef Encoding* claim_source(EngineState* engine, Peer* peer, int at, const uint8_t* data,
                            const RtpHeader* header) noexcept nogil
# The track's mid or the SSRCs that it names are others now; `moved`: it has another mid. Call between batches.
cdef void update_sources(EngineState* engine, Track* track, int moved) noexcept nogil
# The track goes: its sources are nobody's.
cdef void release_sources(Track* track) noexcept nogil
# The encoding's packets come from another SSRC from now on; `active` is the one before yet.
cdef void change_source(EngineState* engine, Encoding* encoding) noexcept nogil
# What the encoding has sent is not to be had any more.
cdef void forget_history(EngineState* engine, Encoding* encoding) noexcept nogil
