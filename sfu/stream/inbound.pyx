"""One incoming SSRC: what came, what is missing, and what its publisher is to be told."""

from libc.string cimport memmove, memset


cdef void inbound_init(Inbound* self, uint32_t ssrc, int repair) noexcept nogil:
    memset(self, 0, sizeof(Inbound))
    self.ssrc = ssrc
    self.repair = repair


cdef inline void measure_jitter(Inbound* self, uint32_t timestamp, uint32_t clock_rate, int64_t now) noexcept nogil:
    """RFC 3550, appendix A.8, with the estimate kept in sixteenths."""
    cdef int64_t transit = now * <int64_t>clock_rate // 1000000 - <int64_t>timestamp
    cdef int64_t difference = transit - self.transit
    self.transit = transit
    if self.received == 0:
        return
    if difference < 0:
        difference = -difference
    if difference < <int64_t>clock_rate * 10:  # a jump of the timestamp is no jitter
        self.jitter += <uint32_t>(difference - ((self.jitter + 8) >> 4))


cdef void forget(Inbound* self, uint32_t at) noexcept nogil:
    self.missing_count -= 1
    memmove(&self.missing[at], &self.missing[at + 1], (self.missing_count - at) * sizeof(Missing))


cdef int64_t find_missing(const Inbound* self, uint64_t sequence) noexcept nogil:
    cdef uint32_t low = 0, high = self.missing_count, middle
    while low < high:
        middle = (low + high) >> 1
        if self.missing[middle].sequence < sequence:
            low = middle + 1
        else:
            high = middle
    if low < self.missing_count and self.missing[low].sequence == sequence:
        return low
    return -1


cdef int notice_hole(Inbound* self, uint64_t sequence, int64_t now) noexcept nogil:
    """Everything between the highest number and this one is awaited from now on."""
    cdef uint64_t hole = sequence - self.highest - 1
    cdef uint64_t missed
    cdef Missing* entry
    if hole > MISSING_MAX:
        self.missing_count = 0
        return -1
    if self.missing_count + hole > MISSING_MAX:  # let go of the oldest
        missed = self.missing_count + hole - MISSING_MAX
        self.missing_count -= <uint32_t>missed
        memmove(&self.missing[0], &self.missing[missed], self.missing_count * sizeof(Missing))
    for missed in range(self.highest + 1, sequence):
        entry = &self.missing[self.missing_count]
        entry.sequence = missed
        entry.noticed = now
        entry.asked = 0
        entry.tries = 0
        self.missing_count += 1
    return <int>hole


cdef int inbound_receive(Inbound* self, uint64_t sequence, uint32_t timestamp, uint32_t clock_rate,
                         int64_t now) noexcept nogil:
    cdef int missed = 0
    cdef int64_t at
    if not self.started:
        self.started = 1
        self.first = sequence
        self.highest = sequence
    elif sequence > self.highest:
        if sequence != self.highest + 1:
            missed = notice_hole(self, sequence, now)
        self.highest = sequence
    else:
        at = find_missing(self, sequence)
        if at >= 0:
            forget(self, <uint32_t>at)
        elif sequence < self.first:
            self.first = sequence
    measure_jitter(self, timestamp, clock_rate, now)
    self.received += 1
    self.last_arrival = now
    return missed


cdef int64_t inbound_recover(Inbound* self, uint16_t sequence, int64_t now, int64_t* round_trip) noexcept nogil:
    cdef uint64_t full = (self.highest & ~<uint64_t>0xFFFF) | sequence
    cdef int64_t at
    round_trip[0] = 0
    if full > self.highest:
        full -= 0x10000
    at = find_missing(self, full)
    if at < 0:
        return -1
    if self.missing[at].tries == 1:
        round_trip[0] = now - self.missing[at].asked
    forget(self, <uint32_t>at)
    self.recovered += 1
    self.last_arrival = now
    return <int64_t>full


cdef inline int64_t due(const Missing* entry, int64_t round_trip) noexcept nogil:
    cdef int64_t wait
    if entry.tries == 0:
        return entry.noticed + NACK_REORDER_US
    wait = round_trip + (round_trip >> 2)
    if wait < NACK_RETRY_US:
        wait = NACK_RETRY_US
    return entry.asked + wait


cdef int inbound_nacks(Inbound* self, int64_t now, int64_t round_trip, uint16_t* sequences, int capacity) noexcept nogil:
    cdef uint32_t kept = 0, i
    cdef int count = 0
    cdef Missing* entry
    for i in range(self.missing_count):
        entry = &self.missing[i]
        if now - entry.noticed > NACK_AGE_US or (entry.tries >= NACK_TRIES and due(entry, round_trip) <= now):
            continue  # given up
        if count < capacity and due(entry, round_trip) <= now:
            entry.asked = now
            entry.tries += 1
            sequences[count] = <uint16_t>entry.sequence
            count += 1
        self.missing[kept] = entry[0]
        kept += 1
    self.missing_count = kept
    return count


cdef int64_t inbound_deadline(const Inbound* self, int64_t round_trip) noexcept nogil:
    cdef int64_t earliest = 0, when
    cdef uint32_t i
    for i in range(self.missing_count):
        when = due(&self.missing[i], round_trip)
        if earliest == 0 or when < earliest:
            earliest = when
    return earliest


cdef uint64_t inbound_lost(const Inbound* self) noexcept nogil:
    cdef uint64_t expected
    if not self.started:
        return 0
    expected = self.highest - self.first + 1
    return expected - self.received - self.recovered if expected > self.received + self.recovered else 0


cdef void inbound_report(Inbound* self, int64_t now, RtcpReport* report) noexcept nogil:
    cdef uint64_t expected = self.highest - self.first + 1
    cdef int64_t interval = <int64_t>(expected - self.expected_before)
    cdef int64_t lost = interval - <int64_t>(self.received - self.received_before)
    memset(report, 0, sizeof(RtcpReport))
    report.ssrc = self.ssrc
    if lost > 0 and interval > 0:
        report.fraction_lost = <uint8_t>(255 if lost >= interval else (lost << 8) // interval)
    report.lost = <int>(<int64_t>expected - <int64_t>self.received)
    report.highest = <uint32_t>(self.highest - SEQUENCE_BASE)
    report.jitter = self.jitter >> 4
    if self.sender_arrival:
        report.last_sr = <uint32_t>(self.sender_ntp >> 16)
        report.delay = <uint32_t>((now - self.sender_arrival) * 65536 // 1000000)
    self.expected_before = expected
    self.received_before = self.received
