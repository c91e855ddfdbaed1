"""One incoming SSRC: what came, what is missing, and what its publisher is to be told."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.sfu.policy.freshness cimport Freshness
from mediaserver.sfu.policy.missing cimport MissingList
from mediaserver.sfu.policy.round_trip cimport RoundTrip
from mediaserver.sfu.wire.rtcp cimport RtcpReport
from mediaserver.sfu.wire.srtp cimport SrtpReceiver

cdef enum:
    SEQUENCE_BASE = 65536    # added to SRTP's index, so that extended numbers are never near 0
    AHEAD_MAX = 64           # packets by which a retransmission may come before anything that shows the loss

cdef struct Inbound:
    uint32_t ssrc
    uint8_t started
    uint8_t asks             # what is missing may be asked for (it is accounted for in any case)
    uint8_t late             # what came last had been awaited, until those who watch had to do without it
    uint8_t repair           # carries retransmissions (RFC 4588)
    SrtpReceiver srtp
    uint64_t first
    uint64_t highest
    uint64_t received
    uint64_t recovered       # came as retransmissions
    uint64_t bytes           # of payload
    uint64_t expected_before # at the last report (RFC 3550, appendix A.3)
    uint64_t received_before
    int64_t transit
    uint32_t jitter          # 1/16 RTP units (RFC 3550, appendix A.8)
    int64_t last_arrival     # µs; an encoding that has ended is not kept alive by what comes late of it
    uint64_t sender_ntp      # of the last sender report
    uint32_t sender_rtp
    int64_t sender_arrival   # µs, 0: none yet
    Freshness fresh
    MissingList missing

cdef inline uint64_t ntp_of(int64_t us) noexcept nogil:
    """A time that is not negative, in the form of NTP: 32.32 fixed point."""
    return (<uint64_t>(us // 1000000) << 32) | ((<uint64_t>(us % 1000000) << 32) // 1000000)

cdef void inbound_init(Inbound* self, uint32_t ssrc, int repair, int64_t now) noexcept nogil
# Accounts for a packet by its extended number. How many packets are newly known as missing, -1 for a hole too large
# to repair. `repeats`: the peer answers NACKs by the packets as they were (no RFC 4588); such an answer tells the
# round trip.
cdef int inbound_receive(Inbound* self, uint64_t sequence, uint32_t timestamp, uint32_t clock_rate, int repeats,
                         RoundTrip* round_trip, int64_t now) noexcept nogil
# A retransmission of the packet with that 16-bit number: its extended number, or -1 when it is not awaited.
cdef int64_t inbound_recover(Inbound* self, uint16_t sequence, RoundTrip* round_trip, int64_t now) noexcept nogil
# Fills a report block (RFC 3550, section 6.4.1) and starts its next interval.
cdef void inbound_report(Inbound* self, int64_t now, RtcpReport* report) noexcept nogil
cdef uint64_t inbound_lost(const Inbound* self) noexcept nogil
