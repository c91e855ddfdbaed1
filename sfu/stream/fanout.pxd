"""One packet to everybody who listens."""

from libc.stdint cimport int64_t

from mediaserver.sfu.stream.buffers cimport Packet
from mediaserver.sfu.stream.state cimport Encoding, EngineState, Track

# The packet waits for the end of the batch, so that each leg gets a run of packets at once.
cdef void fanout_add(EngineState* engine, Track* track, Packet* packet) noexcept nogil
# Sends what waits of one track. Call before the track turns to another source.
cdef void fanout_flush_track(EngineState* engine, Track* track) noexcept nogil
# The packet comes too late for those who watch: to the recorders alone.
cdef void fanout_late(EngineState* engine, Track* track, Packet* packet) noexcept nogil
# Recorders are told what the encoding's source is still asked for. Call when that has changed.
cdef void tell_taps(Encoding* encoding) noexcept nogil
# A recorder gets this encoding.
cdef int is_tapped(const Encoding* encoding) noexcept nogil
# The highest encoding that is alive, the lowest when none is.
cdef Encoding* best_encoding(Track* track, int64_t now) noexcept nogil
# Taps turn to the best encoding. Call now and then.
cdef void fanout_tend(EngineState* engine, Track* track) noexcept nogil
# Whether it pays to wait a moment before what waits is sent: of a picture that many watch a part has come, and in earlier
# waits more did. Ask again after the wait.
cdef int fanout_gathers(EngineState* engine) noexcept nogil
# Sends what waits, of all tracks.
cdef void fanout_flush(EngineState* engine) noexcept nogil
