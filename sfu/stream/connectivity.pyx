"""ICE of a lite agent (RFC 8445): checks are answered, addresses learnt, consent watched (RFC 7675)."""

from libc.stdint cimport uint16_t
from libc.string cimport memcmp, memcpy, memset

from mediaserver.sfu.stream.outbox cimport outbox_add, outbox_room
from mediaserver.sfu.stream.report cimport REPORT_CONNECTED, REPORT_MOVED, REPORT_SILENT, report
from mediaserver.sfu.stream.sending cimport note_path
from mediaserver.sfu.stream.state cimport KNOWN_MAX
from mediaserver.sfu.stream.table cimport hash_bytes, table_get, table_put, table_remove
from mediaserver.sfu.wire.stun cimport (
    STUN_BINDING_REQUEST,
    STUN_CONTROLLED,
    STUN_IPV4,
    STUN_IPV6,
    STUN_MAX_ANSWER,
    StunMessage,
    stun_parse,
    stun_verify,
    stun_write_error,
    stun_write_success,
)

cdef enum:
    STALE_ADDRESS_US = 6000000   # browsers check every 2.5 to 6 s

cdef inline int is_mapped(const Addr* addr) noexcept nogil:
    """IPv4 as IPv4-mapped IPv6."""
    cdef uint64_t high = 0
    cdef uint8_t low[4]
    memcpy(&high, addr.ip, 8)
    memcpy(low, addr.ip + 8, 4)
    return high == 0 and low[0] == 0 and low[1] == 0 and low[2] == 0xFF and low[3] == 0xFF


cdef uint64_t address_key(const EngineState* engine, const Addr* addr) noexcept nogil:
    cdef uint8_t text[22]
    memcpy(text, addr.ip, 16)
    memcpy(text + 16, &addr.port, 2)
    memcpy(text + 18, &addr.connection, 4)
    return hash_bytes(engine.seed, text, 22)


cdef uint64_t ufrag_key(const EngineState* engine, const uint8_t* ufrag, size_t size) noexcept nogil:
    return hash_bytes(engine.seed, ufrag, size)


cdef int same_address(const Addr* a, const Addr* b) noexcept nogil:
    return a.port == b.port and a.connection == b.connection and memcmp(a.ip, b.ip, 16) == 0


cdef int find_known(const Peer* peer, const Addr* addr) noexcept nogil:
    cdef int i
    for i in range(peer.known_count):
        if same_address(&peer.known[i], addr):
            return i
    return -1


cdef Peer* peer_at(EngineState* engine, const Addr* addr) noexcept nogil:
    return peer_by_key(engine, address_key(engine, addr), addr)


cdef Peer* peer_by_key(EngineState* engine, uint64_t key, const Addr* addr) noexcept nogil:
    cdef Peer* peer = <Peer*>table_get(&engine.by_address, key)
    if peer == NULL or find_known(peer, addr) < 0:
        return NULL
    return peer


cdef void drop_known(EngineState* engine, Peer* peer, int at) noexcept nogil:
    cdef uint64_t key = address_key(engine, &peer.known[at])
    if table_get(&engine.by_address, key) == peer:
        table_remove(&engine.by_address, key)
    peer.known_count -= 1
    peer.known[at] = peer.known[peer.known_count]
    peer.heard[at] = peer.heard[peer.known_count]


cdef void forget_addresses(EngineState* engine, Peer* peer) noexcept nogil:
    while peer.known_count:
        drop_known(engine, peer, peer.known_count - 1)


cdef void learn_address(EngineState* engine, Peer* peer, const Addr* addr) noexcept nogil:
    cdef int at = find_known(peer, addr)
    cdef int i, oldest = -1
    if at < 0:
        if peer.known_count == KNOWN_MAX:
            for i in range(KNOWN_MAX):
                if not same_address(&peer.known[i], &peer.addr) and (
                    oldest < 0 or peer.heard[i] < peer.heard[oldest]
                ):
                    oldest = i
            drop_known(engine, peer, oldest)
        at = peer.known_count
        peer.known_count += 1
    peer.known[at] = addr[0]
    peer.heard[at] = engine.now
    table_put(&engine.by_address, address_key(engine, addr), peer)


cdef int describe(const Addr* addr, uint8_t* out) noexcept nogil:
    """18 bytes: the address in network order (IPv4 as mapped IPv6) and the port, high byte first."""
    memcpy(out, addr.ip, 16)
    out[16] = <uint8_t>(addr.port >> 8)
    out[17] = <uint8_t>addr.port
    return 18


cdef void select_address(EngineState* engine, Peer* peer, const Addr* addr) noexcept nogil:
    cdef uint8_t text[18]
    cdef int moved = not same_address(&peer.addr, addr)
    peer.addr = addr[0]
    if not peer.connected:
        peer.connected = 1
        report(engine, REPORT_CONNECTED, peer.id, 0, text, describe(addr, text))
    elif moved:
        note_path(engine, peer)
        peer.moved = 1  # told by the round: a peer that jumps to and fro must not flood the control plane


cdef void tell_moved(EngineState* engine, Peer* peer) noexcept nogil:
    cdef uint8_t text[18]
    if peer.moved:
        peer.moved = 0
        report(engine, REPORT_MOVED, peer.id, 0, text, describe(&peer.addr, text))


cdef int freshest(const Peer* peer) noexcept nogil:
    """The known address that was heard last; -1 for none."""
    cdef int i, fresh = -1
    for i in range(peer.known_count):
        if fresh < 0 or peer.heard[i] > peer.heard[fresh]:
            fresh = i
    return fresh


