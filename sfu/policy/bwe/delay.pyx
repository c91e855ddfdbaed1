"""What the packets' delays say about the line's queue: its trend, and how long it is.

The trend follows draft-ietf-rmcat-gcc-02 (sections 5.2 to 5.4) with the trendline that libwebrtc has put in the Kalman filter's
place. The queue's length is our own addition: see docs/congestion.md.
"""

from libc.math cimport fabs
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint32_t
from libc.string cimport memset

cdef enum:
    GROUP_US = 5000              # packets that leave within this are a group
    BURST_LONGEST_US = 100000
    GAP_MOST_US = 3000000        # between two groups that can be compared
    RECENT_US = 120000           # over which the lowest delay is sought; longer where it wanders, by so many times as much
    RECENT_WANDER = 32
    RECENT_MOST_US = 350000
    WANDER_MOST_US = 40000
    STEEP_SPAN_US = 20000        # pictures leave in runs: less between two reports tells of a run alone
    STEEP_LONGEST_US = 250000    # over which it is looked for
    STEEP_US = 40000             # what a picture, a probe or a browser's slow turn may add
    STEEP_WANDER = 16            # and a jittery line, twice what else is taken for its jitter
    STEEP_BACK_US = 5000
    DELTAS_MOST = 60
    POINTS_LEAST = 8

cdef double SMOOTHING = 0.9
cdef double GAIN = 4.0
cdef double THRESHOLD_FIRST = 12.5      # ms
cdef double THRESHOLD_LEAST = 6.0
cdef double THRESHOLD_MOST = 600.0
cdef double ADAPT_UP = 0.0087           # per ms
cdef double ADAPT_DOWN = 0.039
cdef double OVER_LEAST_MS = 10.0


cdef inline void begin_report(DelayFilter* filter) noexcept nogil:
    filter.lowest = INT64_MAX
    filter.highest = INT64_MIN
    filter.total = 0
    filter.count = filter.bytes = 0


cdef void delay_init(DelayFilter* filter) noexcept nogil:
    memset(filter, 0, sizeof(DelayFilter))
    filter.threshold = THRESHOLD_FIRST
    delay_forget(filter)


cdef void delay_forget(DelayFilter* filter) noexcept nogil:
    cdef int i
    filter.lowest_before = filter.base = filter.base_before = INT64_MAX
    filter.queue_us = 0
    filter.newest_sent = filter.past_sent = 0
    filter.past_bytes = 0
    filter.steep_bps = 0
    begin_report(filter)
    for i in range(DELAY_RECENT):
        filter.recent[i] = INT64_MAX


cdef void delay_restart(DelayFilter* filter) noexcept nogil:
    filter.groups = 0
    filter.points = 0
    filter.sum_x = filter.sum_y = filter.sum_xx = filter.sum_xy = 0
    filter.accumulated = filter.smoothed = 0
    filter.trend = filter.trend_before = 0
    filter.over_ms = 0
    filter.over_count = 0
    filter.use = LINE_NORMAL


cdef void delay_drained(DelayFilter* filter) noexcept nogil:
    cdef int i
    for i in range(DELAY_RECENT):
        filter.recent[i] = INT64_MAX
    filter.queue_us = 0
    delay_restart(filter)


cdef void delay_rebase(DelayFilter* filter, int64_t now) noexcept nogil:
    cdef int i
    cdef int64_t lowest = INT64_MAX
    for i in range(DELAY_RECENT):
        if filter.recent[i] < lowest:
            lowest = filter.recent[i]
    filter.base = lowest
    filter.base_before = INT64_MAX
    filter.base_since = now
    filter.queue_us = 0


