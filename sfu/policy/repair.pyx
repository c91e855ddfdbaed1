"""What a viewer that misses packets gets again: each number at most once per round trip, all of it a share of its line."""

from libc.stdlib cimport calloc, free

from mediaserver.sfu.policy.round_trip cimport round_trip_add, round_trip_init

cdef enum:
    GATE_LEAST_US = 5000


cdef int repair_heed(RepairShare* share, int64_t now) noexcept nogil:
    if share.heed_at == 0:
        share.heed = <int64_t>REPAIR_HEED_BURST * 1000000
    else:
        share.heed += (now - share.heed_at) * REPAIR_HEED_RATE
        if share.heed > <int64_t>REPAIR_HEED_BURST * 1000000:
            share.heed = <int64_t>REPAIR_HEED_BURST * 1000000
    share.heed_at = now
    if share.heed < 1000000:
        return 0
    share.heed -= 1000000
    return 1


cdef uint64_t repair_sending(RepairShare* share, uint64_t bytes, int64_t now) noexcept nogil:
    if share.sent_at == 0 or bytes < share.sent_bytes:  # less: streams have gone
        share.sent_at = now
        share.sent_bytes = bytes
    elif now - share.sent_at >= REPAIR_SENDING_US:
        share.sent_bps = <uint64_t>(<double>(bytes - share.sent_bytes) * 8e6 / <double>(now - share.sent_at))
        share.sent_at = now
        share.sent_bytes = bytes
    return share.sent_bps


cdef inline int64_t gate(const RoundTrip* round_trip, int times) noexcept nogil:
    """Requests that follow the last of so many repairs sooner than that were made without knowing of it; and where
    repairs are lost one after the other, the next has a chance only when the line has got better."""
    cdef int64_t least
    if round_trip.samples == 0:
        least = round_trip.smoothed >> 1  # a guess: rather twice than too late
    else:
        least = round_trip.smoothed - round_trip.variation
        if least < GATE_LEAST_US:
            least = GATE_LEAST_US
    return least << (times - REPAIR_QUICK) if times > REPAIR_QUICK else least


cdef inline int64_t since(const RepairSlot* slot, int64_t now) noexcept nogil:
    return <int64_t>(<uint32_t>(now // 1000) - slot.at) * 1000


cdef void refill(RepairShare* share, uint64_t bps, int64_t now) noexcept nogil:
    cdef int64_t most = <int64_t>bps * REPAIR_BURST_US
    cdef int64_t passed = now - share.credit_at
    if most < <int64_t>REPAIR_BURST_LEAST * 8 * 1000000:
        most = <int64_t>REPAIR_BURST_LEAST * 8 * 1000000
    if not share.started or passed > 10000000:
        share.started = 1
        share.credit = most
    else:
        share.credit += <int64_t>bps * passed
        if share.credit > most:
            share.credit = most
    share.credit_at = now


cdef inline uint64_t share_of(uint64_t estimate_bps) noexcept nogil:
    cdef uint64_t bps = (estimate_bps if estimate_bps else REPAIR_LINE) // REPAIR_SHARE
    return bps if bps < 1000000000 else 1000000000


cdef int repair_covers(RepairShare* share, uint64_t estimate_bps, uint64_t bytes, int64_t now) noexcept nogil:
    refill(share, share_of(estimate_bps), now)
    return share.credit >= <int64_t>bytes * 8000000


cdef RepairVerdict repair_may(RepairState* self, RepairShare* share, uint16_t sequence, int64_t age, int small,
                              const RoundTrip* round_trip, uint64_t estimate_bps, uint32_t size,
                              int64_t now) noexcept nogil:
    cdef RepairSlot* slot = &self.slots[sequence & (REPAIR_SLOTS - 1)]
    cdef int same = slot.times and slot.sequence == sequence
    if age > REPAIR_OLD_US + round_trip.smoothed:
        return REPAIR_OLD
    # A number comes round after 2^16 packets: what was sent again so long ago was another packet.
    if same and since(slot, now) > 2 * (REPAIR_OLD_US + round_trip.smoothed):
        same = 0
    if same and slot.times >= REPAIR_TIMES:
        return REPAIR_OFTEN
    if same and since(slot, now) < (<int64_t>REPAIR_WAIT_US if slot.waits else gate(round_trip, slot.times)):
        return REPAIR_RECENT
    refill(share, share_of(estimate_bps), now)
    if share.credit < <int64_t>size * 8000000 and not small:
        return REPAIR_SPENT
    share.credit -= <int64_t>size * 8000000
    slot.times = slot.times + 1 if same else 1
    slot.sequence = sequence
    slot.at = <uint32_t>(now // 1000)
    slot.waits = 1
    return REPAIR_SEND


cdef void repair_leaves(RepairState* self, uint16_t sequence, int64_t now) noexcept nogil:
    cdef RepairSlot* slot = &self.slots[sequence & (REPAIR_SLOTS - 1)]
    if slot.sequence == sequence:
        slot.at = <uint32_t>(now // 1000)
        slot.waits = 0


cdef class Repairs:
    """One stream to one viewer: its requests go in at times in µs, verdicts come out."""

    cdef RepairState* state
    cdef RepairShare share
    cdef RoundTrip trip

    def __cinit__(self):
        self.state = <RepairState*>calloc(1, sizeof(RepairState))
        if self.state == NULL:
            raise MemoryError
        round_trip_init(&self.trip)

    def __dealloc__(self):
        free(self.state)

    def measured(self, round_trip: int) -> None:
        """One measurement of the round trip, µs."""
        round_trip_add(&self.trip, round_trip)

    def heed(self, now: int) -> bool:
        """Whether one more number is looked at."""
        return bool(repair_heed(&self.share, now))

    def sending(self, sent: int, now: int) -> int:
        """The rate (bit/s) of a viewer that was sent so many bytes by now."""
        return repair_sending(&self.share, sent, now)

    def may(self, sequence: int, now: int, *, age: int = 0, small: bool = False, estimate: int = 0,
            size: int = 1200) -> RepairVerdict:
        """The verdict on one request; `estimate` in bit/s, `size` in bytes."""
        return RepairVerdict(repair_may(
            self.state, &self.share, <uint16_t>(sequence & 0xFFFF), age, small, &self.trip, estimate, size, now
        ))

    def covers(self, size: int, now: int, *, estimate: int = 0) -> bool:
        """Whether so many bytes are left."""
        return bool(repair_covers(&self.share, estimate, size, now))

    def leaves(self, sequence: int, now: int) -> None:
        """What was granted leaves now."""
        repair_leaves(self.state, <uint16_t>(sequence & 0xFFFF), now)
