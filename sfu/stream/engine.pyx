"""The data plane without I/O: datagrams and commands in, datagrams and reports out."""

import hashlib
import itertools

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from mediaserver.sfu.stream.addresses cimport address_from, address_text
from mediaserver.sfu.stream.agenda cimport AGAIN_US
from mediaserver.sfu.stream.buffers cimport pool_close, pool_init, pool_reclaim
from mediaserver.sfu.stream.connectivity cimport (
    address_key,
    answer_check,
    peer_by_key,
    select_address,
    tell_moved,
    watch_consent,
)
from mediaserver.sfu.stream.control cimport Command, carry_out, remove_everything, serve_taps
from mediaserver.sfu.stream.fanout cimport fanout_flush, fanout_tend
from mediaserver.sfu.stream.feedback cimport read_rtcp, send_reports, serve_hot
from mediaserver.sfu.stream.ingest cimport ingest
from mediaserver.sfu.stream.mirror cimport mirrors_take, mirrors_tend
from mediaserver.sfu.stream.numbering cimport tend_numbers
from mediaserver.sfu.stream.outlet cimport outlets_serve
from mediaserver.sfu.stream.outbox cimport outbox_clear, outbox_close, outbox_init
from mediaserver.sfu.stream.report cimport REPORT_DTLS, report, report_close, report_flush
from mediaserver.sfu.stream.roaming cimport follow_stranger, take_answer
from mediaserver.sfu.stream.share cimport share_line
from mediaserver.sfu.stream.state cimport Peer, Track
from mediaserver.sfu.stream.table cimport table_close, table_init
from mediaserver.sfu.stream.wanted cimport tend_wanted
from mediaserver.sfu.stream.watch cimport watch_round
from mediaserver.sfu.wire.packet cimport DEMUX_DTLS, DEMUX_RTP, DEMUX_STUN, demux_kind, is_rtcp
from mediaserver.sfu.wire.srtp cimport SRTP_ERR_REPLAY, srtcp_unprotect
from mediaserver.sfu.wire.stun cimport STUN_BINDING_SUCCESS

cdef enum:
    SLOW_INTERVAL_US = 100000    # reports and consent: a round over all peers
    HANDSHAKE_RATE = 20          # DTLS datagrams a second of one peer; a handshake takes fewer than ten
    HANDSHAKE_BURST = 60


cdef int engine_init(EngineState* engine, size_t memory, int64_t consent_timeout, const uint8_t* seed,
                     void (*drain)(void*, Outbox*) noexcept nogil, void* context) noexcept nogil:
    if pool_init(&engine.pool, memory) < 0:
        return -1
    engine.consent_timeout = consent_timeout
    memcpy(engine.seed, seed, sizeof(engine.seed))
    if (
        outbox_init(&engine.outbox, drain, context) < 0
        or table_init(&engine.by_address) < 0
        or table_init(&engine.by_ufrag) < 0
        or table_init(&engine.peers) < 0
        or table_init(&engine.tracks) < 0
        or table_init(&engine.legs) < 0
        or table_init(&engine.taps) < 0
    ):
        return -1
    return 0


cdef void engine_close(EngineState* engine) noexcept nogil:
    if engine.peers.entries != NULL and engine.taps.entries != NULL:
        remove_everything(engine)
    free(engine.hot)
    outbox_close(&engine.outbox)
    table_close(&engine.by_address)
    table_close(&engine.by_ufrag)
    table_close(&engine.peers)
    table_close(&engine.tracks)
    table_close(&engine.legs)
    table_close(&engine.taps)
    report_close(engine)
    pool_close(&engine.pool)


