"""A viewer's line is shared out among its legs."""

from mediaserver.sfu.stream.state cimport EngineState, Leg, Peer

# Decides anew which layers the peer's legs get, when there is a reason to: its estimate has moved, or time has passed.
cdef void share_line(EngineState* engine, Peer* peer) noexcept nogil
# The peer's legs, their wishes or their pauses are others now: to be decided at the next opportunity.
cdef void share_again(EngineState* engine, Peer* peer) noexcept nogil