cdef double slope(DelayFilter* filter, double x, double y) noexcept nogil:
    """ms of delay for each ms, by least squares over the last points, of which this is the newest."""
    cdef uint32_t at = filter.points % TREND_POINTS
    cdef double count = TREND_POINTS, spread
    cdef double old_x, old_y
    if filter.points >= TREND_POINTS:
        old_x = filter.line[at].time
        old_y = filter.line[at].delay
        filter.sum_x -= old_x
        filter.sum_y -= old_y
        filter.sum_xx -= old_x * old_x
        filter.sum_xy -= old_x * old_y
    else:
        count = filter.points + 1
    filter.line[at].time = x
    filter.line[at].delay = y
    filter.points += 1
    filter.sum_x += x
    filter.sum_y += y
    filter.sum_xx += x * x
    filter.sum_xy += x * y
    spread = filter.sum_xx - filter.sum_x * filter.sum_x / count
    return (filter.sum_xy - filter.sum_x * filter.sum_y / count) / spread if spread > 1e-3 else 0


cdef void adapt(DelayFilter* filter, double size, int64_t arrival) noexcept nogil:
    cdef double passed = (arrival - filter.adapted) / 1000.0
    filter.adapted = arrival
    # What is far above is a real queue, which must not become what is usual.
    if size > filter.threshold + 15.0:
        return
    if passed > 100:
        passed = 100
    if passed > 0:
        filter.threshold += (ADAPT_DOWN if size < filter.threshold else ADAPT_UP) * (size - filter.threshold) * passed
    if filter.threshold < THRESHOLD_LEAST:
        filter.threshold = THRESHOLD_LEAST
    elif filter.threshold > THRESHOLD_MOST:
        filter.threshold = THRESHOLD_MOST


cdef void detect(DelayFilter* filter, double steepness, double sent_ms, int64_t arrival) noexcept nogil:
    filter.trend = (filter.points if filter.points < DELTAS_MOST else DELTAS_MOST) * steepness * GAIN
    if filter.trend > filter.threshold:
        filter.over_ms += sent_ms / 2 if filter.over_count == 0 else sent_ms
        filter.over_count += 1
        if filter.over_ms > OVER_LEAST_MS and filter.over_count > 1 and steepness >= filter.trend_before:
            filter.over_ms = 0
            filter.over_count = 0
            filter.use = LINE_OVER
    else:
        filter.over_ms = 0
        filter.over_count = 0
        filter.use = LINE_UNDER if filter.trend < -filter.threshold else LINE_NORMAL
    filter.trend_before = steepness
    adapt(filter, fabs(filter.trend), arrival)


cdef void compare_groups(DelayFilter* filter) noexcept nogil:
    cdef int64_t sent = filter.group_last_sent - filter.before_sent
    cdef int64_t arrival = filter.group_last_arrival - filter.before_arrival
    cdef double later, steepness
    if sent <= 0 or arrival < 0 or arrival > GAP_MOST_US or sent > GAP_MOST_US:
        delay_restart(filter)
        return
    if filter.points == 0:
        filter.origin = filter.group_last_arrival
        filter.adapted = filter.group_last_arrival
    elif filter.group_last_arrival - filter.origin > 300000000:
        delay_restart(filter)   # so that the sums keep their precision
        return
    later = (arrival - sent) / 1000.0
    filter.accumulated += later
    filter.smoothed = SMOOTHING * filter.smoothed + (1 - SMOOTHING) * filter.accumulated
    steepness = slope(filter, (filter.group_last_arrival - filter.origin) / 1000.0, filter.smoothed)
    if filter.points >= POINTS_LEAST:
        detect(filter, steepness, sent / 1000.0, filter.group_last_arrival)


cdef inline bint belongs(const DelayFilter* filter, int64_t sent, int64_t arrival) noexcept nogil:
    if sent - filter.group_sent <= GROUP_US:
        return True
    # What was sent apart and came together waited somewhere on the way for the same thing, such as its radio slot.
    return arrival - filter.group_last_arrival <= GROUP_US \
        and arrival - filter.group_last_arrival < sent - filter.group_last_sent \
        and arrival - filter.group_arrival < BURST_LONGEST_US


