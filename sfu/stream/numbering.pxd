"""Whether what leaves to a viewer bears transport-wide numbers."""

from libc.stdint cimport int64_t

from mediaserver.sfu.stream.state cimport EngineState, Leg, Peer

# A leg has been configured: it takes part, or its peer begins to be numbered with it.
cdef void number_leg(EngineState* engine, Leg* leg) noexcept nogil
# Begins or ends it, where that is due. Call now and then.
cdef void tend_numbers(EngineState* engine, Peer* peer) noexcept nogil
# A receiver report has come: `lost` of 256, the worst of its blocks; `round_trip` in µs, -1 where it tells of none.
cdef void note_reception(EngineState* engine, Peer* peer, int lost, int64_t round_trip) noexcept nogil
