"""Peers from their parameters, and their counts for Python."""

import ipaddress
import secrets

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from mediaserver.loadtest.clip cimport Clip
from mediaserver.loadtest.engine cimport MAX_SOURCES
from mediaserver.loadtest.histogram cimport spread_view
from mediaserver.loadtest.state cimport HISTORY, MAX_CNAME, MAX_MID, REQUESTS, InStream, OutStream, Peer, Sent
from mediaserver.sfu.wire.packet cimport EXT_COUNT
from mediaserver.sfu.wire.srtp cimport srtp_free, srtp_new

from mediaserver.loadtest import peers

cdef int64_t SECOND = 1000000000


cdef void free_peer(Peer* peer) noexcept:
    cdef uint32_t number
    if peer.outs is not NULL:
        for number in range(peer.out_count):
            free(peer.outs[number].history)
            free(peer.outs[number].sent_at)
    free(peer.outs)
    free(peer.ins)
    srtp_free(peer.tx)
    srtp_free(peer.rx)
    free(peer)


cdef uint8_t copy_text(char* out, size_t room, text) except? 255:
    cdef bytes data = text if isinstance(text, bytes) else text.encode()
    if len(data) > room:
        raise ValueError(f"{text!r} is longer than {room} bytes")
    memcpy(out, <const char*>data, len(data))
    return <uint8_t>len(data)


cdef int fill_sender(OutStream* stream, Peer* peer, params, int64_t now) except -1:
    cdef Clip clip = params.clip
    if not 0 <= params.source < MAX_SOURCES:
        raise ValueError(f"source {params.source} is not below {MAX_SOURCES}")
    stream.history = <Sent*>calloc(HISTORY, sizeof(Sent))
    stream.sent_at = <int64_t*>calloc(clip.data.frame_count, sizeof(int64_t))
    if stream.history is NULL or stream.sent_at is NULL:
        raise MemoryError
    stream.clip = &clip.data
    stream.peer = peer
    stream.source = params.source
    stream.mid_size = copy_text(stream.mid, MAX_MID, params.mid)
    stream.ssrc = params.ssrc
    stream.payload_type = params.payload_type
    stream.rtx_ssrc = params.rtx_ssrc
    stream.rtx_type = params.rtx_type
    # RFC 3711, section 3.3.1: a first number in the lower half leaves the receiver no doubt about the roll-over.
    stream.index = secrets.randbelow(1 << 15)
    stream.rtx_index = secrets.randbelow(1 << 15)
    stream.first_timestamp = secrets.randbits(32)
    stream.start = now + <int64_t>(params.phase * 1e9 * clip.data.duration / clip.data.clock_rate)
    stream.due = stream.start
    return 0


cdef int fill_receiver(InStream* stream, params) except -1:
    if not 0 <= params.source < MAX_SOURCES:
        raise ValueError(f"source {params.source} is not below {MAX_SOURCES}")
    stream.source = params.source
    stream.mid_size = copy_text(stream.mid, MAX_MID, params.mid)
    stream.video = params.video
    stream.clock_rate = params.clock_rate
    stream.ssrc = params.ssrc
    stream.rtx_ssrc = params.rtx_ssrc
    stream.nack = params.nack
    stream.waiting = params.video
    stream.direct = params.direct
    stream.taped = params.taped
    stream.stale = params.stale_ns
    stream.floor_frames = params.floor_frames
    stream.floor_bits = params.floor_bits
    return 0


