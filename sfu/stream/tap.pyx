"""Plaintext packets for a recorder: by reference through a bounded ring, and the references back through another.

The references are the worker's: a consumer on another thread never touches a packet's count, it hands the packet
back when it has copied what it needs.
"""

from libc.string cimport memset

from cpython.bytes cimport PyBytes_FromStringAndSize

from mediaserver.sfu.stream.buffers cimport packet_new, packet_ref, packet_unref
from mediaserver.sfu.stream.ring cimport ring_close, ring_count, ring_init, ring_observe, ring_publish, ring_put, ring_take


cdef uint64_t tap_reclaim(TapQueue* queue, PacketPool* pool) noexcept nogil:
    cdef Packet* packet
    while True:
        packet = <Packet*>ring_take(&queue.back)
        if packet == NULL:
            break
        packet_unref(pool, packet)
        queue.returned += 1
    return queue.given - queue.returned


cdef void tap_push(TapQueue* queue, PacketPool* pool, Packet* packet) noexcept nogil:
    if queue.given - queue.returned >= queue.capacity and tap_reclaim(queue, pool) >= queue.capacity:
        queue.dropped += 1
        return
    ring_put(&queue.out, packet_ref(packet))
    queue.given += 1


cdef void tap_sender_report(TapQueue* queue, PacketPool* pool, uint32_t ssrc, uint64_t ntp, uint32_t timestamp,
                            int64_t now) noexcept nogil:
    cdef Packet* packet = packet_new(pool, 0)
    if packet == NULL:
        return
    packet.codec = SENDER_REPORT
    packet.ssrc = ssrc
    packet.sequence = ntp
    packet.timestamp = timestamp
    packet.arrival = now
    packet.payload_size = 0
    tap_push(queue, pool, packet)
    packet_unref(pool, packet)


cdef void tap_awaits(TapQueue* queue, uint64_t lowest) noexcept nogil:
    if queue.awaited != lowest:
        ring_publish(&queue.awaited, lowest)


cdef bytes plain_payload(const Packet* packet):
    """What a recorder keeps: of RED, whose copies have become packets of their own where they were of use, the packet's
    own Opus."""
    return PyBytes_FromStringAndSize(
        <char*>packet.data + packet.payload_offset + packet.inner_offset, packet.payload_size - packet.inner_offset
    )


cdef class TapRing:
    """The consumer's end of a tap on one track.

    `capacity` bounds the packets that are out at once; it is rounded up to a power of two.
    """

    def __cinit__(self, capacity: int = 4096):
        cdef uint64_t size = 1
        if not 1 <= capacity <= 1 << 20:
            raise ValueError(f"a tap holds 1 to {1 << 20} packets, not {capacity}")
        while size < <uint64_t>capacity:
            size *= 2
        memset(&self.queue, 0, sizeof(TapQueue))
        self.queue.capacity = size
        if ring_init(&self.queue.out, size) < 0 or ring_init(&self.queue.back, size) < 0:
            raise MemoryError

    def __dealloc__(self):
        ring_close(&self.queue.out)
        ring_close(&self.queue.back)

    cdef int attach(self, object owner) except -1:
        if self.owner is not None:
            raise ValueError("this tap is in use already")
        self.owner = owner
        return 0

    def read(self, limit: int) -> list:
        """Take up to `limit` entries, in the order of arrival; see `TapEntry` in the typings."""
        cdef list entries = []
        cdef Packet* packet
        cdef int left = limit
        while left > 0:
            packet = <Packet*>ring_take(&self.queue.out)
            if packet == NULL:
                break
            left -= 1
            if packet.codec == SENDER_REPORT:
                entries.append((1, packet.arrival, packet.ssrc, packet.sequence, packet.timestamp))
            else:
                entries.append((
                    0,
                    packet.arrival,
                    packet.sequence,
                    packet.timestamp,
                    packet.ssrc,
                    packet.inner_type if packet.inner_offset else packet.payload_type,
                    packet.marker,
                    plain_payload(packet),
                ))
            ring_put(&self.queue.back, packet)
        return entries

    @property
    def dropped(self) -> int:
        """Packets that did not fit."""
        return self.queue.dropped

    @property
    def awaited(self) -> int:
        """The lowest extended number that the publisher is still asked for, 0: none. What came of those below had been
        put into the ring before this was so."""
        return ring_observe(&self.queue.awaited)

    @property
    def backlog(self) -> int:
        """Entries that wait to be read."""
        return ring_count(&self.queue.out)

    @property
    def closed(self) -> bool:
        """Nothing more will come, and all has been read."""
        return self.queue.closed != 0 and ring_count(&self.queue.out) == 0
