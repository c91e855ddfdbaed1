"""Histograms of times with 3 % resolution: what the swarm's thread counts into."""

from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    """
    #define mediaserver_log2(v) (63 - __builtin_clzll(v))
    """
    int mediaserver_log2(uint64_t value) noexcept nogil

cdef enum:
    HISTOGRAM_STEPS = 32       # buckets to each power of two
    HISTOGRAM_SHIFT = 5
    HISTOGRAM_BUCKETS = 1184   # up to 2^41 ns, over half an hour

cdef struct Histogram:
    uint64_t counts[HISTOGRAM_BUCKETS]
    uint64_t total
    uint64_t negative          # values below 0: two clocks that disagree
    int64_t greatest

cdef inline void histogram_add(Histogram* histogram, int64_t value) noexcept nogil:
    cdef int shift
    cdef uint64_t bucket
    if value < 0:
        histogram.negative += 1
        value = 0
    if value < HISTOGRAM_STEPS:
        bucket = <uint64_t>value
    else:
        shift = mediaserver_log2(<uint64_t>value) - HISTOGRAM_SHIFT
        bucket = <uint64_t>(shift + 1) * HISTOGRAM_STEPS + ((<uint64_t>value >> shift) & (HISTOGRAM_STEPS - 1))
        if bucket >= HISTOGRAM_BUCKETS:
            bucket = HISTOGRAM_BUCKETS - 1
    histogram.counts[bucket] += 1
    histogram.total += 1
    if value > histogram.greatest:
        histogram.greatest = value

cdef object histogram_view(const Histogram* histogram)
