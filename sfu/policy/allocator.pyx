"""Which layer of each track a viewer gets.

Sound comes first, in order of rank. Then every picture is brought to its floor in order of rank, and to less than its
floor where that does not fit; then, again in order of rank, to the best that is left over for it. docs/priority.md
says why, and what is promised.

A layer of a track is judged by one number, its key: greater is better. The topmost bit says that the floor is met, so
that a choice is made by comparing integers.
"""

from libc.stdint cimport UINT64_MAX
from libc.string cimport memset

cdef enum:
    # To raise a layer needs more than its rate (shifts): 1/128 of it for sound and for the first picture's floor, which
    # are worth another try soon; 1/8 of it and 1/32 of the line for everything else.
    FLOOR_MARGIN = 7
    MORE_MARGIN = 3
    LINE_MARGIN = 5
    ABOVE_MARGIN = 4     # and 1/16 of the pictures that rank above: they waver, and what is raised must not take from them
    NEARLY = 5           # and an estimate that is short by no more than 1/32 is no sign of another line:
    GRACES = 4           # it gives another grace, so many in a row at most
    KEY_HEIGHT = 46
    KEY_SPATIAL = 40
    KEY_FRAMES = 25
    KEY_FRAMES_MAX = (1 << 15) - 1
    KEY_TEMPORAL = 21
    KEY_RATE_MAX = (1 << 20) - 1

cdef uint64_t KEY_FLOOR = <uint64_t>1 << 63    # meets the floor
# Has the frames of the floor at least: worth more than size, or less where frames are given up first.
cdef uint64_t KEY_FLUID = <uint64_t>1 << 62
cdef uint64_t KEY_FLUID_LESS = <uint64_t>1 << 45
# Of encodings of one size one with all frames goes before one at half of them with more bits in each: half of thirty is a
# floor's frames without any margin, and an alarm.
cdef uint64_t KEY_SMOOTH = <uint64_t>1 << 44

# A track while it is decided upon.
cdef struct Choice:
    AllocTrack* track
    uint64_t keys[ALLOC_LAYERS]     # 0: not to be had, or more than the viewer looks at
    uint64_t current                # key of the layer that it runs at, 0: paused
    uint64_t cost                   # of what is chosen
    uint64_t reserve                # what it will want besides once its hold is over
    int chosen                      # -1: nothing
    uint8_t unbound                 # nothing to hold on to: the first decision, or its layer has gone
    uint8_t held                    # not to be raised now
    uint8_t held_long               # nor then, unless it is sound, or the first picture under its floor
    uint8_t awaits                  # its hold ends so soon that what it will take is kept free for it


cdef inline uint64_t price(const AllocTrack* track, int index) noexcept nogil:
    cdef uint32_t bps = track.layers[index].bps
    if not track.video and bps < track.floor_bps:
        return track.floor_bps
    return bps


cdef inline bint reaches(uint32_t value, uint32_t floor, bint current) noexcept nogil:
    """Measured figures waver: a tenth below the floor is at the floor, for the layer that runs a fifth."""
    return <uint64_t>value * (5 if current else 10) >= <uint64_t>floor * (4 if current else 9)


cdef inline uint64_t plain_key(const AllocLayer* layer) noexcept nogil:
    cdef uint64_t rate = layer.bps >> 10
    if rate > KEY_RATE_MAX:
        rate = KEY_RATE_MAX
    return (<uint64_t>layer.height << KEY_HEIGHT | <uint64_t>((layer.spatial + 1) & 15) << KEY_SPATIAL
            | <uint64_t>min(layer.frames, KEY_FRAMES_MAX) << KEY_FRAMES | <uint64_t>((layer.temporal + 1) & 15) << KEY_TEMPORAL
            | rate << 1 | 1)


