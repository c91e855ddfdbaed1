"""What a recorder must not have: media of before its tap was opened, however late it comes."""

from mediaserver.sfu.stream.buffers cimport Packet
from mediaserver.sfu.stream.state cimport Encoding, EngineState, Tap

# The tap was opened at `tap.opened`: what the encoding's source had sent by then stays out: for sure if it is
# `from_now`, else by its number alone. Call when the tap is opened, and when the encoding has turned to another source.
cdef void floor_set(Tap* tap, const Encoding* encoding) noexcept nogil
# A tap that was just opened, with its floors set, needs a key picture: asks for one, or has it asked for when it may come in.
cdef void floor_begin(EngineState* engine, Tap* tap) noexcept nogil
# Call every now and then.
cdef void floor_tend(EngineState* engine, Tap* tap) noexcept nogil
# Whether the tap may have the packet, of whatever encoding it is. A key picture that it may not have is asked for again.
cdef int floor_admits(EngineState* engine, Tap* tap, const Packet* packet) noexcept nogil
