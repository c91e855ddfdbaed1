"""Rings between two workers, without locks: one puts, one takes."""

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from mediaserver.sfu.stream.buffers cimport pool_share_hold, pool_share_release

cdef extern from *:
    """
    #define RELAY_LOAD(at) __atomic_load_n(at, __ATOMIC_ACQUIRE)
    #define RELAY_STORE(at, value) __atomic_store_n(at, value, __ATOMIC_RELEASE)
    #define RELAY_SWAP(at, value) __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST)
    #define RELAY_ADD(at, value) __atomic_add_fetch(at, value, __ATOMIC_ACQ_REL)
    """
    uint64_t load "RELAY_LOAD" (uint64_t* at) noexcept nogil
    void store "RELAY_STORE" (uint64_t* at, uint64_t value) noexcept nogil
    uint64_t swap "RELAY_SWAP" (uint64_t* at, uint64_t value) noexcept nogil
    int32_t add "RELAY_ADD" (int32_t* at, int32_t value) noexcept nogil


cdef int item_ring_init(ItemRing* ring, uint64_t capacity) noexcept nogil:
    memset(ring, 0, sizeof(ItemRing))
    ring.slots = <RelayItem*>calloc(capacity, sizeof(RelayItem))
    ring.mask = capacity - 1
    return 0 if ring.slots != NULL else -1


cdef void item_ring_close(ItemRing* ring) noexcept nogil:
    free(ring.slots)
    ring.slots = NULL


cdef int item_put(ItemRing* ring, const RelayItem* item) noexcept nogil:
    if ring.tail - ring.head_seen > ring.mask:
        ring.head_seen = load(&ring.head)
        if ring.tail - ring.head_seen > ring.mask:
            return 0
    ring.slots[ring.tail & ring.mask] = item[0]
    store(&ring.tail, ring.tail + 1)
    return 1


cdef int item_take(ItemRing* ring, RelayItem* item) noexcept nogil:
    if ring.head == ring.tail_seen:
        ring.tail_seen = load(&ring.tail)
        if ring.head == ring.tail_seen:
            return 0
    item[0] = ring.slots[ring.head & ring.mask]
    store(&ring.head, ring.head + 1)
    return 1


cdef int item_waits(ItemRing* ring) noexcept nogil:
    return ring.head != load(&ring.tail)


cdef Relay* relay_new(PoolShare* pool, Doorbell* home_bell, Doorbell* far_bell) noexcept nogil:
    cdef Relay* relay = <Relay*>calloc(1, sizeof(Relay))
    if relay == NULL:
        return NULL
    if item_ring_init(&relay.out, RELAY_ITEMS) < 0 or item_ring_init(&relay.back, BACK_ITEMS) < 0:
        item_ring_close(&relay.out)
        free(relay)
        return NULL
    relay.holders = 2
    relay.pool = pool
    relay.home_bell = home_bell
    relay.far_bell = far_bell
    pool_share_hold(pool)
    bell_hold(home_bell)
    bell_hold(far_bell)
    return relay


cdef void relay_release(Relay* relay) noexcept nogil:
    cdef RelayItem item
    if add(&relay.holders, -1):
        return
    # Packets in the ring need not be let go of: nobody is left who could use them, and the pool goes as a whole.
    while item_take(&relay.out, &item):
        if item.kind == RELAY_DEPENDENCY:
            free(<void*>item.a)
    item_ring_close(&relay.out)
    item_ring_close(&relay.back)
    pool_share_release(relay.pool)
    bell_release(relay.home_bell)
    bell_release(relay.far_bell)
    free(relay)


cdef void bell_hold(Doorbell* bell) noexcept nogil:
    if bell != NULL:
        add(&bell.holders, 1)


cdef void bell_release(Doorbell* bell) noexcept nogil:
    if bell != NULL and add(&bell.holders, -1) == 0:
        bell.close(bell)
        free(bell)


cdef void bell_ring(Doorbell* bell) noexcept nogil:
    # An exchange orders what was put before it against the look at the ring that follows `bell_sleep`: one of the two
    # threads sees the other's.
    if bell != NULL and swap(&bell.asleep, 0):
        bell.ring(bell)


cdef void bell_sleep(Doorbell* bell) noexcept nogil:
    swap(&bell.asleep, 1)


cdef void bell_wake(Doorbell* bell) noexcept nogil:
    store(&bell.asleep, 0)
