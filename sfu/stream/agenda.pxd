"""Which peers have something due, and when.

What is due later stands in a heap by the time, for one peer's turn must not cost a look at all others. What is due now,
as whenever a viewer's feedback comes, stands in a list: no other peer is touched for it.
"""

from libc.stdint cimport int64_t, uint64_t

from mediaserver.sfu.stream.state cimport EngineState, Peer

cdef enum:
    AGAIN_US = 1000          # until what became due while the same was done is looked at

# Room for so many peers. 0, or -1 without memory.
cdef int agenda_room(EngineState* engine, uint64_t peers) noexcept nogil
# Something is due then (µs, not 0), earlier or later than what was: nothing else is any more, but what is due now.
cdef void agenda_set(EngineState* engine, Peer* peer, int64_t due) noexcept nogil
# Nothing is due of this peer later.
cdef void agenda_leave(EngineState* engine, Peer* peer) noexcept nogil
# The peer goes: nothing is due of it at all.
cdef void agenda_forget(EngineState* engine, Peer* peer) noexcept nogil

cdef inline void make_hot(EngineState* engine, Peer* peer, int64_t due) noexcept nogil:
    """Something of the peer's is due no later than then (µs)."""
    if due <= engine.now:
        if not peer.awake:
            peer.awake = 1
            peer.awake_next = engine.awake
            engine.awake = peer
    elif not peer.hot_at or due < peer.hot_due:
        agenda_set(engine, peer, due)


cdef inline int64_t earlier(int64_t a, int64_t b) noexcept nogil:
    """Of two times that are 0 for never."""
    if a == 0:
        return b
    if b == 0:
        return a
    return a if a < b else b
