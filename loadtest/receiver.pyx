"""The subscribing half of a peer: counts what comes, asks for what does not, reports, and times every packet."""

from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from mediaserver.codecs.payload cimport CODEC_NONE, CODEC_OPUS, PayloadFacts, payload_facts
from mediaserver.loadtest.feedback cimport note_arrival
from mediaserver.loadtest.histogram cimport histogram_add, spread_add
from mediaserver.loadtest.sender cimport send_again, send_protected_rtcp
from mediaserver.loadtest.state cimport (
    MISSING,
    REQUESTS,
    RTX_TYPE,
    InStream,
    MissingPacket,
    OutStream,
    Peer,
    Skew,
    SourceTimes,
    Tape,
    Taped,
    Totals,
    due_of_stamp,
    late_of_stamp,
)
from mediaserver.sfu.wire.packet cimport (
    EXT_ABS_CAPTURE_TIME,
    EXT_MID,
    EXT_TWCC,
    ExtValues,
    RtpHeader,
    ext_read,
    read_u16,
    read_u64,
    rtp_padding,
    rtp_parse,
)
from mediaserver.sfu.wire.replay cimport estimate_index, replay_mark, replay_seen
from mediaserver.sfu.wire.rtcp cimport (
    RTCP_ITEM_FIR,
    RTCP_ITEM_NACK,
    RTCP_ITEM_PLI,
    RTCP_ITEM_RR,
    RTCP_ITEM_SR,
    RTCP_MAX_REPORTS,
    RtcpItem,
    RtcpReport,
    rtcp_fir,
    rtcp_nack,
    rtcp_next,
    rtcp_report,
    rtcp_write_nack,
    rtcp_write_pli,
    rtcp_write_rr,
)
from mediaserver.sfu.wire.srtp cimport (
    SRTP_WINDOW_WORDS,
    SrtpReceiver,
    srtcp_unprotect,
    srtp_tag_size,
    srtp_unprotect,
)

cdef enum:
    CAPACITY = 1200
    MAX_NACK = 256
    NACK_TRIES = 10
    WINDOW = SRTP_WINDOW_WORDS * 64

cdef int64_t NACK_AGAIN = 40 * 1000000
cdef int64_t GIVE_UP = 1000 * 1000000
cdef int64_t KEYFRAME_AGAIN = 500 * 1000000
cdef int64_t FRESH = 250 * 1000000
cdef int64_t LEAST_WINDOW = 500 * 1000000


# ---- media

cdef InStream* find_stream(Peer* peer, const RtpHeader* header, const ExtValues* values, bint* repair) noexcept nogil:
    """The stream of a packet; one whose SSRC was not announced is learnt by its mid, or its payload type."""
    cdef InStream* stream
    cdef uint32_t number
    cdef uint8_t codec = peer.codecs[header.payload_type]
    for number in range(peer.in_count):
        stream = &peer.ins[number]
        if stream.ssrc == header.ssrc or stream.rtx_ssrc == header.ssrc:
            repair[0] = stream.ssrc != header.ssrc
            return stream
    for number in range(peer.in_count):
        stream = &peer.ins[number]
        if values.present >> EXT_MID & 1:
            if (values.size[<int>EXT_MID] != stream.mid_size
                    or memcmp(values.data[<int>EXT_MID], stream.mid, stream.mid_size) != 0):
                continue
        elif stream.video != (codec != CODEC_OPUS):
            continue
        if codec == RTX_TYPE and stream.rtx_ssrc == 0:
            stream.rtx_ssrc = header.ssrc
            repair[0] = True
            return stream
        if codec not in (RTX_TYPE, CODEC_NONE) and stream.ssrc == 0:
            stream.ssrc = header.ssrc
            repair[0] = False
            return stream
    return NULL


