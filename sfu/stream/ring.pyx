"""A ring between two threads without locks: one puts, one takes."""

from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef extern from *:
    """
    #define RING_LOAD(at) __atomic_load_n(at, __ATOMIC_ACQUIRE)
    #define RING_STORE(at, value) __atomic_store_n(at, value, __ATOMIC_RELEASE)
    """
    uint64_t RING_LOAD(uint64_t* at) noexcept nogil
    void RING_STORE(uint64_t* at, uint64_t value) noexcept nogil


cdef int ring_init(Ring* ring, uint64_t capacity) noexcept nogil:
    memset(ring, 0, sizeof(Ring))
    ring.slots = <void**>calloc(capacity, sizeof(void*))
    ring.mask = capacity - 1
    return 0 if ring.slots != NULL else -1


cdef void ring_close(Ring* ring) noexcept nogil:
    free(ring.slots)
    ring.slots = NULL


cdef int ring_put(Ring* ring, void* item) noexcept nogil:
    cdef uint64_t tail = ring.tail
    if tail - RING_LOAD(&ring.head) > ring.mask:
        return 0
    ring.slots[tail & ring.mask] = item
    RING_STORE(&ring.tail, tail + 1)
    return 1


cdef void* ring_take(Ring* ring) noexcept nogil:
    cdef uint64_t head = ring.head
    cdef void* item
    if head == RING_LOAD(&ring.tail):
        return NULL
    item = ring.slots[head & ring.mask]
    RING_STORE(&ring.head, head + 1)
    return item


cdef void ring_publish(uint64_t* at, uint64_t value) noexcept nogil:
    RING_STORE(at, value)


cdef uint64_t ring_observe(uint64_t* at) noexcept nogil:
    return RING_LOAD(at)


cdef uint64_t ring_count(Ring* ring) noexcept nogil:
    return RING_LOAD(&ring.tail) - RING_LOAD(&ring.head)
