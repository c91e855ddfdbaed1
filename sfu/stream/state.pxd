"""The data plane's objects: what the engine, the fan-out and the legs share. All belong to one worker's thread."""

from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.codecs.dependency cimport DependencyState
from mediaserver.sfu.policy.allocator cimport AllocTrack
from mediaserver.sfu.policy.bwe.estimator cimport Estimator
from mediaserver.sfu.policy.freshness cimport FreshnessRule
from mediaserver.sfu.policy.layers cimport LayerGate
from mediaserver.sfu.policy.repair cimport RepairShare, RepairState
from mediaserver.sfu.policy.untouched cimport SoundWatch
from mediaserver.sfu.policy.voice cimport Voice
from mediaserver.sfu.policy.round_trip cimport RoundTrip, Shortest
from mediaserver.sfu.stream.buffers cimport Packet, PacketPool
from mediaserver.sfu.stream.history cimport History
from mediaserver.sfu.stream.inbound cimport Inbound
from mediaserver.sfu.stream.meter cimport Meter
from mediaserver.sfu.stream.outbox cimport Addr, Outbox
from mediaserver.sfu.stream.relay cimport Relay, Relayed
from mediaserver.sfu.stream.renumber cimport Renumber
from mediaserver.sfu.stream.ring cimport Ring
from mediaserver.sfu.stream.spread cimport Spread
from mediaserver.sfu.stream.table cimport Table
from mediaserver.sfu.stream.transport cimport ArrivalLog
from mediaserver.sfu.wire.packet cimport EXT_COUNT, ExtMap
from mediaserver.sfu.wire.srtp cimport SrtpContext

cdef enum:
    NAME_MAX = 64            # bytes of a username fragment or CNAME, and of a password
    MID_MAX = 32             # bytes of a mid
    PAYLOADS_MAX = 24        # payload types of one track
    SSRCS_MAX = 8            # that an SDP may name for one track
    INBOUNDS_MAX = 48        # SSRCs of one peer
    KNOWN_MAX = 6            # checked addresses of one peer
    QUESTIONS_MAX = 16       # checks of ours that may be answered
    PENDING_MAX = 128        # packets of one track within one batch
    VIDEO_HISTORY = 1024
    AUDIO_HISTORY = 256
    FIXED_EXT_MAX = 64       # a mid, a playout delay and a stamp in the two-byte form
    ALIVE_US = 1000000       # an encoding that was silent for longer is off
    ENCODINGS_MAX = 3        # simulcast encodings of one track
    RELAYED_MAX = 64         # stamps of packets from other workers within one turn
    RID_MAX = 16             # bytes (RFC 8852: 1 to 255, but nobody needs long ones)

cdef enum:
    LANE_SOUND = 0
    LANE_REPAIR = 1
    LANE_PICTURES = 2        # and those after it, by rank
    LANE_PARKED = 6          # pictures that the line may carry in a moment
    LANES = 7

cdef struct Peer
cdef struct Track
cdef struct Encoding
cdef struct Leg
cdef struct Tap
cdef struct Mirror
cdef struct Outlet

# What the control plane has agreed for a track; see params.TrackParams.
cdef struct PayloadConfig:
    uint8_t payload_type
    uint8_t codec
    uint8_t rtx_type
    uint8_t nack
    uint8_t pli
    uint8_t fir
    uint8_t transport_cc
    uint32_t clock_rate

cdef struct TrackConfig:
    uint8_t mid[MID_MAX]
    uint8_t mid_size
    uint8_t video
    uint8_t payload_count
    PayloadConfig payloads[PAYLOADS_MAX]
    uint8_t payload_at[128]  # payload type -> 1 + index into payloads, 0: not agreed
    uint8_t repaired_at[128] # RTX payload type -> 1 + index of what it repairs, 0: no RTX
    uint8_t ssrc_count
    uint32_t ssrcs[SSRCS_MAX]
    uint32_t rtx_ssrcs[SSRCS_MAX]
    ExtMap ext
    int64_t keyframe_interval
    FreshnessRule freshness
    uint8_t untouched        # its sound is to come as it was asked for
    uint32_t untouched_bps   # and with this bitrate at least
    uint8_t voice            # its levels tell who speaks
    uint8_t encoding_count   # 1 without simulcast
    uint8_t rids[ENCODINGS_MAX][RID_MAX]
    uint8_t rid_size[ENCODINGS_MAX]

# See params.LegPolicy.
cdef struct LegWorth:
    uint8_t rank
    uint8_t frames_first
    uint16_t floor_frames
    uint16_t least_height
    uint16_t desired_height
    uint16_t max_height
    uint32_t floor_bps

