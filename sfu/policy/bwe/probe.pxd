"""Short bursts at a higher rate that measure what the line carries."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef enum:
    PROBE_CLUSTERS = 8           # known at a time; a power of two, and of what `fresh` has bits
    PROBE_QUEUE = 3
    USABLE_PERCENT = 97          # of what a line carries that was slower than the probe

cdef struct ProbeCluster:
    uint8_t id                   # 0: free
    double bps                   # aimed at
    uint32_t packets             # sent
    uint32_t bytes
    uint32_t beside              # bytes that left meanwhile and are not reported on
    uint32_t arrived_packets
    uint32_t arrived_bytes
    int64_t out_first            # departure and arrival of those that arrived
    int64_t out_last
    int64_t in_first
    int64_t in_last
    uint32_t size_out_last       # bytes sent at out_last
    uint32_t size_in_first       # bytes that came at in_first
    uint32_t size_out_first      # bytes of the first packet that arrived
    double bound_bps             # the line carries at least this, by the delays

cdef struct Prober:
    uint8_t active               # id of the cluster under way, 0: none
    uint8_t last_id
    uint8_t fresh                # bits of the clusters of which something arrived since the last look
    uint32_t lasting             # µs that each of them lasts
    int64_t begun                # when the first packet of the one under way left, 0: it has not
    int64_t ended                # when the last one was sent whole
    int64_t due                  # when the next probe may begin
    int64_t interval             # µs to wait after a probe that found nothing
    double spread_us             # of the packets' delays, after a probe that found nothing; 0: none to compare with
    int64_t waiting              # until when the result of the last cluster may come, 0: not waiting
    uint32_t queued
    double queue[PROBE_QUEUE]    # rates of the clusters that follow the one under way
    ProbeCluster clusters[PROBE_CLUSTERS]

cdef void probe_init(Prober* prober) noexcept nogil
# Another cluster; lost when the queue is full.
cdef void probe_queue(Prober* prober, double bps) noexcept nogil
# Begins the next of the queue: its rate, 0 none. *size: its bytes.
cdef double probe_begin(Prober* prober, uint32_t* size, int64_t now) noexcept nogil
cdef void probe_sent(Prober* prober, uint32_t size, int64_t now) noexcept nogil
# A packet that is not reported on leaves beside the probe.
cdef void probe_beside(Prober* prober, uint32_t size) noexcept nogil
# `delay`: how much longer than the shortest one the packet took, µs.
cdef void probe_arrived(Prober* prober, int cluster, int64_t sent, int64_t arrival, int64_t delay,
                        uint32_t size) noexcept nogil
# What the clusters that have news measured, the highest, 0 for none yet. *saturated: the line was slower than the probe;
# *aimed: at which rate it was sent. `waiting` ends when the last cluster is among them.
cdef double probe_result(Prober* prober, int* saturated, double* aimed) noexcept nogil
# Nothing more is sent of what was begun or is queued.
cdef void probe_cancel(Prober* prober) noexcept nogil
