"""RTCP both ways: what publishers are told and asked, and what viewers say."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.sfu.policy.bwe.estimator cimport estimator_ccfb, estimator_loss, estimator_remb, estimator_transport
from mediaserver.sfu.policy.missing cimport MissingRound, MissingTerms, missing_round, missing_terms
from mediaserver.sfu.policy.round_trip cimport ROUND_TRIP_MAX_US, round_trip_add
from mediaserver.sfu.stream.agenda cimport AGAIN_US, agenda_leave, agenda_set, earlier, make_hot
from mediaserver.sfu.stream.catchup cimport leg_begin_again
from mediaserver.sfu.stream.clocks cimport engine_ntp
from mediaserver.sfu.stream.fanout cimport is_tapped, tell_taps
from mediaserver.sfu.stream.inbound cimport (
    Inbound,
    inbound_lost,
    inbound_report,
    ntp_of,
)
from mediaserver.sfu.stream.keyframes cimport ask_keyframe
from mediaserver.sfu.stream.leg cimport leg_sender_report
from mediaserver.sfu.stream.numbering cimport note_reception
from mediaserver.sfu.stream.outlet cimport outlets_report
from mediaserver.sfu.stream.repairing cimport leg_asked
from mediaserver.sfu.stream.rtcp_out cimport send_rtcp
from mediaserver.sfu.stream.report cimport REPORT_TRACK_BYE, report
from mediaserver.sfu.stream.sending cimport note_feedback, note_remb, serve_sender
from mediaserver.sfu.stream.state cimport ALIVE_US, INBOUNDS_MAX, Encoding, Leg, Tap, Track
from mediaserver.sfu.stream.tap cimport TapQueue, tap_sender_report
from mediaserver.sfu.stream.transport cimport arrival_feedback
from mediaserver.sfu.wire.extended_reports cimport xr_delay, xr_write_reference
from mediaserver.sfu.wire.rtcp cimport (
    RTCP_ITEM_BYE,
    RTCP_ITEM_CCFB,
    RTCP_ITEM_FIR,
    RTCP_ITEM_NACK,
    RTCP_ITEM_PLI,
    RTCP_ITEM_REMB,
    RTCP_ITEM_RR,
    RTCP_ITEM_SR,
    RTCP_ITEM_TRANSPORT,
    RTCP_MAX_REPORTS,
    RTCP_XR,
    RtcpItem,
    RtcpRemb,
    RtcpReport,
    rtcp_bye,
    rtcp_fir,
    rtcp_nack,
    rtcp_next,
    rtcp_remb,
    rtcp_report,
    rtcp_write_bye,
    rtcp_write_nack,
    rtcp_write_rr,
    rtcp_write_sdes,
)

cdef enum:
    REPORT_INTERVAL_US = 1000000
    BYE_INTERVAL_US = 100000     # between two reports of one track's end
    CLOCK_STEP = 0x80000000      # half a second in NTP's form: no delay, the publisher's clock was set
    ITEMS_MAX = 64               # of one compound; more is nobody's honest need
    NACKS_MAX = 512              # sequence numbers of one NACK
    RTCP_ROOM = 1200             # plain bytes of one datagram

cdef int64_t NEVER = 0x7FFFFFFFFFFFFFFF


# ---- to publishers


cdef int64_t ask_missing(EngineState* engine, Peer* peer, Encoding* encoding) noexcept nogil:
    """Asks for what this encoding's source owes, once for all who listen; when there is more to do, or 0."""
    cdef MissingTerms terms
    cdef MissingRound round
    cdef uint8_t out[RTCP_ROOM]
    cdef Inbound* source = encoding.active
    cdef Track* track = encoding.track
    cdef uint64_t given_up
    cdef int size
    if source == NULL or source.missing.count == 0 or not source.asks:
        return 0
    if track.muted:  # nobody is to have it
        source.missing.count = 0
        source.missing.unasked = 0
        tell_taps(encoding)
        return 0
    given_up = source.missing.given_up
    missing_terms(&terms, track.config.video, is_tapped(encoding))
    missing_round(&source.missing, &terms, &peer.round_trip, source.highest, engine.now, &round)
    if round.count:
        size = rtcp_write_nack(out, sizeof(out), peer.feedback_ssrc, source.ssrc, round.sequences, round.count)
        if size > 0:
            send_rtcp(engine, peer, out, size)
            engine.counters.nacks_out += round.count
            track.stats.nacks += round.count
    tell_taps(encoding)
    given_up = source.missing.given_up - given_up
    engine.counters.given_up += given_up
    track.stats.given_up += given_up
    if round.overdue and track.config.video:
        encoding.want_keyframe = 1  # behind what is lost nothing can be decoded: do not wait until viewers say so
    return round.deadline


