"""What a viewer's decoder reads besides the media: picture ids and dependency descriptors, without a seam at a switch.

All of it is the same for a packet each time, so for retransmissions too, as long as its picture is remembered.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t

from mediaserver.sfu.policy.layers cimport GateInput, LayerGate

cdef enum:
    REWRITE_MAX = 8       # bytes that gate_rewrite writes at most

# Writes the beginning of the payload as it must leave to `out` (REWRITE_MAX bytes), in place of its first `replaced`
# bytes. The bytes written; 0: the payload leaves as it is; -1: it must not leave.
cdef int gate_rewrite(const LayerGate* gate, int encoding, const GateInput* packet, const uint8_t* payload,
                      size_t size, uint8_t* out, size_t capacity, uint16_t* replaced) noexcept nogil
# The same for the whole dependency descriptor `ext`; it may grow up to DEPENDENCY_MAX bytes.
cdef int gate_dependency(const LayerGate* gate, int encoding, const GateInput* packet, const uint8_t* ext, size_t size,
                         uint8_t* out, size_t capacity) noexcept nogil
