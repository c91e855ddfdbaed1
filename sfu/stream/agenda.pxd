"""Which peers have something due, and when: a heap by the time, for one peer's turn must not cost a look at all others."""

from libc.stdint cimport int64_t, uint64_t

from mediaserver.sfu.stream.state cimport EngineState, Peer

# Room for so many peers. 0, or -1 without memory.
cdef int agenda_room(EngineState* engine, uint64_t peers) noexcept nogil
# Something is due then (µs, not 0), earlier or later than what was: nothing else is any more.
cdef void agenda_set(EngineState* engine, Peer* peer, int64_t due) noexcept nogil
# Nothing is due of this peer.
cdef void agenda_leave(EngineState* engine, Peer* peer) noexcept nogil

cdef inline void make_hot(EngineState* engine, Peer* peer, int64_t due) noexcept nogil:
    """Something of the peer's is due no later than then (µs)."""
    if not peer.hot_at or due < peer.hot_due:
        agenda_set(engine, peer, due)


cdef inline int64_t earlier(int64_t a, int64_t b) noexcept nogil:
    """Of two times that are 0 for never."""
    if a == 0:
        return b
    if b == 0:
        return a
    return a if a < b else b