cdef void receive_rtcp(EngineState* engine, Peer* peer, const uint8_t* data, size_t size) noexcept nogil:
    cdef int plain
    if peer.rx == NULL:
        engine.counters.drop_no_keys += 1
        return
    if size > sizeof(engine.scratch):
        engine.counters.drop_oversize += 1
        return
    # Not into engine.scratch: what an answer needs may be built there.
    cdef uint8_t copy[2048]
    memcpy(copy, data, size)
    plain = srtcp_unprotect(peer.rx, copy, size)
    if plain >= 0:
        peer.report_ssrc = (<uint32_t>copy[4] << 24) | (<uint32_t>copy[5] << 16) | (<uint32_t>copy[6] << 8) | copy[7]
        read_rtcp(engine, peer, copy, plain)
    elif plain == SRTP_ERR_REPLAY:
        engine.counters.drop_srtp_replay += 1
    else:
        engine.counters.drop_srtp_auth += 1


cdef int may_shake_hands(Peer* peer, int64_t now) noexcept nogil:
    """A bucket of tokens: records cost the control plane far more than they cost their sender."""
    peer.handshake_credit += (now - peer.handshake_credit_at) * HANDSHAKE_RATE
    peer.handshake_credit_at = now
    if peer.handshake_credit > <int64_t>HANDSHAKE_BURST * 1000000:
        peer.handshake_credit = <int64_t>HANDSHAKE_BURST * 1000000
    if peer.handshake_credit < 1000000:
        return 0
    peer.handshake_credit -= 1000000
    return 1


cdef void engine_receive(EngineState* engine, const Addr* addr, const uint8_t* data, size_t size) noexcept nogil:
    engine_take(engine, addr, address_key(engine, addr), data, size)


cdef void engine_take(EngineState* engine, const Addr* addr, uint64_t key, const uint8_t* data,
                      size_t size) noexcept nogil:
    cdef int kind
    cdef Peer* peer
    engine.counters.datagrams_in += 1
    engine.counters.bytes_in += size
    if size == 0:
        return
    kind = demux_kind(data[0])
    if kind == DEMUX_STUN:
        engine.counters.stun_in += 1
        if size > 1 and data[0] == STUN_BINDING_SUCCESS >> 8 and data[1] == (STUN_BINDING_SUCCESS & 255):
            take_answer(engine, addr, data, size)
        else:
            answer_check(engine, addr, data, size)
        return
    peer = peer_by_key(engine, key, addr)
    if peer == NULL:
        engine.counters.drop_unknown_address += 1
        if kind == DEMUX_RTP:
            follow_stranger(engine, addr, data, size)
        return
    peer.last_heard = engine.now
    if kind == DEMUX_RTP:
        if is_rtcp(data, size):
            receive_rtcp(engine, peer, data, size)
        else:
            ingest(engine, peer, data, size)
    elif kind == DEMUX_DTLS:
        engine.counters.dtls_in += 1
        if size <= 2048 and may_shake_hands(peer, engine.now):
            # Of several pairs that it has nominated (RFC 5245 lets it) a peer uses the one where it shakes hands.
            if peer.rx == NULL:
                select_address(engine, peer, addr)
            report(engine, REPORT_DTLS, peer.id, 0, data, <uint32_t>size)
        else:
            engine.counters.drop_dtls += 1
    else:
        engine.counters.drop_malformed += 1


cdef void round_over_peers(EngineState* engine) noexcept nogil:
    cdef uint64_t at
    cdef Peer* peer
    cdef Track* track
    for at in range(engine.peers.mask + 1):
        peer = <Peer*>engine.peers.entries[at].value
        if peer != NULL:
            watch_consent(engine, peer, engine.now)
            tell_moved(engine, peer)
            send_reports(engine, peer)
            share_line(engine, peer)
            if peer.sender != NULL and (peer.sender.numbered or peer.sender.capped):
                tend_numbers(engine, peer)  # without a picture the others wait for a report
            track = peer.tracks
            while track != NULL:
                fanout_tend(engine, track)
                tend_wanted(engine, track)
                track = track.next
    mirrors_tend(engine)
    serve_taps(engine)
    pool_reclaim(&engine.pool)
    engine.counters.pool_bytes = engine.pool.bytes
    engine.counters.packets_held = engine.pool.in_use
    engine.slow_due = engine.now + SLOW_INTERVAL_US


cdef void engine_end_batch(EngineState* engine) noexcept nogil:
    fanout_flush(engine)
    serve_hot(engine)
    watch_round(engine)
    if engine.now >= engine.slow_due:
        round_over_peers(engine)
    report_flush(engine)


