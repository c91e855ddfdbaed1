"""An outgoing copy of a track to one viewer."""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from mediaserver.sfu.stream.clocks cimport engine_minus_peer, engine_ntp, rtp_units
from mediaserver.sfu.stream.history cimport history_get
from mediaserver.sfu.stream.inbound cimport Inbound
from mediaserver.sfu.stream.keyframes cimport want_keyframe
from mediaserver.sfu.stream.outbox cimport DATAGRAM_MAX, outbox_add, outbox_room
from mediaserver.sfu.stream.renumber cimport (
    renumber_align,
    renumber_cut,
    renumber_drop,
    renumber_find,
    renumber_map,
    renumber_switch,
)
from mediaserver.sfu.stream.report cimport REPORT_LEG_LIVE, report
from mediaserver.sfu.stream.state cimport FIXED_EXT_MAX
from mediaserver.sfu.wire.packet cimport (
    EXT_ABS_CAPTURE_TIME,
    EXT_AUDIO_LEVEL,
    EXT_COLOR_SPACE,
    EXT_DEPENDENCY_DESCRIPTOR,
    EXT_MID,
    EXT_PLAYOUT_DELAY,
    EXT_VIDEO_CONTENT_TYPE,
    EXT_VIDEO_ORIENTATION,
    EXT_VIDEO_TIMING,
    RTP_HEADER_SIZE,
    RTP_X_BIT,
    ExtValues,
    ext_write,
    rtp_write,
    write_u16,
)
from mediaserver.sfu.wire.rtcp cimport rtcp_write_sdes, rtcp_write_sr
from mediaserver.sfu.wire.srtp cimport SRTP_MAX_TAG, srtp_protect

cdef enum:
    # What a viewer can use as the publisher wrote it. Everything that speaks of one hop (mid, rid, transport-wide
    # numbers, send times) stays behind.
    PASSED = (
        (1 << EXT_AUDIO_LEVEL) | (1 << EXT_ABS_CAPTURE_TIME) | (1 << EXT_PLAYOUT_DELAY) | (1 << EXT_VIDEO_ORIENTATION)
        | (1 << EXT_DEPENDENCY_DESCRIPTOR) | (1 << EXT_VIDEO_CONTENT_TYPE) | (1 << EXT_VIDEO_TIMING)
        | (1 << EXT_COLOR_SPACE)
    )
    REPAIR_RATE = 500        # retransmissions a second that one leg may have
    REPAIR_BURST = 256


cdef void set_own(const LegConfig* config, ExtValues* values) noexcept nogil:
    """The extensions that the server itself gives: the viewer's mid, and a playout delay unless there is one."""
    values.data[<int>EXT_MID] = &config.mid[0]
    values.size[<int>EXT_MID] = config.mid_size
    values.present |= 1 << EXT_MID
    if config.has_playout_delay and not values.present & (1 << EXT_PLAYOUT_DELAY):
        values.data[<int>EXT_PLAYOUT_DELAY] = &config.playout_delay[0]
        values.size[<int>EXT_PLAYOUT_DELAY] = 3
        values.present |= 1 << EXT_PLAYOUT_DELAY


cdef void leg_configure(Leg* leg, const LegConfig* config) noexcept nogil:
    cdef ExtValues values
    cdef int kind, size
    leg.config = config[0]
    leg.config.passed = 0
    for kind in range(1, 32):
        if (PASSED >> kind) & 1 and leg.config.ext.id[kind]:
            leg.config.passed |= <uint32_t>1 << kind
    memset(&values, 0, sizeof(values))
    set_own(&leg.config, &values)
    size = ext_write(leg.config.fixed_ext, FIXED_EXT_MAX, &values, &leg.config.ext, values.present)
    leg.config.fixed_ext_size = <uint8_t>size if size > 0 else 0


