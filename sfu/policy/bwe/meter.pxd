"""A rate over the last fraction of a second, from bytes in buckets of time."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    METER_BUCKETS = 16
    METER_GRAIN_US = 50000

cdef struct Meter:
    int64_t newest               # number of the newest bucket: time // METER_GRAIN_US
    int64_t last                 # µs of the newest bytes
    int64_t oldest               # and of the first bucket since the start
    uint32_t bytes[METER_BUCKETS]

cdef void meter_reset(Meter* meter) noexcept nogil
cdef void meter_advance(Meter* meter, int64_t bucket) noexcept nogil
# bits per second over the `buckets` full buckets before the last bytes and the begun one; 0 when there is less than
# one full bucket. `now`: the time until which nothing came counts too, 0: until the last bytes.
cdef double meter_rate(const Meter* meter, int buckets, int64_t now) noexcept nogil

# Bytes that come late count as long as their bucket is held. Times are at least 0.
cdef inline void meter_add(Meter* meter, int64_t time, uint32_t size) noexcept nogil:
    cdef int64_t bucket = time // METER_GRAIN_US
    if bucket > meter.newest:
        meter_advance(meter, bucket)
    if bucket > meter.newest - METER_BUCKETS:
        meter.bytes[bucket & (METER_BUCKETS - 1)] += size
    if time > meter.last:
        meter.last = time