cdef int64_t engine_deadline(const EngineState* engine) noexcept nogil:
    cdef int64_t due = engine.slow_due
    if engine.hot_count and engine.hot[0].at < due:
        due = engine.hot[0].at
    if engine.awake != NULL and engine.now + AGAIN_US < due:
        due = engine.now + AGAIN_US
    if engine.watch_due and engine.watch_due < due:
        due = engine.watch_due
    return due


def drawn_from(seed):
    """Bytes that look random and are the same for the same seed."""
    draws = itertools.count()
    return lambda size: hashlib.shake_256(seed + next(draws).to_bytes(8, "big")).digest(size)


cdef class Engine(BasePlane):
    """A data plane in virtual time. `now` never goes back.

    `memory` bounds the packets that are held, in bytes; `consent_timeout` is in µs; with `adapts` viewers get what
    their lines carry, else everything; `allocation` is an `AllocMode`, how a line is shared out. With one `seed` (16 bytes) two runs
    are the same.
    """

    cdef object outgoing

    def __init__(self, *, memory: int = 1 << 28, consent_timeout: int = 30_000_000, seed: bytes = bytes(16),
                 adapts: bool = True, allocation: int = 0):
        cdef bytes key = seed
        if len(key) != 16:
            raise ValueError(f"the seed has 16 bytes, not {len(key)}")
        if engine_init(&self.engine, memory, consent_timeout, <const uint8_t*><const char*>key, NULL, NULL) < 0:
            raise MemoryError
        self.engine.adapts = adapts
        self.engine.allocation = allocation
        self.entropy = drawn_from(key)
        self.outgoing = []

    def __dealloc__(self):
        engine_close(&self.engine)

    cdef int submit(self, Command* command) except -1:
        carry_out(&self.engine, command)
        free(command)
        self.collect()
        return 0

    cdef int collect(self) except -1:
        cdef uint32_t i, at, size
        cdef Outbox* outbox = &self.engine.outbox
        for i in range(outbox.run_count):
            at = 0
            self.engine.counters.messages_out += 1
            target = address_text(&outbox.runs[i].addr)
            while at < outbox.runs[i].size:
                size = min(<uint32_t>outbox.runs[i].segment, outbox.runs[i].size - at)
                datagram = (<char*>outbox.data + outbox.runs[i].offset + at)[:size]
                self.engine.counters.datagrams_out += 1
                self.engine.counters.bytes_out += size
                self.outgoing.append((datagram, target))
                at += size
        outbox_clear(outbox)
        return 0

    def receive(self, datagram: bytes, addr: tuple[str, int], now: int) -> None:
        """One datagram from that address at `now` (µs). What it brings about leaves at once."""
        self.receive_batch([(datagram, addr)], now)

    def receive_batch(self, datagrams: list, now: int) -> None:
        """Pairs of datagram and address that were found together, as one turn of a worker's loop takes them."""
        cdef Addr source
        cdef bytes data
        self.step(now)
        for datagram, addr in datagrams:
            data = datagram
            address_from(&source, addr[0], addr[1])
            engine_receive(&self.engine, &source, <const uint8_t*><const char*>data, len(data))
        engine_end_batch(&self.engine)
        self.collect()

    def advance(self, now: int) -> None:
        """Do what is due at `now` (µs)."""
        self.step(now)
        engine_end_batch(&self.engine)
        self.collect()

    cdef int step(self, now) except -1:
        if now < self.engine.now:
            raise ValueError(f"time goes back from {self.engine.now} to {now}")
        self.engine.now = now
        outlets_serve(&self.engine)
        while mirrors_take(&self.engine):
            engine_end_batch(&self.engine)
        return 0

    def deadline(self) -> int:
        """When `advance` has something to do (µs)."""
        return engine_deadline(&self.engine)

    def transmits(self) -> list:
        """What is to be sent since the last call: pairs of datagram and address."""
        taken, self.outgoing = self.outgoing, []
        return taken


