"""Additive increase, multiplicative decrease: the rate that the delays allow."""

from libc.stdint cimport int64_t, uint8_t

cdef struct RateControl:
    double bps
    double capacity              # mean of what arrived while the line was full, 0 unknown
    double deviation             # of it, of its square root's scale: bit/s per bit/s
    int64_t updated              # µs
    int64_t decreased            # µs of the last decrease, 0 none
    double before                # bps before the first of the last decreases in a row

cdef void rate_init(RateControl* rate, double bps, int64_t now) noexcept nogil
# `acked`: what arrives, 0 unknown. Returns 1 when it decreased.
cdef int rate_decrease(RateControl* rate, double acked, double share, int64_t now) noexcept nogil
# Up to `most`, by the time that passed since the last update. `response` is the time in µs until a change is heard of.
cdef void rate_increase(RateControl* rate, double acked, double most, int64_t response, int64_t now) noexcept nogil
