"""How much each layer of an encoding takes, as it comes from the publisher."""

from libc.stdint cimport int32_t
from libc.string cimport memset

cdef enum:
    FIRST_US = 200000        # of the first window: who joins shall not wait long for figures
    WINDOW_US = 500000


cdef uint32_t smooth(uint32_t old, uint32_t new, int shift) noexcept nogil:
    return old + <uint32_t>(<int32_t>(new - old) >> shift)


cdef void close_window(Meter* meter, int64_t now) noexcept nogil:
    cdef int64_t span = now - meter.since
    # A keyframe makes one window heavy: that alone is no other rate.
    cdef int shift = 0 if not meter.measured else 3 if meter.has_key else 2
    cdef int s, t
    meter.spatial_count = 1
    meter.temporal_count = 1
    for s in range(METER_LAYERS):
        for t in range(METER_LAYERS):
            if meter.bytes[s][t]:
                meter.spatial_count = max(meter.spatial_count, <uint8_t>(s + 1))
                meter.temporal_count = max(meter.temporal_count, <uint8_t>(t + 1))
            meter.bps[s][t] = smooth(meter.bps[s][t], <uint32_t>(<int64_t>meter.bytes[s][t] * 8000000 // span), shift)
    for t in range(METER_LAYERS):
        meter.rate[t] = smooth(meter.rate[t], <uint32_t>(<int64_t>meter.pictures[t] * 256000000 // span), shift)
    memset(meter.bytes, 0, sizeof(meter.bytes))
    memset(meter.pictures, 0, sizeof(meter.pictures))
    meter.measured = 1
    meter.has_key = 0
    meter.since = now


cdef int meter_add(Meter* meter, int spatial, int temporal, uint32_t timestamp, uint32_t size, int key,
                   int64_t now) noexcept nogil:
    cdef int full = 0
    cdef int64_t span
    spatial = min(max(spatial, 0), METER_LAYERS - 1)
    temporal = min(max(temporal, 0), METER_LAYERS - 1)
    if not meter.started:
        meter.started = 1
        meter.since = now
        meter.timestamp = timestamp - 1
    span = now - meter.since
    if span > 4 * WINDOW_US:  # it was off: what it took before says nothing
        memset(meter.bytes, 0, sizeof(meter.bytes))
        memset(meter.pictures, 0, sizeof(meter.pictures))
        meter.measured = 0
        meter.since = now
    elif span >= (WINDOW_US if meter.measured else FIRST_US):
        close_window(meter, now)
        full = 1
    meter.bytes[spatial][temporal] += size
    meter.has_key |= key
    if <int32_t>(timestamp - meter.timestamp) > 0:
        meter.timestamp = timestamp
        meter.pictures[temporal] += 1
    return full


cdef void meter_more(Meter* meter, int temporal, uint32_t size) noexcept nogil:
    meter.bytes[0][temporal] += size


cdef uint32_t meter_bps(const Meter* meter, int spatial, int temporal) noexcept nogil:
    cdef uint32_t total = 0
    cdef int s, t
    for s in range(min(spatial, METER_LAYERS - 1) + 1):
        for t in range(min(temporal, METER_LAYERS - 1) + 1):
            total += meter.bps[s][t]
    return total


cdef uint32_t meter_pictures(const Meter* meter, int temporal) noexcept nogil:
    cdef uint32_t total = 0
    cdef int t
    for t in range(min(temporal, METER_LAYERS - 1) + 1):
        total += meter.rate[t]
    return (total + 128) >> 8
