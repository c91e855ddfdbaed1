"""How long an answer takes: smoothed, with its variation (RFC 6298), and at the shortest."""

from libc.stdint cimport int64_t, uint32_t

cdef enum:
    ROUND_TRIP_INITIAL_US = 100000   # until something has been measured
    ROUND_TRIP_MARGIN_US = 10000     # an answer is late by less than that on any line
    ROUND_TRIP_MAX_US = 10000000     # what claims to be longer is a clock that was set, or a lie

cdef struct RoundTrip:
    int64_t smoothed                 # µs
    int64_t variation                # µs
    uint32_t samples

cdef inline void round_trip_init(RoundTrip* self) noexcept nogil:
    self.smoothed = ROUND_TRIP_INITIAL_US
    self.variation = 0
    self.samples = 0

cdef inline void round_trip_add(RoundTrip* self, int64_t sample) noexcept nogil:
    """One measurement in µs. What cannot be one is left out."""
    cdef int64_t difference
    if sample < 0 or sample > ROUND_TRIP_MAX_US:
        return
    if self.samples == 0:
        self.smoothed = sample
        self.variation = sample >> 1
    else:
        difference = self.smoothed - sample
        self.variation += ((difference if difference > 0 else -difference) - self.variation) // 4
        self.smoothed -= difference // 8
    self.samples += 1

cdef inline int64_t round_trip_wait(const RoundTrip* self) noexcept nogil:
    """After so many µs an answer that has not come is not on its way any more."""
    cdef int64_t margin = 4 * self.variation
    return self.smoothed + (margin if margin > ROUND_TRIP_MARGIN_US else ROUND_TRIP_MARGIN_US)


# The shortest of a span and of the one before it: what is longer has waited somewhere. Zeroed: nothing is known.
cdef struct Shortest:
    int64_t latest_us
    int64_t before_us
    int64_t since

cdef inline void shortest_add(Shortest* self, int64_t sample, int64_t span, int64_t now) noexcept nogil:
    """One measurement; a new span of so many µs begins when the last one is over."""
    if self.latest_us == 0 or now - self.since > span:
        self.before_us = self.latest_us if self.latest_us else sample
        self.latest_us = sample
        self.since = now
    elif sample < self.latest_us:
        self.latest_us = sample

cdef inline int64_t shortest(const Shortest* self) noexcept nogil:
    """µs; 0: nothing is known."""
    return self.latest_us if self.latest_us < self.before_us else self.before_us