# How a payload type of the publisher leaves.
cdef struct PayloadOut:
    uint8_t incoming         # the publisher's
    uint8_t outgoing         # the viewer's; 255: not agreed
    uint8_t rtx_type         # the viewer's RTX, 0: none
    uint8_t nack
    uint8_t unwraps          # RED (RFC 2198) that the viewer takes as the plain Opus inside

# What each packet needs stands first, in the order in which it is needed.
cdef struct LegConfig:
    uint32_t ssrc
    uint32_t passed          # bits of the kinds that are copied from the publisher's packets
    uint8_t paused
    uint8_t stamp            # kind of the extension that tells of the departure of each packet, 0: none
    uint8_t named            # feedback speaks of its numbers (RFC 8888)
    uint8_t stamp_at         # where its value stands in fixed_ext
    uint8_t fixed_ext_size
    uint8_t mid_size
    uint8_t has_playout_delay
    PayloadOut recent        # of the payload type that came last; its `incoming` is 255 before the first
    uint8_t ext_ids[EXT_COUNT]       # by kind
    uint8_t mid[MID_MAX]
    uint8_t fixed_ext[FIXED_EXT_MAX]   # the block for packets that bring none of these
    uint8_t playout_delay[3]
    uint32_t rtx_ssrc
    LegWorth worth
    uint8_t payload_count
    PayloadOut payloads[PAYLOADS_MAX + 1]    # from 1 on; 0: of whatever is not agreed
    uint8_t cname[NAME_MAX]
    uint8_t cname_size

cdef inline const PayloadOut* leaves_as(const LegConfig* config, uint8_t payload_type) noexcept nogil:
    cdef int i
    if payload_type == config.recent.incoming:
        return &config.recent
    for i in range(config.payload_count, 0, -1):
        if config.payloads[i].incoming == payload_type:
            return &config.payloads[i]
    return &config.payloads[0]

# Counted by the worker, read by the control plane at any time: each field is one aligned word.
cdef struct TrackStats:
    uint64_t packets
    uint64_t bytes
    uint64_t lost
    uint64_t recovered
    uint64_t given_up
    uint64_t jitter
    uint64_t keyframes
    uint64_t plis
    uint64_t nacks
    uint64_t last_arrival
    uint64_t captures        # packets that told when their picture or sound was captured
    uint64_t capture_us      # from the capture to here, all of them together
    uint64_t capture_last_us
    uint64_t capture_max_us
    Spread captured          # the same as they spread
    Spread served            # from the kernel's receive stamp to the return of the send of what left at once
    uint64_t width
    uint64_t height

cdef struct LegStats:
    uint64_t packets
    uint64_t bytes
    uint64_t retransmitted
    uint64_t nacked
    uint64_t plis
    uint64_t fraction_lost
    uint64_t rtt
    uint64_t frames          # a second, of the layers that it is given; these 0 where it gets nothing or they are not known
    uint64_t width
    uint64_t height
    Spread* paced            # of packets that did not leave at once: how long they waited for their turn; NULL: all did

cdef struct PeerStats:
    uint64_t estimate_bps
    uint64_t allocated_bps
    uint64_t backlog_us
    uint64_t rtt_us
    uint64_t lost_permille
    uint64_t padding_bytes
    uint64_t repair_bytes

cdef struct Counters:
    uint64_t datagrams_in
    uint64_t bytes_in
    uint64_t datagrams_out
    uint64_t messages_out            # that took them to the kernel: each a run of datagrams to one address
    uint64_t bytes_out
    uint64_t rtp_in
    uint64_t rtp_out
    uint64_t rtcp_in
    uint64_t rtcp_out
    uint64_t stun_in
    uint64_t dtls_in
    uint64_t drop_unknown_address
    uint64_t drop_unknown_ssrc
    uint64_t drop_unknown_payload
    uint64_t drop_malformed
    uint64_t drop_stun
    uint64_t drop_srtp_auth
    uint64_t drop_srtp_replay
    uint64_t drop_no_keys
    uint64_t drop_memory
    uint64_t drop_muted
    uint64_t drop_oversize
    uint64_t drop_pace
    uint64_t drop_dtls
    uint64_t drop_send
    uint64_t drop_tcp_backlog        # for a connection that did not take it
    uint64_t peers_asked             # checks sent to where a peer seems to have moved
    uint64_t tcp_connections
    uint64_t tcp_accepted
    uint64_t tcp_refused             # for want of room
    uint64_t nacks_in
    uint64_t nacks_out
    uint64_t plis_in
    uint64_t plis_out
    uint64_t retransmitted
    uint64_t retransmit_missed
    uint64_t repair_recent           # asked for again, and not sent: see policy.repair
    uint64_t repair_spent
    uint64_t repair_old
    uint64_t repair_often
    uint64_t repair_unheeded
    uint64_t repair_given_up         # times that a leg began again for want of repair
    uint64_t recovered
    uint64_t recovered_red
    uint64_t recovered_late          # too late for viewers, in time for a recorder
    uint64_t given_up
    uint64_t caught_up               # legs that began from what was kept
    uint64_t caught_up_packets
    uint64_t caught_up_bytes         # of payload
    uint64_t relayed                 # packets given to other workers
    uint64_t relay_dropped           # that did not fit into their rings
    uint64_t relay_taken             # packets from other workers
    uint64_t relay_again             # of these, those that had not fitted at first
    uint64_t tap_dropped
    uint64_t events_dropped
    uint64_t pool_bytes
    uint64_t packets_held

