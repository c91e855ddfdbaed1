"""What was sent under which transport-wide number, until it is reported on or too old to be."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef enum:
    FIRST_NUMBER = 0x10000       # so that the number that a report means is never below 0
    OLD_US = 4000000


cdef int sentlog_init(SentLog* log) noexcept nogil:
    memset(log, 0, sizeof(SentLog))
    log.packets = <SentPacket*>calloc(SENT_FIRST, sizeof(SentPacket))
    if log.packets == NULL:
        return -1
    log.mask = SENT_FIRST - 1
    log.origin = log.first = log.next = log.settled = FIRST_NUMBER
    return 0


cdef void sentlog_close(SentLog* log) noexcept nogil:
    free(log.packets)
    free(log.names)
    free(log.streams)
    memset(log, 0, sizeof(SentLog))


cdef int resize(SentLog* log, uint64_t capacity) noexcept nogil:
    """0, or -1 without memory and nothing changed. What does not fit any more is forgotten, the oldest first."""
    cdef SentPacket* packets = <SentPacket*>calloc(capacity, sizeof(SentPacket))
    cdef SentName* names = NULL
    cdef uint64_t number
    if log.names != NULL:
        names = <SentName*>calloc(capacity, sizeof(SentName))
    if packets == NULL or (log.names != NULL and names == NULL):
        free(packets)
        free(names)
        return -1
    if log.next - log.first > capacity:
        sentlog_passed(log, log.next - capacity)
        log.first = log.next - capacity
    for number in range(log.first, log.next):
        packets[number & (capacity - 1)] = log.packets[number & log.mask]
        if names != NULL:
            names[number & (capacity - 1)] = log.names[number & log.mask]
    free(log.packets)
    free(log.names)
    log.packets = packets
    log.names = names
    log.mask = capacity - 1
    return 0


cdef void sentlog_room(SentLog* log, int64_t now) noexcept nogil:
    cdef uint32_t age = <uint32_t>now - log.packets[log.first & log.mask].time
    if age < SENT_KEEP_US and log.mask + 1 < SENT_MOST and resize(log, 2 * (log.mask + 1)) == 0:
        return
    sentlog_passed(log, log.first + 1)
    log.first += 1


cdef void sentlog_shrink(SentLog* log, int64_t now) noexcept nogil:
    cdef uint64_t capacity = log.mask + 1
    cdef uint64_t kept = capacity // 4
    cdef uint32_t age
    if capacity <= SENT_FIRST:
        return
    if log.next - log.first > kept:
        age = <uint32_t>now - log.packets[(log.next - kept) & log.mask].time
        if age < OLD_US:
            return
    resize(log, capacity // 2)


cdef void sentlog_clear(SentLog* log) noexcept nogil:
    sentlog_passed(log, log.next)
    log.first = log.next
    if log.mask + 1 > SENT_FIRST:
        resize(log, SENT_FIRST)


cdef void sentlog_passed(SentLog* log, uint64_t number) noexcept nogil:
    cdef SentPacket* packet
    while log.settled < number:
        packet = &log.packets[log.settled & log.mask]
        if packet.state & SENT_IN_FLIGHT:
            packet.state &= <uint8_t>~SENT_IN_FLIGHT
            log.in_flight -= packet.size
        log.settled += 1


cdef void sentlog_name(SentLog* log, uint32_t ssrc, uint16_t sequence) noexcept nogil:
    cdef uint64_t number = log.next - 1
    cdef SentName* name
    cdef uint32_t i
    if log.names == NULL:
        log.names = <SentName*>calloc(log.mask + 1, sizeof(SentName))
        if log.names == NULL:
            return
    if log.streams == NULL:
        log.streams = <SentStream*>calloc(SENT_STREAMS, sizeof(SentStream))
        if log.streams == NULL:
            return
    name = &log.names[number & log.mask]
    name.sequence = sequence
    name.back = 0
    for i in range(log.stream_count):
        if log.streams[i].ssrc == ssrc:
            if number - log.streams[i].last <= 0xFFFF:
                name.back = <uint16_t>(number - log.streams[i].last)
            log.streams[i].last = number
            return
    if log.stream_count < SENT_STREAMS:
        i = log.stream_count
        log.stream_count += 1
    else:
        i = stalest(log)
    log.streams[i].ssrc = ssrc
    log.streams[i].last = number


cdef uint32_t stalest(const SentLog* log) noexcept nogil:
    cdef uint32_t i, found = 0
    for i in range(1, log.stream_count):
        if log.streams[i].last < log.streams[found].last:
            found = i
    return found


cdef int64_t sentlog_stream(const SentLog* log, uint32_t ssrc) noexcept nogil:
    cdef uint32_t i
    for i in range(log.stream_count):
        if log.streams[i].ssrc == ssrc:
            return <int64_t>log.streams[i].last if log.streams[i].last >= log.first else -1
    return -1
