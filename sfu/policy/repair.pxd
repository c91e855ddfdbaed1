"""What a viewer that misses packets gets again: each number at most once per round trip, all of it a share of its line.

A viewer may be broken or hostile: what it asks for costs a bounded number of look-ups and of bytes. What is refused is
refused with its cause.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.sfu.policy.round_trip cimport RoundTrip

cpdef enum RepairVerdict:
    REPAIR_SEND = 0
    REPAIR_RECENT = 1        # on its way: the request was made before that could arrive
    REPAIR_SPENT = 2         # the share of the line is used up
    REPAIR_OLD = 3           # too late for any jitter buffer
    REPAIR_OFTEN = 4         # sent as often as is sensible: this is not how the viewer will get it
    REPAIR_VERDICTS = 5

cdef enum:
    REPAIR_SLOTS = 256       # numbers remembered: more than are open within a round trip
    REPAIR_TIMES = 8
    REPAIR_QUICK = 3         # times at a round trip's distance; then each takes twice as long as the one before
    REPAIR_SENDING_US = 500000   # over so long at least it is measured what a viewer is sent
    REPAIR_SHARE = 4         # a fourth of the line
    REPAIR_LINE = 2000000    # bit/s, where nothing is known of the line
    REPAIR_BURST_US = 1000000    # of the share may go at once
    REPAIR_BURST_LEAST = 24000   # bytes: a burst of loss on a thin line
    REPAIR_OLD_US = 1000000
    REPAIR_WAIT_US = 500000  # what was granted and has not left by then was let go on the way
    REPAIR_HEED_RATE = 2000  # numbers a second that are looked up for one viewer
    REPAIR_HEED_BURST = 1024

cdef struct RepairSlot:
    uint32_t at              # ms, modulo 2^32: when it was sent, or granted as long as it waits
    uint16_t sequence
    uint8_t times            # 0: an empty slot
    uint8_t waits

# Of one stream to one viewer; all zeros to start with.
cdef struct RepairState:
    RepairSlot slots[REPAIR_SLOTS]

# Of one viewer.
cdef struct RepairShare:
    int64_t credit           # bits, in millionths
    int64_t credit_at        # µs
    int64_t heed             # look-ups, in millionths
    int64_t heed_at          # µs
    uint8_t started
    int64_t sent_at          # µs of the last look at what the viewer was sent, 0: none yet
    uint64_t sent_bytes      # by then
    uint64_t sent_bps        # between the last two

# Whether one more number of a NACK is looked at.
cdef int repair_heed(RepairShare* share, int64_t now) noexcept nogil
# At which rate (bit/s) the viewer is sent what it was sent `bytes` of since it began; 0: not known yet.
cdef uint64_t repair_sending(RepairShare* share, uint64_t bytes, int64_t now) noexcept nogil
# Whether the share has so many bytes left.
cdef int repair_covers(RepairShare* share, uint64_t estimate_bps, uint64_t bytes, int64_t now) noexcept nogil
# Whether the packet of `size` bytes that came `age` µs ago and left with that number is sent again; REPAIR_SEND takes
# it from the share: call repair_leaves when it goes. `estimate_bps` 0: not known. `small`: sound, which is next to
# nothing and never refused for its share.
cdef RepairVerdict repair_may(RepairState* self, RepairShare* share, uint16_t sequence, int64_t age, int small,
                              const RoundTrip* round_trip, uint64_t estimate_bps, uint32_t size,
                              int64_t now) noexcept nogil
# What was granted leaves now: its round trip begins.
cdef void repair_leaves(RepairState* self, uint16_t sequence, int64_t now) noexcept nogil