cdef uint32_t height_limit(const AllocTrack* track) noexcept nogil:
    """The height above which a layer is more than the viewer looks at, or may have."""
    cdef uint32_t limit = track.max_height if track.max_height else 0xFFFF
    cdef uint32_t enough = 0xFFFF, lowest = 0xFFFF, height
    cdef int i
    for i in range(track.layer_count):
        if not track.layers[i].available:
            continue
        height = track.layers[i].height
        if height < lowest:
            lowest = height
        if track.desired_height and track.desired_height <= height < enough:
            enough = height
    if enough < limit:
        limit = enough
    return limit if limit > lowest else lowest


cdef void judge(Choice* self) noexcept nogil:
    """Give every layer that is to be had its key. The floor is no more than what the best of them has: what the
    publisher does not send, no line withholds."""
    cdef AllocTrack* track = self.track
    cdef uint32_t limit = height_limit(track), need_height, need_frames, need_bps
    cdef uint64_t best_key = 0, key
    cdef AllocLayer* layer
    cdef AllocLayer* best = NULL
    cdef bint current, fluid
    cdef int i
    for i in range(track.layer_count):
        layer = &track.layers[i]
        self.keys[i] = plain_key(layer) if layer.available and layer.height <= limit else 0
        if self.keys[i] > best_key:
            best_key = self.keys[i]
            best = layer
            track.best_bps = <uint32_t>price(track, i)
    if best == NULL:
        return
    need_height = best.height if track.frames_first or best.height < track.least_height else track.least_height
    need_frames = best.frames if best.frames < track.floor_frames else track.floor_frames
    need_bps = best.bps if best.bps < track.floor_bps else track.floor_bps
    for i in range(track.layer_count):
        if not self.keys[i]:
            continue
        layer = &track.layers[i]
        current = track.running and layer.spatial == track.spatial and layer.temporal == track.temporal
        fluid = reaches(layer.frames, need_frames, current)
        key = self.keys[i]
        if reaches(layer.frames, best.frames, current):
            key |= KEY_SMOOTH
        if fluid:
            key |= KEY_FLUID_LESS if track.frames_first else KEY_FLUID
        if not track.video or (fluid and layer.height >= need_height and reaches(layer.bps, need_bps, current)):
            key |= KEY_FLOOR
        self.keys[i] = key
        if current:
            self.current = key


cdef void begin(Choice* self, AllocTrack* track, int64_t now) noexcept nogil:
    cdef int64_t rest
    memset(self, 0, sizeof(Choice))
    self.track = track
    self.chosen = -1
    track.best_bps = 0
    if track.layer_count > ALLOC_LAYERS:
        track.layer_count = ALLOC_LAYERS
    judge(self)
    self.unbound = not track.decided or (track.running and not self.current)
    if not self.unbound and track.lowered:
        rest = track.lowered + (<int64_t>ALLOC_HOLD_US << track.failures) - now
        self.held = now - track.lowered < ALLOC_HOLD_US
        self.held_long = rest > 0
        self.awaits = self.held or 0 < rest <= ALLOC_HOLD_US


cdef inline uint64_t charge(const Choice* self, int index, uint64_t margin, int shift) noexcept nogil:
    """What must be free for this layer: its rate, and a margin beside it when that is a raise."""
    cdef uint64_t bps = price(self.track, index)
    if self.unbound or self.keys[index] <= self.current:
        return bps
    return bps + (bps >> shift) + margin


cdef inline bint affordable(const Choice* self, int index, uint64_t budget, uint64_t reserved, bint held,
                            uint64_t margin, int shift) noexcept nogil:
    """Whether the layer fits. What is `reserved` for others binds raises alone."""
    cdef uint64_t need
    if self.unbound or self.keys[index] <= self.current:
        return price(self.track, index) <= budget
    need = charge(self, index, margin, shift) + reserved
    # A long hold guards against a line that is near to what the layer needs, not against one that carries much more.
    return need <= budget if not held else not self.held and need + (need >> 1) <= budget