cdef int write_header(Leg* leg, uint8_t* out, const Packet* packet, uint8_t payload_type, uint16_t sequence,
                      uint32_t ssrc) noexcept nogil:
    """The same bytes for the same packet and number, each time: a retransmission may have to repeat them."""
    cdef int size = rtp_write(
        out, payload_type, packet.marker, sequence, packet.timestamp + leg.renumber.timestamp_offset, ssrc
    )
    cdef ExtValues values
    cdef int block
    if packet.ext.present & leg.config.passed:
        values = packet.ext
        values.present &= leg.config.passed
        set_own(&leg.config, &values)
        block = ext_write(out + size, DATAGRAM_MAX - size, &values, &leg.config.ext, values.present)
        if block <= 0:
            return size
    elif leg.config.fixed_ext_size:
        block = leg.config.fixed_ext_size
        memcpy(out + size, leg.config.fixed_ext, block)
    else:
        return size
    out[0] |= RTP_X_BIT
    return size + block


cdef inline int fits(int header_size, const Packet* packet) noexcept nogil:
    return header_size + packet.payload_size + 2 + SRTP_MAX_TAG <= DATAGRAM_MAX


cdef void leg_turn(EngineState* engine, Leg* leg, Encoding* target) noexcept nogil:
    leg.target = target
    if leg.source != target and not leg.config.paused:
        want_keyframe(engine, target)


cdef uint32_t aligned(const Encoding* before, const Encoding* after, uint32_t offset,
                      uint32_t clock_rate) noexcept nogil:
    """The timestamp offset with which two encodings of one picture go on as one, by their sender reports."""
    cdef int64_t apart = <int64_t>(after.active.sender_ntp - before.active.sender_ntp)  # 32.32
    cdef int64_t ticks = ((apart >> 8) * <int64_t>clock_rate) >> 24
    return before.active.sender_rtp + <uint32_t>ticks - after.active.sender_rtp + offset


cdef int turns(Leg* leg, const Packet* packet) noexcept nogil:
    """The leg goes over to its target, at a key picture of that: without a gap in numbers or time."""
    cdef Encoding* before = leg.source
    if packet.encoding != leg.target.index or not packet.keyframe:
        return 0
    leg.source = leg.target
    renumber_switch(&leg.renumber)
    if before.active != NULL and before.active.sender_arrival and leg.source.active.sender_arrival:
        renumber_align(&leg.renumber, aligned(before, leg.source, leg.renumber.timestamp_offset, leg.clock_rate))
    return 1


cdef void leg_forward(EngineState* engine, Leg* leg, Packet* packet) noexcept nogil:
    cdef uint8_t payload_type
    cdef int64_t outgoing
    cdef uint8_t* out
    cdef int size
    if leg.config.paused or leg.peer.tx == NULL:
        return
    if packet.encoding != leg.source.index and not turns(leg, packet):
        return
    payload_type = leg.config.outgoing[packet.payload_type]
    if payload_type == 255 or packet.payload_size == 0:
        renumber_drop(&leg.renumber, packet.sequence)
        return
    if leg.await_keyframe:
        if not packet.keyframe:
            return
        leg.await_keyframe = 0
    outgoing = renumber_map(&leg.renumber, packet.sequence, packet.timestamp, leg.clock_rate, packet.arrival)
    if outgoing < 0:
        return
    out = outbox_room(&engine.outbox)
    if out == NULL:
        return
    size = write_header(leg, out, packet, payload_type, <uint16_t>outgoing, leg.config.ssrc)
    if not fits(size, packet):
        engine.counters.drop_oversize += 1
        return
    size = srtp_protect(leg.peer.tx, <uint64_t>outgoing, out, size, packet.data + packet.payload_offset,
                        packet.payload_size)
    if size < 0:
        return
    outbox_add(&engine.outbox, &leg.peer.addr, size)
    leg.packets += 1
    leg.octets += packet.payload_size
    leg.stats.packets = leg.packets
    leg.stats.bytes = leg.octets
    engine.counters.rtp_out += 1
    if not leg.live:
        leg.live = 1
        report(engine, REPORT_LEG_LIVE, leg.id, <uint64_t>(engine.now - leg.added), NULL, 0)


