"""Whether what a publisher sends is fresh: the freeze rule, and pictures that keep coming but do not change.

One `Freshness` for each incoming SSRC. Times are µs. Nothing is decoded: a frame is an RTP timestamp that is newer than
all before it, and how much changes in a picture is judged by what its frames cost.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

cpdef enum FreshState:
    FRESH_LIVE = 0
    FRESH_STALE = 1          # no new frame for too long
    FRESH_UNCHANGING = 2     # new frames that show nothing new
    FRESH_WAITING = 3        # not two frames in a row yet: nothing to judge by

# What the budget of a source asks (mediaserver.budgets).
cdef struct FreshnessRule:
    uint8_t stale_frames     # frame intervals without a new one
    int64_t stale_us         # never stale before that; 0: not judged at all
    int64_t unchanged_us     # of frames that show nothing new; 0: not judged

# A zeroed one is ready for its first packet.
cdef struct Freshness:
    uint8_t state            # FreshState, but WAITING is told by `started` and `flowing`
    uint8_t started          # a first frame has come
    uint8_t flowing          # two frames have come in time of each other
    uint8_t key              # the frame that is being received is a keyframe
    uint32_t timestamp       # of that frame
    uint32_t size            # bytes of it so far
    uint32_t pixels          # of a picture; 0: not known
    uint32_t ordinary        # bytes of a frame while the picture changes, running mean; 0: not known
    uint32_t recent          # bytes of a frame, mean over the last few; keyframes left out
    int64_t interval         # between frames, running mean, by their timestamps; 0: not known
    int64_t last             # arrival of the newest frame
    int64_t quiet            # since when frames have cost next to nothing; 0: they do not

# A packet with payload. `pixels` is the picture's size where this packet tells it, else 0. 1 when the state changed.
cdef int freshness_packet(Freshness* self, const FreshnessRule* rule, uint32_t timestamp, uint32_t clock_rate,
                          uint32_t size, int key, uint32_t pixels, int64_t now) noexcept nogil
# Time has passed. 1 when the state changed.
cdef int freshness_check(Freshness* self, const FreshnessRule* rule, int64_t now) noexcept nogil
# When freshness_check will have something to do, 0 for never.
cdef int64_t freshness_due(const Freshness* self, const FreshnessRule* rule) noexcept nogil
# Forwarding begins again after a pause (a mute): frames are due from now on.
cdef void freshness_resume(Freshness* self, int64_t now) noexcept nogil
cdef int freshness_state(const Freshness* self) noexcept nogil
