"""How times spread: counts in buckets of a quarter octave, for percentiles within a tenth."""


def spread_limits() -> list:
    """The upper limit of each bucket in µs, exclusive. The last is that of an open one."""
    cdef int i
    return [64] + [(5 + i % 4) << (i // 4) << SPREAD_FINEST for i in range(SPREAD_BUCKETS - 1)]


def spread_index(us: int) -> int:
    """The bucket of a time in µs."""
    return spread_bucket(us)
