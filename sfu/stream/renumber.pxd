"""Sequence numbers and timestamps of a leg: continuous, whatever happens to its source."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    RENUMBER_SEGMENTS = 16   # the newest and those before it

# A stretch of the source's numbers that leaves with one offset. `source` counts the sources that the leg has had.
cdef struct RenumberSegment:
    uint64_t incoming       # first incoming extended sequence number
    uint64_t outgoing       # the number it leaves with
    uint32_t source

# Maps incoming extended sequence numbers to outgoing ones and back. Outgoing numbers start in [0, 2^16), so that the
# roll-over counter of the outgoing stream is 0 at the first packet (RFC 3711, section 3.3.1).
cdef struct Renumber:
    RenumberSegment newest  # that of the packets that come now
    uint8_t started
    uint8_t aligned         # the next source's timestamp offset is known: `next_offset`
    uint8_t cut             # the next packet starts a new segment right after the last number given
    uint64_t highest_in     # of the current source
    uint64_t next_out       # the number after the highest that was given
    uint32_t timestamp_offset
    uint32_t last_timestamp # outgoing
    int64_t last_time       # µs, when the highest packet was renumbered
    uint32_t source
    uint32_t next_offset
    RenumberSegment* older  # a ring, NULL while there is none
    uint32_t older_count
    uint32_t older_newest

# Zeroed it has nothing to free.
cdef void renumber_close(Renumber* self) noexcept nogil
cdef void renumber_init(Renumber* self, uint32_t first_sequence) noexcept nogil
# From now on packets come from another source (SSRC).
cdef void renumber_switch(Renumber* self) noexcept nogil
# After renumber_switch: the timestamps of the new source go on with this offset, unless that led back or far ahead.
cdef void renumber_align(Renumber* self, uint32_t timestamp_offset) noexcept nogil
# What lies between the highest packet and the next one is left out on purpose (pause, mute, wait for a keyframe).
cdef void renumber_cut(Renumber* self) noexcept nogil
# The packet `incoming` is dropped on purpose.
cdef void renumber_drop(Renumber* self, uint64_t incoming) noexcept nogil
# The outgoing extended number, or -1 for a packet that must not leave (it is from before the oldest segment or a cut).
cdef int64_t renumber_map(Renumber* self, uint64_t incoming, uint32_t timestamp, uint32_t clock_rate,
                          int64_t now) noexcept nogil
# The incoming number of the current source that left as `outgoing` (16 bits, the newest such), or -1;
# `extended` gets the outgoing number in full.
cdef int64_t renumber_find(const Renumber* self, uint32_t outgoing, uint64_t* extended) noexcept nogil
