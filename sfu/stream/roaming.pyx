"""A peer whose address has changed is asked at the new one, so that it need not wait for its own next check."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from mediaserver.sfu.stream.connectivity cimport learn_address, same_address, select_address
from mediaserver.sfu.stream.feedback cimport read_rtcp
from mediaserver.sfu.stream.outbox cimport DATAGRAM_MAX, outbox_add, outbox_room
from mediaserver.sfu.stream.state cimport NAME_MAX, QUESTIONS_MAX, Peer, Question
from mediaserver.sfu.stream.table cimport hash_bytes, table_get
from mediaserver.sfu.wire.packet cimport is_rtcp
from mediaserver.sfu.wire.srtp cimport srtcp_unprotect
from mediaserver.sfu.wire.stun cimport STUN_CONTROLLED, StunMessage, stun_parse, stun_verify, stun_write_request

cdef enum:
    STRANGERS_RATE = 200         # packets a second from unknown addresses that are looked at
    STRANGERS_BURST = 50
    TRIALS_MAX = 64              # peers whose keys one packet is tried under
    QUIET_US = 150000            # a peer that has moved is no longer heard where it was
    ASK_AGAIN_US = 50000
    ANSWER_US = 2000000          # within which an answer counts
    REPORT_MAX = 1500
    PRIORITY = 0x6E7F00FF        # of a peer-reflexive candidate (RFC 8445, section 7.1.1): nobody compares it


cdef inline uint32_t read_u32(const uint8_t* data) noexcept nogil:
    return (<uint32_t>data[0] << 24) | (<uint32_t>data[1] << 16) | (<uint32_t>data[2] << 8) | data[3]


cdef int may_look(EngineState* engine) noexcept nogil:
    """A bucket of tokens: a flood from nowhere costs little, and then peers wait for their own checks."""
    engine.stranger_credit += (engine.now - engine.stranger_credit_at) * STRANGERS_RATE
    engine.stranger_credit_at = engine.now
    if engine.stranger_credit > <int64_t>STRANGERS_BURST * 1000000:
        engine.stranger_credit = <int64_t>STRANGERS_BURST * 1000000
    if engine.stranger_credit < 1000000:
        return 0
    engine.stranger_credit -= 1000000
    return 1


cdef Peer* publisher_of(EngineState* engine, uint32_t ssrc) noexcept nogil:
    cdef uint64_t at
    cdef int i
    cdef Peer* peer
    for at in range(engine.peers.mask + 1):
        peer = <Peer*>engine.peers.entries[at].value
        if peer != NULL and peer.rx != NULL:
            for i in range(peer.inbound_count):
                if peer.inbounds[i].ssrc == ssrc:
                    return peer
    return NULL


cdef int opens(EngineState* engine, Peer* peer, const uint8_t* data, size_t size) noexcept nogil:
    """Whether it is this peer's report; if so it is read, whatever comes of the address."""
    cdef uint8_t copy[REPORT_MAX]
    cdef int plain
    memcpy(copy, data, size)
    plain = srtcp_unprotect(peer.rx, copy, size)
    if plain < 0:
        return 0
    read_rtcp(engine, peer, copy, plain)
    return 1


cdef Peer* reporter_of(EngineState* engine, const Addr* addr, const uint8_t* data, size_t size) noexcept nogil:
    """Browsers that only view report under SSRC 1, all of them, so the keys must tell. Those fallen silent are tried
    first, then those behind the same address, whose NAT may just have changed their port."""
    cdef uint32_t ssrc = read_u32(data + 4)
    cdef int turn, trials = 0
    cdef uint64_t at
    cdef Peer* peer
    if size > REPORT_MAX:
        return NULL
    for turn in range(2):
        for at in range(engine.peers.mask + 1):
            peer = <Peer*>engine.peers.entries[at].value
            if peer == NULL or peer.rx == NULL or peer.report_ssrc != ssrc:
                continue
            if (engine.now - peer.last_heard >= QUIET_US) == turn:
                continue
            if turn == 1 and memcmp(peer.addr.ip, addr.ip, 16) != 0:
                continue
            if trials == TRIALS_MAX:
                return NULL
            trials += 1
            if opens(engine, peer, data, size):
                return peer
    return NULL


cdef void ask(EngineState* engine, Peer* peer, const Addr* addr) noexcept nogil:
    cdef Question* question = &engine.questions[engine.question_count % QUESTIONS_MAX]
    cdef uint8_t name[2 * NAME_MAX + 1]
    cdef uint64_t drawn[2]
    cdef uint8_t* out
    cdef int size
    if peer.remote_pwd_size == 0 or (peer.asked and engine.now - peer.asked < ASK_AGAIN_US):
        return
    out = outbox_room(&engine.outbox)
    if out == NULL:
        return
    engine.question_count += 1
    drawn[0] = hash_bytes(engine.seed, <const uint8_t*>&engine.question_count, sizeof(engine.question_count))
    drawn[1] = hash_bytes(engine.seed, <const uint8_t*>&drawn[0], sizeof(uint64_t))
    memcpy(question.txid, drawn, 12)
    question.addr = addr[0]
    question.peer = peer.id
    question.asked = peer.asked = engine.now
    memcpy(name, peer.remote_ufrag, peer.remote_ufrag_size)
    name[peer.remote_ufrag_size] = c":"
    memcpy(name + peer.remote_ufrag_size + 1, peer.ufrag, peer.ufrag_size)
    size = stun_write_request(out, DATAGRAM_MAX, question.txid, name, peer.remote_ufrag_size + 1 + peer.ufrag_size,
                              peer.remote_pwd, peer.remote_pwd_size, PRIORITY, STUN_CONTROLLED, drawn[1], 0)
    if size > 0:
        outbox_add(&engine.outbox, addr, size)
        engine.counters.peers_asked += 1


cdef void follow_stranger(EngineState* engine, const Addr* addr, const uint8_t* data, size_t size) noexcept nogil:
    cdef Peer* peer
    if size < 12 or addr.connection or not may_look(engine):
        return
    if is_rtcp(data, size):
        peer = reporter_of(engine, addr, data, size)
    else:
        peer = publisher_of(engine, read_u32(data + 8))
    if peer != NULL:
        ask(engine, peer, addr)


cdef void take_answer(EngineState* engine, const Addr* addr, const uint8_t* data, size_t size) noexcept nogil:
    cdef StunMessage message
    cdef Question* question
    cdef Peer* peer
    cdef int i
    if stun_parse(data, size, &message) < 0:
        engine.counters.drop_stun += 1
        return
    for i in range(QUESTIONS_MAX):
        question = &engine.questions[i]
        if question.peer == 0 or memcmp(question.txid, message.txid, 12) != 0:
            continue
        peer = <Peer*>table_get(&engine.peers, question.peer)
        if (
            peer == NULL
            or engine.now - question.asked > ANSWER_US
            or not same_address(&question.addr, addr)
            or not stun_verify(data, size, &message, peer.remote_pwd, peer.remote_pwd_size)
        ):
            break
        question.peer = 0
        learn_address(engine, peer, addr)
        peer.last_check = engine.now
        peer.silent = 0
        select_address(engine, peer, addr)
        return
    engine.counters.drop_stun += 1
