"""What is to be sent: packets laid end to end, in runs that one UDP_SEGMENT message can carry."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    RUN_SEGMENTS = 44        # old kernels take 64, and a message at most 65,507 bytes
    RUN_BYTES = 64000
    OUTBOX_BYTES = 262144    # stays within the second-level cache
    OUTBOX_RUNS = 128
    DATAGRAM_MAX = 1500      # room that outbox_room promises

# A pair of transport addresses. IPv4 stands as IPv4-mapped IPv6 (RFC 4291, section 2.5.5.2). `local` is where the
# peer's datagrams came in: what it hears must come from there. All zeros where the socket is bound to one address.
cdef struct Addr:
    uint8_t ip[16]
    uint8_t local[16]
    uint16_t port            # host order
    uint32_t connection      # of TCP, whose every connection is an address of its own; 0 for UDP

# Datagrams of `segment` bytes to one address; the last may be shorter.
cdef struct Run:
    Addr addr
    uint32_t offset
    uint32_t size
    uint16_t segment
    uint16_t count

cdef struct Outbox:
    uint8_t* data
    uint32_t room
    uint32_t used
    Run* runs
    uint32_t run_room
    uint32_t run_count
    uint64_t lost            # datagrams dropped because nobody drained and memory ran out
    void (*drain)(void* context, Outbox* outbox) noexcept nogil
    void* context

# With `drain` the box keeps its size and is drained when full; without, it grows (for tests).
cdef int outbox_init(Outbox* outbox, void (*drain)(void*, Outbox*) noexcept nogil, void* context) noexcept nogil
cdef void outbox_close(Outbox* outbox) noexcept nogil
# Where the next datagram can be written: DATAGRAM_MAX bytes, or NULL.
cdef uint8_t* outbox_room(Outbox* outbox) noexcept nogil
# The datagram of `size` bytes just written there goes to that address.
cdef void outbox_add(Outbox* outbox, const Addr* addr, uint32_t size) noexcept nogil

cdef inline void outbox_clear(Outbox* outbox) noexcept nogil:
    outbox.used = 0
    outbox.run_count = 0