# A packet in a lane; with `repair` the viewer has asked for it by this number.
cdef struct Waiting:
    Waiting* next
    Leg* leg
    Packet* packet
    int64_t since            # µs
    uint8_t repair
    uint16_t sequence

# The way to one viewer. Bits are counted in millionths, so that a rate times µs is a credit.
cdef struct Sender:
    # What feedback touches, and only that.
    int64_t allocate_due     # µs
    uint64_t allocated_for   # estimate of the last allocation
    Waiting* first[LANES]
    # What each packet touches, up to what the estimator has of that.
    uint8_t numbered         # of a leg's packets it is told when they came: the estimate is founded. See numbering
    uint8_t named            # by their own numbers (RFC 8888), perhaps
    uint8_t capped           # the viewer has said that it is sent more than it can take (REMB): that bounds it
    uint8_t lean             # copies of sound are left out
    uint8_t stalled          # nothing is heard from the viewer: no picture leaves
    uint32_t waiting_count
    uint32_t waiting_bytes
    int64_t heard_at         # µs of the last feedback, 0: none yet
    int64_t first_sent       # µs, with a number
    int64_t credit
    int64_t credit_at        # µs
    int64_t process_due      # µs
    Estimator estimator
    uint64_t allocated_bps
    Waiting* last[LANES]
    int64_t capped_until     # µs, when more is tried, or what is tried is judged; 0: never
    int64_t capped_hold      # for how long the last complaint bound it
    int64_t tried_at         # since when more is tried than the viewer says,
    uint64_t tried_bps       # what was sent before,
    double tried_remb        # and what it said then
    int64_t lenient_until    # µs: what is lowered before may be raised again at once
    int64_t lean_since       # µs of the last change
    uint8_t agreed           # transport-wide numbers are, with a leg
    int64_t numbers_until    # µs: as long at least packets bear them
    Shortest way             # round trip by receiver reports, by spans of a minute

# What each packet to it needs is its first line, what each from it needs the next.
cdef struct Peer:
    Addr addr
    SrtpContext* tx
    Sender* sender                   # the way to it as a viewer, NULL: it is none
    SrtpContext* rx
    PeerStats* stats
    Track* tracks
    ArrivalLog* arrivals             # NULL until the first transport-wide number
    Leg** legs
    uint32_t leg_count
    uint32_t leg_room
    int64_t last_heard               # µs, of anything but checks
    int64_t hot_due                  # µs of the next feedback or NACK
    uint32_t hot_at                  # 1 + its place in the engine's heap, 0: nothing is due later
    Peer* awake_next
    uint8_t awake                    # something is due now: it stands in the engine's list of these
    uint32_t report_ssrc             # under which it sends RTCP
    uint32_t id
    uint8_t connected
    uint8_t nominated
    uint8_t silent                   # told as such already
    uint8_t moved                    # to be told at the next round
    uint8_t known_count
    uint8_t inbound_count
    uint8_t inbound_last             # where the last packet's SSRC was found
    uint8_t clock_known              # clock_offset is set
    Addr known[KNOWN_MAX]
    int64_t heard[KNOWN_MAX]         # µs of the last valid check from there
    int64_t last_check
    int64_t report_due
    RoundTrip round_trip             # until this peer has answered
    RepairShare repairs              # what it may have again as a viewer
    uint32_t feedback_ssrc
    Inbound* inbounds[INBOUNDS_MAX]
    Encoding* inbound_encodings[INBOUNDS_MAX]    # whose they are, NULL: nobody's
    uint64_t clock_offset            # NTP 32.32, modulo 2^64: from the peer's clock to the engine's
    int64_t way                      # µs that its packets take here at the least, by the round trip; 0: not known
    int64_t asked                    # µs of our last check
    int64_t handshake_credit         # DTLS datagrams that it may have now, in millionths
    int64_t handshake_credit_at      # µs
    uint32_t* used_ssrcs             # every SSRC that ever left under these keys: none may start again
    uint32_t used_count
    uint32_t used_room
    uint8_t ufrag[NAME_MAX]
    uint8_t ufrag_size
    uint8_t pwd[NAME_MAX]
    uint8_t pwd_size
    uint8_t remote_ufrag[NAME_MAX]   # the peer's own; size 0: not known
    uint8_t remote_ufrag_size
    uint8_t remote_pwd[NAME_MAX]
    uint8_t remote_pwd_size
    uint8_t old_ufrag[NAME_MAX]      # before an ICE restart; size 0: none
    uint8_t old_ufrag_size
    uint8_t old_pwd[NAME_MAX]
    uint8_t old_pwd_size

