"""One incoming SSRC: what came, what is missing, and what its publisher is to be told."""

from libc.stdint cimport int16_t
from libc.string cimport memset

from mediaserver.sfu.policy.missing cimport (
    MISSING_OVERDUE,
    MissingRound,
    MissingTerms,
    missing_arrived,
    missing_earn,
    missing_hole,
    missing_init,
    missing_overtaken,
    missing_repaired,
    missing_round,
    missing_terms,
)
from mediaserver.sfu.policy.round_trip cimport round_trip_init


cdef void inbound_init(Inbound* self, uint32_t ssrc, int repair, int64_t now) noexcept nogil:
    memset(self, 0, sizeof(Inbound))
    missing_init(&self.missing, now)
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


cdef int inbound_receive(Inbound* self, uint64_t sequence, uint32_t timestamp, uint32_t clock_rate, int repeats,
                         RoundTrip* round_trip, int64_t now) noexcept nogil:
    cdef int missed = 0
    cdef int awaited
    self.late = 0
    if not self.started:
        self.started = 1
        self.first = sequence
        self.highest = sequence
    elif sequence > self.highest:
        if sequence != self.highest + 1:
            missed = missing_hole(&self.missing, self.highest + 1, sequence, now)
        self.highest = sequence
    else:
        awaited = missing_arrived(&self.missing, sequence, self.highest, repeats, round_trip, now)
        self.late = awaited == MISSING_OVERDUE
        if not awaited and sequence < self.first:
            self.first = sequence
    measure_jitter(self, timestamp, clock_rate, now)
    missing_earn(&self.missing)
    self.received += 1
    if not self.late:
        self.last_arrival = now
    return missed


cdef int64_t inbound_recover(Inbound* self, uint16_t sequence, RoundTrip* round_trip, int64_t now) noexcept nogil:
    cdef uint64_t full = self.highest + <uint64_t><int64_t><int16_t>(sequence - <uint16_t>self.highest)
    cdef int awaited
    self.late = 0
    if not self.started:
        return -1
    if full > self.highest:
        # Publishers probe with copies of what they sent last: one may come before anything has shown that its
        # original is lost, and the end of a frame is repaired before it is missed.
        if full - self.highest > AHEAD_MAX:
            return -1
        if full != self.highest + 1:
            missing_hole(&self.missing, self.highest + 1, full, now)
        self.highest = full
    else:
        awaited = missing_repaired(&self.missing, full, round_trip, now)
        if not awaited:
            return -1
        self.late = awaited == MISSING_OVERDUE
    self.recovered += 1
    if not self.late:
        self.last_arrival = now
    return <int64_t>full


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


cdef class IncomingSource:
    """One source by itself: extended numbers and times in µs go in, what to ask for comes out.

    `video` and `kept` (a recorder listens) say how long packets are of use; `repeats`: NACKs are answered by the
    packets as they were.
    """

    cdef Inbound inbound
    cdef RoundTrip trip
    cdef MissingTerms terms
    cdef int repeats

    def __init__(self, *, video: bool = True, kept: bool = False, repeats: bool = False, now: int = 0):
        inbound_init(&self.inbound, 1, 0, now)
        round_trip_init(&self.trip)
        missing_terms(&self.terms, video, kept)
        self.repeats = repeats

    def receive(self, sequence: int, now: int) -> int:
        """A packet with its own number; how many are newly missing, -1 for a hole too large."""
        return inbound_receive(&self.inbound, sequence, 0, 90000, self.repeats, &self.trip, now)

    def recover(self, sequence: int, now: int) -> bool:
        """A retransmission; whether it was of use."""
        return inbound_recover(&self.inbound, <uint16_t>(sequence & 0xFFFF), &self.trip, now) >= 0

    def ask(self, now: int) -> tuple:
        """The 16-bit numbers to ask for now, how many packets viewers will do without, and when to call next (0: no
        need)."""
        cdef MissingRound round
        missing_round(&self.inbound.missing, &self.terms, &self.trip, self.inbound.highest, now, &round)
        return [round.sequences[i] for i in range(round.count)], round.overdue, round.deadline

    @property
    def overtaken(self) -> bool:
        """Something is further behind than reordering explains: `ask` now."""
        return bool(missing_overtaken(&self.inbound.missing, self.inbound.highest))

    @property
    def round_trip(self) -> int:
        """The smoothed time to an answer, µs."""
        return self.trip.smoothed

    @property
    def tolerance(self) -> tuple:
        """By how many µs and packets this source's packets overtake each other."""
        return self.inbound.missing.tolerance, self.inbound.missing.distance >> 4

    def counted(self) -> dict:
        """received, recovered, lost, asked, repaired, reordered, given_up and awaited packets."""
        cdef const MissingList* missing = &self.inbound.missing
        return {
            "received": self.inbound.received,
            "recovered": self.inbound.recovered,
            "lost": inbound_lost(&self.inbound),
            "asked": missing.asked,
            "repaired": missing.repaired,
            "reordered": missing.reordered,
            "given_up": missing.given_up,
            "awaited": missing.count,
        }