cdef int64_t tell_arrivals(EngineState* engine, Peer* peer) noexcept nogil:
    cdef uint8_t out[RTCP_ROOM]
    cdef int size
    if peer.arrivals == NULL or peer.arrivals.due == 0:
        return 0
    while peer.arrivals.due and peer.arrivals.due <= engine.now:
        size = arrival_feedback(
            peer.arrivals, out, sizeof(out), peer.feedback_ssrc, peer.inbounds[0].ssrc if peer.inbound_count else 0
        )
        if size > 0:
            send_rtcp(engine, peer, out, size)
    return peer.arrivals.due


cdef int64_t serve_peer(EngineState* engine, Peer* peer) noexcept nogil:
    """All that is due of one peer; when there is more to do, or 0."""
    cdef int64_t due = tell_arrivals(engine, peer)
    cdef Track* track = peer.tracks
    cdef int i
    while track != NULL:
        for i in range(track.config.encoding_count):
            due = earlier(due, ask_missing(engine, peer, &track.encodings[i]))
            due = earlier(due, ask_keyframe(engine, &track.encodings[i]))
        track = track.next
    return earlier(due, serve_sender(engine, peer))


cdef void serve_hot(EngineState* engine) noexcept nogil:
    """What is done for one peer may make another hot, or that one again: each waits for the next round then, at the
    latest."""
    cdef uint64_t left = engine.hot_count
    cdef Peer* peer
    cdef Peer* following = engine.awake
    cdef int64_t due
    engine.awake = NULL
    while following != NULL:
        peer = following
        following = peer.awake_next
        peer.awake = 0
        due = serve_peer(engine, peer)
        # What it was to be served for later may be done by now; to find that out then costs less than to move it.
        if due:
            make_hot(engine, peer, due if due > engine.now else engine.now + AGAIN_US)
    while left and engine.hot_count and engine.hot[0].at <= engine.now:
        left -= 1
        peer = engine.hot[0].peer
        peer.hot_due = NEVER  # it keeps its place until it is known when it is due again
        due = serve_peer(engine, peer)
        if peer.hot_due != NEVER:
            due = earlier(due, peer.hot_due)
        if due:
            agenda_set(engine, peer, due if due > engine.now else engine.now + AGAIN_US)
        else:
            agenda_leave(engine, peer)


cdef void note_losses(Encoding* encoding) noexcept nogil:
    """The track's figures: losses of all encodings, the jitter of its highest."""
    cdef Track* track = encoding.track
    cdef int i
    track.stats.lost = 0
    for i in range(track.config.encoding_count):
        if track.encodings[i].active != NULL:
            track.stats.lost += inbound_lost(track.encodings[i].active)
            track.stats.jitter = track.encodings[i].active.jitter >> 4


cdef void report_to_publisher(EngineState* engine, Peer* peer) noexcept nogil:
    cdef RtcpReport reports[INBOUNDS_MAX]
    cdef uint8_t out[RTCP_ROOM]
    cdef size_t count = 0
    cdef int size, more, i
    cdef Inbound* source
    cdef Encoding* encoding
    for i in range(peer.inbound_count):
        source = peer.inbounds[i]
        encoding = peer.inbound_encodings[i]
        # Those of the past would fill the report up to its limit, and the present ones would be left out.
        if encoding == NULL or encoding.active != source or not source.started or count == RTCP_MAX_REPORTS:
            continue
        inbound_report(source, engine.now, &reports[count])
        count += 1
        note_losses(encoding)
    if count == 0:
        return
    size = rtcp_write_rr(out, sizeof(out), peer.feedback_ssrc, reports, count)
    if size < 0:
        return
    more = rtcp_write_sdes(out + size, sizeof(out) - size, peer.feedback_ssrc, peer.ufrag, peer.ufrag_size)
    if more < 0:
        return
    size += more
    # Who sends answers when it was heard, whether repairs are agreed or not: so the round trip is known in any case.
    more = xr_write_reference(out + size, sizeof(out) - size, peer.feedback_ssrc, ntp_of(engine.now))
    send_rtcp(engine, peer, out, size + more if more > 0 else size)


cdef void report_to_viewer(EngineState* engine, Peer* peer) noexcept nogil:
    cdef uint8_t out[RTCP_ROOM]
    cdef uint32_t used = 0, i
    cdef Leg* leg
    cdef int size
    for i in range(peer.leg_count):
        leg = peer.legs[i]
        if leg.packets == 0 or engine.now < leg.report_due:
            continue
        if used + 200 > RTCP_ROOM:
            send_rtcp(engine, peer, out, used)
            used = 0
        size = leg_sender_report(leg, out + used, RTCP_ROOM - used, engine.now)
        if size > 0:
            used += size
            leg.report_due = engine.now + REPORT_INTERVAL_US
    send_rtcp(engine, peer, out, used)


