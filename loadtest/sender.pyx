"""The publishing half of a peer: frames on schedule, each packet with its send stamp; retransmissions; reports."""

from libc.errno cimport ECONNREFUSED, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from mediaserver.loadtest.clip cimport ClipData, ClipFrame, ClipPacket
from mediaserver.loadtest.clock cimport monotonic, realtime
from mediaserver.loadtest.histogram cimport histogram_add
from mediaserver.loadtest.state cimport (
    HISTORY,
    MAX_DATAGRAM,
    PEER_REFUSED,
    OutStream,
    Peer,
    Sent,
    Totals,
    due_of_stamp,
    ntp_of,
    stamp_of,
)
from mediaserver.sfu.wire.packet cimport (
    EXT_ABS_CAPTURE_TIME,
    EXT_MID,
    EXT_TWCC,
    RTP_HEADER_SIZE,
    RTP_X_BIT,
    ExtValues,
    ext_write,
    rtp_write,
    write_u16,
    write_u64,
)
from mediaserver.sfu.wire.rtcp cimport rtcp_write_bye, rtcp_write_sdes, rtcp_write_sr
from mediaserver.sfu.wire.srtp cimport SRTP_MAX_TAG, srtcp_protect, srtp_protect

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int fd, const void* data, size_t size, int flags)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL

cdef enum:
    REPORT_CAPACITY = 1200


