"""A rate over the last fraction of a second, from bytes in buckets of time."""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset


cdef void meter_reset(Meter* meter) noexcept nogil:
    memset(meter, 0, sizeof(Meter))
    meter.newest = -1


cdef void meter_advance(Meter* meter, int64_t bucket) noexcept nogil:
    cdef int64_t at
    if meter.newest < 0 or bucket - meter.newest >= METER_BUCKETS:
        memset(meter.bytes, 0, sizeof(meter.bytes))
        if meter.newest < 0:
            meter.oldest = bucket
    else:
        for at in range(meter.newest + 1, bucket + 1):
            meter.bytes[at & (METER_BUCKETS - 1)] = 0
    meter.newest = bucket


cdef double meter_rate(const Meter* meter, int buckets, int64_t now) noexcept nogil:
    cdef int64_t first, at, until = now if now > meter.last else meter.last
    cdef int64_t span
    cdef uint64_t total = 0
    if meter.newest < 0:
        return 0
    first = until // METER_GRAIN_US - buckets
    if first < meter.oldest:
        first = meter.oldest
    span = until - first * METER_GRAIN_US
    if span < METER_GRAIN_US:
        return 0
    if first <= meter.newest - METER_BUCKETS:
        first = meter.newest - METER_BUCKETS + 1
    for at in range(first, meter.newest + 1):
        total += meter.bytes[at & (METER_BUCKETS - 1)]
    return <double>total * 8e6 / span
