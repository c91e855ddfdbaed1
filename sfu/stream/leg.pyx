"""An outgoing copy of a track to one viewer."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy, memset

from mediaserver.codecs.dependency cimport DEPENDENCY_MAX
from mediaserver.sfu.policy.bwe.estimator cimport SENT_MEDIA, SENT_PADDING
from mediaserver.sfu.policy.descriptors cimport REWRITE_MAX, gate_dependency, gate_rewrite
from mediaserver.sfu.policy.layers cimport (
    GATE_DROP,
    GATE_FORWARD,
    GateInput,
    GatePicture,
    GateVerdict,
    gate_decide,
    gate_restart,
)
from mediaserver.sfu.policy.pictures cimport gate_picture
from mediaserver.sfu.stream.buffers cimport packet_settle
from mediaserver.sfu.stream.catchup cimport is_catch_up, came_at, timestamp_on
from mediaserver.sfu.stream.clocks cimport engine_minus_peer, engine_ntp, rtp_units
from mediaserver.sfu.stream.inbound cimport Inbound
from mediaserver.sfu.stream.outbox cimport DATAGRAM_MAX, outbox_add, outbox_room
from mediaserver.sfu.stream.renumber cimport (
    renumber_align,
    renumber_cut,
    renumber_drop,
    renumber_map,
    renumber_switch,
)
from mediaserver.sfu.stream.report cimport REPORT_LEG_LIVE, report
from mediaserver.sfu.stream.ring cimport ring_publish
from mediaserver.sfu.stream.spread cimport Spread, spread_add
from mediaserver.sfu.stream.sending cimport forget_waiting, note_leaves
from mediaserver.sfu.stream.state cimport FIXED_EXT_MAX, Encoding, LegConfig, Mirror, leaves_as
from mediaserver.sfu.wire.packet cimport (
    EXT_ABS_CAPTURE_TIME,
    EXT_ABS_SEND_TIME,
    EXT_AUDIO_LEVEL,
    EXT_COLOR_SPACE,
    EXT_COUNT,
    EXT_DEPENDENCY_DESCRIPTOR,
    EXT_MID,
    EXT_PLAYOUT_DELAY,
    EXT_TWCC,
    EXT_VIDEO_CONTENT_TYPE,
    EXT_VIDEO_ORIENTATION,
    EXT_VIDEO_TIMING,
    RTP_HEADER_SIZE,
    RTP_P_BIT,
    RTP_X_BIT,
    ExtMap,
    ExtValues,
    RtpHeader,
    ext_read,
    ext_write,
    rtp_parse,
    rtp_write,
    write_u16,
)
from mediaserver.sfu.wire.rtcp cimport rtcp_write_sdes, rtcp_write_sr
from mediaserver.sfu.wire.srtp cimport srtp_protect

cdef enum:
    # What a viewer can use as the publisher wrote it. Everything that speaks of one hop (mid, rid, transport-wide
    # numbers, send times) stays behind.
    PASSED = (
        (1 << EXT_AUDIO_LEVEL) | (1 << EXT_ABS_CAPTURE_TIME) | (1 << EXT_PLAYOUT_DELAY) | (1 << EXT_VIDEO_ORIENTATION)
        | (1 << EXT_DEPENDENCY_DESCRIPTOR) | (1 << EXT_VIDEO_CONTENT_TYPE) | (1 << EXT_VIDEO_TIMING)
        | (1 << EXT_COLOR_SPACE)
    )


cdef void set_own(const LegConfig* config, ExtValues* values) noexcept nogil:
    """The extensions that the server itself gives: the viewer's mid, and a playout delay unless there is one."""
    values.data[<int>EXT_MID] = &config.mid[0]
    values.size[<int>EXT_MID] = config.mid_size
    values.present |= 1 << EXT_MID
    if config.has_playout_delay and not values.present & (1 << EXT_PLAYOUT_DELAY):
        values.data[<int>EXT_PLAYOUT_DELAY] = &config.playout_delay[0]
        values.size[<int>EXT_PLAYOUT_DELAY] = 3
        values.present |= 1 << EXT_PLAYOUT_DELAY