cdef void send_reports(EngineState* engine, Peer* peer) noexcept nogil:
    if peer.tx == NULL:
        return
    if peer.leg_count:
        report_to_viewer(engine, peer)
    if peer.inbound_count and engine.now >= peer.report_due:
        peer.report_due = engine.now + REPORT_INTERVAL_US
        report_to_publisher(engine, peer)


cdef void send_bye(EngineState* engine, Peer* peer, const uint32_t* ssrcs, size_t count) noexcept nogil:
    cdef uint8_t out[256]
    cdef int size = rtcp_write_rr(out, sizeof(out), ssrcs[0], NULL, 0)
    cdef int more
    if size < 0:
        return
    more = rtcp_write_bye(out + size, sizeof(out) - size, ssrcs, count)
    if more > 0:
        send_rtcp(engine, peer, out, size + more)


# ---- from peers


cdef Leg* leg_of(Peer* peer, uint32_t ssrc) noexcept nogil:
    cdef uint32_t i
    for i in range(peer.leg_count):
        if peer.legs[i].config.ssrc == ssrc:
            return peer.legs[i]
    return NULL


cdef int source_of(Peer* peer, uint32_t ssrc) noexcept nogil:
    cdef int i
    for i in range(peer.inbound_count):
        if peer.inbounds[i].ssrc == ssrc:
            return i
    return -1


