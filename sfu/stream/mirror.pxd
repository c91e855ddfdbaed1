"""The copy of a track on a worker that is not its publisher's."""

from libc.stdint cimport uint32_t, uint64_t

from mediaserver.sfu.stream.relay cimport Relay
from mediaserver.sfu.stream.state cimport Encoding, EngineState, Leg, Mirror, Track

# Makes the copy of a track (its configuration is in place) and asks its home for it. 0, or -1 without memory.
cdef int mirror_open(EngineState* engine, Track* track, Relay* relay, uint32_t home) noexcept nogil
# The track goes: the home sends no more of it.
cdef void mirror_close(EngineState* engine, Track* track) noexcept nogil
# A viewer here needs a key picture.
cdef void mirror_wants(EngineState* engine, Encoding* encoding) noexcept nogil
# A viewer here lacks a packet that did not come.
cdef void mirror_lacks(EngineState* engine, Leg* leg, uint64_t sequence) noexcept nogil
# What is to be repeated or told. Call now and then.
cdef void mirrors_tend(EngineState* engine) noexcept nogil
# Takes packets from other workers, up to a batch. 1 when more may wait.
cdef int mirrors_take(EngineState* engine) noexcept nogil
# Something of other workers waits to be taken.
cdef int mirrors_wait(EngineState* engine) noexcept nogil