cdef void receive_media(Peer* peer, uint8_t* data, size_t size, int64_t arrived_real, int64_t arrived, int64_t now,
                        SourceTimes* times, Tape* tape, Totals* totals) noexcept nogil:
    """One SRTP packet. `arrived_real` is the kernel's receive stamp, 0 when there is none; `arrived` the same on the
    monotonic clock, `now` when there is none."""
    cdef RtpHeader header
    cdef ExtValues values
    cdef InStream* stream
    cdef bint repair = False
    cdef uint64_t index = 0
    cdef int plain, padding = 0
    if rtp_parse(data, size, &header) < 0:
        totals.unknown += 1
        return
    ext_read(data, &header, &peer.extensions, &values)
    stream = find_stream(peer, &header, &values, &repair)
    if stream is NULL:
        totals.unknown += 1
        return
    if repair or must_open(peer, stream, header.sequence):
        plain = srtp_unprotect(peer.rx, &stream.repair if repair else &stream.media, data, size, header.header_size,
                               &index)
        padding = rtp_padding(data, plain, &header) if plain >= 0 else plain
        totals.opened += padding >= 0
    else:
        plain = skim(peer, &stream.media, data, size, header.header_size, &index)
    if plain < 0 or padding < 0:
        stream.refused += 1
        return
    if values.present >> EXT_TWCC & 1 and values.size[<int>EXT_TWCC] >= 2:
        note_arrival(peer, read_u16(values.data[<int>EXT_TWCC]), size, arrived)
    totals.received += 1
    totals.received_octets += size
    size = plain - padding - header.header_size
    data += header.header_size
    if repair:
        if size > 2:
            # RFC 4588, section 4: the original number comes first. What is empty is a probe.
            index = stream.highest + <int64_t><int16_t>(read_u16(data) - <uint16_t>stream.highest)
            if take_packet(peer, stream, index, &header, data + 2, size - 2, True, arrived, now) and stream.taped:
                put_on_tape(tape, peer, stream, index, &header, data + 2, size - 2, arrived_real, totals)
        return
    if peer.codecs[header.payload_type] in (CODEC_NONE, RTX_TYPE):
        stream.refused += 1
        return
    if values.present >> EXT_ABS_CAPTURE_TIME & 1 and values.size[<int>EXT_ABS_CAPTURE_TIME] >= 8:
        # Without RTX a number below the highest may be sent again: its stamp then says nothing about the server.
        if index > stream.highest or not stream.started or stream.rtx_ssrc or not stream.nack:
            time_packet(stream, index, read_u64(values.data[<int>EXT_ABS_CAPTURE_TIME]), arrived_real,
                        &times[stream.source], totals)
    if take_packet(peer, stream, index, &header, data, size, False, arrived, now) and stream.taped:
        put_on_tape(tape, peer, stream, index, &header, data, size, arrived_real, totals)
    update_jitter(stream, header.timestamp, now)
    if stream.missing_count:
        peer.nack_due = 1


cdef bint must_open(const Peer* peer, const InStream* stream, uint16_t sequence) noexcept nogil:
    """Whether a packet's payload is looked at, or it is its turn. What comes out of turn may begin or end a wait for a
    keyframe, which only the payload shows."""
    return (sequence % peer.open_every == 0 or stream.waiting or stream.taped or not stream.started
            or sequence != <uint16_t>(stream.highest + 1))


cdef int skim(const Peer* peer, SrtpReceiver* receiver, const uint8_t* data, size_t size, size_t header_size,
              uint64_t* index) noexcept nogil:
    """As `srtp_unprotect`, but the packet stays closed: its index, and that it is not a replay, is all that is found out.
    Believing a header that nobody has verified is for a load test alone, which has its samples to tell."""
    cdef size_t tag_size = srtp_tag_size(peer.rx)
    cdef uint64_t guess = estimate_index(receiver.highest, read_u16(data + 2))
    if size < header_size + tag_size or replay_seen(receiver.window, WINDOW, receiver.highest, guess):
        return -1
    replay_mark(receiver.window, WINDOW, &receiver.highest, guess)
    index[0] = guess
    return <int>(size - tag_size)


cdef void time_packet(InStream* stream, uint64_t index, uint64_t stamp, int64_t arrived_real, SourceTimes* times,
                      Totals* totals) noexcept nogil:
    cdef int64_t intended, latency
    cdef int64_t late = late_of_stamp(stamp)
    if arrived_real == 0:
        return
    intended = arrived_real - due_of_stamp(stamp)
    stream.age = intended
    histogram_add(&times.intended if stream.direct else &times.lined, intended)
    if late < 0:
        totals.untimed += 1
        stream.last_stamp = stamp
        return
    latency = intended - late
    if stream.started and index < stream.highest and stream.stamped:
        stream.overtaken += 1
        stream.overtaken_by += latency - stream.last_latency
    spread_add(&stream.spread, latency)
    if stream.direct:
        histogram_add(&times.latency, latency)
        if stream.stamped:
            histogram_add(&times.jitter, latency - stream.last_latency if latency > stream.last_latency
                          else stream.last_latency - latency)
    stream.last_latency = latency
    stream.latency_sum += latency
    stream.stamped += 1
    stream.last_stamp = stamp
    if latency > stream.worst_latency:
        stream.worst_latency = latency


