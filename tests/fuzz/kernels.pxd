"""Fuzz targets in C: each takes one input, without the GIL, and says whether what must hold does hold."""

from libc.stdint cimport uint8_t

# 0, or the number of the check that failed.
ctypedef int (*Kernel)(const uint8_t* data, size_t size) noexcept nogil

# NULL for an unknown name.
cdef Kernel kernel_find(str name)
