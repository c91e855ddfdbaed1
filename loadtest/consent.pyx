"""Consent freshness (RFC 7675): a check every 4 to 6 s; without an answer for 30 s a peer is gone."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcmp, memcpy

from mediaserver.loadtest.sender cimport send_datagram
from mediaserver.loadtest.state cimport PEER_SILENT, Peer, Totals, next_random
from mediaserver.sfu.wire.stun cimport (
    STUN_BINDING_REQUEST,
    STUN_BINDING_SUCCESS,
    STUN_CONTROLLING,
    StunMessage,
    stun_parse,
    stun_verify,
    stun_write_request,
    stun_write_success,
)

cdef enum:
    CAPACITY = 512
    # RFC 8445, section 5.1.2.1: a host candidate of the only component, with the local preference of a single address.
    PRIORITY = 0x6E7FFFFF   # as a peer-reflexive candidate (section 7.1.1)

cdef int64_t CONSENT_TIMEOUT = 30 * <int64_t>1000000000


cdef void send_check(Peer* peer, int64_t now, Totals* totals) noexcept nogil:
    cdef uint8_t out[CAPACITY]
    cdef uint32_t word
    cdef int position, size
    if now - peer.last_consent > CONSENT_TIMEOUT:
        peer.gone = PEER_SILENT
        return
    for position in range(3):
        word = next_random(&totals.random)
        memcpy(peer.txid + 4 * position, &word, 4)
    size = stun_write_request(out, CAPACITY, peer.txid, <const uint8_t*>peer.username, peer.username_size,
                              <const uint8_t*>peer.password, peer.password_size,
                              PRIORITY, STUN_CONTROLLING, peer.tie_breaker, 1)
    if size > 0:
        send_datagram(peer, out, size, totals)
    # RFC 7675, section 5.1: 5 s, varied by a fifth.
    peer.next_check = now + <int64_t>(4000 + next_random(&totals.random) % 2000) * 1000000


cdef void receive_stun(Peer* peer, const uint8_t* data, size_t size, int64_t now, Totals* totals) noexcept nogil:
    cdef uint8_t out[CAPACITY]
    cdef StunMessage message
    cdef int written
    if stun_parse(data, size, &message) < 0:
        totals.unknown += 1
        return
    if message.type == STUN_BINDING_SUCCESS:
        if memcmp(message.txid, peer.txid, 12) == 0 and stun_verify(
            data, size, &message, <const uint8_t*>peer.password, peer.password_size
        ):
            peer.last_consent = now
    elif message.type == STUN_BINDING_REQUEST:
        if stun_verify(data, size, &message, <const uint8_t*>peer.local_password, peer.local_password_size):
            written = stun_write_success(out, CAPACITY, message.txid, peer.family, peer.ip, peer.port,
                                         <const uint8_t*>peer.local_password, peer.local_password_size)
            if written > 0:
                send_datagram(peer, out, written, totals)
