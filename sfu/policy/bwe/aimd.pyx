"""Additive increase, multiplicative decrease: the rate that the delays allow (draft-ietf-rmcat-gcc-02, section 5.5)."""

from libc.math cimport sqrt
from libc.stdint cimport int64_t
from libc.string cimport memset

cdef double GROWTH = 0.08               # a second, far from what the line has been seen to carry
cdef double PACKET_BITS = 9600.0
cdef double STEP_LEAST = 4000.0         # bit/s for each second
cdef double MEMORY = 0.05               # weight of a new value of the capacity
cdef int64_t ROW_US = 1500000           # decreases that follow within this are one drop


cdef void rate_init(RateControl* rate, double bps, int64_t now) noexcept nogil:
    memset(rate, 0, sizeof(RateControl))
    rate.bps = bps
    rate.updated = now


cdef void learn(RateControl* rate, double acked) noexcept nogil:
    cdef double error
    if rate.capacity == 0:
        rate.capacity = acked
        rate.deviation = 0.4
        return
    error = (acked - rate.capacity)
    rate.capacity += MEMORY * error
    rate.deviation = (1 - MEMORY) * rate.deviation + MEMORY * error * error / (rate.capacity * 1000)
    if rate.deviation < 0.4:
        rate.deviation = 0.4
    elif rate.deviation > 2.5:
        rate.deviation = 2.5


cdef double apart(const RateControl* rate) noexcept nogil:
    """Three standard deviations of the capacity, bit/s."""
    return 3 * sqrt(rate.deviation * rate.capacity * 1000)


cdef int rate_decrease(RateControl* rate, double acked, double share, int64_t now) noexcept nogil:
    cdef double lower = share * (acked if acked > 0 and acked < rate.bps else rate.bps)
    rate.updated = now
    if acked > 0:
        if rate.capacity > 0 and acked < rate.capacity - apart(rate):
            rate.capacity = 0   # another line than it was
        learn(rate, acked)
    if rate.decreased == 0 or now - rate.decreased > ROW_US:
        rate.before = rate.bps
    rate.decreased = now
    if lower >= rate.bps:
        return 0
    rate.bps = lower
    return 1


cdef void rate_increase(RateControl* rate, double acked, double most, int64_t response, int64_t now) noexcept nogil:
    cdef double passed = (now - rate.updated) / 1e6
    cdef double step
    rate.updated = now
    if passed <= 0 or rate.bps >= most:
        return
    if passed > 1:
        passed = 1
    if rate.capacity > 0 and acked > rate.capacity + apart(rate):
        rate.capacity = 0
    if rate.capacity > 0 and rate.bps > rate.capacity - apart(rate):
        step = PACKET_BITS * 1e6 / response
        if step < STEP_LEAST:
            step = STEP_LEAST
        rate.bps += step * passed
    else:
        rate.bps *= 1 + GROWTH * passed
    if rate.bps > most:
        rate.bps = most
