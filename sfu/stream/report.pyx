"""Reports to the control plane."""

from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove

from mediaserver.sfu.stream.ring cimport ring_count, ring_put

cdef enum:
    DTLS_SHARE = 6144        # of REPORTS: handshakes may not fill the ring


cdef void keep(EngineState* engine, Report* item) noexcept nogil:
    cdef uint32_t room
    cdef Report** larger
    if engine.overflow_count == engine.overflow_room:
        room = engine.overflow_room * 2 if engine.overflow_room else 256
        larger = <Report**>realloc(engine.overflow, room * sizeof(Report*))
        if larger == NULL:
            free(item)
            engine.counters.events_dropped += 1
            return
        engine.overflow = larger
        engine.overflow_room = room
    engine.overflow[engine.overflow_count] = item
    engine.overflow_count += 1


cdef void report(EngineState* engine, int kind, uint32_t id, uint64_t value, const uint8_t* data, uint32_t size) noexcept nogil:
    cdef Report* item
    if kind == REPORT_DTLS and (engine.overflow_count or ring_count(engine.reports) > DTLS_SHARE):
        engine.counters.drop_dtls += 1
        return
    item = <Report*>malloc(sizeof(Report) + size)
    if item == NULL:
        engine.counters.events_dropped += 1
        return
    item.kind = kind
    item.id = id
    item.value = value
    item.time = engine.now
    item.size = size
    if size:
        memcpy(item.data, data, size)
    if engine.overflow_count or not ring_put(engine.reports, item):
        keep(engine, item)


cdef void report_flush(EngineState* engine) noexcept nogil:
    cdef uint32_t sent = 0
    while sent < engine.overflow_count and ring_put(engine.reports, engine.overflow[sent]):
        sent += 1
    if sent:
        engine.overflow_count -= sent
        memmove(engine.overflow, engine.overflow + sent, engine.overflow_count * sizeof(Report*))


cdef void report_close(EngineState* engine) noexcept nogil:
    cdef uint32_t i
    for i in range(engine.overflow_count):
        free(engine.overflow[i])
    free(engine.overflow)
    engine.overflow = NULL
    engine.overflow_count = 0
