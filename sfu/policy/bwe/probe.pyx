"""Short bursts at a higher rate that measure what the line carries: the rate at which they arrive."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memset

cdef enum:
    PACKETS_LEAST = 4            # that have to arrive

cdef double ARRIVED_LEAST = 0.8          # of the bytes
cdef double FASTER_MOST = 2.0            # than sent: then the arrival times say nothing
cdef double SATURATED = 0.9              # of the rate sent
cdef double SHORTEST_US = 1000.0         # what left within this left at once
cdef double BOUND_LEAST_US = 5000.0      # less says nothing


cdef void probe_init(Prober* prober) noexcept nogil:
    memset(prober, 0, sizeof(Prober))


cdef void probe_queue(Prober* prober, double bps) noexcept nogil:
    if prober.queued < PROBE_QUEUE:
        prober.queue[prober.queued] = bps
        prober.queued += 1


cdef double probe_begin(Prober* prober, uint32_t* size, int64_t now) noexcept nogil:
    cdef ProbeCluster* cluster
    cdef double bps
    cdef uint32_t i
    if prober.queued == 0:
        prober.active = 0
        prober.ended = now
        return 0
    bps = prober.queue[0]
    prober.queued -= 1
    for i in range(prober.queued):
        prober.queue[i] = prober.queue[i + 1]
    prober.last_id = 1 if prober.last_id == 255 else prober.last_id + 1
    prober.active = prober.last_id
    cluster = &prober.clusters[prober.active & (PROBE_CLUSTERS - 1)]
    memset(cluster, 0, sizeof(ProbeCluster))
    prober.fresh &= ~(1 << (prober.active & (PROBE_CLUSTERS - 1)))
    cluster.id = prober.active
    cluster.bps = bps
    prober.begun = 0
    size[0] = <uint32_t>(bps * prober.lasting / 8e6)
    return bps


cdef void probe_sent(Prober* prober, uint32_t size, int64_t now) noexcept nogil:
    cdef ProbeCluster* cluster = &prober.clusters[prober.active & (PROBE_CLUSTERS - 1)]
    if cluster.packets == 0:
        prober.begun = now
    cluster.packets += 1
    cluster.bytes += size


cdef void probe_beside(Prober* prober, uint32_t size) noexcept nogil:
    cdef ProbeCluster* cluster = &prober.clusters[prober.active & (PROBE_CLUSTERS - 1)]
    if cluster.packets:
        cluster.beside += size


cdef void bound_by_delay(ProbeCluster* c, int64_t sent, int64_t delay) noexcept nogil:
    """What came by now, the first packet apart, has passed the line since that one left and took its time: whatever
    holds packets up elsewhere, a reader that comes late or a line that jitters, makes this less, never more."""
    cdef double took = sent - c.out_first + delay
    cdef double bps
    if took < BOUND_LEAST_US or c.arrived_packets < PACKETS_LEAST:
        return
    bps = (c.arrived_bytes - c.size_out_first) * 8e6 / took
    if bps > c.bound_bps:
        c.bound_bps = bps


cdef void probe_arrived(Prober* prober, int cluster, int64_t sent, int64_t arrival, int64_t delay,
                        uint32_t size) noexcept nogil:
    cdef ProbeCluster* c = &prober.clusters[cluster & (PROBE_CLUSTERS - 1)]
    if c.id != cluster:
        return
    if c.arrived_packets == 0:
        c.out_first = c.out_last = sent
        c.in_first = c.in_last = arrival
        c.size_out_first = size
    if sent > c.out_last:
        c.out_last = sent
        c.size_out_last = 0
    elif sent < c.out_first:
        c.out_first = sent
    if arrival < c.in_first:
        c.in_first = arrival
        c.size_in_first = 0
    elif arrival > c.in_last:
        c.in_last = arrival
    if sent == c.out_last:
        c.size_out_last += size
    if arrival == c.in_first:
        c.size_in_first += size
    c.arrived_packets += 1
    c.arrived_bytes += size
    prober.fresh |= 1 << (cluster & (PROBE_CLUSTERS - 1))
    bound_by_delay(c, sent, delay)


cdef double by_spacing(const ProbeCluster* c, double out, double out_us, double in_us) noexcept nogil:
    """The rate at which it came; 0 where the arrival times say nothing."""
    cdef double came
    if in_us <= 0:
        return 0
    came = (c.arrived_bytes - c.size_in_first) * 8e6 / in_us
    if out_us >= SHORTEST_US and came > FASTER_MOST * out:
        return 0
    return came


cdef double measured(const ProbeCluster* c, int* saturated) noexcept nogil:
    cdef double out = 0, came
    cdef double out_us = c.out_last - c.out_first, in_us = c.in_last - c.in_first
    if c.arrived_packets < PACKETS_LEAST or c.arrived_bytes < ARRIVED_LEAST * c.bytes:
        return 0
    if out_us > 1000000 or in_us > 1000000:
        return 0
    if out_us >= SHORTEST_US:
        out = (c.arrived_bytes - c.size_out_last) * 8e6 / out_us
        if out <= 0:
            return 0
    came = by_spacing(c, out, out_us, in_us)
    if c.bound_bps > came:
        came = c.bound_bps
    if out_us < SHORTEST_US or out > c.bps:
        out = c.bps             # it left faster than was aimed at: no proof beyond that
    if came < SATURATED * out:
        saturated[0] = 1
        return USABLE_PERCENT / 100.0 * came
    saturated[0] = 0
    return came if came < out else out


cdef double whole(const ProbeCluster* c) noexcept nogil:
    """What passed the line meanwhile, by what of it was reported on."""
    return 1 + <double>c.beside / c.bytes if c.bytes else 1


cdef double probe_result(Prober* prober, int* saturated, double* aimed) noexcept nogil:
    cdef double best = 0, found
    cdef int i, full = 0
    saturated[0] = 0
    aimed[0] = 0
    if prober.fresh == 0:
        return 0
    for i in range(PROBE_CLUSTERS):
        if prober.fresh >> i & 1 and prober.clusters[i].id != prober.active:
            prober.fresh &= ~(1 << i)
            found = measured(&prober.clusters[i], &full) * whole(&prober.clusters[i])
            if found > 0 and prober.clusters[i].id == prober.last_id:
                prober.waiting = 0
            if found > best:
                best = found
                saturated[0] = full
                aimed[0] = prober.clusters[i].bps
    return best


cdef void probe_cancel(Prober* prober) noexcept nogil:
    prober.active = 0
    prober.queued = 0