cdef void send_datagram(Peer* peer, const uint8_t* data, size_t size, Totals* totals) noexcept nogil:
    if send(peer.fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0:
        totals.send_failures += 1
        if errno == ECONNREFUSED:
            peer.gone = PEER_REFUSED


cdef int write_header(OutStream* stream, uint8_t* out, const Sent* sent, bint again) noexcept nogil:
    """Header and extensions of one packet; again: as RTX, under its own SSRC, with the stamp of the first sending."""
    cdef Peer* peer = stream.peer
    cdef const ClipPacket* packet = &stream.clip.packets[sent.packet]
    cdef ExtValues values
    cdef uint8_t stamp[8]
    cdef uint8_t transport[2]
    cdef int written
    write_u64(stamp, sent.ntp)
    write_u16(transport, sent.transport)
    values.data[<int>EXT_MID] = <const uint8_t*>stream.mid
    values.size[<int>EXT_MID] = stream.mid_size
    values.data[<int>EXT_ABS_CAPTURE_TIME] = stamp
    values.size[<int>EXT_ABS_CAPTURE_TIME] = 8
    values.data[<int>EXT_TWCC] = transport
    values.size[<int>EXT_TWCC] = 2
    values.present = (1 << EXT_MID) | (1 << EXT_ABS_CAPTURE_TIME) | (1 << EXT_TWCC)
    if again:
        rtp_write(out, stream.rtx_type, packet.marker, <uint16_t>stream.rtx_index, sent.timestamp, stream.rtx_ssrc)
    else:
        rtp_write(out, stream.payload_type, packet.marker, <uint16_t>sent.index, sent.timestamp, stream.ssrc)
    written = ext_write(out + RTP_HEADER_SIZE, MAX_DATAGRAM - RTP_HEADER_SIZE, &values, peer.extensions.id, values.present)
    if written > 0:
        out[0] |= RTP_X_BIT
        return RTP_HEADER_SIZE + written
    return RTP_HEADER_SIZE


cdef void send_packet(OutStream* stream, uint32_t number, uint32_t timestamp, uint64_t due, int64_t start,
                      Totals* totals) noexcept nogil:
    """`due` is the frame's time as a stamp, `start` the same on the monotonic clock, to the stamp's resolution."""
    cdef uint8_t out[MAX_DATAGRAM + SRTP_MAX_TAG]
    cdef const ClipPacket* packet = &stream.clip.packets[number]
    cdef Sent* sent = &stream.history[stream.index & (HISTORY - 1)]
    cdef int header_size, size
    sent.index = stream.index
    sent.packet = number
    sent.timestamp = timestamp
    sent.transport = stream.peer.transport_sequence
    sent.used = 1
    sent.ntp = stamp_of(due, monotonic() - start)
    if sent.ntp <= stream.last_ntp:
        sent.ntp = stream.last_ntp + 1  # stamps tell what left after what
    header_size = write_header(stream, out, sent, False)
    size = srtp_protect(stream.peer.tx, stream.index, out, header_size, packet.payload, packet.size)
    stream.index += 1
    if size < 0:
        totals.send_failures += 1
        return
    stream.peer.transport_sequence += 1
    send_datagram(stream.peer, out, size, totals)
    stream.last_ntp = sent.ntp
    stream.packets += 1
    stream.octets += packet.size
    totals.sent += 1
    totals.sent_octets += size


cdef inline int64_t due_of(const OutStream* stream, uint64_t frame) noexcept nogil:
    # Whole seconds apart from the rest, so that nothing overflows and nothing drifts.
    cdef uint64_t units = frame * stream.clip.duration
    cdef uint64_t rate = stream.clip.clock_rate
    return stream.start + <int64_t>(units // rate * 1000000000 + units % rate * 1000000000 // rate)


cdef inline uint32_t timestamp_of(const OutStream* stream, uint64_t frame) noexcept nogil:
    return stream.first_timestamp + <uint32_t>(frame * stream.clip.duration)


cdef void send_frame(OutStream* stream, int64_t now, Totals* totals) noexcept nogil:
    """Send the frame that is due and set the time of the next one. A late frame is sent all the same, and counted."""
    cdef const ClipData* clip = stream.clip
    cdef uint32_t step, number
    cdef uint64_t before, due
    cdef int64_t real, start
    cdef const ClipFrame* frame
    if stream.keyframe_wanted:
        stream.keyframe_wanted = 0
        for step in range(clip.frame_count):
            if clip.frames[stream.frame].keyframe:
                break
            stream.frame = (stream.frame + 1) % clip.frame_count
    frame = &clip.frames[stream.frame]
    histogram_add(&totals.sender_lateness, now - stream.due)
    before = stream.octets
    real = stream.due + realtime() - monotonic()
    due = ntp_of(real) & ~<uint64_t>0xFFFF
    start = stream.due - (real - due_of_stamp(due))
    stream.sent_at[stream.frame] = real
    for number in range(frame.count):
        send_packet(stream, frame.first + number, timestamp_of(stream, stream.frames), due, start, totals)
    if frame.keyframe:
        stream.keyframes += 1
        stream.keyframe_octets += stream.octets - before
    stream.frame = (stream.frame + 1) % clip.frame_count
    stream.frames += 1
    stream.due = due_of(stream, stream.frames)


cdef void send_again(OutStream* stream, uint16_t sequence, Totals* totals) noexcept nogil:
    """Answer one number of a NACK: as RTX (RFC 4588), or else with the identical bytes."""
    cdef uint8_t out[MAX_DATAGRAM + SRTP_MAX_TAG]
    cdef uint8_t payload[MAX_DATAGRAM]
    cdef uint64_t index = stream.index - <uint16_t>(<uint16_t>stream.index - sequence)
    cdef const Sent* sent = &stream.history[index & (HISTORY - 1)]
    cdef const ClipPacket* packet
    cdef Sent repeat
    cdef int header_size, size
    if not sent.used or sent.index != index:
        stream.forgotten += 1
        return
    packet = &stream.clip.packets[sent.packet]
    if stream.rtx_type:
        repeat = sent[0]
        repeat.transport = stream.peer.transport_sequence
        stream.peer.transport_sequence += 1
        header_size = write_header(stream, out, &repeat, True)
        write_u16(payload, sequence)
        memcpy(payload + 2, packet.payload, packet.size)
        size = srtp_protect(stream.peer.tx, stream.rtx_index, out, header_size, payload, packet.size + 2)
        stream.rtx_index += 1
    else:
        header_size = write_header(stream, out, sent, False)
        size = srtp_protect(stream.peer.tx, index, out, header_size, packet.payload, packet.size)
    if size > 0:
        send_datagram(stream.peer, out, size, totals)
        stream.retransmitted += 1


cdef void send_protected_rtcp(Peer* peer, uint8_t* packet, int size, size_t capacity, Totals* totals) noexcept nogil:
    """Protect `size` bytes of RTCP in place and send them; nothing for a size that a writer refused."""
    if size <= 0:
        return
    size = srtcp_protect(peer.tx, packet, size, capacity)
    if size > 0:
        send_datagram(peer, packet, size, totals)


cdef void send_sender_reports(Peer* peer, int64_t now, Totals* totals) noexcept nogil:
    """One compound of SR and SDES for each stream (RFC 3550, section 6.1)."""
    cdef uint8_t out[REPORT_CAPACITY]
    cdef OutStream* stream
    cdef uint32_t number, timestamp
    cdef int64_t since
    cdef int size, more
    for number in range(peer.out_count):
        stream = &peer.outs[number]
        if stream.packets == 0:
            continue
        # The report pairs this moment with the timestamp that a frame of this moment would have.
        since = now - due_of(stream, stream.frames - 1)
        timestamp = timestamp_of(stream, stream.frames - 1)
        timestamp += <uint32_t>(since * <int64_t>stream.clip.clock_rate // 1000000000)
        size = rtcp_write_sr(out, REPORT_CAPACITY, stream.ssrc, ntp_of(realtime() + now - monotonic()), timestamp,
                             <uint32_t>stream.packets, <uint32_t>stream.octets, NULL, 0)
        if size < 0:
            continue
        more = rtcp_write_sdes(out + size, REPORT_CAPACITY - size, stream.ssrc, <const uint8_t*>peer.cname, peer.cname_size)
        if more > 0:
            send_protected_rtcp(peer, out, size + more, REPORT_CAPACITY, totals)


cdef void send_bye(Peer* peer, Totals* totals) noexcept nogil:
    cdef uint8_t out[REPORT_CAPACITY]
    cdef uint32_t number
    for number in range(peer.out_count):
        send_protected_rtcp(peer, out, rtcp_write_bye(out, REPORT_CAPACITY, &peer.outs[number].ssrc, 1),
                            REPORT_CAPACITY, totals)
