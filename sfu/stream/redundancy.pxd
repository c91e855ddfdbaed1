"""Sound that comes in RED (RFC 2198): what it is without, and the packets that a later one makes up for."""

from mediaserver.codecs.red cimport RED_COPIES
from mediaserver.sfu.stream.buffers cimport Packet
from mediaserver.sfu.stream.state cimport Encoding, EngineState

# Finds the packet's own Opus inside. 0 when it is malformed, or holds something that was not agreed on.
cdef int red_open(Encoding* encoding, Packet* packet) noexcept nogil
# Makes packets of their own of the copies of what is missing, oldest first, up to RED_COPIES of them, each with one
# reference. How many. Their originals are replays from now on.
cdef int red_recover(EngineState* engine, Encoding* encoding, const Packet* packet, Packet** found) noexcept nogil
