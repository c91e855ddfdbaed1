"""One packet to everybody who listens."""

from mediaserver.sfu.stream.buffers cimport Packet
from mediaserver.sfu.stream.state cimport EngineState, Track

# The packet waits for the end of the batch, so that each leg gets a run of packets at once.
cdef void fanout_add(EngineState* engine, Track* track, Packet* packet) noexcept nogil
# Sends what waits of one track. Call before the track turns to another source.
cdef void fanout_flush_track(EngineState* engine, Track* track) noexcept nogil
# Sends what waits, of all tracks.
cdef void fanout_flush(EngineState* engine) noexcept nogil
