"""What losses say: those that the line has anyway, and those that come with the rate."""

from libc.stdint cimport int64_t, uint32_t

cpdef enum LossVerdict:
    LOSS_USUAL = 0               # as ever, or too few packets to tell
    LOSS_CONGESTED = 1           # more than usual, and the line's queue stands: cut
    LOSS_SUSPECT = 2             # losses that may or may not come with the rate: try a lower one, and look again
    LOSS_CONFIRMED = 3           # the trial: fewer are lost at the lower rate, stay there
    LOSS_REFUTED = 4             # the trial: as many are lost at the lower rate, go back

cdef struct LossFilter:
    uint32_t packets             # of this window
    uint32_t lost
    uint32_t runs                # of losses in a row
    int64_t since                # µs, begin of the window; 0: with the next report
    int64_t ignore_before        # µs: of packets that left before this nothing is learned
    double queue_sum             # µs, over the window's reports
    uint32_t reports
    double share                 # lost, over the last seconds
    double usual                 # what the line loses anyway
    double excess                # by which the last window was above that
    double tried                 # the share for which a lower rate is tried, 0: no trial
    int64_t trial_since
    int64_t trial_due            # no trial before this
    int64_t trial_pause          # µs

cdef void loss_init(LossFilter* filter) noexcept nogil
# Counts of one report: packets spoken of for the first time, those lost among them, the runs of these. `taken_back`:
# reported as lost before, arrived after all.
cdef void loss_count(LossFilter* filter, uint32_t packets, uint32_t lost, uint32_t runs, uint32_t taken_back,
                     int64_t now) noexcept nogil
# At the end of a report. `limited`: the sender uses less than it may, so that its rate cannot be what loses packets.
cdef int loss_judge(LossFilter* filter, int64_t queue_us, bint limited, int64_t now) noexcept nogil
# Begins anew what is counted, after a pause; what has been learned stays.
cdef void loss_restart(LossFilter* filter, int64_t now) noexcept nogil
