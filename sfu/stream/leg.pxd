"""An outgoing copy of a track to one viewer."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from mediaserver.sfu.stream.buffers cimport Packet
from mediaserver.sfu.stream.state cimport EngineState, Leg, LegConfig

# Lays out what does not change from packet to packet. Call after each change of the configuration.
cdef void leg_configure(Leg* leg, const LegConfig* config) noexcept nogil
# Forwards one packet: header, encryption, outbox.
cdef void leg_forward(EngineState* engine, Leg* leg, Packet* packet) noexcept nogil
# The viewer misses that packet: sends it again from the history, as RTX (RFC 4588) or the identical bytes.
cdef void leg_retransmit(EngineState* engine, Leg* leg, uint16_t sequence) noexcept nogil
# A packet that carries nothing new, to fill the line: bytes sent, 0 where the viewer takes none.
cdef int leg_pad(EngineState* engine, Leg* leg) noexcept nogil
# The source has changed, or packets were left out: go on without a gap, at a picture that can be decoded.
cdef void leg_restart(EngineState* engine, Leg* leg, int new_source) noexcept nogil
# Writes a sender report with its CNAME in the publisher's clock (RFC 3550, section 6.4.1): bytes, 0 when there is
# nothing to say yet.
cdef int leg_sender_report(Leg* leg, uint8_t* out, uint32_t capacity, int64_t now) noexcept nogil
