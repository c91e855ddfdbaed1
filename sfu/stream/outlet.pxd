"""The home's side of a track that other workers' viewers get."""

from libc.stdint cimport uint64_t

from mediaserver.sfu.stream.inbound cimport Inbound
from mediaserver.sfu.stream.relay cimport Relay
from mediaserver.sfu.stream.state cimport Encoding, EngineState, Track

# Hands the packets that wait to the other workers: before the legs here get them, so that both work at once.
cdef void outlets_give(EngineState* engine, Track* track) noexcept nogil
# The encoding's source has sent a sender report.
cdef void outlets_report(EngineState* engine, Encoding* encoding) noexcept nogil
# The track is fresh, stale or unchanging now.
cdef void outlets_freshness(Track* track) noexcept nogil
cdef void outlets_close(Track* track) noexcept nogil
# Bits of the encodings that other workers' viewers have a use for.
cdef int outlets_need(const Track* track) noexcept nogil
# What the other workers want.
cdef void outlets_serve(EngineState* engine) noexcept nogil
