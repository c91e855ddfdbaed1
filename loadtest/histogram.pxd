"""Histograms of times with 3 % resolution: what the swarm's thread counts into."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

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

# The same with counts of half the size, for one leg.
cdef struct Spread:
    uint32_t counts[HISTOGRAM_BUCKETS]
    uint32_t total
    int64_t greatest

cdef inline uint64_t bucket_of(int64_t value) noexcept nogil:
    cdef int shift
    cdef uint64_t bucket
    if value < HISTOGRAM_STEPS:
        return <uint64_t>value
    shift = mediaserver_log2(<uint64_t>value) - HISTOGRAM_SHIFT
    bucket = <uint64_t>(shift + 1) * HISTOGRAM_STEPS + ((<uint64_t>value >> shift) & (HISTOGRAM_STEPS - 1))
    return bucket if bucket < HISTOGRAM_BUCKETS else HISTOGRAM_BUCKETS - 1

cdef inline void spread_add(Spread* spread, int64_t value) noexcept nogil:
    if value < 0:
        value = 0
    spread.counts[bucket_of(value)] += 1
    spread.total += 1
    if value > spread.greatest:
        spread.greatest = value

cdef inline void histogram_add(Histogram* histogram, int64_t value) noexcept nogil:
    if value < 0:
        histogram.negative += 1
        value = 0
    histogram.counts[bucket_of(value)] += 1
    histogram.total += 1
    if value > histogram.greatest:
        histogram.greatest = value

cdef object histogram_view(const Histogram* histogram)
cdef object spread_view(const Spread* spread)
