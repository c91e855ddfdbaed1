"""Which layer of each track a viewer gets: a pure function of what its line carries, of policy and of its wishes."""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    ALLOC_LAYERS = 12
    ALLOC_TRACKS = 64           # of one viewer; as many as an offer may have m-lines
    ALLOC_HOLD_US = 2000000     # after a layer was lowered it is not raised for so long
    ALLOC_PAUSED_US = 500000    # the first picture, when it was paused
    ALLOC_TRIAL_US = 10000000   # a raise that did not last so long has failed: the hold doubles, above the floor
    ALLOC_FAILURES = 3          # doublings at most
    ALLOC_GRACE_US = 3000000    # so long the first picture keeps its floor on an estimate that is a little short

cpdef enum AllocMode:
    ALLOC_CLINICAL = 0          # by rank: floors first, then more
    ALLOC_FLAT = 1              # no priority: pictures in order of arrival (id) until the line is full
    ALLOC_EQUAL = 2             # equal shares of the line among the pictures; what one leaves goes to the others

cpdef enum AllocReason:
    ALLOC_OK = 0
    ALLOC_BELOW_FLOOR = 1       # the line withholds a layer that would meet the floor
    ALLOC_PAUSED_LINE = 2       # not even its least layer fits
    ALLOC_NO_LAYER = 3          # nothing comes from the publisher (yet); no pause: what comes may go out until the next call
    ALLOC_OFF = 4               # the viewer has paused it

# One operating point: what leaves when everything up to this spatial and temporal layer is forwarded. `bps` is all of
# it, dependencies included, with headers. 0 where frames (a second), width or height are not known.
cdef struct AllocLayer:
    uint32_t bps
    uint16_t frames
    uint16_t width
    uint16_t height
    int8_t spatial              # simulcast index or SVC layer, -1: there is none
    int8_t temporal
    uint8_t available           # it comes from the publisher now, and its rate has been measured

# A track of one viewer. Zeroed: nothing was decided yet. The owner fills the first block anew before each call and
# leaves the second alone.
cdef struct AllocTrack:
    uint32_t id                 # breaks ties of rank: the older track first
    uint8_t rank                # 0 is the most important
    uint8_t video
    uint8_t frames_first        # frames are given up before pixels; the floor is the source's own size
    uint8_t pinned_off
    uint32_t floor_bps          # of sound: what is set aside for it, even while it is silent
    uint16_t floor_frames
    uint16_t least_height
    uint16_t max_height         # never higher than this, 0: no limit
    uint16_t desired_height     # the lowest layer that is at least so high is enough, 0: no wish
    uint8_t layer_count
    AllocLayer* layers          # in any order; ALLOC_LAYERS at most

    uint8_t decided
    uint8_t running
    int8_t spatial              # what it runs at
    int8_t temporal
    uint8_t failures
    uint8_t is_short            # in the grace, since `short_since`: the first, second ... in a row; 0: not
    int64_t changed             # µs; 0: never
    int64_t raised
    int64_t lowered
    int64_t short_since

    int8_t index                # what was decided: of `layers`, -1: nothing leaves
    uint8_t reason              # AllocReason
    uint32_t cost_bps           # what was set aside for it
    uint32_t best_bps           # what its best layer within the viewer's wishes would need

# Decides every track's `index` and `reason`; returns how many have another layer than before, -1 when there are more
# than ALLOC_TRACKS. `now` is in µs. The result does not depend on the order of `tracks` or of their layers.
cdef int allocate(uint64_t estimate_bps, AllocTrack* tracks, int count, int mode, int64_t now) noexcept nogil

# After `allocate`: what the tracks use, and the estimate from which on every one of them would be at its best, with
# the margin that raising needs: probing the line further than that is of no use.
cdef void alloc_demand(const AllocTrack* tracks, int count, uint64_t* used_bps, uint64_t* wanted_bps) noexcept nogil
