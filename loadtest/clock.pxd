"""The clocks of the swarm. One machine, one clock: the kernel's receive stamps are CLOCK_REALTIME, and so are ours."""

from libc.stdint cimport int64_t

cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    ctypedef int clockid_t
    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    int clock_gettime(clockid_t clock, timespec* time)
    clockid_t CLOCK_MONOTONIC
    clockid_t CLOCK_REALTIME

cdef inline int64_t now_of(clockid_t clock) noexcept nogil:
    cdef timespec time
    clock_gettime(clock, &time)
    return <int64_t>time.tv_sec * 1000000000 + time.tv_nsec

cdef inline int64_t monotonic() noexcept nogil:
    return now_of(CLOCK_MONOTONIC)

cdef inline int64_t realtime() noexcept nogil:
    return now_of(CLOCK_REALTIME)
