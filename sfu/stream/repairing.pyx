"""What leaves to a viewer besides the media themselves: what it has missed, and padding where a probe asks for it.

Whether a packet that was asked for leaves again is the policy's word; when it leaves is the pacer's. Nothing of it
reaches the publisher: what a viewer lacks and the history has not is lost to that viewer.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy, memset

from mediaserver.sfu.policy.bwe.estimator cimport SENT_PADDING, SENT_REPAIR
from mediaserver.sfu.policy.repair cimport (
    REPAIR_OFTEN,
    REPAIR_OLD,
    REPAIR_RECENT,
    REPAIR_SEND,
    REPAIR_SPENT,
    RepairState,
    RepairVerdict,
    repair_covers,
    repair_heed,
    repair_leaves,
    repair_may,
    repair_sending,
)
from mediaserver.sfu.stream.buffers cimport Packet, packet_settle
from mediaserver.sfu.stream.catchup cimport came_at, leg_begin_again
from mediaserver.sfu.stream.history cimport history_get
from mediaserver.sfu.stream.leg cimport Shape, fits, has_repair, shape, stamp_now, write_header
from mediaserver.sfu.stream.mirror cimport mirror_lacks
from mediaserver.sfu.stream.outbox cimport outbox_add, outbox_room
from mediaserver.sfu.stream.renumber cimport renumber_find
from mediaserver.sfu.stream.sending cimport note_leaves, send_repair, sender_limits
from mediaserver.sfu.stream.state cimport Peer, leaves_as
from mediaserver.sfu.wire.packet cimport EXT_TWCC, RTP_HEADER_SIZE, RTP_P_BIT, write_u16
from mediaserver.sfu.wire.srtp cimport srtp_protect

cdef enum:
    PADDED_FROM = 32         # of so many last packets padding is made, once they are there
    PADDING = 224            # bytes of a packet of padding alone
    GIVE_UP_US = 1000000     # between two times that a leg gives up what is missing
    MANY = 64                # packets of one request, from which on all or nothing is sent
    USUAL = 1200             # bytes that one of them takes on the line
    AROUND = 28 + 16         # bytes that a datagram has around its RTP packet: IP, UDP and the tag of SRTP


# ---- what was asked for


cdef Packet* sent_as(Leg* leg, uint16_t sequence, uint64_t* outgoing) noexcept nogil:
    """The packet that left with this number, while the history has it."""
    cdef int64_t incoming = renumber_find(&leg.renumber, sequence, outgoing)
    cdef Packet* packet = NULL
    if incoming >= 0 and not leg.config.paused and leg.peer.tx != NULL:
        packet = history_get(&leg.source.history, <uint64_t>incoming)
    if packet == NULL or packet.payload_size == 0 or leaves_as(&leg.config, packet.payload_type).outgoing == 255:
        return NULL
    return packet


cdef int send_rtx(EngineState* engine, Leg* leg, uint8_t* out, const Packet* packet, uint16_t sequence,
                  int kind) noexcept nogil:
    """RFC 4588: the packet with its own number before its payload, on a stream of its own. Bytes sent, 0 for none."""
    cdef uint8_t stamp[4]
    cdef Shape made
    cdef int size
    if not shape(engine, leg, packet, &made):
        return 0
    made.padding = 0
    if leg.config.stamp and leg.peer.sender != NULL:
        stamp_now(engine, leg, stamp)
    size = write_header(leg, out, packet, &made, leaves_as(&leg.config, packet.payload_type).rtx_type,
                        <uint16_t>leg.repair_sequence, leg.config.rtx_ssrc,
                        stamp if leg.config.stamp and leg.peer.sender != NULL else NULL)
    if not fits(size, &made):
        return 0
    write_u16(engine.scratch, sequence)
    if made.payload != engine.scratch + 2:
        memcpy(engine.scratch + 2, made.payload, made.size)
    size = srtp_protect(leg.peer.tx, leg.repair_sequence, out, size, engine.scratch, made.size + 2)
    leg.repair_sequence += 1
    if size < 0:
        return 0
    outbox_add(&engine.outbox, &leg.peer.addr, size)
    note_leaves(engine, leg, size, 1, leg.config.rtx_ssrc, <uint16_t>(leg.repair_sequence - 1), kind)
    return size


cdef int send_again(EngineState* engine, Leg* leg, uint8_t* out, Packet* packet, uint64_t outgoing) noexcept nogil:
    """The identical bytes, for a viewer without RTX. Bytes sent, 0 for none."""
    cdef Shape made
    cdef int size
    # Other bytes must not go out under a number that is used: that would reveal the key.
    if outgoing < leg.floor_out or not leaves_as(&leg.config, packet.payload_type).nack or not shape(engine, leg, packet, &made):
        return 0
    size = write_header(leg, out, packet, &made, made.payload_type, <uint16_t>outgoing,
                        leg.config.ssrc, NULL)
    if not fits(size, &made):
        return 0
    packet_settle(packet)
    size = srtp_protect(leg.peer.tx, outgoing, out, size, made.payload, made.size + made.padding)
    if size < 0:
        return 0
    outbox_add(&engine.outbox, &leg.peer.addr, size)
    note_leaves(engine, leg, size, 0, leg.config.ssrc, <uint16_t>outgoing, SENT_REPAIR)
    return size


cdef uint64_t line_bps(EngineState* engine, Peer* peer) noexcept nogil:
    """Of what retransmissions may have a share: the estimate, or where there is none what the viewer is sent."""
    cdef uint64_t bytes = 0
    cdef uint32_t i
    if sender_limits(engine, peer.sender):
        return peer.sender.estimator.target_bps
    for i in range(peer.leg_count):
        bytes += peer.legs[i].octets
    return repair_sending(&peer.repairs, bytes, engine.now)


cdef void count_refused(EngineState* engine, RepairVerdict verdict) noexcept nogil:
    if verdict == REPAIR_RECENT:
        engine.counters.repair_recent += 1
    elif verdict == REPAIR_OLD:
        engine.counters.repair_old += 1
    elif verdict == REPAIR_OFTEN:
        engine.counters.repair_often += 1
    else:
        engine.counters.repair_spent += 1


cdef int ask(EngineState* engine, Leg* leg, uint16_t sequence, uint64_t line) noexcept nogil:
    """1 when the viewer will have to do without the packet."""
    cdef Peer* peer = leg.peer
    cdef const Packet* packet
    cdef int64_t incoming
    cdef uint64_t outgoing
    cdef RepairVerdict verdict
    if not repair_heed(&peer.repairs, engine.now):
        engine.counters.repair_unheeded += 1
        return 0
    packet = sent_as(leg, sequence, &outgoing)
    if packet == NULL:
        engine.counters.retransmit_missed += 1
        incoming = renumber_find(&leg.renumber, sequence, &outgoing)
        if leg.track.mirror != NULL and incoming >= 0:
            mirror_lacks(engine, leg, <uint64_t>incoming)
        return 0
    if leg.repairs == NULL:
        leg.repairs = <RepairState*>calloc(1, sizeof(RepairState))
    if leg.repairs == NULL:
        count_refused(engine, REPAIR_SPENT)
        return 0
    verdict = repair_may(
        leg.repairs, &peer.repairs, sequence, engine.now - came_at(leg, packet), not leg.track.config.video,
        &peer.round_trip, line, RTP_HEADER_SIZE + packet.payload_size + AROUND, engine.now,
    )
    if verdict == REPAIR_SEND:
        send_repair(engine, leg, sequence)
        return 0
    count_refused(engine, verdict)
    return verdict == REPAIR_OLD or verdict == REPAIR_OFTEN


cdef void give_up(EngineState* engine, Leg* leg) noexcept nogil:
    """What is missing does not come any more, and behind it nothing can be decoded. A browser would find that out by
    itself after ten requests, or three seconds."""
    if leg.gate == NULL or (leg.gave_up and engine.now - leg.gave_up < GIVE_UP_US):
        return
    leg.gave_up = engine.now
    engine.counters.repair_given_up += 1
    leg_begin_again(engine, leg)


cdef void leg_asked(EngineState* engine, Leg* leg, const uint16_t* sequences, int count) noexcept nogil:
    cdef uint64_t line = line_bps(engine, leg.peer)
    cdef int lost = 0, i
    if leg.gate != NULL and count >= MANY and not repair_covers(
        &leg.peer.repairs, line, <uint64_t>count * USUAL, engine.now
    ):
        # A hole like that of an outage: a key picture weighs less, and a part of what is missing is of no use.
        engine.counters.repair_spent += count
        give_up(engine, leg)
        return
    for i in range(count):
        lost += ask(engine, leg, sequences[i], line)
    if lost:
        give_up(engine, leg)


cdef void leg_retransmit(EngineState* engine, Leg* leg, uint16_t sequence) noexcept nogil:
    cdef uint64_t outgoing
    cdef Packet* packet = sent_as(leg, sequence, &outgoing)
    cdef uint8_t* out
    cdef int size
    if packet == NULL:
        engine.counters.retransmit_missed += 1
        return
    out = outbox_room(&engine.outbox)
    if out == NULL:
        return
    if has_repair(leg, packet.payload_type):
        size = send_rtx(engine, leg, out, packet, sequence, SENT_REPAIR)
    else:
        size = send_again(engine, leg, out, packet, outgoing)
    if size:
        if leg.repairs != NULL:
            repair_leaves(leg.repairs, sequence, engine.now)
        leg.stats.retransmitted += 1
        leg.peer.stats.repair_bytes += size
        engine.counters.retransmitted += 1
        engine.counters.rtp_out += 1


# ---- padding


cdef int send_blank(EngineState* engine, Leg* leg, uint8_t* out, uint8_t payload_type) noexcept nogil:
    """A packet of padding alone (RFC 3550, section 5.1), on the stream of retransmissions. Bytes sent."""
    cdef Packet blank
    cdef Shape made
    cdef uint8_t stamp[4]
    cdef int size
    memset(&blank, 0, sizeof(Packet))
    memset(&made, 0, sizeof(Shape))
    blank.sequence = ~<uint64_t>0  # of now
    blank.timestamp = leg.renumber.last_timestamp - leg.renumber.timestamp_offset
    stamp_now(engine, leg, stamp)
    size = write_header(leg, out, &blank, &made, payload_type, <uint16_t>leg.repair_sequence, leg.config.rtx_ssrc,
                        stamp if leg.config.stamp else NULL)
    out[0] |= RTP_P_BIT
    memset(engine.scratch, 0, PADDING)
    engine.scratch[PADDING - 1] = PADDING
    size = srtp_protect(leg.peer.tx, leg.repair_sequence, out, size, engine.scratch, PADDING)
    leg.repair_sequence += 1
    if size < 0:
        return 0
    outbox_add(&engine.outbox, &leg.peer.addr, size)
    note_leaves(engine, leg, size, 1, leg.config.rtx_ssrc, <uint16_t>(leg.repair_sequence - 1), SENT_PADDING)
    return size


cdef int leg_pad(EngineState* engine, Leg* leg) noexcept nogil:
    cdef uint8_t repair_type = 0
    cdef uint64_t outgoing
    cdef Packet* packet = NULL
    cdef uint8_t* out
    cdef int size
    cdef uint32_t i
    if leg.config.stamp != EXT_TWCC and not leg.peer.sender.named:
        return 0
    if not leg.config.rtx_ssrc or leg.peer.tx == NULL or leg.config.paused:
        return 0
    for i in range(leg.track.config.payload_count):
        if not repair_type:
            repair_type = leaves_as(&leg.config, leg.track.config.payloads[i].payload_type).rtx_type
    if not repair_type:
        return 0
    out = outbox_room(&engine.outbox)
    if out == NULL:
        return 0
    if leg.packets > PADDED_FROM:
        # What was sent a moment ago does some good: it may have been lost.
        leg.pad_turn = (leg.pad_turn + 1) % PADDED_FROM
        packet = sent_as(leg, <uint16_t>(leg.renumber.next_out - 1 - leg.pad_turn), &outgoing)
    if packet != NULL and has_repair(leg, packet.payload_type):
        size = send_rtx(engine, leg, out, packet, <uint16_t>outgoing, SENT_PADDING)
    else:
        size = send_blank(engine, leg, out, repair_type)
    leg.peer.stats.padding_bytes += size
    return size
