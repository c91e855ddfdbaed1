"""The packets that one source owes: which are awaited, when each is asked for, and when it is given up.

A number is asked for when it has been overtaken by more than packets on this line overtake each other, then again
when the answer should long be here, each time with more patience, until nobody could use it any more. All that the
server asks for comes from here, once for everybody who listens: whatever viewers miss, this knows nothing of them.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.sfu.policy.round_trip cimport RoundTrip

cdef enum:
    MISSING_MAX = 256        # awaited at once; a larger hole is a new start, not a loss to repair
    MISSING_ROUND = 128      # asked for at once
    MISSING_TRIES = 16
    MISSING_RETRY_US = 20000 # least time between two requests for one packet
    # Requests that a source answers for, in millionths: a share of what it sends, so that a thin line is not filled
    # with repairs, some per second whatever it sends, and a burst.
    MISSING_SHARE = 250000   # for each packet that comes
    MISSING_RATE = 20        # for each µs: as many a second
    MISSING_BURST = 128
    # The same for what only a recorder waits for any more: of another account, so that it takes nothing from the repair
    # of what is watched, and never more than one packet in forty.
    MISSING_LATE_SHARE = 25000
    MISSING_LATE_RATE = 5
    MISSING_LATE_BURST = 64
    # Reordering, as it is until the line has shown its own.
    REORDER_LEAST_US = 4000
    REORDER_LEAST = 8        # packets
    REORDER_MOST = 128

cdef enum:
    MISSING_IN_TIME = 1
    MISSING_OVERDUE = 2

# How long a packet is of use, in µs since it was noticed as missing.
cdef struct MissingTerms:
    int64_t live             # to those who watch: asked for until then, and told as overdue when no answer can come
    int64_t kept             # to a recorder, 0: there is none
    int64_t slowest          # no request on a line that takes longer to answer

cdef struct Missing:
    uint64_t sequence        # extended
    int64_t noticed          # µs
    int64_t first_asked      # µs
    int64_t asked            # µs, the last time
    uint8_t tries
    uint8_t told             # as overdue

cdef struct MissingList:
    Missing entries[MISSING_MAX]   # ascending
    uint32_t count
    uint64_t unasked         # the lowest number that was never asked for, 0: none
    uint64_t keyframe        # nobody who watches waits for what stands before it
    int64_t tolerance        # µs by which packets of this source overtake each other
    uint32_t distance        # and by how many packets, in sixteenths
    int64_t credit           # requests, in millionths
    int64_t late_credit      # those for a recorder alone
    int64_t credit_at        # µs
    uint64_t asked           # requests, repetitions included
    uint64_t repaired        # came because they were asked for
    uint64_t reordered       # came by themselves
    uint64_t given_up

# What is to be done now.
cdef struct MissingRound:
    int count
    uint16_t sequences[MISSING_ROUND]  # to ask for, ascending
    int overdue              # packets that viewers will have to do without
    int64_t deadline         # µs of the next round, 0: none

cdef void missing_init(MissingList* self, int64_t now) noexcept nogil
# How long packets of a medium are worth asking for; `kept`: a recorder listens.
cdef void missing_terms(MissingTerms* terms, int video, int kept) noexcept nogil
# The numbers from `first` up to but without `end` are awaited from now on. How many, or -1 for a hole too large to
# repair: then nothing is awaited any more.
cdef int missing_hole(MissingList* self, uint64_t first, uint64_t end, int64_t now) noexcept nogil
# A packet has come with its own number. Not 0 when it was awaited: late by itself or, where the peer repeats packets as
# they were (`repeats`), because it was asked for. MISSING_OVERDUE: those who watch do without it.
cdef int missing_arrived(MissingList* self, uint64_t sequence, uint64_t highest, int repeats, RoundTrip* round_trip,
                         int64_t now) noexcept nogil
# A retransmission has come. The same.
cdef int missing_repaired(MissingList* self, uint64_t sequence, RoundTrip* round_trip, int64_t now) noexcept nogil
# What is missing came as a copy inside another packet. 1 when it was awaited.
cdef int missing_covered(MissingList* self, uint64_t sequence) noexcept nogil
# What to ask for now. Gives up on what nobody can use any more.
cdef void missing_round(MissingList* self, const MissingTerms* terms, const RoundTrip* round_trip, uint64_t highest,
                        int64_t now, MissingRound* round) noexcept nogil

# The number is awaited, and would still be of use to those who watch.
cdef int missing_awaits(const MissingList* self, uint64_t sequence) noexcept nogil

# The lowest number that is awaited, 0: none.
cdef inline uint64_t missing_lowest(const MissingList* self) noexcept nogil:
    return self.entries[0].sequence if self.count else 0

cdef inline void missing_earn(MissingList* self) noexcept nogil:
    """A packet has come: the source can stand a little more."""
    if self.credit < <int64_t>MISSING_BURST * 1000000:
        self.credit += MISSING_SHARE
    if self.late_credit < <int64_t>MISSING_LATE_BURST * 1000000:
        self.late_credit += MISSING_LATE_SHARE

cdef inline int missing_overtaken(const MissingList* self, uint64_t highest) noexcept nogil:
    """A number that was not asked for yet lies further behind than reordering explains."""
    return self.unasked != 0 and highest - self.unasked >= self.distance >> 4
