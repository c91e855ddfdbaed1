"""Memory that begins with a cache line: what stands together in a struct then stands together in the cache."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t
from libc.string cimport memset

cdef extern from *:
    """
    #include <stdlib.h>
    """
    void* aligned_alloc(size_t, size_t) noexcept nogil
    void prefetch "__builtin_prefetch" (const void*) noexcept nogil

cdef enum:
    LINE = 64


cdef inline void* lines_new(size_t size) noexcept nogil:
    """Zeroed, for `free`; NULL without memory."""
    cdef void* made = aligned_alloc(LINE, (size + LINE - 1) // LINE * LINE)
    if made != NULL:
        memset(made, 0, size)
    return made


cdef inline void ahead_bytes(const void* data, size_t size) noexcept nogil:
    """Asks for what is needed in a moment."""
    cdef const uint8_t* line = <const uint8_t*>data
    cdef const uint8_t* end = line + size
    while line < end:
        prefetch(line)
        line += LINE
