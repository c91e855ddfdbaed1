"""ICE of a lite agent (RFC 8445): checks are answered, addresses learnt, consent watched (RFC 7675)."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t

from mediaserver.sfu.stream.outbox cimport Addr
from mediaserver.sfu.stream.state cimport EngineState, Peer

cdef uint64_t address_key(const EngineState* engine, const Addr* addr) noexcept nogil
cdef uint64_t ufrag_key(const EngineState* engine, const uint8_t* ufrag, size_t size) noexcept nogil
# The peer that has passed a check from that address, or NULL.
cdef Peer* peer_at(EngineState* engine, const Addr* addr) noexcept nogil
# The same, where the address_key is known already.
cdef Peer* peer_by_key(EngineState* engine, uint64_t key, const Addr* addr) noexcept nogil
cdef void answer_check(EngineState* engine, const Addr* addr, const uint8_t* data, size_t size) noexcept nogil
cdef int same_address(const Addr* a, const Addr* b) noexcept nogil
# A check has shown that the peer is there.
cdef void learn_address(EngineState* engine, Peer* peer, const Addr* addr) noexcept nogil
cdef void forget_addresses(EngineState* engine, Peer* peer) noexcept nogil
# Nothing can be sent to that address any more; another that is known takes its place.
cdef void lose_address(EngineState* engine, const Addr* addr) noexcept nogil
# Tells once when no check has come for the consent timeout; leaves an address that fell silent for one that has not.
cdef void watch_consent(EngineState* engine, Peer* peer, int64_t now) noexcept nogil
# What is sent to the peer goes to that address from now on.
cdef void select_address(EngineState* engine, Peer* peer, const Addr* addr) noexcept nogil
# Tells where the peer is now, if that has changed.
cdef void tell_moved(EngineState* engine, Peer* peer) noexcept nogil