cdef const uint8_t* NOTHING = b"\0\0\0\0"


cdef inline void set_stamp(const Leg* leg, ExtValues* values, const uint8_t* stamp) noexcept nogil:
    cdef int kind = leg.config.stamp
    if kind:
        values.data[kind] = stamp
        values.size[kind] = 2 if kind == EXT_TWCC else 3
        values.present |= <uint32_t>1 << kind


cdef void find_stamp(LegConfig* config) noexcept nogil:
    """Where the departure's stamp stands in the fixed block: it is laid into it packet by packet."""
    cdef uint8_t probe[RTP_HEADER_SIZE + FIXED_EXT_MAX]
    cdef RtpHeader header
    cdef ExtValues values
    cdef ExtMap ids
    cdef int kind
    if not config.stamp or not config.fixed_ext_size:
        return
    rtp_write(probe, 0, 0, 0, 0, 0)
    probe[0] |= RTP_X_BIT
    memcpy(probe + RTP_HEADER_SIZE, config.fixed_ext, config.fixed_ext_size)
    if rtp_parse(probe, RTP_HEADER_SIZE + config.fixed_ext_size, &header) < 0:
        config.stamp = 0
        return
    memset(&ids, 0, sizeof(ids))
    for kind in range(1, EXT_COUNT):
        ids.kind[config.ext_ids[kind]] = <uint8_t>kind
    ids.kind[0] = 0
    ext_read(probe, &header, &ids, &values)
    if values.present & (<uint32_t>1 << config.stamp):
        config.stamp_at = <uint8_t>(values.data[<int>config.stamp] - probe - RTP_HEADER_SIZE)
    else:
        config.stamp = 0


