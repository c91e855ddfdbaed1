"""The last packets of one source, for retransmission."""

from libc.stdlib cimport calloc, free

from mediaserver.sfu.stream.buffers cimport packet_ref, packet_unref


cdef int history_init(History* history, uint32_t capacity) noexcept nogil:
    history.slots = <Packet**>calloc(capacity, sizeof(Packet*))
    history.mask = capacity - 1
    return 0 if history.slots != NULL else -1


cdef void history_close(History* history, PacketPool* pool) noexcept nogil:
    cdef uint32_t i
    if history.slots == NULL:
        return
    for i in range(history.mask + 1):
        if history.slots[i] != NULL:
            packet_unref(pool, history.slots[i])
    free(history.slots)
    history.slots = NULL


cdef void history_put(History* history, PacketPool* pool, Packet* packet) noexcept nogil:
    cdef Packet** slot = &history.slots[packet.sequence & history.mask]
    if slot[0] != NULL:
        if slot[0].sequence >= packet.sequence:
            return  # older than what stands there: nobody can ask for it any more
        packet_unref(pool, slot[0])
    slot[0] = packet_ref(packet)
