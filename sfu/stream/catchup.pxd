"""A viewer that needs a key picture gets the last one and what followed it from the history, and then goes on live.

Nobody else notices: the publisher makes no key picture, and no other viewer pays for one. What is sent so leaves in
the order in which it came and as fast as the line allows, with continuous numbers. Its timestamps are drawn together
towards the newest picture's, so that a decoder shows it at once and has arrived at the present at its end.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t

from mediaserver.sfu.stream.buffers cimport Packet
from mediaserver.sfu.stream.state cimport EngineState, Leg

# The leg waits for a key picture: serves it from the history where that is cheaper, else asks the publisher for one.
cdef void leg_begin(EngineState* engine, Leg* leg) noexcept nogil
# The viewer has asked for a key picture: the same.
cdef void leg_begin_again(EngineState* engine, Leg* leg) noexcept nogil
# A key picture has come: what the leg still waits to send from before it is of no use any more.
cdef void catch_up_overtaken(EngineState* engine, Leg* leg, const Packet* packet) noexcept nogil

cdef inline int is_catch_up(const Leg* leg, const Packet* packet) noexcept nogil:
    return packet.sequence < leg.catch_up.until and packet.encoding == leg.catch_up.encoding

# When it came (µs), to this leg.
cdef inline int64_t came_at(const Leg* leg, const Packet* packet) noexcept nogil:
    return leg.catch_up.since if is_catch_up(leg, packet) else packet.arrival

# The packet's timestamp on the publisher's scale, as it leaves to this viewer: the same for a packet each time.
cdef inline uint32_t timestamp_on(const Leg* leg, const Packet* packet) noexcept nogil:
    if is_catch_up(leg, packet) and <int32_t>(leg.catch_up.anchor - packet.timestamp) > 0:
        return leg.catch_up.anchor - ((leg.catch_up.anchor - packet.timestamp) >> leg.catch_up.shift)
    return packet.timestamp
