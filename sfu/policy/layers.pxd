"""Which packets of a track's encodings and layers go to one viewer, and where that may change.

The packets of all encodings are offered in order of arrival. Nothing here knows of time or of the way that they leave.
"""

from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.codecs.dependency cimport DependencyState
from mediaserver.codecs.payload cimport PayloadFacts


cdef enum GateVerdict:
    GATE_FORWARD = 0
    GATE_DROP = 1         # of the encoding that is forwarded, left out on purpose: its number is closed up
    GATE_WAIT_KEY = 2     # of another encoding, or nothing can be decoded yet: it has no number to close up

cdef enum:
    GATE_ALL = -1
    GATE_ENCODINGS = 8
    GATE_PICTURES = 128   # that are remembered, for late packets and retransmissions


# One packet. The caller keeps what is pointed to for the length of the call.
cdef struct GateInput:
    const PayloadFacts* facts
    const DependencyState* dependency   # of the packet's encoding; NULL: it never carried a dependency descriptor
    uint64_t sequence                   # extended, counted by encoding
    uint32_t timestamp
    uint8_t marker
    uint8_t codec


# What was decided for a picture (VP8: by its picture id; with a dependency descriptor: for a frame of one layer).
cdef struct GatePicture:
    uint32_t key
    uint32_t timestamp
    uint32_t sequence       # of its first packet, the lower half
    uint32_t mask           # active decode targets to announce
    uint16_t id_out         # VP8: the picture id with which it leaves; VP9: what is added to it
    uint16_t frame_offset   # added to the descriptor's frame number
    uint8_t tl0_offset
    uint8_t key_offset
    uint8_t template_offset # added to the descriptor's template id
    uint8_t target_count    # of the descriptor's structure; 0: none
    uint8_t masked          # the mask must be told
    uint8_t attach          # so must the structure
    uint8_t target          # decode target
    int8_t encoding
    uint8_t stretch
    uint8_t verdict         # GATE_FORWARD or GATE_DROP
    uint8_t guessed         # nothing of it has come yet: its number is kept, or closed up, by the pattern of its layers
    uint8_t top             # highest spatial layer
    uint8_t temporal        # highest temporal layer


# One per leg. Zeroed by gate_init; 4 KiB.
cdef struct LayerGate:
    # of the packet that was offered last
    uint8_t switched        # it is the first of another encoding: its numbers are another source's
    uint8_t opened          # it is the first after a wait for a keyframe
    uint8_t marker          # the marker bit with which it leaves
    # at any time
    int8_t want_key_of      # the encoding of which a keyframe is needed, -1 none
    int8_t encoding         # forwarded now, or last; -1 none yet
    int8_t spatial          # the layer that is forwarded now: encoding or SVC layer, -1 none
    int8_t temporal         # -1: none, or unknown
    uint8_t open            # a keyframe has passed: what follows can be decoded

    uint8_t encodings       # that were agreed for the track
    uint8_t seen            # a bit for each encoding that comes
    uint8_t plain           # everything passes as it is
    int8_t goal_spatial
    int8_t goal_temporal
    uint8_t stretch         # counts what follows one keyframe without a cut
    uint64_t opened_at      # sequence
    uint64_t highest        # sequence
    uint64_t plain_until    # sequence up to which everything passed as it was
    int8_t plain_encoding
    uint32_t plain_key      # of the newest picture that passed as it was
    uint32_t plain_timestamp
    uint8_t plain_ids       # its key is the picture id
    # layers
    uint8_t top             # highest spatial layer that is forwarded
    uint8_t reach           # highest temporal layer that is forwarded
    uint8_t layer_count     # spatial layers that are known of; 0 none
    uint8_t temporal_count
    uint8_t up_ready        # whether all of the newest picture says that higher temporal layers may follow
    int8_t tids[8]          # VP8: the temporal layer of the latest picture with these lowest bits of its id
    # decode targets (dependency descriptor)
    uint8_t target
    uint8_t goal_target
    uint8_t target_count    # 0: no structure yet
    uint8_t template_count
    uint8_t template_first  # id of the first template as it leaves
    uint8_t masked          # a smaller mask was told
    uint32_t allowed        # targets within the goal
    uint32_t version        # of the DependencyState that these are from
    uint64_t window         # bit i: the frame numbered `window_head` - i was forwarded
    uint16_t window_head
    uint32_t unit           # timestamp of the newest picture
    # continuity
    uint8_t numbered        # bits of what has been sent: 1 picture id, 2 tl0, 4 key index, 8 frame number
    uint16_t id_in          # VP8: newest picture id, and with what it left
    uint16_t id_out         # newest that was sent
    uint16_t id_offset      # VP9
    uint8_t tl0_out
    uint8_t key_out
    uint16_t frame_out
    uint8_t tl0_offset
    uint8_t key_offset
    uint16_t frame_offset
    uint8_t template_offset
    uint32_t newest
    uint32_t count
    uint32_t room
    GatePicture* pictures   # a ring of `room`, the newest at `newest`; NULL until one is remembered
    GatePicture only        # all there is without memory


# After it: gate_close. A gate that was zeroed has nothing to free.
cdef void gate_close(LayerGate* gate) noexcept nogil
cdef void gate_init(LayerGate* gate, int encodings) noexcept nogil
# What is wanted: `spatial` is an encoding where the track has several, else an SVC layer. -1: all there is.
cdef void gate_target(LayerGate* gate, int spatial, int temporal) noexcept nogil
# That encoding no longer comes (until a packet of it does): the nearest other one is taken at its next keyframe.
cdef void gate_gone(LayerGate* gate, int encoding) noexcept nogil
# What lies between is left out, up to a keyframe (pause, mute); or, with `new_source`, the publisher began anew there
# and its numbers have nothing to do with those before.
cdef void gate_restart(LayerGate* gate, int encoding, bint new_source) noexcept nogil
# For each packet that comes for the first time.
cdef GateVerdict gate_decide(LayerGate* gate, int encoding, const GateInput* packet) noexcept nogil

# The dependency descriptor is known of, and says all that is needed.
cdef inline bint is_described(const GateInput* packet) noexcept nogil:
    return packet.dependency != NULL and packet.facts.described != 0