# Of one encoding: what of it a tap does not get. See floor.
cdef struct TapFloor:
    uint64_t first                   # what stands before this number in its source
    uint32_t timestamp               # what was due when the tap was opened, by that clock
    uint32_t clock_rate              # 0: the number decides alone

cdef struct Tap:
    uint32_t id
    Tap* next
    Track* track
    uint8_t encoding                 # that it gets now
    TapFloor floors[ENCODINGS_MAX]
    int64_t opened                   # µs
    uint8_t from_now                 # nothing of before it was opened may come in, whatever its number
    int64_t key_due                  # when a key picture is asked for at the latest, as it could not come in before; 0: it was
    void* ring                       # TapQueue*

# One simulcast encoding of a track; the only one where there is no simulcast.
cdef struct Encoding:
    Track* track
    uint8_t index                    # 0: the lowest
    uint8_t inband_config            # pictures' sizes come with the packets: a key picture starts there
    uint8_t want_keyframe
    uint8_t fir_command
    uint16_t generation              # of its sources: one more with each change
    uint64_t catch_up_from   # the key picture (its number) at which viewers have begun that came later,
    uint64_t catch_up_spent  # and the bytes that they got besides it
    int64_t keyframe_asked           # µs of the last request to the publisher
    Inbound* active                  # the source that is forwarded now
    Inbound* repair
    History history
    Meter meter
    DependencyState* dependency      # NULL: it has borne no dependency descriptor
    uint32_t width                   # of its last key picture, 0: not known
    uint32_t height

cdef struct Track:
    uint32_t id
    Peer* peer
    Track* next
    TrackConfig config
    TrackStats* stats
    uint8_t muted
    uint8_t live
    Encoding encodings[ENCODINGS_MAX]
    Leg** legs
    uint32_t leg_count
    uint32_t leg_room
    Tap* taps
    Packet* pending[PENDING_MAX]
    uint32_t pending_count
    uint32_t gathered                # packets that were there when the batch waited for more, 0: it has not
    uint32_t alone                   # times in a row that nothing came in such a wait
    Track* pending_next
    uint8_t pending_listed
    uint32_t width                   # as told
    uint32_t height
    int64_t picture_told             # µs
    int64_t bye_told                 # µs
    int freshness                    # FreshState, as told
    uint8_t wanted_of                # encodings, when `wanted` was told; 0: never
    uint8_t wanted                   # bits of the encodings that are wanted, as told
    int64_t needed_at[ENCODINGS_MAX] # µs, last
    SoundWatch sound
    Voice voice
    Mirror* mirror                   # its publisher is on another worker; NULL: on this one
    Outlet* outlets                  # to its copies on other workers

# The copy of a track whose publisher is on another worker. It stands in for a publisher, one that cannot be asked.
cdef struct Mirror:
    Mirror* next
    Relay* relay
    Track* track
    Peer* peer                       # nobody's, with the publisher's clock
    uint32_t home                    # the track's id there
    uint8_t started                  # what the home had kept is here
    uint8_t asked                    # bits of encodings of which the home has been told that a key picture is wanted
    uint8_t needed                   # bits of encodings, as told
    int64_t asked_at                 # µs
    int64_t came                     # µs of the last turn that took something,
    uint64_t came_from[ENCODINGS_MAX]    # and the first number that it took
    uint16_t generation[ENCODINGS_MAX]
    Inbound* sources[ENCODINGS_MAX]  # what is known of the publisher's
    uint64_t again[16]               # numbers that were asked for last
    uint8_t again_at

