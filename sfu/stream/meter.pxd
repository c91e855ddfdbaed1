"""How much each layer of an encoding takes, as it comes from the publisher."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef enum:
    METER_LAYERS = 4

# Rates by spatial and temporal layer; those that a packet does not tell count as 0.
cdef struct Meter:
    int64_t since                    # µs, of the current window
    uint32_t timestamp               # of the newest picture
    uint8_t started
    uint8_t measured                 # at least one window is full
    uint8_t has_key                  # a keyframe came in the current window
    uint8_t spatial_count            # layers that come
    uint8_t temporal_count
    uint32_t bytes[METER_LAYERS][METER_LAYERS]
    uint32_t pictures[METER_LAYERS]
    uint32_t bps[METER_LAYERS][METER_LAYERS]
    uint32_t rate[METER_LAYERS]      # pictures a second in 256ths

# A packet of `size` bytes with headers, `key` when it is of a keyframe. 1 when the rates are new.
cdef int meter_add(Meter* meter, int spatial, int temporal, uint32_t timestamp, uint32_t size, int key,
                   int64_t now) noexcept nogil
# Bytes of the last packet that belong to a higher temporal layer of it.
cdef void meter_more(Meter* meter, int temporal, uint32_t size) noexcept nogil
# What everything up to that layer takes together, bits a second.
cdef uint32_t meter_bps(const Meter* meter, int spatial, int temporal) noexcept nogil
# Pictures a second of everything up to that temporal layer.
cdef uint32_t meter_pictures(const Meter* meter, int temporal) noexcept nogil