cdef int spend_credit(Leg* leg, int64_t now) noexcept nogil:
    """A bucket of tokens: whoever asks without end gets no flood."""
    leg.repair_credit += (now - leg.repair_credit_at) * REPAIR_RATE
    leg.repair_credit_at = now
    if leg.repair_credit > <int64_t>REPAIR_BURST * 1000000:
        leg.repair_credit = <int64_t>REPAIR_BURST * 1000000
    if leg.repair_credit < 1000000:
        return 0
    leg.repair_credit -= 1000000
    return 1


cdef void leg_retransmit(EngineState* engine, Leg* leg, uint16_t sequence) noexcept nogil:
    cdef uint64_t outgoing
    cdef int64_t incoming = renumber_find(&leg.renumber, sequence, &outgoing)
    cdef Packet* packet = NULL
    cdef uint8_t* out
    cdef uint8_t repair_type
    cdef int size
    if incoming >= 0 and not leg.config.paused and leg.peer.tx != NULL:
        packet = history_get(&leg.source.history, <uint64_t>incoming)
    if packet == NULL or packet.payload_size == 0 or not spend_credit(leg, engine.now):
        engine.counters.retransmit_missed += 1
        return
    out = outbox_room(&engine.outbox)
    if out == NULL or leg.config.outgoing[packet.payload_type] == 255:
        return
    repair_type = leg.config.rtx_type[packet.payload_type]
    if repair_type and leg.config.rtx_ssrc:
        size = write_header(leg, out, packet, repair_type, <uint16_t>leg.repair_sequence, leg.config.rtx_ssrc)
        if not fits(size, packet):
            return
        write_u16(engine.scratch, sequence)
        memcpy(engine.scratch + 2, packet.data + packet.payload_offset, packet.payload_size)
        size = srtp_protect(leg.peer.tx, leg.repair_sequence, out, size, engine.scratch, packet.payload_size + 2)
        leg.repair_sequence += 1
    else:
        if outgoing < leg.floor_out:
            return  # other bytes would now go out under a number that is used: that would reveal the key
        size = write_header(leg, out, packet, leg.config.outgoing[packet.payload_type], sequence, leg.config.ssrc)
        if not fits(size, packet):
            return
        size = srtp_protect(leg.peer.tx, outgoing, out, size, packet.data + packet.payload_offset,
                            packet.payload_size)
    if size < 0:
        return
    outbox_add(&engine.outbox, &leg.peer.addr, size)
    leg.stats.retransmitted += 1
    engine.counters.retransmitted += 1
    engine.counters.rtp_out += 1


cdef void leg_restart(Leg* leg, int new_source) noexcept nogil:
    if new_source:
        renumber_switch(&leg.renumber)
    else:
        renumber_cut(&leg.renumber)
    leg.await_keyframe = leg.track.config.video


cdef int leg_sender_report(Leg* leg, uint8_t* out, uint32_t capacity, int64_t now) noexcept nogil:
    cdef const Inbound* source = leg.source.active
    cdef uint64_t ntp, since
    cdef uint32_t timestamp
    cdef int size, more
    if source == NULL or source.sender_arrival == 0 or leg.packets == 0 or leg.renumber.cut:
        return 0
    ntp = engine_ntp(now)  # the true time of sending: viewers set their clocks by it
    since = ntp - source.sender_ntp - engine_minus_peer(leg.track.peer)
    timestamp = source.sender_rtp + rtp_units(since, leg.clock_rate) + leg.renumber.timestamp_offset
    size = rtcp_write_sr(out, capacity, leg.config.ssrc, ntp, timestamp, <uint32_t>leg.packets, <uint32_t>leg.octets,
                         NULL, 0)
    if size < 0:
        return 0
    more = rtcp_write_sdes(out + size, capacity - size, leg.config.ssrc, leg.config.cname, leg.config.cname_size)
    if more < 0:
        return 0
    leg.report_mid = <uint32_t>(ntp >> 16)
    leg.report_sent = now
    return size + more