cdef int pick_floor(const Choice* self, uint64_t budget, uint64_t reserved, bint held,
                    uint64_t margin, int shift) noexcept nogil:
    """The cheapest layer that meets the floor; else the best that fits; else -1."""
    cdef int i, cheapest = -1, best = -1
    for i in range(self.track.layer_count):
        if not self.keys[i] or not affordable(self, i, budget, reserved, held, margin, shift):
            continue
        if self.keys[i] & KEY_FLOOR and (cheapest < 0 or price(self.track, i) < price(self.track, cheapest)
                or (price(self.track, i) == price(self.track, cheapest) and self.keys[i] > self.keys[cheapest])):
            cheapest = i
        if best < 0 or self.keys[i] > self.keys[best]:
            best = i
    return cheapest if cheapest >= 0 else best


cdef int pick_best(const Choice* self, int least, uint64_t budget, uint64_t reserved, bint held,
                   uint64_t margin) noexcept nogil:
    """The best layer that fits, `least` if nothing better does."""
    cdef int i, best = least
    for i in range(self.track.layer_count):
        if self.keys[i] and (best < 0 or self.keys[i] > self.keys[best]) and affordable(
                self, i, budget, reserved, held, margin, MORE_MARGIN):
            best = i
    return best


cdef inline void take(Choice* self, int chosen, uint64_t* left) noexcept nogil:
    """Set aside what the chosen layer costs, instead of what was set aside before."""
    cdef uint64_t cost = price(self.track, chosen) if chosen >= 0 else 0
    left[0] += self.cost
    left[0] -= cost if cost < left[0] else left[0]
    self.chosen = chosen
    self.cost = cost


cdef inline void set_reserve(Choice* self, int wanted, uint64_t margin, int shift, uint64_t* reserved) noexcept nogil:
    """Keep free for a track in its hold what it will take after it: else what ranks below takes it meanwhile, to give
    it back at once."""
    cdef uint64_t need
    reserved[0] -= self.reserve
    self.reserve = 0
    if wanted >= 0:
        need = charge(self, wanted, margin, shift)
        if need > self.cost:
            self.reserve = need - self.cost
    reserved[0] += self.reserve


cdef int pick_cheapest(const Choice* self, uint64_t required) noexcept nogil:
    """The cheapest layer with these bits in its key that is not above the one that runs, if one does; else -1."""
    cdef int i, cheapest = -1
    for i in range(self.track.layer_count):
        if self.keys[i] and self.keys[i] & required == required and (not self.current or self.keys[i] <= self.current):
            if cheapest < 0 or price(self.track, i) < price(self.track, cheapest) or (
                    price(self.track, i) == price(self.track, cheapest) and self.keys[i] > self.keys[cheapest]):
                cheapest = i
    return cheapest


cdef int in_grace(Choice* self, int chosen, uint64_t budget, int64_t now) noexcept nogil:
    """The layer at which the first picture stays when the estimate has just fallen a little short of its floor, or of its
    least layer, so that it would be paused, and come back with a keyframe; else -1.
    Estimates fall to some 85 % of what has arrived when a queue grows, less while a long one drains, and climb back in
    seconds. What arrived was enough then; if it is so no more, the next fall goes further, and the grace ends at once.
    Where the picture is nearly all that the line carries, they climb to nearly enough and fall again."""
    cdef AllocTrack* track = self.track
    cdef uint64_t required = self.current & KEY_FLOOR
    cdef int cheapest
    if not self.current or (not required and chosen >= 0):
        return -1
    if not track.is_short:
        track.is_short = 1
        track.short_since = now
    cheapest = pick_cheapest(self, required)
    if price(track, cheapest) <= budget + (budget >> NEARLY) and track.is_short < GRACES \
            and now - track.short_since >= ALLOC_GRACE_US // 2:
        track.is_short += 1
        track.short_since = now
    if price(track, cheapest) > budget + budget // 2 or now - track.short_since >= ALLOC_GRACE_US:
        return -1
    return cheapest


cdef inline bint is_lowered(const Choice* self, int chosen) noexcept nogil:
    """It is under its floor, since now or for no longer than its hold."""
    cdef uint64_t key = self.keys[chosen] if chosen >= 0 else 0
    return not key & KEY_FLOOR and (self.held or key < self.current)


