"""Capture times (abs-capture-time): what a publisher says of when a picture came into being, for the viewers' clocks."""

from libc.stddef cimport size_t

from mediaserver.sfu.stream.buffers cimport Packet
from mediaserver.sfu.stream.state cimport EngineState, Peer, Track

# A packet has come with that extension, in a datagram of `size` bytes. The timestamp stays as it is; the clock offset
# beside it is brought to the engine's clock. `fresh`: it is no retransmission, so its time on the way counts.
cdef void note_capture(EngineState* engine, Peer* peer, Track* track, Packet* packet, size_t size, int fresh) noexcept nogil
