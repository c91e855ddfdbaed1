"""Which peers have something due, and when: a binary heap in which each peer knows its place."""

from libc.stdint cimport uint32_t
from libc.stdlib cimport realloc

from mediaserver.sfu.stream.state cimport Due

cdef enum:
    FIRST_ROOM = 64


cdef int agenda_room(EngineState* engine, uint64_t peers) noexcept nogil:
    cdef uint64_t room = engine.hot_room if engine.hot_room else FIRST_ROOM
    cdef Due* hot
    while room < peers:
        room *= 2
    if room != engine.hot_room:
        hot = <Due*>realloc(engine.hot, room * sizeof(Due))
        if hot == NULL:
            return -1
        engine.hot = hot
        engine.hot_room = room
    return 0


cdef inline void put(EngineState* engine, uint64_t at, Due due) noexcept nogil:
    engine.hot[at] = due
    due.peer.hot_at = <uint32_t>at + 1


cdef void rise(EngineState* engine, uint64_t at, Due due) noexcept nogil:
    cdef uint64_t above
    while at:
        above = (at - 1) // 2
        if engine.hot[above].at <= due.at:
            break
        put(engine, at, engine.hot[above])
        at = above
    put(engine, at, due)


cdef void sink(EngineState* engine, uint64_t at, Due due) noexcept nogil:
    cdef uint64_t below = 2 * at + 1
    while below < engine.hot_count:
        if below + 1 < engine.hot_count and engine.hot[below + 1].at < engine.hot[below].at:
            below += 1
        if due.at <= engine.hot[below].at:
            break
        put(engine, at, engine.hot[below])
        at = below
        below = 2 * at + 1
    put(engine, at, due)


cdef void move(EngineState* engine, uint64_t at, Due due) noexcept nogil:
    if at and due.at < engine.hot[(at - 1) // 2].at:
        rise(engine, at, due)
    else:
        sink(engine, at, due)


cdef void agenda_set(EngineState* engine, Peer* peer, int64_t due) noexcept nogil:
    cdef Due entry
    entry.at = peer.hot_due = due
    entry.peer = peer
    if not peer.hot_at:
        engine.hot_count += 1
        rise(engine, engine.hot_count - 1, entry)
    else:
        move(engine, peer.hot_at - 1, entry)


cdef void agenda_forget(EngineState* engine, Peer* peer) noexcept nogil:
    cdef Peer** link = &engine.awake
    agenda_leave(engine, peer)
    if peer.awake:
        while link[0] != peer:
            link = &link[0].awake_next
        link[0] = peer.awake_next
        peer.awake = 0


cdef void agenda_leave(EngineState* engine, Peer* peer) noexcept nogil:
    cdef uint64_t at
    if not peer.hot_at:
        return
    at = peer.hot_at - 1
    peer.hot_at = 0
    engine.hot_count -= 1
    if at != engine.hot_count:
        move(engine, at, engine.hot[engine.hot_count])
