"""What the swarm's thread keeps of its peers and streams. Times are in ns: monotonic, unless named real or ntp."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.loadtest.clip cimport ClipData
from mediaserver.loadtest.histogram cimport Histogram, Spread
from mediaserver.sfu.wire.packet cimport ExtMap
from mediaserver.sfu.wire.srtp cimport SrtpContext, SrtpReceiver

cdef enum:
    HISTORY = 1024          # packets that can be sent again, a power of two
    MISSING = 128           # packets that a receiver waits for at a time
    REQUESTS = 64           # keyframe requests whose times are kept, a power of two
    ARRIVALS = 1024         # transport-wide numbers whose arrivals are kept, a power of two
    MAX_PAIRS = 4           # of sources whose skew is watched
    MAX_MID = 16
    MAX_CNAME = 32
    MAX_DATAGRAM = 1500
    RTX_TYPE = 255          # in place of a codec

# One packet of the past, from which the same bytes can be made again.
cdef struct Sent:
    uint64_t index          # ROC << 16 | sequence
    uint64_t ntp            # its send stamp
    uint32_t packet         # of the clip
    uint32_t timestamp
    uint16_t transport      # transport-wide sequence number
    uint8_t used

# A published stream.
cdef struct OutStream:
    const ClipData* clip
    Peer* peer
    Sent* history
    uint32_t ssrc
    uint32_t rtx_ssrc
    uint8_t payload_type
    uint8_t rtx_type        # 0: what is lost is sent again as it was
    uint8_t mid_size
    uint8_t keyframe_wanted
    char mid[MAX_MID]
    uint64_t index          # of the next packet
    uint64_t rtx_index
    uint32_t first_timestamp
    uint32_t frame          # of the clip, the next one
    int64_t start           # when frame 0 was due
    int64_t due             # when the next frame is
    uint64_t frames
    uint64_t packets
    uint64_t octets
    uint64_t retransmitted
    uint64_t forgotten      # asked for again, but no longer in the history
    uint64_t keyframe_requests
    int64_t requested[REQUESTS]  # when the last of them came
    uint64_t keyframes
    uint64_t keyframe_octets
    uint64_t last_ntp       # stamp of the last packet
    int64_t* sent_at        # by frame of the clip: the real time at which it was last due
    uint8_t fraction_lost   # as last reported by the server, of 256
    int32_t reported_lost   # the same in packets, since the beginning
    uint8_t source

cdef struct MissingPacket:
    uint64_t index
    int64_t since
    int64_t asked           # 0: not yet
    uint8_t tries

# A subscribed stream.
cdef struct InStream:
    uint32_t ssrc           # 0: to be learnt from the mid or the payload type
    uint32_t rtx_ssrc
    uint32_t clock_rate
    uint8_t video
    uint8_t codec           # of the packets that came: mediaserver.codecs.payload.Codec
    uint8_t source          # index of the histograms
    uint8_t nack
    uint8_t started
    uint8_t waiting         # for a keyframe
    uint8_t direct          # no line of ours is in the way: its latency is the server's
    uint8_t taped           # its packets go on the tape
    uint8_t mid_size
    char mid[MAX_MID]
    SrtpReceiver media
    SrtpReceiver repair
    uint64_t first          # index of the first packet
    uint64_t highest
    uint64_t received       # distinct packets
    uint64_t octets         # of payload; with padding where a packet was not opened
    uint64_t repaired
    uint64_t duplicates
    uint64_t lost           # given up
    uint64_t missed         # did not come in their turn and were not just late: lost before repair
    uint64_t refused        # forged, replayed or malformed
    uint64_t stamped
    uint64_t last_stamp     # the newest send stamp seen, ntp
    uint64_t overtaken      # came behind later ones, not as a repair
    int64_t overtaken_by    # how much later than the one before them they were, summed up
    uint64_t keyframe_requests
    MissingPacket missing[MISSING]
    uint32_t missing_count
    uint32_t pending        # frames whose end has come, while something of them is missing
    uint64_t frames
    int64_t first_packet    # 0: none yet
    int64_t first_frame
    int64_t last_frame
    int64_t longest_gap     # between two frames
    int64_t stale           # without a new frame for so long it is frozen
    uint32_t freezes
    int64_t frozen
    uint32_t floor_frames   # a second
    uint32_t floor_bits     # a second
    int64_t window          # when the second began that is judged by the floors
    uint32_t window_frames
    uint64_t window_octets
    int64_t watched         # in judged seconds
    int64_t under_frames    # in those under the floor of frames
    int64_t under_bits
    int64_t mark            # an outage ends
    int64_t recovered       # from there to the next whole frame
    int64_t age             # of the newest whole frame, from its being due
    int64_t asked_keyframe
    int64_t last_latency
    int64_t worst_latency
    int64_t latency_sum
    Spread spread           # of the latencies
    double jitter           # RFC 3550, section 6.4.1, in timestamp units
    double last_transit
    uint32_t last_sr        # middle 32 bits
    int64_t last_sr_time
    uint64_t reported_received
    uint64_t reported_expected

cdef struct Peer:
    # What the clock asks of each peer stands side by side.
    int fd
    uint32_t number         # the caller's name for it
    uint8_t gone            # 0, or why: PeerEnd
    uint8_t nack_due
    uint8_t picture_due     # a stream waits for a keyframe
    uint8_t feedback_started
    uint8_t feedback_count
    uint32_t out_count
    uint32_t in_count
    uint32_t open_every     # of received packets, one in so many is opened that need not be
    int64_t next_check
    int64_t next_feedback
    int64_t next_report
    SrtpContext* tx
    SrtpContext* rx
    OutStream* outs
    InStream* ins
    uint32_t ssrc           # of our own reports
    uint8_t codecs[128]     # by payload type: mediaserver.codecs.payload.Codec, RTX_TYPE, or 0 for what was not agreed
    ExtMap extensions
    char cname[MAX_CNAME]
    uint8_t cname_size
    # ICE
    char username[128]
    uint8_t username_size
    char password[128]      # theirs, under which we ask
    uint8_t password_size
    char local_password[64] # ours, under which we answer
    uint8_t local_password_size
    uint8_t family
    uint8_t ip[16]
    uint16_t port
    uint64_t tie_breaker
    uint8_t txid[12]
    int64_t last_consent
    # transport-wide feedback
    uint16_t transport_sequence  # of the next packet that we send
    uint64_t feedback_base       # the first number that the next feedback tells of
    uint64_t feedback_highest
    int64_t last_feedback
    uint64_t numbered_octets     # of what came since the last feedback
    int64_t arrivals[ARRIVALS]   # us by number, RTCP_LOST
    uint32_t overflow       # the kernel's count of what it dropped at this socket

cdef enum PeerEnd:
    PEER_HERE = 0
    PEER_SILENT = 1         # no consent for 30 s (RFC 7675)
    PEER_ALERT = 2          # a DTLS alert, which at this stage is the server's good-bye
    PEER_REFUSED = 3        # the port is closed

# What the whole swarm counts.
cdef struct Totals:
    uint64_t sent
    uint64_t sent_octets
    uint64_t received
    uint64_t received_octets
    uint64_t opened         # of the received ones: authenticated and decrypted
    uint64_t datagrams
    uint64_t send_failures  # the kernel took no more: the generator's own loss
    uint64_t dropped        # the kernel had no room for what came: the generator's own loss
    uint64_t unknown        # packets of no stream that we know
    uint64_t untimed        # packets that left too late to tell how late
    uint64_t untaped        # packets that did not fit on the tape
    uint64_t feedbacks      # transport-wide feedback messages sent
    uint64_t feedback_octets
    int64_t busy            # ns not spent waiting
    uint64_t rounds
    uint32_t random
    Histogram sender_lateness    # behind the schedule
    Histogram receiver_lateness  # from the kernel's receive stamp to our reading it

# Latency is up to the kernel's receive stamp. From the moment at which a packet was due it holds our own lateness too;
# with that alone, packets that a slow generator never sent would make a server look better (coordinated omission).
cdef struct SourceTimes:
    Histogram latency       # from the packet's leaving, where no line of ours is in the way
    Histogram intended      # of the same packets, from when they were due
    Histogram lined         # from when they were due, through a line
    Histogram jitter        # between successive packets of a leg without a line

# How far one source of a viewer is behind another; `first` and `second` number the sources.
cdef struct Skew:
    uint8_t first
    uint8_t second
    Histogram ahead         # of the first
    Histogram behind

# A packet of a taped stream, its payload behind it.
cdef struct Taped:
    int64_t arrived         # real
    uint64_t index
    uint32_t peer
    uint32_t timestamp
    uint16_t stream         # position of the peer's
    uint16_t size
    uint8_t marker

cdef struct Tape:
    uint8_t* bytes
    size_t room
    size_t used

cdef inline uint32_t next_random(uint32_t* state) noexcept nogil:
    # xorshift32: for transaction ids and timers, nothing that anybody may not guess.
    cdef uint32_t x = state[0] if state[0] else 0x9E3779B9
    x ^= x << 13
    x ^= x >> 17
    x ^= x << 5
    state[0] = x
    return x

# NTP time, 32.32 bits since 1900, of ns since 1970, and back.
cdef inline uint64_t ntp_of(int64_t real) noexcept nogil:
    cdef uint64_t seconds = <uint64_t>(real // 1000000000 + 2208988800LL)
    cdef uint64_t fraction = <uint64_t>(real % 1000000000)
    return (seconds << 32) | ((fraction << 32) // 1000000000)

cdef inline int64_t real_of(uint64_t ntp) noexcept nogil:
    cdef int64_t seconds = <int64_t>(ntp >> 32) - 2208988800LL
    return seconds * 1000000000 + <int64_t>(((ntp & 0xFFFFFFFFULL) * 1000000000 + 0x80000000ULL) >> 32)

# The send stamp is when the packet was due, to 2^-16 s; its low 16 bits say how much later it left, in 2 us.
cdef inline uint64_t stamp_of(uint64_t due, int64_t late) noexcept nogil:
    late = 0 if late < 0 else late // 2000
    return (due & ~<uint64_t>0xFFFF) | <uint64_t>(late if late < 0xFFFF else 0xFFFF)

cdef inline int64_t due_of_stamp(uint64_t stamp) noexcept nogil:
    return real_of(stamp & ~<uint64_t>0xFFFF)

# ns, or -1 where it was more than could be said.
cdef inline int64_t late_of_stamp(uint64_t stamp) noexcept nogil:
    return <int64_t>(stamp & 0xFFFF) * 2000 if stamp & 0xFFFF != 0xFFFF else -1
