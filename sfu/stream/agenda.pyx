"""Which peers have something due, and when: a binary heap in which each peer knows its place."""

from libc.stdint cimport uint32_t
from libc.stdlib cimport realloc

cdef enum:
    FIRST_ROOM = 64


cdef int agenda_room(EngineState* engine, uint64_t peers) noexcept nogil:
    cdef uint64_t room = engine.hot_room if engine.hot_room else FIRST_ROOM
    cdef Peer** hot
    while room < peers:
        room *= 2
    if room != engine.hot_room:
        hot = <Peer**>realloc(engine.hot, room * sizeof(Peer*))
        if hot == NULL:
            return -1
        engine.hot = hot
        engine.hot_room = room
    return 0


cdef inline void put(EngineState* engine, uint64_t at, Peer* peer) noexcept nogil:
    engine.hot[at] = peer
    peer.hot_at = <uint32_t>at + 1


cdef void rise(EngineState* engine, uint64_t at, Peer* peer) noexcept nogil:
    cdef uint64_t above
    while at:
        above = (at - 1) // 2
        if engine.hot[above].hot_due <= peer.hot_due:
            break
        put(engine, at, engine.hot[above])
        at = above
    put(engine, at, peer)


cdef void sink(EngineState* engine, uint64_t at, Peer* peer) noexcept nogil:
    cdef uint64_t below = 2 * at + 1
    while below < engine.hot_count:
        if below + 1 < engine.hot_count and engine.hot[below + 1].hot_due < engine.hot[below].hot_due:
            below += 1
        if peer.hot_due <= engine.hot[below].hot_due:
            break
        put(engine, at, engine.hot[below])
        at = below
        below = 2 * at + 1
    put(engine, at, peer)


cdef void move(EngineState* engine, uint64_t at, Peer* peer) noexcept nogil:
    if at and peer.hot_due < engine.hot[(at - 1) // 2].hot_due:
        rise(engine, at, peer)
    else:
        sink(engine, at, peer)


cdef void agenda_set(EngineState* engine, Peer* peer, int64_t due) noexcept nogil:
    peer.hot_due = due
    if not peer.hot_at:
        engine.hot_count += 1
        rise(engine, engine.hot_count - 1, peer)
    else:
        move(engine, peer.hot_at - 1, peer)


cdef void agenda_leave(EngineState* engine, Peer* peer) noexcept nogil:
    cdef uint64_t at
    cdef Peer* last
    if not peer.hot_at:
        return
    at = peer.hot_at - 1
    peer.hot_at = 0
    engine.hot_count -= 1
    last = engine.hot[engine.hot_count]
    if last != peer:
        move(engine, at, last)
