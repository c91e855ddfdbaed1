"""The packets that one source owes: which are awaited, when each is asked for, and when it is given up."""

from libc.string cimport memmove, memset

from mediaserver.sfu.policy.round_trip cimport round_trip_add, round_trip_wait

cdef enum:
    # A jitter buffer holds sound for less than a picture, and conceals a gap in it; behind a picture that is missing
    # everything stands still, so that beyond that a keyframe is the faster cure.
    LIVE_AUDIO_US = 200000
    LIVE_VIDEO_US = 400000
    SLOWEST_AUDIO_US = 400000
    SLOWEST_VIDEO_US = 1000000
    # A browser keeps what it has sent for one to three seconds, an encoder on its own machine often for longer.
    KEPT_US = 5000000
    SLOWEST_KEPT_US = 2000000
    PATIENCE_US = 1000000    # between two requests for one packet, on a quick line


cdef void missing_init(MissingList* self, int64_t now) noexcept nogil:
    memset(self, 0, sizeof(MissingList))
    self.tolerance = REORDER_LEAST_US
    self.distance = REORDER_LEAST << 4
    self.credit = <int64_t>MISSING_BURST * 1000000
    self.late_credit = <int64_t>MISSING_LATE_BURST * 1000000
    self.credit_at = now


cdef void missing_terms(MissingTerms* terms, int video, int kept) noexcept nogil:
    terms.live = LIVE_VIDEO_US if video else LIVE_AUDIO_US
    terms.slowest = SLOWEST_VIDEO_US if video else SLOWEST_AUDIO_US
    terms.kept = 0
    if kept:
        terms.kept = KEPT_US
        terms.slowest = SLOWEST_KEPT_US


cdef void forget(MissingList* self, uint32_t at) noexcept nogil:
    self.count -= 1
    memmove(&self.entries[at], &self.entries[at + 1], (self.count - at) * sizeof(Missing))
    if self.count == 0:
        self.unasked = 0


cdef int64_t find(const MissingList* self, uint64_t sequence) noexcept nogil:
    cdef uint32_t low = 0, high = self.count, middle
    while low < high:
        middle = (low + high) >> 1
        if self.entries[middle].sequence < sequence:
            low = middle + 1
        else:
            high = middle
    if low < self.count and self.entries[low].sequence == sequence:
        return low
    return -1


cdef int missing_awaits(const MissingList* self, uint64_t sequence) noexcept nogil:
    cdef int64_t at = find(self, sequence)
    return at >= 0 and not self.entries[at].told


cdef int missing_hole(MissingList* self, uint64_t first, uint64_t end, int64_t now) noexcept nogil:
    cdef uint64_t size = end - first
    cdef uint64_t sequence
    cdef uint32_t over
    cdef Missing* entry
    if size > MISSING_MAX:
        self.given_up += self.count
        self.count = 0
        self.unasked = 0
        return -1
    if self.count + size > MISSING_MAX:  # let go of the oldest
        over = self.count + <uint32_t>size - MISSING_MAX
        self.given_up += over
        self.count -= over
        memmove(&self.entries[0], &self.entries[over], self.count * sizeof(Missing))
        self.unasked = 0
    for sequence in range(first, end):
        entry = &self.entries[self.count]
        entry.sequence = sequence
        entry.noticed = now
        entry.first_asked = entry.asked = 0
        entry.tries = 0
        entry.told = 0
        self.count += 1
    if size and self.unasked == 0:
        self.unasked = first
    return <int>size


# ---- what the line is like


cdef void learn_reordering(MissingList* self, int64_t late, uint64_t passed) noexcept nogil:
    """A packet came by itself: wait longer next time if that was too short, else a little less."""
    cdef int64_t wanted = late + (late >> 2)
    cdef uint32_t packets = <uint32_t>((passed if passed < REORDER_MOST else REORDER_MOST) << 4)
    self.reordered += 1
    if wanted > self.tolerance:
        self.tolerance += (wanted - self.tolerance + 1) >> 1
    elif self.tolerance > REORDER_LEAST_US:
        self.tolerance -= (self.tolerance - REORDER_LEAST_US) >> 8
    packets += packets >> 2
    if packets > self.distance:
        self.distance += (packets - self.distance + 1) >> 1
    elif self.distance > REORDER_LEAST << 4:
        self.distance -= (self.distance - (REORDER_LEAST << 4)) >> 8


cdef void learn_loss(MissingList* self) noexcept nogil:
    """Waiting was in vain: where more is lost than overtaken, requests go out sooner."""
    self.tolerance -= (self.tolerance - REORDER_LEAST_US) >> 4
    self.distance -= (self.distance - (REORDER_LEAST << 4)) >> 4


cdef void learn_answer(MissingList* self, const Missing* entry, RoundTrip* round_trip, int64_t now) noexcept nogil:
    """A request was answered. Of several nobody knows which (Karn's algorithm), but an answer that follows the last one
    too soon is that of an earlier one: else a round trip that is longer than thought could never be learnt."""
    self.repaired += 1
    learn_loss(self)
    if entry.tries == 1:
        round_trip_add(round_trip, now - entry.asked)
    elif entry.tries > 1 and now - entry.asked < round_trip.smoothed >> 1:
        round_trip_add(round_trip, now - entry.first_asked)


