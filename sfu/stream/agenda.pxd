"""Which peers have something due, and when."""

from libc.stdint cimport int64_t

from mediaserver.sfu.stream.state cimport EngineState, Peer


cdef inline void make_hot(EngineState* engine, Peer* peer, int64_t due) noexcept nogil:
    """Something of the peer's is due no later than then (µs)."""
    if not peer.hot:
        peer.hot = 1
        peer.hot_due = due
        peer.hot_next = engine.hot
        engine.hot = peer
    elif due < peer.hot_due:
        peer.hot_due = due
    if engine.hot_due == 0 or due < engine.hot_due:
        engine.hot_due = due


cdef inline int64_t earlier(int64_t a, int64_t b) noexcept nogil:
    """Of two times that are 0 for never."""
    if a == 0:
        return b
    if b == 0:
        return a
    return a if a < b else b
