"""What is to be sent: packets laid end to end, in runs that one UDP_SEGMENT message can carry."""

from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memset


cdef int outbox_init(Outbox* outbox, void (*drain)(void*, Outbox*) noexcept nogil, void* context) noexcept nogil:
    memset(outbox, 0, sizeof(Outbox))
    outbox.data = <uint8_t*>malloc(OUTBOX_BYTES)
    outbox.room = OUTBOX_BYTES
    outbox.runs = <Run*>malloc(OUTBOX_RUNS * sizeof(Run))
    outbox.run_room = OUTBOX_RUNS
    outbox.drain = drain
    outbox.context = context
    return 0 if outbox.data != NULL and outbox.runs != NULL else -1


cdef void outbox_close(Outbox* outbox) noexcept nogil:
    free(outbox.data)
    free(outbox.runs)
    outbox.data = NULL
    outbox.runs = NULL


cdef int grow(Outbox* outbox) noexcept nogil:
    cdef uint8_t* data = <uint8_t*>realloc(outbox.data, <size_t>outbox.room * 2)
    cdef Run* runs
    if data == NULL:
        return -1
    outbox.data = data
    outbox.room *= 2
    runs = <Run*>realloc(outbox.runs, outbox.run_room * 2 * sizeof(Run))
    if runs == NULL:
        return -1
    outbox.runs = runs
    outbox.run_room *= 2
    return 0


cdef uint8_t* outbox_room(Outbox* outbox) noexcept nogil:
    if outbox.used + DATAGRAM_MAX > outbox.room or outbox.run_count == outbox.run_room:
        if outbox.drain != NULL:
            outbox.drain(outbox.context, outbox)
            outbox_clear(outbox)
        elif grow(outbox) < 0:
            outbox.lost += 1
            return NULL
    return outbox.data + outbox.used


cdef void outbox_add(Outbox* outbox, const Addr* addr, uint32_t size) noexcept nogil:
    cdef Run* run
    if outbox.run_count:
        run = &outbox.runs[outbox.run_count - 1]
        if (
            size <= run.segment
            and run.size == <uint32_t>run.segment * run.count
            and run.count < RUN_SEGMENTS
            and run.size + size <= RUN_BYTES
            and memcmp(&run.addr, addr, sizeof(Addr)) == 0
        ):
            run.size += size
            run.count += 1
            outbox.used += size
            return
    run = &outbox.runs[outbox.run_count]
    run.addr = addr[0]
    run.offset = outbox.used
    run.size = size
    run.segment = size
    run.count = 1
    outbox.run_count += 1
    outbox.used += size
