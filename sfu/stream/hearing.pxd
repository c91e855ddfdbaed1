"""Listening to what comes: whether a clinical sound is as it was asked for, and who speaks."""

from mediaserver.sfu.stream.buffers cimport Packet
from mediaserver.sfu.stream.state cimport EngineState, Track

# A packet with payload has come on a track whose sound is watched, or whose levels tell who speaks.
cdef void hear_packet(EngineState* engine, Track* track, const Packet* packet) noexcept nogil
