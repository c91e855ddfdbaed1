"""Sequence numbers and timestamps of a leg: continuous, whatever happens to its source."""

from libc.stdint cimport int32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef enum:
    # A longer hole in the source's numbers leaves as a hole of one. A receiver that misses some of its own packets too
    # must never be 2^15 behind: it would take the wrong roll-over counter from there on (RFC 3711, section 3.3.1).
    LONGEST_HOLE = 8192
    OLDER = RENUMBER_SEGMENTS - 1


cdef void renumber_init(Renumber* self, uint32_t first_sequence) noexcept nogil:
    memset(self, 0, sizeof(Renumber))
    self.next_out = first_sequence & 0xFFFF


cdef void renumber_close(Renumber* self) noexcept nogil:
    free(self.older)
    self.older = NULL
    self.older_count = 0


cdef void keep_newest(Renumber* self) noexcept nogil:
    """It is followed by another. Without memory for it what comes late of it is left out."""
    if self.older == NULL:
        self.older = <RenumberSegment*>calloc(OLDER, sizeof(RenumberSegment))
        if self.older == NULL:
            return
    self.older_newest = (self.older_newest + 1) % OLDER
    self.older[self.older_newest] = self.newest
    if self.older_count < OLDER:
        self.older_count += 1


cdef void renumber_switch(Renumber* self) noexcept nogil:
    self.source += 1
    self.cut = 1
    self.aligned = 0
    self.highest_in = 0


cdef void renumber_align(Renumber* self, uint32_t timestamp_offset) noexcept nogil:
    self.aligned = 1
    self.next_offset = timestamp_offset


cdef void renumber_cut(Renumber* self) noexcept nogil:
    self.cut = 1


cdef void open_segment(Renumber* self, uint64_t incoming, uint64_t outgoing) noexcept nogil:
    if self.started:
        keep_newest(self)
    self.newest.incoming = incoming
    self.newest.outgoing = outgoing
    self.newest.source = self.source


cdef void renumber_drop(Renumber* self, uint64_t incoming) noexcept nogil:
    if self.cut or not self.started or incoming <= self.highest_in:
        return  # nothing was given yet, or its number is taken already: the hole stays
    if self.newest.incoming == incoming and incoming == self.highest_in + 1:
        self.newest.incoming += 1  # one more of a row of drops (browsers probe with padding): still the same segment
        self.highest_in = incoming
        return
    if incoming - self.highest_in > LONGEST_HOLE:
        self.next_out += 1
    else:
        self.next_out = self.newest.outgoing + (incoming - self.newest.incoming)
    open_segment(self, incoming + 1, self.next_out)
    self.highest_in = incoming


cdef void align_timestamp(Renumber* self, uint32_t timestamp, uint32_t clock_rate, int64_t now) noexcept nogil:
    """After a change of source: the timestamp goes on by the time that has passed."""
    cdef int64_t elapsed = (now - self.last_time) * <int64_t>clock_rate // 1000000
    cdef int32_t ahead = <int32_t>(timestamp + self.next_offset - self.last_timestamp)
    if self.aligned and -<int64_t>clock_rate < ahead < elapsed + <int64_t>clock_rate:
        # Another encoding of a picture that left already: it may not come before that again.
        self.timestamp_offset = self.next_offset if ahead > 0 else self.last_timestamp + 1 - timestamp
        return
    if elapsed < 1:
        elapsed = 1
    self.timestamp_offset = self.last_timestamp + <uint32_t>elapsed - timestamp


cdef inline const RenumberSegment* segment_before(const Renumber* self, uint32_t steps) noexcept nogil:
    """So many steps, at most `older_count`, before the newest."""
    if steps == 0:
        return &self.newest
    return &self.older[(self.older_newest + OLDER + 1 - steps) % OLDER]


cdef int64_t map_late(const Renumber* self, uint64_t incoming) noexcept nogil:
    """Of an older segment."""
    cdef const RenumberSegment* segment
    cdef uint64_t outgoing
    cdef uint32_t i
    for i in range(1, self.older_count + 1):
        segment = segment_before(self, i)
        if segment.source != self.source:
            return -1
        if incoming >= segment.incoming:
            outgoing = segment.outgoing + (incoming - segment.incoming)
            # Its number may have been given to a later stretch: then it was left out on purpose.
            return <int64_t>outgoing if outgoing < segment_before(self, i - 1).outgoing else -1
    return -1


cdef int64_t renumber_map(Renumber* self, uint64_t incoming, uint32_t timestamp, uint32_t clock_rate,
                          int64_t now) noexcept nogil:
    cdef uint64_t outgoing
    if self.cut or not self.started:
        if self.started and incoming <= self.highest_in:
            return -1  # a late packet from before the cut must not open the new segment
        if self.started and self.newest.source != self.source:
            align_timestamp(self, timestamp, clock_rate, now)
        open_segment(self, incoming, self.next_out)
        self.started = 1
        self.cut = 0
        outgoing = self.next_out
    elif incoming > self.highest_in and incoming - self.highest_in > LONGEST_HOLE:
        outgoing = self.next_out + 1
        open_segment(self, incoming, outgoing)
    elif incoming >= self.newest.incoming:
        outgoing = self.newest.outgoing + (incoming - self.newest.incoming)
    else:
        return map_late(self, incoming)
    if incoming >= self.highest_in:
        self.highest_in = incoming
        self.next_out = outgoing + 1
        self.last_timestamp = timestamp + self.timestamp_offset
        self.last_time = now
    return <int64_t>outgoing


cdef int64_t renumber_find(const Renumber* self, uint32_t outgoing, uint64_t* extended) noexcept nogil:
    cdef const RenumberSegment* segment
    cdef uint64_t highest, full, end
    cdef uint32_t i
    if not self.started or self.next_out == 0:
        return -1
    highest = self.next_out - 1
    full = (highest & ~<uint64_t>0xFFFF) | (outgoing & 0xFFFF)
    if full > highest:
        if full < 0x10000:
            return -1
        full -= 0x10000
    end = self.next_out
    for i in range(self.older_count + 1):
        segment = segment_before(self, i)
        if segment.source != self.source:
            return -1
        if segment.outgoing <= full < end:
            extended[0] = full
            return <int64_t>(segment.incoming + (full - segment.outgoing))
        end = segment.outgoing
    return -1
