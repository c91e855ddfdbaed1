"""What waits for its turn on the way to one viewer: its line, and the pace at which that is filled."""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from mediaserver.sfu.stream.buffers cimport Packet
from mediaserver.sfu.stream.state cimport EngineState, Leg, Peer, Sender

cdef enum:
    DEAF_US = 2000000        # a viewer that has agreed to tell what arrives, and has said nothing for so long, won't
    CAPPED_US = 10000000     # after a complaint by REMB; then more is tried in steps, for who gets little can't say more.
    CAPPED_MOST_US = 160000000   # A try that brings the next complaint doubles the wait, up to this
    TRY_US = 3000000         # until a step is judged by what the viewer says of it
    TRY_UNUSED_US = 600000   # one that let nothing more leave

# NULL without memory: then nothing is paced.
cdef Sender* sender_new(int64_t now) noexcept nogil
cdef void sender_free(EngineState* engine, Sender* sender) noexcept nogil

# The line is estimated: what leaves is paced and shared out.
# Not where that is switched off, nor for a viewer that has agreed to tell what arrives, and then says nothing.
cdef inline int sender_limits(const EngineState* engine, const Sender* sender) noexcept nogil:
    return sender != NULL and engine.adapts and (
        (sender.numbered and (sender.heard_at or sender.first_sent == 0 or engine.now - sender.first_sent < DEAF_US))
        or sender.capped
    )

# The viewer has said by REMB that its line carries so much.
cdef void note_remb(EngineState* engine, Sender* sender, uint64_t bps) noexcept nogil
# A packet of the leg's track, at once or when its turn has come.
cdef void send_media(EngineState* engine, Leg* leg, Packet* packet) noexcept nogil
# A packet from the history waits for its turn; what comes live for the same leg waits behind it.
cdef void queue_picture(EngineState* engine, Leg* leg, Packet* packet) noexcept nogil
# Whether a packet of the encoding that the leg catches up with waits, with a number before that.
cdef int waits_before(const Leg* leg, uint64_t sequence) noexcept nogil
# At which what waits leaves, bits a second.
cdef uint64_t pace_bps(const EngineState* engine, const Sender* sender) noexcept nogil
# The same as send_media for one that the viewer is to have again.
cdef void send_repair(EngineState* engine, Leg* leg, uint16_t sequence) noexcept nogil
# The estimator has been told something.
cdef void note_feedback(EngineState* engine, Peer* peer) noexcept nogil
# The viewer is by another path now: what it was not told of while nothing was heard from it leaves at once.
cdef void note_path(EngineState* engine, Peer* peer) noexcept nogil
# Has left: `size` bytes of the datagram, with this number of its own. `once`: no other is ever sent with that.
cdef void note_leaves(EngineState* engine, Leg* leg, uint32_t size, int once, uint32_t ssrc, uint16_t sequence,
                      int kind) noexcept nogil
# What comes of the leg's picture waits behind all others', or, no longer parked, by its rank again.
cdef void park(EngineState* engine, Leg* leg, int parked) noexcept nogil
# Sends what may leave by now; when there will be more to do (µs), 0 for never.
cdef int64_t serve_sender(EngineState* engine, Peer* peer) noexcept nogil
# The leg goes, or begins anew, or (`encoding` is not -1) one encoding does: what waits of it is let go.
cdef void forget_waiting(EngineState* engine, Leg* leg, int encoding) noexcept nogil
