"""RTCP on its way out."""

from libc.string cimport memcpy

from mediaserver.sfu.stream.outbox cimport DATAGRAM_MAX, outbox_add, outbox_room
from mediaserver.sfu.wire.srtp cimport SRTCP_MAX_OVERHEAD, srtcp_protect


cdef void send_rtcp(EngineState* engine, Peer* peer, const uint8_t* data, size_t size) noexcept nogil:
    cdef uint8_t* out
    cdef int total
    if peer.tx == NULL or not peer.connected or size == 0 or size + SRTCP_MAX_OVERHEAD > DATAGRAM_MAX:
        return
    out = outbox_room(&engine.outbox)
    if out == NULL:
        return
    memcpy(out, data, size)
    total = srtcp_protect(peer.tx, out, size, DATAGRAM_MAX)
    if total > 0:
        outbox_add(&engine.outbox, &peer.addr, total)
        engine.counters.rtcp_out += 1
