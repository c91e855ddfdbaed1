"""Which simulcast encodings of a track somebody has a use for: the publisher need not make the others."""

from libc.stdint cimport uint32_t, uint64_t

from mediaserver.sfu.stream.state cimport EngineState, Peer, Track

# Looks again, and tells the control plane when it has changed: what is needed at once, what is not after a while.
cdef void tend_wanted(EngineState* engine, Track* track) noexcept nogil
# Bits of the encodings that somebody has a use for.
cdef uint32_t needed_of(const EngineState* engine, const Track* track) noexcept nogil
# Bits a second that the peer's legs would take more, if encodings came that are off now.
cdef uint64_t unsent_bps(const EngineState* engine, const Peer* peer) noexcept nogil
