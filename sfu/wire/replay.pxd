"""Sliding replay windows (RFC 3711 section 3.3.2) and the estimate of a packet's index, for inlining.

A window is a bitmap of `bits` packets, a power of two of at least 64: bit (index % bits) says that the index was seen.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memset


cdef inline bint replay_seen(const uint64_t* window, uint32_t bits, uint64_t highest, uint64_t index) noexcept nogil:
    if index > highest:
        return False
    if highest - index >= bits:
        return True
    return (window[(index & (bits - 1)) >> 6] >> (index & 63)) & 1


cdef inline void replay_mark(uint64_t* window, uint32_t bits, uint64_t* highest, uint64_t index) noexcept nogil:
    cdef uint64_t skipped
    if index > highest[0]:
        if index - highest[0] >= bits:
            memset(window, 0, bits >> 3)
        else:
            for skipped in range(highest[0] + 1, index):
                window[(skipped & (bits - 1)) >> 6] &= ~(<uint64_t>1 << (skipped & 63))
        highest[0] = index
    window[(index & (bits - 1)) >> 6] |= <uint64_t>1 << (index & 63)


cdef inline uint64_t estimate_index(uint64_t highest, uint16_t sequence) noexcept nogil:
    """The packet index by RFC 3711 section 3.3.1. Before the first roll-over there is no lower counter to guess."""
    cdef uint64_t roc = highest >> 16
    cdef uint16_t last = <uint16_t>highest
    if last < 32768:
        if <int>sequence - <int>last > 32768 and roc > 0:
            roc -= 1
    elif <int>last - 32768 > <int>sequence:
        roc += 1
    return roc << 16 | sequence