cdef void lose_address(EngineState* engine, const Addr* addr) noexcept nogil:
    cdef Peer* peer = peer_at(engine, addr)
    cdef int at
    if peer == NULL:
        return
    drop_known(engine, peer, find_known(peer, addr))
    at = freshest(peer)
    if at >= 0 and same_address(&peer.addr, addr):
        select_address(engine, peer, &peer.known[at])


cdef void reply_error(EngineState* engine, const Addr* addr, const StunMessage* message, int code, size_t request_size,
                      const uint8_t* pwd, size_t pwd_size) noexcept nogil:
    cdef uint8_t* out = outbox_room(&engine.outbox)
    cdef int size
    engine.counters.drop_stun += 1
    if out == NULL:
        return
    size = stun_write_error(out, STUN_MAX_ANSWER, message.txid, code, message.unknown_required, pwd, pwd_size)
    # Never more bytes than came: the sender's address may be a lie, and its owner must not be flooded through us.
    if 0 < size <= <int>request_size:
        outbox_add(&engine.outbox, addr, size)


cdef void reply_success(EngineState* engine, const Addr* addr, const StunMessage* message, const uint8_t* pwd,
                        size_t pwd_size) noexcept nogil:
    cdef uint8_t* out = outbox_room(&engine.outbox)
    cdef int size
    if out == NULL:
        return
    if is_mapped(addr):
        size = stun_write_success(out, STUN_MAX_ANSWER, message.txid, STUN_IPV4, addr.ip + 12, addr.port, pwd, pwd_size)
    else:
        size = stun_write_success(out, STUN_MAX_ANSWER, message.txid, STUN_IPV6, addr.ip, addr.port, pwd, pwd_size)
    if size > 0:
        outbox_add(&engine.outbox, addr, size)


cdef size_t local_ufrag(const StunMessage* message) noexcept nogil:
    """The bytes of the username before the colon (RFC 8445, section 7.2.2); 0 when there is none."""
    cdef size_t i
    for i in range(message.username_size):
        if message.username[i] == c":":
            return i
    return 0


cdef void end_restart(EngineState* engine, Peer* peer) noexcept nogil:
    """The new credentials are in use: the old ones hold no longer, and the pair is chosen anew."""
    cdef uint64_t key = ufrag_key(engine, peer.old_ufrag, peer.old_ufrag_size)
    if table_get(&engine.by_ufrag, key) == peer:
        table_remove(&engine.by_ufrag, key)
    peer.old_ufrag_size = 0
    peer.nominated = 0


cdef void answer_check(EngineState* engine, const Addr* addr, const uint8_t* data, size_t size) noexcept nogil:
    cdef StunMessage message
    cdef Peer* peer
    cdef size_t ufrag_size
    cdef const uint8_t* pwd
    cdef size_t pwd_size
    cdef int is_old
    if stun_parse(data, size, &message) < 0 or message.type != STUN_BINDING_REQUEST:
        engine.counters.drop_stun += 1
        return
    ufrag_size = local_ufrag(&message) if message.username != NULL else 0
    if ufrag_size == 0 or message.integrity_offset == 0:
        reply_error(engine, addr, &message, 400, size, NULL, 0)
        return
    peer = <Peer*>table_get(&engine.by_ufrag, ufrag_key(engine, message.username, ufrag_size))
    if peer == NULL:
        if not engine.behind:  # else it may be there in a moment, when the check comes again
            reply_error(engine, addr, &message, 401, size, NULL, 0)
        return
    is_old = not (ufrag_size == peer.ufrag_size and memcmp(peer.ufrag, message.username, ufrag_size) == 0)
    pwd = <const uint8_t*>&peer.old_pwd[0] if is_old else <const uint8_t*>&peer.pwd[0]
    pwd_size = peer.old_pwd_size if is_old else peer.pwd_size
    if (
        is_old
        and not (ufrag_size == peer.old_ufrag_size and memcmp(peer.old_ufrag, message.username, ufrag_size) == 0)
    ) or not stun_verify(data, size, &message, pwd, pwd_size):
        reply_error(engine, addr, &message, 401, size, NULL, 0)
        return
    if message.unknown_required:
        reply_error(engine, addr, &message, 420, size, pwd, pwd_size)
        return
    if message.role == STUN_CONTROLLED:  # a lite agent never controls (RFC 8445, section 6.1.1)
        reply_error(engine, addr, &message, 487, size, pwd, pwd_size)
        return
    if not is_old and peer.old_ufrag_size:
        end_restart(engine, peer)
    learn_address(engine, peer, addr)
    peer.last_check = engine.now
    peer.silent = 0
    if message.use_candidate:
        # By the old credentials too, until the new ones are in use: what a browser has begun to check before it had the
        # answer it goes on checking by them.
        peer.nominated = 1
        select_address(engine, peer, addr)
    elif not peer.connected or (
        # Before a peer has chosen it may try TCP too; that is for those who cannot have UDP.
        not peer.nominated and not is_old and (addr.connection == 0 or peer.addr.connection != 0)
    ):
        select_address(engine, peer, addr)
    elif same_address(&peer.addr, addr):
        peer.addr = addr[0]  # the local address may have changed
    reply_success(engine, addr, &message, pwd, pwd_size)


cdef void watch_consent(EngineState* engine, Peer* peer, int64_t now) noexcept nogil:
    cdef int current, fresh
    if now - peer.last_check > engine.consent_timeout:
        if not peer.silent:
            peer.silent = 1
            report(engine, REPORT_SILENT, peer.id, 0, NULL, 0)
        return
    if peer.known_count < 2:
        return
    current = find_known(peer, &peer.addr)
    if current >= 0 and now - peer.heard[current] < STALE_ADDRESS_US:
        return
    fresh = freshest(peer)
    if fresh >= 0 and now - peer.heard[fresh] < STALE_ADDRESS_US:
        select_address(engine, peer, &peer.known[fresh])
