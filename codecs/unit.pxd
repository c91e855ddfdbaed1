"""Access units, and what all assemblers share: a bounded buffer and the rules for where a unit begins and ends."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t


cdef class AccessUnit:
    cdef readonly bytes data
    cdef readonly uint32_t timestamp
    cdef readonly bint keyframe
    cdef readonly int width
    cdef readonly int height
    cdef readonly bint complete
    cdef readonly bytes config


cdef class Assembler:
    # The unit under way.
    cdef uint8_t* data
    cdef size_t size
    cdef size_t capacity
    cdef uint32_t timestamp
    cdef bint is_open
    cdef bint complete
    cdef bint keyframe
    cdef bint lost_at_start    # packets are missing right before its first one
    cdef bint lost_pending     # the same for a unit that has not begun
    # What outlives it: the latest picture size, and the parameter sets of the latest keyframe.
    cdef int width
    cdef int height
    cdef bytes config

    cpdef list push(self, bytes payload, uint32_t timestamp, bint marker, bint lost_before=*)
    cpdef list flush(self)

    # A codec fills these in.
    cdef void add(self, const uint8_t* payload, size_t size)    # one payload of the unit under way
    cdef void hole(self)                                        # packets are missing inside the unit under way
    cdef bint ready(self)                                       # there is something in it that a decoder can use
    cdef void conclude(self)                                    # the unit ends: last judgements
    cdef void restart(self)                                     # a unit begins

    cdef bint append(self, const uint8_t* bytes, size_t size)   # False, and nothing appended, when the unit gets too big
    cdef bint reserve(self, size_t room)
    cdef void finish(self, list units)
