"""A publisher's packet: opened, accounted for, and handed to the fan-out."""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, malloc
from libc.string cimport memcpy, memset

from mediaserver.codecs.dependency cimport DependencyState, dependency_read
from mediaserver.codecs.payload cimport CODEC_RED, PayloadFacts, payload_facts
from mediaserver.sfu.policy.missing cimport REORDER_LEAST_US, missing_overtaken
from mediaserver.sfu.stream.buffers cimport PACKET_LARGE, Packet, packet_new, packet_ref, packet_unref
from mediaserver.sfu.stream.capture cimport note_capture
from mediaserver.sfu.stream.fanout cimport fanout_add, fanout_late
from mediaserver.sfu.stream.agenda cimport make_hot
from mediaserver.sfu.stream.keyframes cimport want_keyframe
from mediaserver.sfu.stream.hearing cimport hear_packet
from mediaserver.sfu.stream.history cimport history_put
from mediaserver.sfu.stream.inbound cimport (
    SEQUENCE_BASE,
    Inbound,
    inbound_receive,
    inbound_recover,
)
from mediaserver.sfu.stream.meter cimport meter_add, meter_more
from mediaserver.sfu.stream.redundancy cimport RED_COPIES, red_open, red_recover
from mediaserver.sfu.stream.report cimport REPORT_PICTURE, REPORT_TRACK_LIVE, report
from mediaserver.sfu.stream.source cimport adopt_source, claim_source, find_source
from mediaserver.sfu.stream.state cimport ALIVE_US, Encoding, PayloadConfig, Track
from mediaserver.sfu.stream.transport cimport ArrivalLog, arrival_add, arrival_init
from mediaserver.sfu.stream.watch cimport watch_packet
from mediaserver.sfu.wire.packet cimport (
    EXT_ABS_CAPTURE_TIME,
    EXT_DEPENDENCY_DESCRIPTOR,
    EXT_TWCC,
    RtpHeader,
    ext_read,
    read_u16,
    rtp_padding,
    rtp_parse,
)
from mediaserver.sfu.wire.replay cimport replay_mark, replay_seen
from mediaserver.sfu.wire.srtp cimport SRTP_ERR_REPLAY, SRTP_WINDOW_WORDS, SrtpReceiver, srtp_unprotect

cdef enum:
    OVERHEAD = 64                # bytes around a payload on the way to a viewer: IP, UDP, RTP, extensions, tag
    TELL_INTERVAL_US = 100000    # between two reports of a picture's size: a publisher must not flood the control plane


# ---- what it says


cdef int is_top(const Encoding* encoding) noexcept nogil:
    """No higher one is alive: its picture is the track's."""
    cdef const Track* track = encoding.track
    cdef const Inbound* higher
    cdef int i
    for i in range(encoding.index + 1, track.config.encoding_count):
        higher = track.encodings[i].active
        if higher != NULL and higher.last_arrival + ALIVE_US > encoding.active.last_arrival:
            return 0
    return 1


cdef void read_dependency(Encoding* encoding, Packet* packet) noexcept nogil:
    if encoding.dependency == NULL:
        encoding.dependency = <DependencyState*>calloc(1, sizeof(DependencyState))
        if encoding.dependency == NULL:
            return
    dependency_read(encoding.dependency, packet.ext.data[<int>EXT_DEPENDENCY_DESCRIPTOR],
                    packet.ext.size[<int>EXT_DEPENDENCY_DESCRIPTOR], &packet.facts)


cdef void note_rate(EngineState* engine, Encoding* encoding, const Packet* packet) noexcept nogil:
    """What it takes to forward it, for whoever shares out a line."""
    cdef int spatial = packet.facts.spatial_id if encoding.track.config.video else 0
    cdef int temporal = packet.facts.temporal_id if encoding.track.config.video else 0
    cdef uint16_t copies = packet.inner_offset  # of RED; what is below that is the sound alone
    meter_add(&encoding.meter, spatial, temporal, packet.timestamp, packet.payload_size - copies + OVERHEAD,
              packet.facts.keyframe, engine.now)
    if copies:
        meter_more(&encoding.meter, 1, copies)


cdef void note_picture(EngineState* engine, Encoding* encoding, Packet* packet) noexcept nogil:
    """Facts of a picture's packet: whether a decoder can start here, and the size."""
    cdef const PayloadFacts* facts = &packet.facts
    cdef Track* track = encoding.track
    packet.keyframe = 0
    if not payload_facts(packet.codec, packet.data + packet.payload_offset, packet.payload_size, &packet.facts):
        return
    if packet.ext.present & (1 << EXT_DEPENDENCY_DESCRIPTOR):
        read_dependency(encoding, packet)
    if facts.width:
        encoding.inband_config = 1
        encoding.width = facts.width
        encoding.height = facts.height
    if facts.keyframe and (facts.width or not encoding.inband_config):
        packet.keyframe = 1
        if packet.sequence > encoding.active.missing.keyframe:
            encoding.active.missing.keyframe = packet.sequence
        encoding.want_keyframe = 0
        track.stats.keyframes += 1
    packet.facts.keyframe = packet.keyframe  # for the gates too
    if (
        facts.width
        and is_top(encoding)
        and (facts.width != track.width or facts.height != track.height)
        and (track.picture_told == 0 or engine.now - track.picture_told >= TELL_INTERVAL_US)
    ):
        track.picture_told = engine.now
        track.width = facts.width
        track.height = facts.height
        track.stats.width = facts.width
        track.stats.height = facts.height
        report(engine, REPORT_PICTURE, track.id, (<uint64_t>facts.width << 16) | facts.height, NULL, 0)


