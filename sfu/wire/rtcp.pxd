"""RTCP (RFC 3550, RFC 4585, RFC 5104, RFC 5506) with REMB and transport-wide feedback."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    RTCP_ERR_SHORT = -1     # shorter than its own fields say
    RTCP_ERR_VERSION = -2   # not version 2
    RTCP_ERR_FORMAT = -3    # a count, length or padding that contradicts the rest
    RTCP_ERR_ROOM = -4      # an output (buffer or array) is too small
    RTCP_ERR_VALUE = -5     # a value that the format cannot hold

cpdef enum RtcpType:
    RTCP_SR = 200
    RTCP_RR = 201
    RTCP_SDES = 202
    RTCP_BYE = 203
    RTCP_APP = 204
    RTCP_RTPFB = 205
    RTCP_PSFB = 206
    RTCP_XR = 207

# What an item is, feedback formats told apart. RTCP_ITEM_OTHER is valid but not read here: skip it.
cpdef enum RtcpKind:
    RTCP_ITEM_OTHER = 0
    RTCP_ITEM_SR = 1
    RTCP_ITEM_RR = 2
    RTCP_ITEM_SDES = 3
    RTCP_ITEM_BYE = 4
    RTCP_ITEM_NACK = 5          # RTPFB 1
    RTCP_ITEM_TRANSPORT = 6     # RTPFB 15, transport-wide feedback
    RTCP_ITEM_PLI = 7           # PSFB 1
    RTCP_ITEM_FIR = 8           # PSFB 4
    RTCP_ITEM_REMB = 9          # PSFB 15 with "REMB"
    RTCP_ITEM_CCFB = 10         # RTPFB 11, congestion control feedback (RFC 8888); see congestion_feedback

cdef enum:
    RTCP_MAX_REPORTS = 31
    RTCP_MAX_REMB_SSRCS = 255
    RTCP_TICK_US = 250                # transport-wide feedback: the unit of deltas
    RTCP_REFERENCE_US = 64000         # and of the reference time
    RTCP_LOST = -1                    # as an arrival time: that packet has not come

# One packet of a compound. The pointers go into the datagram.
cdef struct RtcpItem:
    uint8_t type                # RtcpType, the wire's number
    uint8_t kind                # RtcpKind
    uint8_t count               # RC, SC or FMT, checked against the size for SR, RR and BYE
    uint32_t ssrc               # of the sender of the packet; SDES: of the first chunk, 0 when there is none
    uint32_t media_ssrc         # of feedback that has it: the media source, else 0
    const uint8_t* body         # SR, RR: the report blocks; BYE: the SSRCs; SDES: the chunks; feedback: the FCI
    size_t body_size            # bytes, padding removed
    uint64_t ntp                # SR: 32.32 fixed point since 1900
    uint32_t rtp_timestamp      # SR
    uint32_t packet_count       # SR
    uint32_t octet_count        # SR

cdef struct RtcpReport:
    uint32_t ssrc
    uint8_t fraction_lost       # of 256
    int32_t lost                # cumulative, 24 bits signed: written clamped
    uint32_t highest            # extended highest sequence number
    uint32_t jitter             # RTP timestamp units
    uint32_t last_sr            # middle 32 bits of the NTP time of the last SR, 0 none
    uint32_t delay              # since that SR, in 1/65536 s

cdef struct RtcpRemb:
    uint64_t bitrate            # bits per second; saturated at 2^64 - 1
    uint8_t ssrc_count
    uint32_t ssrcs[RTCP_MAX_REMB_SSRCS]

# The fixed part of a transport-wide feedback message.
cdef struct RtcpTransport:
    uint16_t base               # the first sequence number reported on
    uint16_t count              # how many are reported on, at least 1
    int32_t reference           # 24 bits signed, in 64 ms
    uint8_t feedback_count

cdef struct RtcpArrival:
    uint16_t sequence           # transport-wide
    uint8_t received
    int32_t delta               # received: in 250 us since the packet received before it in this message,
                                # for the first one since the reference time. Else 0

# The next packet of a compound from *offset (start with 0), which moves past it.
# 1: *item is set; 0: the end; < 0: the rest is malformed (what came before stands).
# A reduced-size packet (RFC 5506) is as good as a compound.
cdef int rtcp_next(const uint8_t* data, size_t size, size_t* offset, RtcpItem* item) noexcept nogil

# Report block `index` of `item.count` of an SR or RR. 1, or 0 past the end.
cdef int rtcp_report(const RtcpItem* item, size_t index, RtcpReport* report) noexcept nogil
# The next chunk of an SDES from *offset (start with 0). 1: *ssrc is set and *cname, NULL when that chunk has none;
# 0: the end; < 0 malformed.
cdef int rtcp_sdes_next(const RtcpItem* item, size_t* offset, uint32_t* ssrc,
                        const uint8_t** cname, size_t* cname_size) noexcept nogil
# SSRC `index` of `item.count` of a BYE. 1, or 0 past the end.
cdef int rtcp_bye(const RtcpItem* item, size_t index, uint32_t* ssrc) noexcept nogil
# The sequence numbers of a NACK into `sequences`, in the packet's order. How many; what exceeds the capacity is
# left out.
cdef int rtcp_nack(const RtcpItem* item, uint16_t* sequences, size_t capacity) noexcept nogil
# FIR entry `index`: the media source that is asked and the command's number (RFC 5104, section 4.3.1). 1, or 0 past
# the end.
cdef int rtcp_fir(const RtcpItem* item, size_t index, uint32_t* ssrc, uint8_t* command) noexcept nogil
# 0, or < 0 malformed.
cdef int rtcp_remb(const RtcpItem* item, RtcpRemb* remb) noexcept nogil
# Transport-wide feedback: transport.count entries of `arrivals` in sequence order. That count, or < 0: malformed, or
# RTCP_ERR_ROOM when there are more than `capacity`. *transport is set in the latter case too.
cdef int rtcp_transport(const RtcpItem* item, RtcpTransport* transport, RtcpArrival* arrivals,
                        size_t capacity) noexcept nogil

# Writers append one packet at out: bytes written (a multiple of 4) or < 0. Put them one after another for a compound.
# Up to RTCP_MAX_REPORTS blocks.
cdef int rtcp_write_sr(uint8_t* out, size_t capacity, uint32_t ssrc, uint64_t ntp, uint32_t rtp_timestamp,
                       uint32_t packet_count, uint32_t octet_count,
                       const RtcpReport* reports, size_t report_count) noexcept nogil
cdef int rtcp_write_rr(uint8_t* out, size_t capacity, uint32_t ssrc,
                       const RtcpReport* reports, size_t report_count) noexcept nogil
# One chunk with a CNAME of up to 255 bytes.
cdef int rtcp_write_sdes(uint8_t* out, size_t capacity, uint32_t ssrc,
                         const uint8_t* cname, size_t cname_size) noexcept nogil
# Up to 31 sources, no reason.
cdef int rtcp_write_bye(uint8_t* out, size_t capacity, const uint32_t* ssrcs, size_t count) noexcept nogil
# `sequences` ascend (over the wrap at 65535 too). RTCP_ERR_VALUE for none, RTCP_ERR_ROOM when they do not all fit.
cdef int rtcp_write_nack(uint8_t* out, size_t capacity, uint32_t ssrc, uint32_t media_ssrc,
                         const uint16_t* sequences, size_t count) noexcept nogil
cdef int rtcp_write_pli(uint8_t* out, size_t capacity, uint32_t ssrc, uint32_t media_ssrc) noexcept nogil
# One entry; `command` grows by one for each new request to that source, and repeats when one is repeated.
cdef int rtcp_write_fir(uint8_t* out, size_t capacity, uint32_t ssrc, uint32_t media_ssrc,
                        uint8_t command) noexcept nogil
# The bitrate is rounded down to 18 significant bits.
cdef int rtcp_write_remb(uint8_t* out, size_t capacity, uint32_t ssrc, uint64_t bitrate,
                         const uint32_t* ssrcs, size_t count) noexcept nogil
# Transport-wide feedback on the `count` packets from sequence number `base`: arrivals[i] is when base + i came, in us
# on one clock, or RTCP_LOST. Takes in order as many as fit the capacity and the format (a delta is 16 bits: about
# 8 s), so that *consumed may be less than count; go on from base + *consumed with the next feedback_count.
# What is lost at the end of `arrivals` is reported as lost: end it with a packet that came, to leave that open.
# 0 when none of the first *consumed has come: nothing to send about those. RTCP_ERR_ROOM when not even one that came
# fits (48 bytes always take one); *consumed is 0 then.
# The message may end in padding (RFC 3550, section 6.4.1), so it is the last of its compound.
cdef int rtcp_write_transport(uint8_t* out, size_t capacity, uint32_t ssrc, uint32_t media_ssrc,
                              uint8_t feedback_count, uint16_t base, const int64_t* arrivals, size_t count,
                              size_t* consumed) noexcept nogil
