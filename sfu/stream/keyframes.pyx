"""Keyframes are asked for once for everybody, and never more often than the publisher can bear."""

from libc.stdint cimport uint8_t, uint32_t

from mediaserver.sfu.stream.agenda cimport make_hot
from mediaserver.sfu.stream.mirror cimport mirror_wants
from mediaserver.sfu.stream.rtcp_out cimport send_rtcp
from mediaserver.sfu.stream.state cimport Track
from mediaserver.sfu.wire.rtcp cimport rtcp_write_fir, rtcp_write_pli


cdef void want_keyframe(EngineState* engine, Encoding* encoding) noexcept nogil:
    cdef Track* track = encoding.track
    if not track.config.video or track.muted:
        return
    if track.mirror != NULL:
        mirror_wants(engine, encoding)
        return
    # Also when one is wanted already: the peer may have cooled down meanwhile, as a muted track asks for nothing.
    encoding.want_keyframe = 1
    make_hot(engine, track.peer, engine.now)


cdef void leg_wants_keyframe(EngineState* engine, Leg* leg) noexcept nogil:
    if leg.gate != NULL and leg.gate.want_key_of >= 0:
        want_keyframe(engine, &leg.track.encodings[<int>leg.gate.want_key_of])
    else:
        want_keyframe(engine, leg.source)


cdef int64_t ask_keyframe(EngineState* engine, Encoding* encoding) noexcept nogil:
    cdef Track* track = encoding.track
    cdef int64_t due
    cdef uint8_t out[64]
    cdef int size = 0
    cdef uint32_t i
    if not encoding.want_keyframe or encoding.active == NULL or track.muted:
        return 0
    due = encoding.keyframe_asked + track.config.keyframe_interval
    if encoding.keyframe_asked and engine.now < due:
        return due
    for i in range(track.config.payload_count):
        if track.config.payloads[i].pli:
            size = rtcp_write_pli(out, sizeof(out), track.peer.feedback_ssrc, encoding.active.ssrc)
            break
        if track.config.payloads[i].fir:
            encoding.fir_command += 1
            size = rtcp_write_fir(out, sizeof(out), track.peer.feedback_ssrc, encoding.active.ssrc, encoding.fir_command)
            break
    if size <= 0:
        encoding.want_keyframe = 0  # nothing was agreed by which to ask
        return 0
    send_rtcp(engine, track.peer, out, size)
    encoding.keyframe_asked = engine.now
    track.stats.plis += 1
    engine.counters.plis_out += 1
    return engine.now + track.config.keyframe_interval
