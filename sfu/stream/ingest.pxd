"""A publisher's packet: opened, accounted for, and handed to the fan-out."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from mediaserver.sfu.stream.buffers cimport Packet
from mediaserver.sfu.stream.state cimport Encoding, EngineState, Peer

# What it takes to forward the packet is counted in, for whoever shares out a line.
cdef void note_rate(EngineState* engine, Encoding* encoding, const Packet* packet) noexcept nogil
# A protected RTP datagram; it is left as it came.
cdef void ingest(EngineState* engine, Peer* peer, const uint8_t* data, size_t size) noexcept nogil
