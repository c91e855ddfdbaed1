"""A publisher's packet: opened, accounted for, and handed to the fan-out."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from mediaserver.sfu.stream.state cimport EngineState, Peer

# A protected RTP datagram; it is left as it came.
cdef void ingest(EngineState* engine, Peer* peer, const uint8_t* data, size_t size) noexcept nogil
