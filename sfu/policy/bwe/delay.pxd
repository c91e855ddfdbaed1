"""What the packets' delays say about the line's queue: its trend, and how long it is."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef enum:
    TREND_POINTS = 20
    DELAY_RECENT = 8
    DELAY_BASE_US = 10000000     # the shortest delay of the last 10 to 20 s stands for an empty queue

cpdef enum LineUse:
    LINE_NORMAL = 0
    LINE_OVER = 1
    LINE_UNDER = 2

# ms.
cdef struct TrendPoint:
    double time
    double delay

cdef struct DelayFilter:
    # Packets that left within 5 ms are one group; groups are compared by their last packets.
    int64_t group_sent           # µs, the first packet's
    int64_t group_last_sent
    int64_t group_arrival        # the first packet's, the far clock
    int64_t group_last_arrival
    int64_t before_sent          # the last packets' of the group before
    int64_t before_arrival
    uint8_t groups               # 0: none yet, 1: one is open, 2: one before it too
    # The trendline: accumulated delay over arrival time, both in ms.
    uint32_t points
    double sum_x                 # of the points' times, delays and their products
    double sum_y
    double sum_xx
    double sum_xy
    int64_t origin               # arrival time that is 0 in the points
    double accumulated
    double smoothed
    double threshold             # ms
    double trend                 # as compared with the threshold
    double trend_before
    double over_ms               # how long it has been over
    uint32_t over_count
    int64_t adapted              # arrival time of the last adaptation
    uint8_t use                  # LineUse
    # Delays: arrival less departure, so with the unknown offset of the clocks.
    int64_t lowest               # of this report
    double total
    uint32_t count
    uint32_t recent_next
    int64_t base                 # of the current and of the last 10 s
    int64_t base_before
    int64_t base_since
    int64_t highest              # of this report
    uint32_t bytes
    int64_t newest_sent          # the newest packet's
    int64_t newest_arrival
    uint32_t past_bytes          # that came since
    int64_t past_sent            # the same of the report before
    int64_t past_arrival
    double steep_bps             # what passed the line while its queue grew by more than the time that went by, else 0
    double spread_us             # mean delay above the lowest of its report, smoothed: jitter and own bursts
    int64_t lowest_before        # of the report before
    int64_t moved_before         # by how much that differed from the one before it
    double wander_us             # by how much it goes to and fro, smoothed over seconds: jitter that outlasts a report
    int64_t queue_us             # lowest delay of the last 120 to 300 ms above the base
    int64_t recent[DELAY_RECENT]       # lowest of the last reports
    int64_t recent_at[DELAY_RECENT]    # when these came
    TrendPoint line[TREND_POINTS]

cdef void delay_init(DelayFilter* filter) noexcept nogil
# A packet of so many bytes that arrived, in the order of sending.
cdef void delay_packet(DelayFilter* filter, int64_t sent, int64_t arrival, uint32_t size) noexcept nogil
# How much longer a packet took than the shortest of the last 10 to 20 s, which may be this one.
cdef int64_t delay_above(const DelayFilter* filter, int64_t delay) noexcept nogil
# The end of a report that came now.
cdef void delay_report(DelayFilter* filter, int64_t now) noexcept nogil
# Forgets the trend, as after a pause: what comes is not compared with what was.
cdef void delay_restart(DelayFilter* filter) noexcept nogil
# Forgets the delays too: the far clock is another one.
cdef void delay_forget(DelayFilter* filter) noexcept nogil
# There is no queue any more: what would stand in it has left long ago.
cdef void delay_drained(DelayFilter* filter) noexcept nogil
# Takes the queue that stands now for an empty one: the way has become longer.
cdef void delay_rebase(DelayFilter* filter, int64_t now) noexcept nogil