# From a track to one of its copies.
cdef struct Outlet:
    Outlet* next
    Relay* relay
    uint32_t home                    # id here
    uint32_t mirror                  # and there
    uint8_t needed                   # bits of encodings that somebody there has a use for
    uint8_t holed                    # bits of encodings of which something did not fit
    uint8_t has_source[ENCODINGS_MAX]
    uint16_t generation[ENCODINGS_MAX]       # as told
    uint32_t dependency[ENCODINGS_MAX]       # version, as told
    uint64_t keyframe[ENCODINGS_MAX]         # number of the last key picture that was given

# A group of pictures that a leg got from the history; see catchup.
cdef struct CatchUp:
    uint64_t until           # packets of the encoding before this number leave with a time that is drawn together; 0: none
    uint32_t anchor          # the timestamp towards which
    uint8_t shift            # 1 << shift ticks become one
    uint8_t encoding
    int64_t since            # µs

# What each packet needs stands first.
cdef struct Leg:
    Peer* peer
    Track* track
    Encoding* source                 # that is forwarded now
    LegStats* stats
    LayerGate* gate                  # of a picture
    uint64_t packets
    uint64_t octets                  # of payload, for sender reports
    uint32_t clock_rate
    uint8_t held                     # the line does not carry it
    uint8_t lean                     # sound without its copies (RED); never with RTX, which names what it repairs
    uint8_t await_keyframe
    uint8_t live
    CatchUp catch_up
    Renumber renumber
    LegConfig config
    uint32_t id
    uint8_t parked                   # until probes have answered: what comes waits, and leaves with what others leave over
    uint8_t wanting                  # it begins again: a key picture is to be asked for
    uint8_t pad_turn
    int8_t given                     # the encoding or layer of that share, -1: none is known
    AllocTrack share                 # what it was given of the line, without its layers
    uint64_t quality_told            # value of the last REPORT_LEG_QUALITY
    int64_t added                    # µs
    uint64_t floor_out               # numbers before it left under another configuration
    uint64_t repair_sequence         # of the RTX stream, extended
    int64_t report_due
    uint32_t report_mid              # middle bits of the last sender report's NTP time
    int64_t report_sent
    RepairState* repairs             # of what it gets again; NULL until it asks for something
    int64_t gave_up                  # µs when it was last left to a key picture, 0: never

cdef struct Report:                  # an event on its way to the control plane
    int kind
    uint32_t id
    uint64_t value
    int64_t time
    uint32_t size
    uint8_t data[0]

cdef struct Question:                # a check that we have sent
    uint32_t peer                    # 0: answered
    Addr addr
    uint8_t txid[12]
    int64_t asked                    # µs

cdef struct Due:
    int64_t at                       # µs
    Peer* peer

cdef struct EngineState:
    int64_t now
    int allocation                   # AllocMode
    uint8_t behind                   # commands wait that came before what is read now
    uint8_t adapts                   # viewers' lines are estimated, and what they do not carry is left out
    PacketPool pool
    Outbox outbox
    Counters counters
    Table by_address
    Table by_ufrag
    Table peers
    Table tracks
    Table legs
    Table taps
    uint64_t seed[2]
    Due* hot                         # a heap by time: see agenda
    uint64_t hot_count
    uint64_t hot_room                # for all peers
    Peer* awake                      # those of whom something is due now
    Track* pending
    int64_t consent_timeout          # µs
    int64_t slow_due                 # µs of the next round over all peers
    Spread* served                   # of the track whose packet came last; NULL: of none
    int64_t watch_due                # µs of the next look at what is fresh, 0: nothing is watched
    Question questions[QUESTIONS_MAX]
    uint64_t question_count
    int64_t catch_up_credit          # bytes that may be taken from the histories now, in millionths
    int64_t catch_up_credit_at       # µs
    int64_t stranger_credit          # packets from unknown addresses that may be looked at, in millionths
    int64_t stranger_credit_at       # µs
    Relay* outgoing                  # to other workers
    Relay* incoming                  # from them
    Mirror* mirrors
    Relayed relayed[RELAYED_MAX]     # in this turn
    int relayed_count
    int64_t stamped                  # µs of the kernel's receive stamp of the datagram in hand, 0: none
    Ring* reports
    Report** overflow                # reports that found the ring full, oldest first
    uint32_t overflow_count
    uint32_t overflow_room
    uint8_t scratch[2048]
