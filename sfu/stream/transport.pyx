"""Arrival times by transport-wide sequence number, for the publisher's bandwidth estimation."""

from libc.string cimport memset

from mediaserver.sfu.wire.rtcp cimport RTCP_LOST, rtcp_write_transport


cdef void arrival_init(ArrivalLog* log) noexcept nogil:
    memset(log, 0, sizeof(ArrivalLog))


cdef void arrival_add(ArrivalLog* log, uint16_t sequence, int64_t now) noexcept nogil:
    cdef uint64_t full, next_one
    if log.highest == 0:
        full = 0x10000 | sequence
        log.highest = full
        log.reported = full
        log.times[full % ARRIVALS] = now
    else:
        full = (log.highest & ~<uint64_t>0xFFFF) | sequence
        if full + 0x8000 < log.highest:
            full += 0x10000
        elif full > log.highest + 0x8000:
            full -= 0x10000
        if full > log.highest:
            if full - log.highest > ARRIVALS:
                log.reported = full  # too far apart to report what lies between
            else:
                for next_one in range(log.highest + 1, full):
                    log.times[next_one % ARRIVALS] = RTCP_LOST
            log.highest = full
            if log.highest - log.reported >= ARRIVALS:
                log.reported = log.highest - ARRIVALS + 1
        elif full < log.reported:
            return  # reported as lost already; the sender has moved on
        log.times[full % ARRIVALS] = now
    if log.due == 0:
        log.due = now + FEEDBACK_INTERVAL_US


cdef int arrival_feedback(ArrivalLog* log, uint8_t* out, size_t capacity, uint32_t sender, uint32_t media) noexcept nogil:
    cdef int64_t window[ARRIVALS]
    cdef uint64_t full
    cdef size_t count = 0, consumed = 0
    cdef int size
    log.due = 0
    if log.highest == 0 or log.reported > log.highest:
        return 0
    for full in range(log.reported, log.highest + 1):
        window[count] = log.times[full % ARRIVALS]
        count += 1
    size = rtcp_write_transport(
        out, capacity, sender, media, log.message_count, <uint16_t>log.reported, window, count, &consumed
    )
    if size < 0:
        log.reported = log.highest + 1
        return size
    log.reported += consumed
    if size:
        log.message_count += 1
    if log.reported <= log.highest and consumed:
        log.due = 1  # the rest at once
    return size