cdef void update_jitter(InStream* stream, uint32_t timestamp, int64_t now) noexcept nogil:
    # Differences are taken modulo 2^32, as timestamps are.
    cdef double transit = <double>(now % 4000000000000LL) * stream.clock_rate / 1e9 - timestamp
    cdef double change = transit - stream.last_transit
    stream.last_transit = transit
    if stream.received > 1 and -stream.clock_rate < change < stream.clock_rate:
        stream.jitter += ((change if change > 0 else -change) - stream.jitter) / 16


cdef bint take_packet(Peer* peer, InStream* stream, uint64_t index, const RtpHeader* header, const uint8_t* payload,
                      size_t size, bint repair, int64_t arrived, int64_t now) noexcept nogil:
    """Whether the packet is new."""
    cdef PayloadFacts facts
    cdef bint filled
    cdef uint8_t codec = peer.codecs[header.payload_type]
    # A retransmission under the type of RTX has the codec of the packets before it.
    if codec != RTX_TYPE:
        stream.codec = codec
    if not stream.started:
        stream.started = 1
        stream.first = index
        stream.highest = index
        stream.first_packet = arrived
    elif index > stream.highest:
        note_gap(peer, stream, index, now)
        stream.highest = index
    else:
        filled = fill_gap(stream, index)
        if not repair and stream.missed and (stream.rtx_ssrc or not stream.nack):
            stream.missed -= 1  # it was late alone, whether a repair came before it or not
        elif filled:
            stream.repaired += 1
        if not filled:
            stream.duplicates += 1
            return False
    stream.received += 1
    stream.octets += size
    if stream.waiting and payload_facts(stream.codec, payload, size, &facts) and facts.keyframe:
        stream.waiting = 0
        stream.pending = 0
    # Of sound each packet is a frame of its own.
    if not stream.video or header.marker:
        stream.pending += 1
    if stream.missing_count == 0 and not stream.waiting and stream.pending:
        complete_frames(stream, arrived)
    return True


cdef void complete_frames(InStream* stream, int64_t now) noexcept nogil:
    if stream.first_frame == 0:
        stream.first_frame = now
        stream.window = now
        stream.window_octets = stream.octets
    else:
        if now - stream.last_frame > stream.longest_gap:
            stream.longest_gap = now - stream.last_frame
        if stream.stale and now - stream.last_frame > stream.stale:
            stream.freezes += 1
            stream.frozen += now - stream.last_frame
    if stream.mark and stream.recovered == 0 and now >= stream.mark:
        stream.recovered = now - stream.mark + 1
    stream.last_frame = now
    stream.frames += stream.pending
    stream.window_frames += stream.pending
    stream.pending = 0


# ---- loss

cdef void note_gap(Peer* peer, InStream* stream, uint64_t index, int64_t now) noexcept nogil:
    cdef uint64_t lost
    cdef MissingPacket* entry
    stream.missed += index - stream.highest - 1
    for lost in range(stream.highest + 1, index):
        if not stream.nack or stream.missing_count == MISSING:
            stream.lost += index - lost
            picture_broke(peer, stream)
            return
        entry = &stream.missing[stream.missing_count]
        entry.index = lost
        entry.since = now
        entry.asked = 0
        entry.tries = 0
        stream.missing_count += 1


cdef bint fill_gap(InStream* stream, uint64_t index) noexcept nogil:
    """Whether the packet was waited for."""
    cdef uint32_t number
    for number in range(stream.missing_count):
        if stream.missing[number].index == index:
            forget_missing(stream, number)
            return True
    return False


cdef void forget_missing(InStream* stream, uint32_t number) noexcept nogil:
    # The order stays: NACKs list ascending numbers.
    stream.missing_count -= 1
    while number < stream.missing_count:
        stream.missing[number] = stream.missing[number + 1]
        number += 1


cdef void picture_broke(Peer* peer, InStream* stream) noexcept nogil:
    stream.pending = 0
    if stream.video:
        stream.waiting = 1
        peer.picture_due = 1


