"""A track on another worker than its publisher's: a ring for its packets, and one back for what is wanted of it.

The home is the worker of the publisher, the far one that of viewers. A track there has a copy (a `Mirror`) that is
filled from the ring and serves its legs as the track itself does at home; what only the publisher can do is asked for
by the other ring.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.sfu.stream.buffers cimport PoolShare
from mediaserver.sfu.stream.spread cimport Spread

cdef enum:
    RELAY_ITEMS = 4096       # of a ring; a second of a room with many pictures
    BACK_ITEMS = 1024

# To the far worker. All but packets and STARTED may be left out when the ring is full: it comes again.
cdef enum RelayKind:
    RELAY_STARTED = 1        # what the home had kept has come
    RELAY_KEPT = 2           # a packet from before; it is for those alone who ask for it
    RELAY_PACKET = 3
    RELAY_AGAIN = 4          # one that had not fitted and was asked for
    RELAY_SOURCE = 5         # the encoding has another source; a = its SSRC
    RELAY_REPORT = 6         # a sender report: a = NTP, b = arrival, c = publisher's clock to ours, d = RTP timestamp
    RELAY_FRESHNESS = 7      # a = FreshState
    RELAY_DEPENDENCY = 8     # a = a DependencyState on the heap, which is the far worker's from then on

# And back.
cdef enum BackKind:
    BACK_START = 1           # a = the mirror's id: send what comes of the track
    BACK_STOP = 2            # a = the mirror's id
    BACK_KEYFRAME = 3        # a = the mirror's id, b = number of the last key picture that has come, 0: none
    BACK_NEEDED = 4          # a = the mirror's id, b = bits of encodings
    BACK_AGAIN = 5           # a = the mirror's id, b = extended number of a packet

cdef struct RelayItem:
    uint8_t kind
    uint8_t encoding
    uint16_t generation      # of the encoding's source
    uint32_t track           # id at the receiver
    uint64_t a
    int64_t b
    uint64_t c
    uint32_t d
    uint32_t home            # to the far worker: the track's id at home

# One puts, one takes; each counter on cache lines of its own, with what its owner has last seen of the other's.
cdef struct ItemRing:
    RelayItem* slots
    uint64_t mask
    char apart[48]
    uint64_t head
    uint64_t tail_seen
    char head_apart[48]
    uint64_t tail
    uint64_t head_seen
    char tail_apart[48]

# How a worker's thread is woken. `asleep` is set before it waits.
cdef struct Doorbell:
    uint64_t asleep
    int32_t holders
    int fd
    void (*ring)(Doorbell*) noexcept nogil
    void (*close)(Doorbell*) noexcept nogil

cdef struct Relay:
    ItemRing out
    ItemRing back
    int32_t holders          # the two planes
    PoolShare* pool          # the home's
    Doorbell* home_bell      # NULL: a plane in virtual time
    Doorbell* far_bell
    Relay* next_out          # of the home's list
    Relay* next_in           # of the far worker's

# What a turn has taken for one track with one stamp, for the measure of how long it took.
cdef struct Relayed:
    int64_t stamped
    uint64_t count
    Spread* served

cdef int item_ring_init(ItemRing* ring, uint64_t capacity) noexcept nogil
cdef void item_ring_close(ItemRing* ring) noexcept nogil
# 1 when it fitted.
cdef int item_put(ItemRing* ring, const RelayItem* item) noexcept nogil
cdef int item_take(ItemRing* ring, RelayItem* item) noexcept nogil
cdef int item_waits(ItemRing* ring) noexcept nogil

# Held by both planes; NULL without memory.
cdef Relay* relay_new(PoolShare* pool, Doorbell* home_bell, Doorbell* far_bell) noexcept nogil
cdef void relay_release(Relay* relay) noexcept nogil
cdef void bell_hold(Doorbell* bell) noexcept nogil
cdef void bell_release(Doorbell* bell) noexcept nogil
# Something has been put into a ring of the worker with that bell.
cdef void bell_ring(Doorbell* bell) noexcept nogil
# The worker is about to wait: what is put from now on rings, what was put before is seen by who looks now.
cdef void bell_sleep(Doorbell* bell) noexcept nogil
cdef void bell_wake(Doorbell* bell) noexcept nogil