cdef void note_extensions(EngineState* engine, Peer* peer, Packet* packet) noexcept nogil:
    if not packet.ext.present & (1 << EXT_TWCC) or packet.ext.size[<int>EXT_TWCC] < 2:
        return
    if peer.arrivals == NULL:
        peer.arrivals = <ArrivalLog*>malloc(sizeof(ArrivalLog))
        if peer.arrivals == NULL:
            return
        arrival_init(peer.arrivals)
    arrival_add(peer.arrivals, read_u16(packet.ext.data[<int>EXT_TWCC]), engine.now)
    if peer.arrivals.due:
        make_hot(engine, peer, peer.arrivals.due)


cdef inline int is_past(const Encoding* encoding, const Packet* packet) noexcept nogil:
    """No viewer waits for it any more, as something has come since by which it has gone on."""
    return not encoding.track.config.video or packet.sequence < encoding.active.missing.keyframe


cdef void hand_on(EngineState* engine, Encoding* encoding, Packet* packet) noexcept nogil:
    """To the history, the legs and the taps."""
    cdef Track* track = encoding.track
    packet.encoding = encoding.index
    if track.muted:
        engine.counters.drop_muted += 1
        return
    if packet.payload_size:
        if track.config.video:
            note_picture(engine, encoding, packet)
        if not track.live:
            track.live = 1
            report(engine, REPORT_TRACK_LIVE, track.id, packet.ssrc,
                   &packet.inner_type if packet.inner_offset else &packet.payload_type, 1)
    if encoding.active.late and is_past(encoding, packet):
        fanout_late(engine, track, packet)
        return
    note_rate(engine, encoding, packet)
    history_put(&encoding.history, &engine.pool, packet)
    fanout_add(engine, track, packet_ref(packet))


cdef void note_hole(EngineState* engine, Peer* peer, Encoding* encoding, const PayloadConfig* payload,
                    int missed) noexcept nogil:
    """Packets are missing: they are asked for once it is clear that they are not just late."""
    if missed > 0 and payload.nack:
        make_hot(engine, peer, engine.now + REORDER_LEAST_US)
        return
    encoding.active.missing.unasked = 0
    if missed > 0 and payload.codec == CODEC_RED:
        return  # a later packet may bring it
    encoding.active.missing.count = 0
    if missed < 0:
        want_keyframe(engine, encoding)  # too much to ask for again


cdef void take_copies(EngineState* engine, Encoding* encoding, Packet* packet) noexcept nogil:
    """A packet of RED: what is missing and comes with it goes first."""
    cdef Packet* found[RED_COPIES]
    cdef int count, i
    if packet.payload_size and not red_open(encoding, packet):
        engine.counters.drop_malformed += 1
        packet.payload_size = 0  # its number is taken, and closed up on the legs
    if packet.payload_size == 0 or encoding.active.missing.count == 0:
        return
    count = red_recover(engine, encoding, packet, found)
    engine.counters.recovered_red += count
    encoding.track.stats.recovered += count
    for i in range(count):
        hand_on(engine, encoding, found[i])  # as late as the packet that brought them, which is not late
        packet_unref(&engine.pool, found[i])


cdef void take_media(EngineState* engine, Peer* peer, Encoding* encoding, Packet* packet) noexcept nogil:
    cdef Track* track = encoding.track
    cdef Inbound* source = encoding.active
    cdef const PayloadConfig* payload
    cdef int missed
    if not track.config.payload_at[packet.payload_type]:
        engine.counters.drop_unknown_payload += 1
        return
    payload = &track.config.payloads[track.config.payload_at[packet.payload_type] - 1]
    missed = inbound_receive(
        source, packet.sequence, packet.timestamp, payload.clock_rate, payload.rtx_type == 0, &peer.round_trip,
        engine.now,
    )
    source.bytes += packet.payload_size
    source.asks = payload.nack
    packet.codec = payload.codec
    if payload.codec == CODEC_RED:
        take_copies(engine, encoding, packet)
    if missed:
        note_hole(engine, peer, encoding, payload, missed)
    elif missing_overtaken(&source.missing, source.highest):
        make_hot(engine, peer, engine.now)
    track.stats.packets += 1
    track.stats.bytes += packet.payload_size
    track.stats.last_arrival = <uint64_t>engine.now
    engine.served = &track.stats.served
    hand_on(engine, encoding, packet)
    if packet.payload_size and (track.config.untouched or track.config.voice):
        hear_packet(engine, track, packet)
    if packet.payload_size and not track.muted:
        watch_packet(engine, track, source, packet, payload.clock_rate)