cdef int missing_arrived(MissingList* self, uint64_t sequence, uint64_t highest, int repeats, RoundTrip* round_trip,
                         int64_t now) noexcept nogil:
    cdef int64_t at = find(self, sequence)
    cdef Missing* entry
    cdef int told
    if at < 0:
        return 0
    entry = &self.entries[at]
    told = entry.told
    # An answer takes its time: what comes sooner after its only request had been on its way.
    if repeats and entry.tries and (
        entry.tries > 1 or round_trip.samples == 0 or now - entry.asked >= round_trip.smoothed >> 1
    ):
        learn_answer(self, entry, round_trip, now)
    else:
        learn_reordering(self, now - entry.noticed, highest - sequence)
    forget(self, <uint32_t>at)
    return MISSING_OVERDUE if told else MISSING_IN_TIME


cdef int missing_repaired(MissingList* self, uint64_t sequence, RoundTrip* round_trip, int64_t now) noexcept nogil:
    cdef int64_t at = find(self, sequence)
    cdef int told
    if at < 0:
        return 0
    told = self.entries[at].told
    learn_answer(self, &self.entries[at], round_trip, now)
    forget(self, <uint32_t>at)
    return MISSING_OVERDUE if told else MISSING_IN_TIME


cdef int missing_covered(MissingList* self, uint64_t sequence) noexcept nogil:
    cdef int64_t at = find(self, sequence)
    if at < 0:
        return 0
    forget(self, <uint32_t>at)
    return 1


# ---- when to ask


cdef int64_t patience(const Missing* entry, int64_t answer) noexcept nogil:
    """How long to wait for the answer to the last request: half as long again after each."""
    cdef int64_t wait = answer if answer > MISSING_RETRY_US else MISSING_RETRY_US
    cdef int64_t most = wait * 8 if wait * 8 > PATIENCE_US else PATIENCE_US
    cdef int i
    for i in range(1, entry.tries):
        wait += wait >> 1
    return wait if wait < most else most


cdef int64_t due(const MissingList* self, const Missing* entry, const RoundTrip* round_trip, uint64_t highest,
                 int64_t answer) noexcept nogil:
    cdef int64_t tolerance = self.tolerance
    if entry.tries:
        return entry.asked + patience(entry, answer)
    if highest - entry.sequence >= self.distance >> 4:
        return entry.noticed
    if tolerance > round_trip.smoothed and tolerance > REORDER_LEAST_US:
        tolerance = round_trip.smoothed  # by then a request would have brought it
    return entry.noticed + tolerance


cdef inline int64_t sooner(int64_t a, int64_t b) noexcept nogil:
    return b if a == 0 or b < a else a


cdef inline void tell(Missing* entry, MissingList* self, MissingRound* round) noexcept nogil:
    if not entry.told:
        entry.told = 1
        if entry.sequence > self.keyframe:
            round.overdue += 1


cdef void refill(MissingList* self, int64_t now) noexcept nogil:
    self.credit += (now - self.credit_at) * MISSING_RATE
    self.late_credit += (now - self.credit_at) * MISSING_LATE_RATE
    self.credit_at = now
    if self.credit > <int64_t>MISSING_BURST * 1000000:
        self.credit = <int64_t>MISSING_BURST * 1000000
    if self.late_credit > <int64_t>MISSING_LATE_BURST * 1000000:
        self.late_credit = <int64_t>MISSING_LATE_BURST * 1000000


cdef void missing_round(MissingList* self, const MissingTerms* terms, const RoundTrip* round_trip, uint64_t highest,
                        int64_t now, MissingRound* round) noexcept nogil:
    cdef int64_t answer = round_trip_wait(round_trip)
    cdef int64_t asked_until = terms.kept if terms.kept > terms.live else terms.live
    cdef int64_t when
    cdef int64_t* credit
    cdef uint32_t kept = 0, i
    cdef Missing* entry
    round.count = 0
    round.overdue = 0
    round.deadline = 0
    self.unasked = 0
    refill(self, now)
    for i in range(self.count):
        entry = &self.entries[i]
        when = due(self, entry, round_trip, highest, answer)
        if now - entry.noticed >= terms.live + answer:
            tell(entry, self, round)
        if (entry.tries >= MISSING_TRIES or now - entry.noticed > asked_until) and (entry.tries == 0 or when <= now):
            tell(entry, self, round)
            self.given_up += 1
            learn_loss(self)
            continue
        credit = &self.late_credit if entry.told else &self.credit
        if (
            when <= now and credit[0] >= 1000000 and round.count < MISSING_ROUND
            and now - entry.noticed <= asked_until and entry.tries < MISSING_TRIES
            and round_trip.smoothed <= terms.slowest
        ):
            credit[0] -= 1000000
            if entry.tries == 0:
                entry.first_asked = now
            entry.asked = now
            entry.tries += 1
            round.sequences[round.count] = <uint16_t>entry.sequence
            round.count += 1
            when = entry.asked + patience(entry, answer)
        elif when <= now:  # it has to wait for credit, or for its end
            when = now + MISSING_RETRY_US
        if entry.tries == 0 and self.unasked == 0:
            self.unasked = entry.sequence
        if not entry.told:
            when = sooner(when, entry.noticed + terms.live + answer)
        round.deadline = sooner(round.deadline, when)
        self.entries[kept] = entry[0]
        kept += 1
    self.count = kept
    self.asked += round.count