cdef void delay_packet(DelayFilter* filter, int64_t sent, int64_t arrival, uint32_t size) noexcept nogil:
    cdef int64_t delay = arrival - sent
    if delay < filter.lowest:
        filter.lowest = delay
    if delay > filter.highest:
        filter.highest = delay
    if sent >= filter.newest_sent:
        filter.newest_sent = sent
        filter.newest_arrival = arrival
    filter.bytes += size
    filter.total += delay
    filter.count += 1
    if filter.groups and sent < filter.group_sent:
        return                  # came out of order: its group is closed
    if filter.groups and belongs(filter, sent, arrival):
        if sent > filter.group_last_sent:
            filter.group_last_sent = sent
        if arrival > filter.group_last_arrival:
            filter.group_last_arrival = arrival
        return
    if filter.groups > 1:
        compare_groups(filter)
    if filter.groups:
        filter.before_sent = filter.group_last_sent
        filter.before_arrival = filter.group_last_arrival
        filter.groups = 2
    else:
        filter.groups = 1
    filter.group_sent = filter.group_last_sent = sent
    filter.group_arrival = filter.group_last_arrival = arrival


cdef int64_t delay_above(const DelayFilter* filter, int64_t delay) noexcept nogil:
    cdef int64_t base = filter.base if filter.base < filter.base_before else filter.base_before
    if filter.lowest < base:
        base = filter.lowest
    return delay - base if delay > base else 0


cdef void note_wander(DelayFilter* filter) noexcept nogil:
    """A queue grows and drains for a while, jitter turns back at once."""
    cdef int64_t moved = filter.lowest - filter.lowest_before if filter.lowest_before != INT64_MAX else 0
    cdef int64_t turned = 0
    if (moved > 0) != (filter.moved_before > 0):
        turned = min(moved if moved > 0 else -moved, filter.moved_before if filter.moved_before > 0 else -filter.moved_before)
    filter.wander_us += (min(turned, WANDER_MOST_US) - filter.wander_us) / 32
    filter.lowest_before = filter.lowest
    filter.moved_before = moved


cdef void note_steep(DelayFilter* filter) noexcept nogil:
    """Nothing leaves faster than half as fast again as the line is thought to carry, probes apart: a delay that grows
    by as much as the time goes by means that it has become much thinner. One that is less at the end than before was a
    hold-up, after which all comes at once."""
    cdef int64_t span = filter.newest_sent - filter.past_sent
    cdef int64_t took = filter.newest_arrival - filter.past_arrival
    cdef int64_t delay = filter.newest_arrival - filter.newest_sent
    filter.steep_bps = 0
    filter.past_bytes += filter.bytes
    if filter.past_sent and 0 < span < GAP_MOST_US and took - span >= span and delay >= filter.highest - STEEP_BACK_US:
        if span >= STEEP_SPAN_US and took - span >= STEEP_US + STEEP_WANDER * <int64_t>filter.wander_us:
            filter.steep_bps = filter.past_bytes * 8e6 / took
        elif took < STEEP_LONGEST_US:
            return              # the next report may tell
    filter.past_sent = filter.newest_sent
    filter.past_arrival = filter.newest_arrival
    filter.past_bytes = 0


cdef void delay_report(DelayFilter* filter, int64_t now) noexcept nogil:
    cdef int64_t lowest, base, recent
    cdef int i
    if filter.count == 0:
        return
    if now - filter.base_since > DELAY_BASE_US:
        filter.base_before = filter.base
        filter.base = INT64_MAX
        filter.base_since = now
    if filter.lowest < filter.base:
        filter.base = filter.lowest
    base = filter.base if filter.base < filter.base_before else filter.base_before
    filter.recent[filter.recent_next] = filter.lowest
    filter.recent_at[filter.recent_next] = now
    filter.recent_next = (filter.recent_next + 1) % DELAY_RECENT
    note_wander(filter)
    note_steep(filter)
    recent = RECENT_US + RECENT_WANDER * <int64_t>filter.wander_us
    if recent > RECENT_MOST_US:
        recent = RECENT_MOST_US
    lowest = filter.lowest
    for i in range(DELAY_RECENT):
        if filter.recent[i] < lowest and now - filter.recent_at[i] <= recent:
            lowest = filter.recent[i]
    filter.queue_us = lowest - base if lowest > base else 0
    filter.spread_us += (filter.total / filter.count - filter.lowest - filter.spread_us) / 8
    begin_report(filter)
