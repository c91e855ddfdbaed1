"""What leaves to a viewer besides the media themselves: what it has missed, and padding where a probe asks for it."""

from libc.stdint cimport uint16_t

from mediaserver.sfu.stream.state cimport EngineState, Leg

# The viewer says that it lacks these packets: they are sent again, now or when the pacer lets them, if the policy
# agrees; where they will never come the leg begins again at a key picture.
cdef void leg_asked(EngineState* engine, Leg* leg, const uint16_t* sequences, int count) noexcept nogil
# Its turn has come: it leaves from the history, as RTX (RFC 4588) or as the identical bytes.
cdef void leg_retransmit(EngineState* engine, Leg* leg, uint16_t sequence) noexcept nogil
# A packet that carries nothing new, to fill the line: bytes sent, 0 where the viewer takes none.
cdef int leg_pad(EngineState* engine, Leg* leg) noexcept nogil