cdef void send_nacks(Peer* peer, int64_t now, Totals* totals) noexcept nogil:
    """Ask for what is missing: at once, then every 40 ms, ten times; after a second it is lost."""
    cdef uint8_t out[CAPACITY]
    cdef uint16_t wanted[MAX_NACK]
    cdef InStream* stream
    cdef MissingPacket* entry
    cdef uint32_t number, position, count
    cdef uint32_t open_gaps = 0
    for number in range(peer.in_count):
        stream = &peer.ins[number]
        count = 0
        position = 0
        while position < stream.missing_count:
            entry = &stream.missing[position]
            if now - entry.since > GIVE_UP:
                forget_missing(stream, position)
                stream.lost += 1
                picture_broke(peer, stream)
                continue
            if (entry.asked == 0 or now - entry.asked > NACK_AGAIN) and entry.tries < NACK_TRIES and count < MAX_NACK:
                entry.asked = now
                entry.tries += 1
                wanted[count] = <uint16_t>entry.index
                count += 1
            position += 1
        open_gaps += stream.missing_count
        if count:
            send_protected_rtcp(
                peer, out, rtcp_write_nack(out, CAPACITY, peer.ssrc, stream.ssrc, wanted, count), CAPACITY, totals
            )
    peer.nack_due = open_gaps > 0


cdef void ask_for_keyframes(Peer* peer, int64_t now, Totals* totals) noexcept nogil:
    cdef uint8_t out[CAPACITY]
    cdef InStream* stream
    cdef uint32_t number
    peer.picture_due = 0
    for number in range(peer.in_count):
        stream = &peer.ins[number]
        peer.picture_due |= stream.waiting
        if stream.waiting and stream.ssrc and now - stream.asked_keyframe > KEYFRAME_AGAIN:
            stream.asked_keyframe = now
            stream.keyframe_requests += 1
            send_protected_rtcp(peer, out, rtcp_write_pli(out, CAPACITY, peer.ssrc, stream.ssrc), CAPACITY, totals)


# ---- reports