cdef void read_blocks(EngineState* engine, Peer* peer, const RtcpItem* item) noexcept nogil:
    cdef RtcpReport block
    cdef Leg* leg
    cdef size_t index = 0
    cdef int64_t round_trip = -1
    cdef int worst = -1
    while rtcp_report(item, index, &block):
        index += 1
        leg = leg_of(peer, block.ssrc)
        if leg == NULL:
            continue
        leg.stats.fraction_lost = block.fraction_lost
        if block.fraction_lost > worst:
            worst = block.fraction_lost
        if block.last_sr and block.last_sr == leg.report_mid:
            round_trip = engine.now - leg.report_sent - <int64_t>(<uint64_t>block.delay * 1000000 // 65536)
            if round_trip < 0 or round_trip >= ROUND_TRIP_MAX_US:
                round_trip = -1
            else:
                leg.stats.rtt = <uint64_t>round_trip
                round_trip_add(&peer.round_trip, round_trip)
                peer.stats.rtt_us = <uint64_t>round_trip
    if worst >= 0 and peer.sender != NULL:
        note_reception(engine, peer, worst, round_trip)
        estimator_loss(&peer.sender.estimator, <uint8_t>worst, <int64_t>peer.stats.rtt_us, engine.now)


cdef void read_delay(EngineState* engine, Peer* peer, const RtcpItem* item) noexcept nogil:
    """The publisher answers a reference time: what has passed since, without the time that it sat there."""
    cdef uint32_t last_reference, delay
    if xr_delay(item, peer.feedback_ssrc, &last_reference, &delay):
        delay += last_reference
        delay = <uint32_t>(ntp_of(engine.now) >> 16) - delay
        round_trip_add(&peer.round_trip, <int64_t>(<uint64_t>delay * 1000000 >> 16))


cdef void note_clock(EngineState* engine, Peer* peer, uint64_t ntp) noexcept nogil:
    """Publishers' clocks may be seconds apart, and a viewer's browser plays whatever shares a stream in sync by them:
    all are brought to the engine's. One offset serves all that a peer sends, so its own sound and picture stay
    together. It is that of the report that took the least time on its way, and follows a drift slowly."""
    cdef uint64_t offset = engine_ntp(engine.now) - ntp
    cdef int64_t later = <int64_t>(offset - peer.clock_offset)
    cdef int64_t half
    if not peer.clock_known or later < 0 or later > CLOCK_STEP:
        peer.clock_known = 1
        peer.clock_offset = offset
    else:
        peer.clock_offset += <uint64_t>(later >> 8)
    if peer.round_trip.samples:
        half = peer.round_trip.smoothed >> 1
        if peer.way == 0 or half < peer.way:
            peer.way = half
        else:
            peer.way += (half - peer.way) >> 8


cdef void read_sender_report(EngineState* engine, Peer* peer, const RtcpItem* item) noexcept nogil:
    cdef int at = source_of(peer, item.ssrc)
    cdef Inbound* source
    cdef Encoding* encoding
    cdef Track* track
    cdef Tap* tap
    cdef uint32_t i
    if at < 0:
        return
    source = peer.inbounds[at]
    encoding = peer.inbound_encodings[at]
    track = encoding.track if encoding != NULL else NULL
    if source.sender_arrival == 0 and track != NULL:
        for i in range(track.leg_count):  # the legs can give theirs now
            track.legs[i].report_due = 0
    source.sender_ntp = item.ntp
    source.sender_rtp = item.rtp_timestamp
    source.sender_arrival = engine.now
    note_clock(engine, peer, item.ntp)
    if track == NULL or encoding.active != source or track.muted:
        return
    if track.outlets != NULL:
        outlets_report(engine, encoding)
    tap = track.taps
    while tap != NULL:
        if tap.encoding == encoding.index:
            tap_sender_report(<TapQueue*>tap.ring, &engine.pool, item.ssrc, item.ntp, item.rtp_timestamp, engine.now)
        tap = tap.next


cdef void read_nack(EngineState* engine, Peer* peer, const RtcpItem* item) noexcept nogil:
    cdef uint16_t sequences[NACKS_MAX]
    cdef Leg* leg = leg_of(peer, item.media_ssrc)
    cdef int count
    if leg == NULL:
        return
    count = rtcp_nack(item, sequences, NACKS_MAX)
    engine.counters.nacks_in += count
    leg.stats.nacked += count
    if count > 0:
        leg_asked(engine, leg, sequences, count)


cdef void viewer_wants_keyframe(EngineState* engine, Peer* peer, uint32_t ssrc) noexcept nogil:
    cdef Leg* leg = leg_of(peer, ssrc)
    if leg == NULL or leg.config.paused:
        return
    engine.counters.plis_in += 1
    leg.stats.plis += 1
    leg_begin_again(engine, leg)


cdef void read_bye(EngineState* engine, Peer* peer, uint32_t ssrc) noexcept nogil:
    cdef int at = source_of(peer, ssrc)
    cdef Encoding* encoding = peer.inbound_encodings[at] if at >= 0 else NULL
    cdef Track* track
    cdef int i
    if encoding == NULL or encoding.active != peer.inbounds[at]:
        return
    track = encoding.track
    for i in range(track.config.encoding_count):  # one of several has ended: the track goes on
        if &track.encodings[i] != encoding and track.encodings[i].active != NULL \
                and engine.now - track.encodings[i].active.last_arrival < ALIVE_US:
            return
    if track.bye_told == 0 or engine.now - track.bye_told >= BYE_INTERVAL_US:
        track.bye_told = engine.now
        report(engine, REPORT_TRACK_BYE, track.id, ssrc, NULL, 0)


cdef void read_line(EngineState* engine, Peer* peer, const RtcpItem* item) noexcept nogil:
    """What a viewer says of its line."""
    cdef RtcpRemb remb
    if peer.sender == NULL:
        return
    if item.kind == RTCP_ITEM_TRANSPORT:
        estimator_transport(&peer.sender.estimator, item, engine.now)
    elif item.kind == RTCP_ITEM_CCFB:
        estimator_ccfb(&peer.sender.estimator, item, engine.now)
    elif rtcp_remb(item, &remb) == 0:
        estimator_remb(&peer.sender.estimator, remb.bitrate, engine.now)
        note_remb(engine, peer.sender, remb.bitrate)
        make_hot(engine, peer, engine.now)
        return
    note_feedback(engine, peer)


cdef void read_item(EngineState* engine, Peer* peer, const RtcpItem* item) noexcept nogil:
    cdef uint32_t ssrc
    cdef uint8_t command
    cdef size_t index = 0
    cdef int at
    if item.kind == RTCP_ITEM_SR:
        read_sender_report(engine, peer, item)
        read_blocks(engine, peer, item)
    elif item.kind == RTCP_ITEM_RR:
        read_blocks(engine, peer, item)
    elif item.kind == RTCP_ITEM_NACK:
        read_nack(engine, peer, item)
    elif item.kind == RTCP_ITEM_PLI:
        viewer_wants_keyframe(engine, peer, item.media_ssrc)
    elif item.kind == RTCP_ITEM_FIR:
        while rtcp_fir(item, index, &ssrc, &command):
            viewer_wants_keyframe(engine, peer, ssrc)
            index += 1
    elif item.kind == RTCP_ITEM_TRANSPORT or item.kind == RTCP_ITEM_CCFB or item.kind == RTCP_ITEM_REMB:
        read_line(engine, peer, item)
    elif item.kind == RTCP_ITEM_BYE:
        while rtcp_bye(item, index, &ssrc):
            read_bye(engine, peer, ssrc)
            index += 1
    elif item.type == RTCP_XR:
        read_delay(engine, peer, item)


cdef void read_rtcp(EngineState* engine, Peer* peer, const uint8_t* data, size_t size) noexcept nogil:
    cdef RtcpItem item
    cdef size_t offset = 0
    cdef int left = ITEMS_MAX
    cdef int state
    engine.counters.rtcp_in += 1
    while left > 0:
        state = rtcp_next(data, size, &offset, &item)
        if state <= 0:
            if state < 0:
                engine.counters.drop_malformed += 1
            return
        read_item(engine, peer, &item)
        left -= 1
