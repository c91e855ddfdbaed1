"""How times spread: counts in buckets of a quarter octave, for percentiles within a tenth."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from *:
    int top_bit "63 - __builtin_clzll" (unsigned long long value) noexcept nogil

cdef enum:
    SPREAD_FINEST = 4        # as a shift: what is under 64 µs is all one
    SPREAD_BUCKETS = 81      # up to 67 s; the last one is open

cdef struct Spread:
    uint64_t sum             # µs
    uint64_t most            # µs
    uint32_t counts[SPREAD_BUCKETS]

cdef inline int spread_bucket(int64_t us) noexcept nogil:
    cdef uint64_t value
    cdef int octave, bucket
    if us < 64:
        return 0
    value = <uint64_t>us >> SPREAD_FINEST
    octave = top_bit(value) - 2
    bucket = 1 + octave * 4 + <int>((value >> octave) & 3)
    return bucket if bucket < SPREAD_BUCKETS else SPREAD_BUCKETS - 1

cdef inline void spread_add(Spread* spread, int64_t us, uint32_t count) noexcept nogil:
    cdef uint64_t value = <uint64_t>us if us > 0 else 0
    spread.counts[spread_bucket(us)] += count
    spread.sum += value * count
    if value > spread.most:
        spread.most = value