cdef void take_repair(EngineState* engine, Peer* peer, Encoding* encoding, Packet* packet) noexcept nogil:
    """RFC 4588: the first two bytes of the payload are the original number. Without payload it was a probe."""
    cdef Track* track = encoding.track
    cdef uint8_t index = track.config.repaired_at[packet.payload_type]
    cdef int64_t sequence
    cdef uint64_t srtp_index
    cdef SrtpReceiver* receiver
    if index == 0 or encoding.active == NULL or packet.payload_size <= 2:
        return
    sequence = inbound_recover(
        encoding.active, read_u16(packet.data + packet.payload_offset), &peer.round_trip, engine.now
    )
    if sequence < 0:
        return
    if encoding.active.missing.unasked and track.config.payloads[index - 1].nack:
        make_hot(engine, peer, engine.now + REORDER_LEAST_US)
    # The original may still come: it must be a replay then, for its number has been given away on every leg.
    srtp_index = <uint64_t>sequence - SEQUENCE_BASE
    receiver = &encoding.active.srtp
    if replay_seen(receiver.window, SRTP_WINDOW_WORDS * 64, receiver.highest, srtp_index):
        return
    replay_mark(receiver.window, SRTP_WINDOW_WORDS * 64, &receiver.highest, srtp_index)
    packet.sequence = <uint64_t>sequence
    packet.ssrc = encoding.active.ssrc
    packet.payload_type = track.config.payloads[index - 1].payload_type
    packet.codec = track.config.payloads[index - 1].codec
    packet.payload_offset += 2
    packet.payload_size -= 2
    if packet.codec == CODEC_RED and not red_open(encoding, packet):
        engine.counters.drop_malformed += 1
        packet.payload_size = 0
    engine.counters.recovered += 1
    track.stats.recovered += 1
    hand_on(engine, encoding, packet)


# ---- the way in


cdef int open_packet(EngineState* engine, Peer* peer, Packet* packet, size_t size, RtpHeader* header) noexcept nogil:
    """Decrypts; the place of the packet's source, or -1."""
    cdef SrtpReceiver fresh
    cdef SrtpReceiver* receiver
    cdef uint64_t index = 0
    cdef int at = find_source(peer, header.ssrc)
    cdef int plain, padding
    if at >= 0:
        receiver = &peer.inbounds[at].srtp
    else:
        memset(&fresh, 0, sizeof(fresh))
        receiver = &fresh
    plain = srtp_unprotect(peer.rx, receiver, packet.data, size, header.header_size, &index)
    if plain < 0:
        if plain == SRTP_ERR_REPLAY:
            engine.counters.drop_srtp_replay += 1
        else:
            engine.counters.drop_srtp_auth += 1
        return -1
    padding = rtp_padding(packet.data, plain, header)
    if padding < 0:
        engine.counters.drop_malformed += 1
        return -1
    packet.payload_offset = header.header_size
    packet.payload_size = <uint16_t>(plain - header.header_size - padding)
    packet.sequence = index + SEQUENCE_BASE
    if at < 0:
        at = adopt_source(engine, peer, packet.data, header, &fresh)
    return at


cdef void ingest(EngineState* engine, Peer* peer, const uint8_t* data, size_t size) noexcept nogil:
    cdef RtpHeader header
    cdef Packet* packet
    cdef Encoding* encoding
    cdef int at
    if peer.rx == NULL:
        engine.counters.drop_no_keys += 1
        return
    if rtp_parse(data, size, &header) < 0:
        engine.counters.drop_malformed += 1
        return
    if size > PACKET_LARGE:
        engine.counters.drop_oversize += 1
        return
    packet = packet_new(&engine.pool, size)
    if packet == NULL:
        engine.counters.drop_memory += 1
        return
    memcpy(packet.data, data, size)
    packet.arrival = engine.now
    packet.stamped = engine.stamped
    packet.payload_type = header.payload_type
    packet.marker = header.marker
    packet.timestamp = header.timestamp
    packet.ssrc = header.ssrc
    packet.keyframe = 0
    packet.codec = 0
    packet.inner_type = 0
    packet.inner_offset = 0
    at = open_packet(engine, peer, packet, size, &header)
    if at >= 0:
        engine.counters.rtp_in += 1
        encoding = peer.inbound_encodings[at]
        if encoding == NULL:
            encoding = claim_source(engine, peer, at, packet.data, &header)
        if encoding != NULL:
            ext_read(packet.data, &header, &encoding.track.config.ext, &packet.ext)
            note_extensions(engine, peer, packet)
            if packet.ext.present & (1 << EXT_ABS_CAPTURE_TIME):
                note_capture(engine, peer, encoding.track, packet, size, peer.inbounds[at] == encoding.active)
            if peer.inbounds[at] == encoding.active:
                take_media(engine, peer, encoding, packet)
            elif peer.inbounds[at] == encoding.repair:
                take_repair(engine, peer, encoding, packet)
            else:
                engine.counters.drop_unknown_ssrc += 1
        else:
            engine.counters.drop_unknown_ssrc += 1
    packet_unref(&engine.pool, packet)
