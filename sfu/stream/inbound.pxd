"""One incoming SSRC: what came, what is missing, and what its publisher is to be told."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.sfu.wire.rtcp cimport RtcpReport
from mediaserver.sfu.wire.srtp cimport SrtpReceiver

cdef enum:
    SEQUENCE_BASE = 65536    # added to SRTP's index, so that extended numbers are never near 0
    MISSING_MAX = 256        # packets awaited at once; a larger hole is a new start, not a loss to repair
    NACK_TRIES = 8
    NACK_REORDER_US = 4000   # packets may overtake each other by that much before one counts as missing
    NACK_RETRY_US = 25000    # least time between two requests for one packet
    NACK_AGE_US = 1000000    # older than that, nobody waits for it any more

cdef struct Missing:
    uint64_t sequence
    int64_t noticed          # µs
    int64_t asked            # µs, 0: never
    uint8_t tries

cdef struct Inbound:
    uint32_t ssrc
    uint8_t started
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
    int64_t last_arrival
    uint64_t sender_ntp      # of the last sender report
    uint32_t sender_rtp
    int64_t sender_arrival   # µs, 0: none yet
    uint32_t missing_count
    Missing missing[MISSING_MAX]

cdef inline uint64_t ntp_of(int64_t us) noexcept nogil:
    """A time that is not negative, in the form of NTP: 32.32 fixed point."""
    return (<uint64_t>(us // 1000000) << 32) | ((<uint64_t>(us % 1000000) << 32) // 1000000)

cdef void inbound_init(Inbound* self, uint32_t ssrc, int repair) noexcept nogil
# Accounts for a packet by its extended number. How many packets are newly known as missing, -1 for a hole too large
# to repair.
cdef int inbound_receive(Inbound* self, uint64_t sequence, uint32_t timestamp, uint32_t clock_rate,
                         int64_t now) noexcept nogil
# A retransmission of the packet with that 16-bit number: its extended number, or -1 when it is not awaited.
# *round_trip is the time since it was asked for, 0 when that is not known.
cdef int64_t inbound_recover(Inbound* self, uint16_t sequence, int64_t now, int64_t* round_trip) noexcept nogil
# The 16-bit numbers to ask for now, ascending, at most `capacity`; gives up on those that are too old.
cdef int inbound_nacks(Inbound* self, int64_t now, int64_t round_trip, uint16_t* sequences, int capacity) noexcept nogil
# When inbound_nacks will next have something to do, or 0 for never.
cdef int64_t inbound_deadline(const Inbound* self, int64_t round_trip) noexcept nogil
# Fills a report block (RFC 3550, section 6.4.1) and starts its next interval.
cdef void inbound_report(Inbound* self, int64_t now, RtcpReport* report) noexcept nogil
cdef uint64_t inbound_lost(const Inbound* self) noexcept nogil
