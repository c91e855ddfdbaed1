"""What was sent under which transport-wide number, until it is reported on or too old to be."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.sfu.wire.lines cimport prefetch

cdef enum:
    SENT_FIRST = 64              # entries of a fresh log, 512 bytes
    SENT_MOST = 2048             # 16 KiB: 1.5 s at 1,365 packets/s
    SENT_KEEP_US = 1500000       # a full log grows rather than forget what is younger
    SENT_STREAMS = 32            # SSRCs that RFC 8888 feedback can name

    # SentPacket.state: the kind, and what has become of it
    SENT_KIND = 0x03
    SENT_IN_FLIGHT = 0x04        # nothing heard of it yet
    SENT_ARRIVED = 0x08
    SENT_LOST = 0x10             # reported as not arrived, which a later report may take back
    # neither of the three: passed over, the report that spoke of it is lost

cdef struct SentPacket:
    uint32_t time                # µs, modulo 2^32
    uint16_t size                # bytes, IP and UDP headers included
    uint8_t state
    uint8_t cluster              # of a probe, 0: none

# For RFC 8888, which knows packets by SSRC and RTP sequence number.
cdef struct SentName:
    uint16_t sequence
    uint16_t back                # how many numbers before stands the stream's packet before this, 0: none

cdef struct SentStream:
    uint32_t ssrc
    uint64_t last                # number of its newest packet, extended

cdef struct SentLog:
    SentPacket* packets          # capacity is mask + 1; entry of a number: number & mask
    SentName* names              # NULL until the first packet was named
    SentStream* streams          # the same
    uint64_t mask
    uint64_t first               # numbers first <= n < next are held; extended, the wire has the low 16 bits
    uint64_t next
    uint64_t origin              # the first number of all
    uint64_t settled             # no number before it is in flight
    uint64_t in_flight           # bytes
    uint32_t stream_count

# 0, or -1 without memory.
cdef int sentlog_init(SentLog* log) noexcept nogil
cdef void sentlog_close(SentLog* log) noexcept nogil
# Room for one more: grows the log, or forgets the oldest.
cdef void sentlog_room(SentLog* log, int64_t now) noexcept nogil
# Gives back half of the room when three quarters of it hold what is older than 4 s.
cdef void sentlog_shrink(SentLog* log, int64_t now) noexcept nogil
# Forgets everything; gives memory back.
cdef void sentlog_clear(SentLog* log) noexcept nogil
# Names the packet that was added last.
cdef void sentlog_name(SentLog* log, uint32_t ssrc, uint16_t sequence) noexcept nogil
# The newest number of that stream, or -1.
cdef int64_t sentlog_stream(const SentLog* log, uint32_t ssrc) noexcept nogil
# Takes what is older than `number` and still in flight out of the account.
cdef void sentlog_passed(SentLog* log, uint64_t number) noexcept nogil

cdef inline void sentlog_ahead(const SentLog* log) noexcept nogil:
    """Asks for the place of the next packet."""
    prefetch(&log.packets[log.next & log.mask])


cdef inline uint16_t sentlog_add(SentLog* log, uint32_t size, int64_t now, int kind, int cluster) noexcept nogil:
    cdef SentPacket* packet
    if log.next - log.first > log.mask:
        sentlog_room(log, now)
    packet = &log.packets[log.next & log.mask]
    packet.time = <uint32_t>now
    packet.size = <uint16_t>(size if size < 0xFFFF else 0xFFFF)
    packet.state = <uint8_t>(kind & SENT_KIND | SENT_IN_FLIGHT)
    packet.cluster = <uint8_t>cluster
    log.in_flight += packet.size
    log.next += 1
    return <uint16_t>(log.next - 1)