cdef int fill_peer(Peer* peer, params, address, int64_t now) except -1:
    cdef bytes tx_key = params.keys.tx_key, tx_salt = params.keys.tx_salt
    cdef bytes rx_key = params.keys.rx_key, rx_salt = params.keys.rx_salt
    cdef bytes packed = ipaddress.ip_address(address[0]).packed
    cdef uint32_t number
    peer.tx = srtp_new(params.keys.profile, tx_key, len(tx_key), tx_salt, len(tx_salt))
    peer.rx = srtp_new(params.keys.profile, rx_key, len(rx_key), rx_salt, len(rx_salt))
    if peer.tx is NULL or peer.rx is NULL:
        raise ValueError("keys that no SRTP session can be made of")
    peer.username_size = copy_text(peer.username, sizeof(peer.username), params.ice.username)
    peer.password_size = copy_text(peer.password, sizeof(peer.password), params.ice.password)
    peer.local_password_size = copy_text(peer.local_password, sizeof(peer.local_password), params.ice.local_password)
    peer.cname_size = copy_text(peer.cname, MAX_CNAME, params.cname)
    peer.family = 1 if len(packed) == 4 else 2
    memcpy(peer.ip, <const uint8_t*>packed, len(packed))
    peer.port = address[1]
    peer.tie_breaker = secrets.randbits(64)
    peer.ssrc = secrets.randbits(32)
    if not 1 <= params.open_every <= 65536:
        raise ValueError(f"open_every: one packet in {params.open_every} can't be opened, 1 to 65,536 can")
    peer.open_every = params.open_every
    peer.last_consent = now
    peer.next_check = now + secrets.randbelow(4 * SECOND)
    peer.next_report = now + secrets.randbelow(SECOND)
    for payload_type, codec in params.codecs:
        peer.codecs[<int>payload_type & 127] = codec
    for ext_id, kind in params.extensions:
        if 0 < kind < <int>EXT_COUNT and 0 < ext_id < 256:
            peer.extensions.kind[<int>ext_id] = kind
            peer.extensions.id[<int>kind] = ext_id
    if params.senders:
        peer.outs = <OutStream*>calloc(len(params.senders), sizeof(OutStream))
        if peer.outs is NULL:
            raise MemoryError
        for sender in params.senders:
            peer.out_count += 1
            fill_sender(&peer.outs[peer.out_count - 1], peer, sender, now)
    if params.receivers:
        peer.ins = <InStream*>calloc(len(params.receivers), sizeof(InStream))
        if peer.ins is NULL:
            raise MemoryError
        for receiver in params.receivers:
            fill_receiver(&peer.ins[peer.in_count], receiver)
            peer.in_count += 1
        peer.picture_due = 1
    return 0


cdef Peer* make_peer(object params, object address, int64_t now) except NULL:
    cdef Peer* peer = <Peer*>calloc(1, sizeof(Peer))
    if peer is NULL:
        raise MemoryError
    try:
        fill_peer(peer, params, address, now)
    except BaseException:
        free_peer(peer)
        raise
    return peer


cdef tuple request_times(const OutStream* stream):
    cdef uint64_t count = stream.keyframe_requests
    cdef uint64_t first = count - REQUESTS if count > REQUESTS else 0
    return tuple([stream.requested[number & (REQUESTS - 1)] for number in range(first, count)])


cdef object sender_stats(const OutStream* stream):
    return peers.SenderStats(
        stream.source, stream.frames, stream.packets, stream.octets, stream.retransmitted, stream.forgotten,
        stream.keyframe_requests, request_times(stream), stream.keyframes, stream.keyframe_octets,
        stream.fraction_lost, stream.reported_lost, stream.last_ntp,
    )


cdef object receiver_stats(const InStream* stream, int64_t now):
    # A freeze that goes on counts as far as it has come.
    cdef bint frozen = stream.stale and stream.last_frame and now - stream.last_frame > stream.stale
    return peers.ReceiverStats(
        stream.source, stream.received, stream.octets, stream.lost, stream.missing_count, stream.repaired,
        stream.duplicates, stream.refused, stream.stamped, stream.frames, stream.keyframe_requests,
        stream.first_packet, stream.first_frame, stream.longest_gap,
        stream.latency_sum // <int64_t>stream.stamped if stream.stamped else 0, stream.worst_latency, stream.last_stamp,
        stream.missed, stream.freezes + frozen, stream.frozen + (now - stream.last_frame if frozen else 0), stream.watched,
        stream.under_frames, stream.under_bits, stream.recovered, stream.overtaken,
        stream.overtaken_by, spread_view(&stream.spread),
    )


cdef object peer_stats(const Peer* peer, int64_t now):
    cdef uint32_t number
    return peers.PeerStats(
        peers.PeerEnd(peer.gone),
        tuple([sender_stats(&peer.outs[number]) for number in range(peer.out_count)]),
        tuple([receiver_stats(&peer.ins[number], now) for number in range(peer.in_count)]),
    )
