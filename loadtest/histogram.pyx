"""Histograms of times: log-linear buckets, read by percentile, subtracted to get an interval."""

from libc.stdint cimport int64_t
from libc.string cimport memset


def bucket_floor(bucket: int) -> int:
    """The least value of a bucket, in ns."""
    if bucket < HISTOGRAM_STEPS:
        return bucket
    shift = bucket // HISTOGRAM_STEPS - 1
    return (HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS) << shift


class HistogramView:
    """A copy of a histogram at one moment."""

    __slots__ = ("counts", "greatest", "negative", "total")

    def __init__(self, counts, total, negative, greatest):
        self.counts = counts
        self.total = total
        self.negative = negative
        self.greatest = greatest

    def percentile(self, percent):
        """The upper edge of the bucket that holds it, in ns, never above the greatest value; 0 without values."""
        if self.total <= 0:
            return 0
        rank = max(1, -(-self.total * percent // 100))
        seen = 0
        for bucket, count in sorted(self.counts.items()):
            seen += count
            if seen >= rank:
                return min(bucket_floor(bucket + 1) - 1, self.greatest)
        return self.greatest

    def since(self, earlier):
        """What came after `earlier`. The greatest value is then the last bucket's edge, for the exact one is unknown."""
        counts = {
            bucket: count - earlier.counts.get(bucket, 0)
            for bucket, count in self.counts.items()
            if count > earlier.counts.get(bucket, 0)
        }
        greatest = min(self.greatest, bucket_floor(max(counts) + 1) - 1) if counts else 0
        return HistogramView(counts, self.total - earlier.total, self.negative - earlier.negative, greatest)


def merge(views):
    """The sum of several."""
    counts = {}
    total = negative = greatest = 0
    for view in views:
        for bucket, count in view.counts.items():
            counts[bucket] = counts.get(bucket, 0) + count
        total += view.total
        negative += view.negative
        greatest = max(greatest, view.greatest)
    return HistogramView(counts, total, negative, greatest)


cdef object histogram_view(const Histogram* histogram):
    cdef int bucket
    counts = {}
    for bucket in range(HISTOGRAM_BUCKETS):
        if histogram.counts[bucket]:
            counts[bucket] = histogram.counts[bucket]
    return HistogramView(counts, histogram.total, histogram.negative, histogram.greatest)


cdef object spread_view(const Spread* spread):
    cdef int bucket
    counts = {}
    for bucket in range(HISTOGRAM_BUCKETS):
        if spread.counts[bucket]:
            counts[bucket] = spread.counts[bucket]
    return HistogramView(counts, spread.total, 0, spread.greatest)


def histogram_of(values):
    """The histogram of some values in ns."""
    cdef Histogram histogram
    memset(&histogram, 0, sizeof(Histogram))
    for value in values:
        histogram_add(&histogram, <int64_t>value)
    return histogram_view(&histogram)
