"""The worker's socket: many datagrams a call in, runs of equal datagrams out."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from mediaserver.sfu.stream.outbox cimport Addr, Outbox
from mediaserver.sfu.stream.state cimport Counters

cdef enum:
    UDP_BATCH = 32           # messages a call
    UDP_BUFFER = 65536       # one message, several datagrams of it when the kernel coalesced them (UDP_GRO)

cdef struct Udp

# Takes a bound socket over (it stays the caller's to close). NULL without memory.
cdef Udp* udp_new(int fd, int ipv6, int learn_local, Counters* counters) noexcept nogil
cdef void udp_free(Udp* udp) noexcept nogil
# How many messages came without waiting, 0 for none.
cdef int udp_receive(Udp* udp) noexcept nogil
# Message `index` of the last udp_receive. `segment` is the size of its datagrams (the last may be shorter),
# `arrival` when the kernel took it in, µs of CLOCK_REALTIME, 0 when that is not known.
cdef const uint8_t* udp_message(Udp* udp, int index, Addr* addr, uint64_t* size, uint64_t* segment,
                                int64_t* arrival) noexcept nogil
# Sends what an outbox has for UDP.
cdef void udp_drain(Udp* udp, Outbox* outbox) noexcept nogil
cdef int udp_has_segmentation(const Udp* udp) noexcept nogil
