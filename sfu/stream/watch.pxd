"""Watching what comes: each track's freshness, told to the control plane when it changes."""

from libc.stdint cimport uint32_t

from mediaserver.sfu.stream.buffers cimport Packet
from mediaserver.sfu.stream.inbound cimport Inbound
from mediaserver.sfu.stream.state cimport EngineState, Track

# A packet with payload has been handed on. `clock_rate` is in Hz.
cdef void watch_packet(EngineState* engine, Track* track, Inbound* source, const Packet* packet,
                       uint32_t clock_rate) noexcept nogil
# Looks for tracks from which nothing new has come; sets when it has to be called again.
cdef void watch_round(EngineState* engine) noexcept nogil
# The track was muted, or is heard again: whoever mutes does not freeze.
cdef void watch_muted(EngineState* engine, Track* track) noexcept nogil