cdef void fill_report(InStream* stream, int64_t now, RtcpReport* report) noexcept nogil:
    cdef uint64_t expected = stream.highest - stream.first + 1
    cdef uint64_t interval = expected - stream.reported_expected
    cdef uint64_t received = stream.received - stream.reported_received
    report.ssrc = stream.ssrc
    report.fraction_lost = <uint8_t>((interval - received) * 256 // interval) if interval > received else 0
    report.lost = <int>(expected - stream.received) if expected > stream.received else 0
    report.highest = <uint32_t>stream.highest
    report.jitter = <uint32_t>stream.jitter
    report.last_sr = stream.last_sr
    report.delay = <uint32_t>((now - stream.last_sr_time) * 65536 // 1000000000) if stream.last_sr else 0
    stream.reported_expected = expected
    stream.reported_received = stream.received


cdef void send_receiver_report(Peer* peer, int64_t now, Totals* totals) noexcept nogil:
    cdef uint8_t out[CAPACITY]
    cdef RtcpReport reports[RTCP_MAX_REPORTS]
    cdef uint32_t number, count = 0
    for number in range(peer.in_count):
        if peer.ins[number].started and count < RTCP_MAX_REPORTS:
            fill_report(&peer.ins[number], now, &reports[count])
            count += 1
    send_protected_rtcp(peer, out, rtcp_write_rr(out, CAPACITY, peer.ssrc, reports, count), CAPACITY, totals)


cdef void judge_floors(InStream* stream, int64_t now) noexcept nogil:
    """The second that is over by the floors; a frame more or less, and a twentieth of the bits, is none."""
    cdef double seconds
    if stream.first_frame == 0 or now - stream.window < LEAST_WINDOW:
        return
    seconds = (now - stream.window) / 1e9
    stream.watched += now - stream.window
    if stream.floor_frames and stream.window_frames + 1 < stream.floor_frames * seconds:
        stream.under_frames += now - stream.window
    if stream.floor_bits and (stream.octets - stream.window_octets) * 8 < 0.95 * stream.floor_bits * seconds:
        stream.under_bits += now - stream.window
    stream.window = now
    stream.window_frames = 0
    stream.window_octets = stream.octets


cdef void watch_skew(Peer* peer, Skew* pairs, uint32_t count, int64_t now) noexcept nogil:
    """How far the newest frames of a viewer's sources are apart, in age."""
    cdef InStream* first
    cdef InStream* second
    cdef uint32_t number
    for number in range(count):
        first = fresh_stream(peer, pairs[number].first, now)
        second = fresh_stream(peer, pairs[number].second, now)
        if first is NULL or second is NULL:
            continue
        if first.age >= second.age:
            histogram_add(&pairs[number].behind, first.age - second.age)
        else:
            histogram_add(&pairs[number].ahead, second.age - first.age)


cdef InStream* fresh_stream(Peer* peer, uint8_t source, int64_t now) noexcept nogil:
    cdef uint32_t number
    for number in range(peer.in_count):
        if peer.ins[number].source == source and peer.ins[number].age and now - peer.ins[number].last_frame < FRESH:
            return &peer.ins[number]
    return NULL


cdef void put_on_tape(Tape* tape, const Peer* peer, const InStream* stream, uint64_t index, const RtpHeader* header,
                      const uint8_t* payload, int size, int64_t arrived_real, Totals* totals) noexcept nogil:
    cdef Taped entry
    if tape.used + sizeof(Taped) + size > tape.room:
        totals.untaped += 1
        return
    entry.arrived = arrived_real
    entry.index = index
    entry.peer = peer.number
    entry.timestamp = header.timestamp
    entry.stream = <uint16_t>(stream - peer.ins)
    entry.size = <uint16_t>size
    entry.marker = header.marker
    memcpy(tape.bytes + tape.used, &entry, sizeof(Taped))
    memcpy(tape.bytes + tape.used + sizeof(Taped), payload, size)
    tape.used += sizeof(Taped) + size


cdef OutStream* published(Peer* peer, uint32_t ssrc) noexcept nogil:
    cdef uint32_t number
    for number in range(peer.out_count):
        if peer.outs[number].ssrc == ssrc:
            return &peer.outs[number]
    return NULL


cdef void receive_reports(Peer* peer, uint8_t* data, size_t size, int64_t arrived, int64_t now,
                          Totals* totals) noexcept nogil:
    """One SRTCP packet: what the server asks of a publisher, and its sender reports to a viewer."""
    cdef RtcpItem item
    cdef RtcpReport report
    cdef OutStream* stream
    cdef uint32_t number
    cdef uint32_t ssrc = 0
    cdef uint8_t command = 0
    cdef size_t offset = 0, index
    cdef int plain = srtcp_unprotect(peer.rx, data, size)
    if plain < 0:
        totals.unknown += 1
        return
    while rtcp_next(data, plain, &offset, &item) > 0:
        if item.kind == RTCP_ITEM_SR:
            for number in range(peer.in_count):
                if peer.ins[number].ssrc == item.ssrc:
                    peer.ins[number].last_sr = <uint32_t>(item.ntp >> 16)
                    peer.ins[number].last_sr_time = now
        if item.kind == RTCP_ITEM_SR or item.kind == RTCP_ITEM_RR:
            index = 0
            while rtcp_report(&item, index, &report):
                stream = published(peer, report.ssrc)
                if stream is not NULL:
                    stream.fraction_lost = report.fraction_lost
                    stream.reported_lost = report.lost
                index += 1
        elif item.kind == RTCP_ITEM_NACK:
            answer_nack(peer, &item, totals)
        elif item.kind == RTCP_ITEM_PLI:
            want_keyframe(published(peer, item.media_ssrc), arrived)
        elif item.kind == RTCP_ITEM_FIR:
            index = 0
            while rtcp_fir(&item, index, &ssrc, &command):
                want_keyframe(published(peer, ssrc), arrived)
                index += 1


cdef void want_keyframe(OutStream* stream, int64_t arrived) noexcept nogil:
    if stream is not NULL:
        stream.keyframe_wanted = 1
        stream.requested[stream.keyframe_requests & (REQUESTS - 1)] = arrived
        stream.keyframe_requests += 1


cdef void answer_nack(Peer* peer, const RtcpItem* item, Totals* totals) noexcept nogil:
    cdef uint16_t wanted[MAX_NACK]
    cdef OutStream* stream = published(peer, item.media_ssrc)
    cdef int number, count
    if stream is NULL:
        return
    count = rtcp_nack(item, wanted, MAX_NACK)
    for number in range(count):
        send_again(stream, wanted[number], totals)