cdef void set_floor(Choice* self, uint64_t* left, uint64_t* reserved, uint64_t margin, bint precious, bint picture,
                    int64_t now) noexcept nogil:
    """Bring a track to its floor. What is `precious` is tried again soon, and not given up for a dip of the estimate."""
    cdef bint held = self.held if precious else self.held_long
    cdef int shift = FLOOR_MARGIN if precious else MORE_MARGIN
    cdef int chosen, kept, again
    if precious:
        margin = 0
        if picture and held and not self.track.running:
            held = now - self.track.lowered < ALLOC_PAUSED_US  # too little is better than nothing
    chosen = pick_floor(self, left[0], reserved[0], held, margin, shift)
    if precious and picture and held and not self.current & KEY_FLOOR and now - self.track.lowered >= ALLOC_PAUSED_US:
        # A line that carries much more than the floor is another than the one on which it was lost.
        again = pick_floor(self, left[0] - left[0] // 3, reserved[0], False, margin, shift)
        if again >= 0 and self.keys[again] & KEY_FLOOR:
            chosen = again
    if precious and picture:
        if chosen >= 0 and self.keys[chosen] & KEY_FLOOR:
            self.track.is_short = 0
        else:
            kept = in_grace(self, chosen, left[0], now)
            if kept < 0 <= chosen:
                self.track.is_short = 0
            chosen = kept if kept >= 0 else chosen
    take(self, chosen, left)
    if precious and picture and is_lowered(self, chosen):
        # What it has just lost nobody below gets before it has been tried again.
        set_reserve(self, pick_floor(self, UINT64_MAX >> 1, 0, False, 0, FLOOR_MARGIN), 0, FLOOR_MARGIN, reserved)
    elif held and self.awaits:
        chosen = pick_floor(self, left[0] + self.cost, reserved[0], False, margin, shift)
        set_reserve(self, chosen, margin, shift, reserved)


cdef void improve(Choice* self, uint64_t* left, uint64_t* reserved, uint64_t margin, bint precious) noexcept nogil:
    """Raise a picture that has its floor as far as what is left allows."""
    cdef uint64_t budget = left[0] + self.cost
    cdef uint64_t others = reserved[0] - self.reserve
    cdef int wanted
    if self.chosen >= 0 and self.keys[self.chosen] & KEY_FLOOR:
        take(self, pick_best(self, self.chosen, budget, others, self.held_long, margin), left)
    if self.awaits:
        if precious:
            wanted = pick_floor(self, budget, others, False, 0, FLOOR_MARGIN)
            if is_lowered(self, wanted):
                return  # what is kept free is more than the line carries now
        else:
            wanted = pick_floor(self, budget, others, False, margin, MORE_MARGIN)
        if wanted >= 0 and self.keys[wanted] & KEY_FLOOR:
            wanted = pick_best(self, wanted, budget, others, False, margin)
        set_reserve(self, wanted, margin, MORE_MARGIN, reserved)


cdef void fill(Choice** order, int count, uint64_t* left, bint shares) noexcept nogil:
    """The baselines: each picture its best, out of all that is left or out of its share of that."""
    cdef uint64_t reserved = 0, budget, margin = left[0] >> LINE_MARGIN
    cdef Choice* one
    cdef int i
    for i in range(count):
        one = order[i]
        budget = (left[0] - (reserved if reserved < left[0] else left[0])) // (count - i) if shares else left[0]
        take(one, pick_best(one, -1, budget, 0 if shares else reserved, one.held_long, margin), left)
        if one.awaits:
            set_reserve(one, pick_best(one, one.chosen, budget, 0, False, margin), margin, MORE_MARGIN, &reserved)


cdef bint before(const Choice* one, const Choice* other, int mode) noexcept nogil:
    if one.track.video != other.track.video:
        return not one.track.video
    if mode == ALLOC_EQUAL and one.track.best_bps != other.track.best_bps and one.track.video:
        return one.track.best_bps < other.track.best_bps
    if (mode == ALLOC_CLINICAL or not one.track.video) and one.track.rank != other.track.rank:
        return one.track.rank < other.track.rank
    return one.track.id < other.track.id


cdef int conclude(Choice* self, int64_t now) noexcept nogil:
    """Write the decision down; 1 when it is another than before."""
    cdef AllocTrack* track = self.track
    cdef uint64_t key = self.keys[self.chosen] if self.chosen >= 0 else 0
    cdef bint changed = not track.decided or key != self.current or self.unbound
    track.index = <int8_t>self.chosen
    track.cost_bps = <uint32_t>self.cost
    if self.chosen < 0:
        track.reason = ALLOC_PAUSED_LINE
    else:
        track.reason = ALLOC_OK if key & KEY_FLOOR else ALLOC_BELOW_FLOOR
    if not changed:
        return 0
    track.changed = now
    if track.decided and not self.unbound:
        if key > self.current:
            track.raised = now
        else:
            if not track.raised or now - track.raised >= ALLOC_TRIAL_US:
                track.failures = 0
            elif track.failures < ALLOC_FAILURES:
                track.failures += 1
            track.lowered = now
    track.decided = 1
    track.running = self.chosen >= 0
    if self.chosen >= 0:
        track.spatial = track.layers[self.chosen].spatial
        track.temporal = track.layers[self.chosen].temporal
    return 1


cdef int leave_out(AllocTrack* track, int reason, int64_t now) noexcept nogil:
    """A track that is not decided upon; 1 when something left before. What it will be later begins anew."""
    cdef bint left = track.decided and track.running
    track.index = -1
    track.reason = reason
    track.cost_bps = 0
    track.decided = 0
    track.running = 0
    track.is_short = 0
    track.lowered = 0
    if left:
        track.changed = now
    return left


cdef int allocate(uint64_t estimate_bps, AllocTrack* tracks, int count, int mode, int64_t now) noexcept nogil:
    cdef Choice choices[ALLOC_TRACKS]
    cdef Choice* order[ALLOC_TRACKS]
    cdef Choice* one
    cdef uint64_t left = estimate_bps, reserved = 0, margin = estimate_bps >> LINE_MARGIN, above = 0
    cdef int used = 0, sounds = 0, changed = 0, i, at
    if count > ALLOC_TRACKS:
        return -1
    for i in range(count):
        one = &choices[used]
        begin(one, &tracks[i], now)
        if tracks[i].pinned_off or not tracks[i].best_bps:
            changed += leave_out(&tracks[i], ALLOC_OFF if tracks[i].pinned_off else ALLOC_NO_LAYER, now)
            continue
        at = used
        while at > 0 and before(one, order[at - 1], mode):
            order[at] = order[at - 1]
            at -= 1
        order[at] = one
        used += 1
        sounds += not tracks[i].video
    for i in range(sounds):
        set_floor(order[i], &left, &reserved, 0, True, False, now)
        if i == 0 and order[0].chosen < 0:  # the most important sound is never paused
            take(order[0], pick_cheapest(order[0], 0), &left)
    if mode == ALLOC_CLINICAL:
        for i in range(sounds, used):
            set_floor(order[i], &left, &reserved, margin + above, i == sounds, True, now)
            above += order[i].cost >> ABOVE_MARGIN
        above = 0
        for i in range(sounds, used):
            improve(order[i], &left, &reserved, margin + above, i == sounds)
            above += order[i].cost >> ABOVE_MARGIN
    else:
        fill(&order[sounds], used - sounds, &left, mode == ALLOC_EQUAL)
    for i in range(used):
        changed += conclude(&choices[i], now)
    return changed


cdef void alloc_demand(const AllocTrack* tracks, int count, uint64_t* used_bps, uint64_t* wanted_bps) noexcept nogil:
    cdef uint64_t used = 0, best = 0
    cdef int i
    for i in range(count):
        used += tracks[i].cost_bps
        if not tracks[i].pinned_off:
            best += tracks[i].best_bps + (tracks[i].best_bps >> MORE_MARGIN)
    used_bps[0] = used
    wanted_bps[0] = best + best // ((1 << LINE_MARGIN) - 1) + 1
