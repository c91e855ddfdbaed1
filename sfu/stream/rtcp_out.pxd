"""RTCP on its way out."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from mediaserver.sfu.stream.state cimport EngineState, Peer

# Plain RTCP to a peer, protected on the way.
cdef void send_rtcp(EngineState* engine, Peer* peer, const uint8_t* data, size_t size) noexcept nogil
