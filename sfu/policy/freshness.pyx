"""Whether what a publisher sends is fresh: the freeze rule, and pictures that keep coming but do not change."""

from libc.string cimport memset

cdef enum:
    # Every viewer is to say STALE within 500 ms of the last frame: the server says it in time for the way there, so a
    # picture of fewer than about eight frames a second does not get its three intervals.
    STALE_LATEST_US = 400000
    INTERVAL_WEIGHT = 3      # as a shift: about the last eight frames count
    RECENT_WEIGHT = 3
    ORDINARY_WEIGHT = 6      # about two seconds of a picture
    # Nothing changes when a frame costs less than a seventh of an ordinary one and has less than one byte for every 250
    # points; something changes again over a fifth, or one for every 170. What encoders do is in docs/freshness.md.
    QUIET_SHARE = 7
    QUIET_POINTS = 250
    BUSY_SHARE = 5
    BUSY_POINTS = 170
    # Until the picture has changed, an ordinary frame is guessed from a keyframe, which costs about this much more.
    KEY_COST = 5
    SIZE_MAX = 1 << 26       # bytes of a frame; more is nonsense
    HALF = 0x80000000        # a timestamp further ahead is one of the past


cdef int64_t patience(const Freshness* self, const FreshnessRule* rule) noexcept nogil:
    """Time without a new frame that is not stale yet."""
    cdef int64_t frames = self.interval * rule.stale_frames
    if frames > STALE_LATEST_US:
        frames = STALE_LATEST_US
    return frames if frames > rule.stale_us else rule.stale_us


cdef int enter(Freshness* self, int state) noexcept nogil:
    if self.state == state:
        return 0
    self.state = <uint8_t>state
    return 1


cdef void weigh(Freshness* self, const FreshnessRule* rule) noexcept nogil:
    """The frame before is complete: what did it cost?"""
    cdef int64_t size = self.size
    cdef int quiet
    if self.key:
        if self.ordinary == 0:
            self.ordinary = <uint32_t>(size // KEY_COST) + 1
            self.recent = self.ordinary
        return
    if self.ordinary == 0 or self.pixels == 0:
        return  # nothing to compare with until there was a keyframe
    self.recent += <uint32_t>((size - <int64_t>self.recent) >> RECENT_WEIGHT)
    if self.quiet:
        quiet = self.recent <= self.ordinary // BUSY_SHARE and self.recent <= self.pixels // BUSY_POINTS
    else:
        quiet = self.recent <= self.ordinary // QUIET_SHARE and self.recent <= self.pixels // QUIET_POINTS
    if not quiet:
        self.quiet = 0
    elif self.quiet == 0:
        self.quiet = self.last
    if size > <int64_t>self.ordinary // QUIET_SHARE and not self.quiet:
        self.ordinary += <uint32_t>((size - <int64_t>self.ordinary) >> ORDINARY_WEIGHT)


cdef int new_frame(Freshness* self, const FreshnessRule* rule, int64_t elapsed, int64_t now) noexcept nogil:
    """`elapsed`: µs since the frame before by the timestamps, 0 when they do not tell."""
    cdef int in_time = self.started and now - self.last < patience(self, rule)
    self.started = 1
    self.last = now
    # One frame after a freeze may be a straggler; two in a row flow. A picture of two frames a second stays stale.
    self.flowing = in_time
    if not in_time:
        self.quiet = 0
        return 0
    if 0 < elapsed < STALE_LATEST_US:
        self.interval += ((elapsed - self.interval) >> INTERVAL_WEIGHT) if self.interval else elapsed
    if rule.unchanged_us and self.quiet and now - self.quiet >= rule.unchanged_us:
        return enter(self, FRESH_UNCHANGING)
    return enter(self, FRESH_LIVE)


cdef int freshness_packet(Freshness* self, const FreshnessRule* rule, uint32_t timestamp, uint32_t clock_rate,
                          uint32_t size, int key, uint32_t pixels, int64_t now) noexcept nogil:
    cdef uint32_t step = timestamp - self.timestamp
    cdef int64_t elapsed = 0
    cdef int changed
    if rule.stale_us == 0:
        return 0
    if pixels:
        self.pixels = pixels
    if self.started and step == 0:  # more of the newest frame
        self.key |= key
        if self.size < SIZE_MAX:
            self.size += size
        return 0
    # What is older came late; but where nothing newer comes any more, the publisher's clock was set.
    if self.started and step & HALF and self.state != FRESH_STALE:
        return 0
    if self.started:
        weigh(self, rule)
        elapsed = <int64_t>step * 1000000 // clock_rate
    changed = new_frame(self, rule, elapsed, now)
    self.timestamp = timestamp
    self.key = key
    self.size = size
    return changed


cdef int freshness_check(Freshness* self, const FreshnessRule* rule, int64_t now) noexcept nogil:
    if not self.started or rule.stale_us == 0 or now - self.last < patience(self, rule):
        return 0
    self.flowing = 0
    self.quiet = 0
    return enter(self, FRESH_STALE)


cdef int64_t freshness_due(const Freshness* self, const FreshnessRule* rule) noexcept nogil:
    if not self.started or rule.stale_us == 0 or (self.state == FRESH_STALE and not self.flowing):
        return 0
    return self.last + patience(self, rule)


cdef void freshness_resume(Freshness* self, int64_t now) noexcept nogil:
    if self.started:
        self.state = FRESH_LIVE
        self.flowing = 0
        self.quiet = 0
        self.last = now


cdef int freshness_state(const Freshness* self) noexcept nogil:
    if self.state != FRESH_STALE and not self.flowing:
        return FRESH_WAITING
    return self.state


cdef class Watch:
    """One source's freshness. Times are µs; the rule's are too.

    With `stale_us` 0 nothing is judged; with `unchanged_us` 0 pictures may stay as they are.
    """

    cdef Freshness kernel
    cdef FreshnessRule rule

    def __init__(self, *, stale_frames: int = 3, stale_us: int = 250_000, unchanged_us: int = 2_000_000):
        memset(&self.kernel, 0, sizeof(Freshness))
        self.rule.stale_frames = stale_frames
        self.rule.stale_us = stale_us
        self.rule.unchanged_us = unchanged_us

    def packet(self, timestamp: int, size: int, now: int, *, clock_rate: int = 90_000, key: bool = False,
               pixels: int = 0) -> bool:
        """A packet of a frame with `size` bytes of payload; whether the state changed."""
        return bool(freshness_packet(&self.kernel, &self.rule, timestamp, clock_rate, size, key, pixels, now))

    def check(self, now: int) -> bool:
        """Time has passed; whether the state changed."""
        return bool(freshness_check(&self.kernel, &self.rule, now))

    def resume(self, now: int) -> None:
        """Forwarding begins again after a pause."""
        freshness_resume(&self.kernel, now)

    @property
    def due(self) -> int:
        """When `check` will have something to do, 0 for never."""
        return freshness_due(&self.kernel, &self.rule)

    @property
    def state(self) -> FreshState:
        return FreshState(freshness_state(&self.kernel))
