"""Commands of the control plane, carried out between two batches."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from mediaserver.sfu.stream.relay cimport Relay
from mediaserver.sfu.stream.state cimport EngineState

cpdef enum CommandKind:
    COMMAND_ADD_PEER = 1
    COMMAND_RESTART_PEER = 2
    COMMAND_SET_REMOTE = 3
    COMMAND_SET_KEYS = 4
    COMMAND_SEND_DTLS = 5
    COMMAND_REMOVE_PEER = 6
    COMMAND_ADD_TRACK = 7
    COMMAND_UPDATE_TRACK = 8
    COMMAND_MUTE_TRACK = 9
    COMMAND_REMOVE_TRACK = 10
    COMMAND_ADD_LEG = 11
    COMMAND_UPDATE_LEG = 12
    COMMAND_PAUSE_LEG = 13
    COMMAND_REMOVE_LEG = 14
    COMMAND_KEYFRAME = 15
    COMMAND_ADD_TAP = 16
    COMMAND_REMOVE_TAP = 17
    COMMAND_ADD_MIRROR = 18
    COMMAND_LINK = 19

# `data` and `more` depend on the kind: credentials, keys, a datagram, a TrackConfig or LegConfig (copied); a stats
# block or a TapQueue (kept until REMOVED is reported). `block` was allocated by the sender, and whoever carries the
# command out frees it with command_free.
cdef struct Command:
    int kind
    uint32_t id
    uint32_t peer            # ADD_TRACK, ADD_LEG
    uint32_t track           # ADD_LEG, ADD_TAP; ADD_MIRROR: its id at home
    Relay* relay             # ADD_MIRROR, LINK
    int64_t value            # a flag (ADD_TAP: from now on), or a protection profile; LINK: 1 on the far worker
    uint64_t random          # ADD_LEG: the first sequence numbers; ADD_PEER: the SSRC of feedback
    uint32_t size            # of data
    void* keep
    uint8_t data[0]

# Credentials: sizes and texts. Keys: sizes, then key and salt of the incoming and of the outgoing direction.
cdef struct Credentials:
    uint8_t ufrag_size
    uint8_t pwd_size
    uint8_t ufrag[64]
    uint8_t pwd[64]

# Behind them in the command stand the datagrams of the last flight, each after its size in 16 bits.
cdef struct Keys:
    uint8_t key_size
    uint8_t salt_size
    uint8_t rx_key[32]
    uint8_t rx_salt[16]
    uint8_t tx_key[32]
    uint8_t tx_salt[16]

cdef void carry_out(EngineState* engine, const Command* command) noexcept nogil
# Frees everything that the engine holds, without reports.
cdef void remove_everything(EngineState* engine) noexcept nogil
# Takes packets back from taps; removes those that are at their end.
cdef void serve_taps(EngineState* engine) noexcept nogil