cdef void stamp_now(EngineState* engine, const Leg* leg, uint8_t* stamp) noexcept nogil:
    cdef uint32_t time
    if leg.config.stamp == EXT_TWCC:
        write_u16(stamp, <uint16_t>leg.peer.sender.estimator.log.next)
    else:
        time = <uint32_t>((<uint64_t>engine.now << 18) // 1000000)
        stamp[0] = <uint8_t>(time >> 16)
        stamp[1] = <uint8_t>(time >> 8)
        stamp[2] = <uint8_t>time


cdef inline int leaves_once(const Leg* leg, uint8_t payload_type) noexcept nogil:
    """What may have to be repeated byte by byte bears nothing that changes with its departure, and when it came says
    nothing of the line."""
    return leg.peer.sender != NULL and (has_repair(leg, payload_type) or not leaves_as(&leg.config, payload_type).nack)


cdef void lay_out(Leg* leg, int stamp) noexcept nogil:
    cdef ExtValues values
    cdef int size
    memset(&values, 0, sizeof(values))
    leg.config.stamp = <uint8_t>stamp
    set_own(&leg.config, &values)
    set_stamp(leg, &values, NOTHING)
    size = ext_write(leg.config.fixed_ext, FIXED_EXT_MAX, &values, leg.config.ext_ids, values.present)
    leg.config.fixed_ext_size = <uint8_t>size if size > 0 else 0
    find_stamp(&leg.config)


cdef void leg_configure(Leg* leg, const LegConfig* config) noexcept nogil:
    cdef int kind
    leg.config = config[0]
    leg.config.recent.incoming = 255
    leg.config.passed = 0
    for kind in range(1, 32):
        if (PASSED >> kind) & 1 and leg.config.ext_ids[kind]:
            leg.config.passed |= <uint32_t>1 << kind
    if leg.config.ext_ids[<int>EXT_TWCC]:
        lay_out(leg, EXT_TWCC)
    elif leg.config.ext_ids[<int>EXT_ABS_SEND_TIME]:
        lay_out(leg, EXT_ABS_SEND_TIME)
    else:
        lay_out(leg, 0)


cdef void leg_number(Leg* leg, int numbered) noexcept nogil:
    if leg.config.ext_ids[<int>EXT_TWCC]:
        lay_out(leg, EXT_TWCC if numbered else 0)


cdef int write_header(Leg* leg, uint8_t* out, const Packet* packet, const Shape* made, uint8_t payload_type,
                      uint16_t sequence, uint32_t ssrc, const uint8_t* stamp) noexcept nogil:
    cdef int size = rtp_write(
        out, payload_type, made.marker, sequence, timestamp_on(leg, packet) + leg.renumber.timestamp_offset, ssrc
    )
    cdef ExtValues values
    cdef int block
    if made.padding:
        out[0] |= RTP_P_BIT
    if packet.ext.present & leg.config.passed or (leg.config.stamp and stamp == NULL):
        values = packet.ext
        values.present &= leg.config.passed
        if is_catch_up(leg, packet):
            # From it viewers reckon the capture of all that follows by timestamps, and these are drawn together.
            values.present &= ~<uint32_t>(1 << EXT_ABS_CAPTURE_TIME)
        if made.descriptor_size:
            values.data[<int>EXT_DEPENDENCY_DESCRIPTOR] = &made.descriptor[0]
            values.size[<int>EXT_DEPENDENCY_DESCRIPTOR] = made.descriptor_size
        set_own(&leg.config, &values)
        if stamp != NULL:
            set_stamp(leg, &values, stamp)
        block = ext_write(out + size, DATAGRAM_MAX - size, &values, leg.config.ext_ids, values.present)
        if block <= 0:
            return size
    elif leg.config.fixed_ext_size:
        block = leg.config.fixed_ext_size
        memcpy(out + size, leg.config.fixed_ext, block)
        if stamp != NULL:
            memcpy(out + size + leg.config.stamp_at, stamp, 2 if leg.config.stamp == EXT_TWCC else 3)
    else:
        return size
    out[0] |= RTP_X_BIT
    return size + block


cdef uint32_t aligned(const Encoding* before, const Encoding* after, uint32_t offset,
                      uint32_t clock_rate) noexcept nogil:
    """The timestamp offset with which two encodings of one picture go on as one, by their sender reports."""
    cdef int64_t apart = <int64_t>(after.active.sender_ntp - before.active.sender_ntp)  # 32.32
    cdef int64_t ticks = ((apart >> 8) * <int64_t>clock_rate) >> 24
    return before.active.sender_rtp + <uint32_t>ticks - after.active.sender_rtp + offset


cdef void turn_to(Leg* leg, Encoding* encoding) noexcept nogil:
    """The leg goes over to another encoding, at a key picture of that: without a gap in numbers or time."""
    cdef Encoding* before = leg.source
    leg.source = encoding
    renumber_switch(&leg.renumber)
    if before.active != NULL and before.active.sender_arrival and encoding.active.sender_arrival:
        renumber_align(&leg.renumber, aligned(before, encoding, leg.renumber.timestamp_offset, leg.clock_rate))


cdef inline void ask_gate(const Leg* leg, const Packet* packet, GateInput* question) noexcept nogil:
    question.facts = &packet.facts
    question.dependency = leg.track.encodings[packet.encoding].dependency
    question.sequence = packet.sequence
    question.timestamp = packet.timestamp
    question.marker = packet.marker
    question.codec = packet.codec


cdef void fill_hole(EngineState* engine, Leg* leg, const Packet* packet) noexcept nogil:
    """What is left out came late, and what stands behind it has left with the next number: so a packet of padding alone
    (RFC 3550, section 5.1) leaves with its own. Behind a number that never comes, libwebrtc decodes no H.264 before the
    next key picture, as only numbers tell it there what follows what; others would ask for it in vain. Not where
    packets are repeated byte by byte: this one might be, with other bytes."""
    cdef uint8_t stamp[4]
    cdef Packet blank
    cdef Shape made
    cdef int64_t outgoing
    cdef uint8_t* out
    cdef int size
    if not leg.renumber.started or leg.renumber.cut or not has_repair(leg, packet.payload_type):
        return
    outgoing = renumber_map(&leg.renumber, packet.sequence, timestamp_on(leg, packet), leg.clock_rate,
                            came_at(leg, packet))
    out = outbox_room(&engine.outbox) if outgoing >= 0 else NULL
    if out == NULL:
        return
    memset(&blank, 0, sizeof(Packet))
    memset(&made, 0, sizeof(Shape))
    blank.sequence = ~<uint64_t>0  # of now
    blank.timestamp = timestamp_on(leg, packet)
    if leg.config.stamp:
        stamp_now(engine, leg, stamp)
    size = write_header(leg, out, &blank, &made, leaves_as(&leg.config, packet.payload_type).outgoing, <uint16_t>outgoing,
                        leg.config.ssrc, stamp if leg.config.stamp else NULL)
    out[0] |= RTP_P_BIT
    engine.scratch[0] = 1  # byte of padding: this one
    size = srtp_protect(leg.peer.tx, <uint64_t>outgoing, out, size, engine.scratch, 1)
    if size > 0:
        outbox_add(&engine.outbox, &leg.peer.addr, size)
        note_leaves(engine, leg, size, 1, leg.config.ssrc, <uint16_t>outgoing, SENT_PADDING)
        leg.packets += 1


cdef void leave_out(EngineState* engine, Leg* leg, const Packet* packet) noexcept nogil:
    if packet.sequence < leg.renumber.highest_in:
        fill_hole(engine, leg, packet)
    else:
        renumber_drop(&leg.renumber, packet.sequence)


cdef int is_let_through(EngineState* engine, Leg* leg, const Packet* packet) noexcept nogil:
    """The layers that this viewer gets, from a picture on that it can decode."""
    cdef GateInput question
    cdef GateVerdict verdict
    if leg.gate == NULL:
        return 1
    if leg.await_keyframe and not packet.keyframe:
        return 0
    ask_gate(leg, packet, &question)
    verdict = gate_decide(leg.gate, packet.encoding, &question)
    if verdict != GATE_FORWARD:
        if verdict == GATE_DROP and packet.encoding == leg.source.index:
            leave_out(engine, leg, packet)
        return 0
    if packet.encoding != leg.source.index:
        if not leg.gate.switched and not leg.gate.opened:
            return 0  # late, of what is no longer forwarded
        turn_to(leg, &leg.track.encodings[packet.encoding])
    leg.await_keyframe = 0
    return 1


cdef int shape(EngineState* engine, Leg* leg, const Packet* packet, Shape* made) noexcept nogil:
    cdef GateInput question
    cdef const GatePicture* picture
    cdef uint16_t replaced = 0, skipped
    cdef int size
    made.marker = packet.marker
    made.payload_type = leaves_as(&leg.config, packet.payload_type).outgoing
    # Of RED, where that was not agreed with the viewer or takes what a floor needs, the Opus inside.
    skipped = packet.inner_offset if leaves_as(&leg.config, packet.payload_type).unwraps else 0
    if leg.lean and packet.inner_offset and leaves_as(&leg.config, packet.inner_type).outgoing != 255:
        skipped = packet.inner_offset
        made.payload_type = leaves_as(&leg.config, packet.inner_type).outgoing
    made.payload = packet.data + packet.payload_offset + skipped
    made.size = packet.payload_size - skipped
    made.padding = packet.padding
    made.descriptor_size = 0
    if leg.gate == NULL or leg.gate.plain:
        return 1
    ask_gate(leg, packet, &question)
    picture = gate_picture(leg.gate, packet.encoding, &question)
    if picture != NULL and packet.facts.end and packet.facts.spatial_id >= 0:
        if packet.facts.spatial_id == picture.top:
            made.marker = 1
    # Two bytes are left free in front: for the number that RTX puts there.
    size = gate_rewrite(leg.gate, packet.encoding, &question, made.payload, made.size, engine.scratch + 2,
                        REWRITE_MAX, &replaced)
    if size < 0:
        return 0
    if size > 0:
        if packet.payload_size - replaced + size + 2 + made.padding > <int>sizeof(engine.scratch):
            return 0
        memcpy(engine.scratch + 2 + size, made.payload + replaced, packet.payload_size - replaced + made.padding)
        made.payload = engine.scratch + 2
        made.size = <uint16_t>(packet.payload_size - replaced + size)
    if (leg.config.passed & packet.ext.present) >> <int>EXT_DEPENDENCY_DESCRIPTOR & 1:
        size = gate_dependency(leg.gate, packet.encoding, &question,
                               packet.ext.data[<int>EXT_DEPENDENCY_DESCRIPTOR],
                               packet.ext.size[<int>EXT_DEPENDENCY_DESCRIPTOR], made.descriptor, DEPENDENCY_MAX)
        if size < 0:
            return 0
        made.descriptor_size = <uint8_t>size
    return 1


cdef void note_wait(Leg* leg, int64_t us) noexcept nogil:
    """Nobody who reads it is there before the first packet that had to wait; without memory nothing is noted."""
    cdef Spread* paced = leg.stats.paced
    if paced == NULL:
        paced = <Spread*>calloc(1, sizeof(Spread))
        if paced == NULL:
            return
        ring_publish(<uint64_t*>&leg.stats.paced, <uint64_t>paced)
    spread_add(paced, us, 1)


cdef inline int has_just_come(const EngineState* engine, const Leg* leg, const Packet* packet) noexcept nogil:
    """From another worker, in this turn: it has waited for nothing but that."""
    cdef const Mirror* mirror = leg.track.mirror
    return mirror != NULL and mirror.came == engine.now and packet.sequence >= mirror.came_from[packet.encoding]


cdef void note_type(LegConfig* config, uint8_t payload_type) noexcept nogil:
    """A list of all payload types is too large to be in the cache for each viewer."""
    config.recent = leaves_as(config, payload_type)[0]
    config.recent.incoming = payload_type


cdef void leg_forward(EngineState* engine, Leg* leg, Packet* packet) noexcept nogil:
    cdef uint8_t stamp[4]
    cdef Shape made
    cdef int64_t outgoing
    cdef uint8_t* out
    cdef int size, stamped, once
    if leg.config.paused or leg.held or leg.peer.tx == NULL:
        return
    if packet.payload_type != leg.config.recent.incoming:
        note_type(&leg.config, packet.payload_type)
    if leg.config.recent.outgoing == 255 or packet.payload_size == 0:
        if packet.encoding == leg.source.index:
            leave_out(engine, leg, packet)
        return
    if not is_let_through(engine, leg, packet) or not shape(engine, leg, packet, &made):
        return
    outgoing = renumber_map(&leg.renumber, packet.sequence, timestamp_on(leg, packet), leg.clock_rate,
                            came_at(leg, packet))
    if outgoing < 0:
        return
    out = outbox_room(&engine.outbox)
    if out == NULL:
        return
    once = leaves_once(leg, packet.payload_type)
    stamped = once and leg.config.stamp
    if stamped:
        stamp_now(engine, leg, stamp)
    size = write_header(leg, out, packet, &made, made.payload_type, <uint16_t>outgoing, leg.config.ssrc,
                        stamp if stamped else NULL)
    if not fits(size, &made):
        engine.counters.drop_oversize += 1
        return
    packet_settle(packet)
    size = srtp_protect(leg.peer.tx, <uint64_t>outgoing, out, size, made.payload, made.size + made.padding)
    if size < 0:
        return
    outbox_add(&engine.outbox, &leg.peer.addr, size)
    note_leaves(engine, leg, size, once, leg.config.ssrc, <uint16_t>outgoing, SENT_MEDIA)
    leg.packets += 1
    leg.octets += made.size
    leg.stats.packets = leg.packets
    leg.stats.bytes = leg.octets
    if engine.now > packet.arrival and not is_catch_up(leg, packet) and not has_just_come(engine, leg, packet):
        note_wait(leg, engine.now - packet.arrival)
    engine.counters.rtp_out += 1
    if not leg.live:
        leg.live = 1
        report(engine, REPORT_LEG_LIVE, leg.id, <uint64_t>(engine.now - leg.added), NULL, 0)


cdef void leg_restart(EngineState* engine, Leg* leg, int new_source) noexcept nogil:
    forget_waiting(engine, leg, -1)
    if new_source:
        leg.catch_up.until = 0
        renumber_switch(&leg.renumber)
    else:
        renumber_cut(&leg.renumber)
    if leg.gate != NULL:
        gate_restart(leg.gate, leg.source.index, new_source)
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
