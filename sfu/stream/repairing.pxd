"""What leaves to a viewer besides the media themselves: what it has missed, and padding where a probe asks for it."""

from libc.stdint cimport uint16_t

from mediaserver.sfu.stream.state cimport EngineState, Leg

# The viewer says that it lacks this packet: it is sent again, now or when the pacer lets it, if the policy agrees.
cdef void leg_asked(EngineState* engine, Leg* leg, uint16_t sequence) noexcept nogil
# Its turn has come: it leaves from the history, as RTX (RFC 4588) or as the identical bytes.
cdef void leg_retransmit(EngineState* engine, Leg* leg, uint16_t sequence) noexcept nogil
# A packet that carries nothing new, to fill the line: bytes sent, 0 where the viewer takes none.
cdef int leg_pad(EngineState* engine, Leg* leg) noexcept nogil
