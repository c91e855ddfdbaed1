"""The Python face of the estimator, for tests and tools."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.sfu.policy.bwe.estimator cimport (
    Estimator,
    estimator_ccfb,
    estimator_close,
    estimator_demand,
    estimator_init,
    estimator_loss,
    estimator_name,
    estimator_process,
    estimator_remb,
    estimator_sent,
    estimator_transport,
    estimator_untracked,
)
from mediaserver.sfu.wire.rtcp cimport (
    RTCP_ITEM_TRANSPORT,
    RtcpItem,
    rtcp_next,
)


cdef class Bandwidth:
    """An estimator of one transport. Times in µs, sizes in bytes with IP and UDP headers, rates in bit/s."""

    cdef Estimator estimator

    def __cinit__(self, int64_t now):
        if estimator_init(&self.estimator, now) < 0:
            raise MemoryError

    def __dealloc__(self):
        estimator_close(&self.estimator)

    def sent(self, uint32_t size, int64_t now, int kind=0):
        """The transport-wide number of a packet that leaves now. `kind`: a SentKind."""
        return estimator_sent(&self.estimator, size, now, kind)

    def sent_run(self, uint32_t count, uint32_t size, int64_t now, int64_t step, int kind=0):
        """As many packets, one each `step` µs: the number of the last."""
        cdef uint16_t number = 0
        cdef uint32_t i
        with nogil:
            for i in range(count):
                number = estimator_sent(&self.estimator, size, now + i * step, kind)
        return number

    def name(self, uint32_t ssrc, uint16_t sequence):
        """What the packet of the last call of `sent` is called in RFC 8888 feedback."""
        estimator_name(&self.estimator, ssrc, sequence)

    def untracked(self, uint32_t size, int64_t now):
        """A packet without a transport-wide number leaves."""
        estimator_untracked(&self.estimator, size, now)

    def feedback(self, const uint8_t[::1] data, int64_t now):
        """An RTCP compound: what it has of transport-wide and RFC 8888 feedback. What is malformed is left out."""
        cdef RtcpItem item
        cdef size_t offset = 0
        while data.shape[0] and rtcp_next(&data[0], data.shape[0], &offset, &item) == 1:
            if item.kind == RTCP_ITEM_TRANSPORT:
                estimator_transport(&self.estimator, &item, now)
            else:
                estimator_ccfb(&self.estimator, &item, now)

    def feedback_run(self, list messages, int64_t now, int64_t step):
        """Messages that come each `step` µs."""
        for data in messages:
            self.feedback(data, now)
            now += step

    def remb(self, uint64_t bps, int64_t now):
        estimator_remb(&self.estimator, bps, now)

    def loss(self, uint8_t fraction_lost, int64_t round_trip, int64_t now):
        """A receiver report: the fraction lost of 256, the round trip in µs, 0 unknown."""
        estimator_loss(&self.estimator, fraction_lost, round_trip, now)

    def demand(self, uint64_t sent_max_bps, uint64_t wanted_bps, int64_t now):
        estimator_demand(&self.estimator, sent_max_bps, wanted_bps, now)

    def process(self, int64_t now):
        """When to call again, µs."""
        return estimator_process(&self.estimator, now)

    @property
    def target_bps(self):
        return self.estimator.target_bps

    @property
    def pacing_bps(self):
        return self.estimator.pacing_bps

    @property
    def probe_bps(self):
        return self.estimator.probe_bps

    @property
    def probe_bytes_left(self):
        return self.estimator.probe_bytes_left

    @property
    def backlog_us(self):
        return self.estimator.backlog_us

    @property
    def lost_share(self):
        return self.estimator.lost_share

    @property
    def round_trip(self):
        return self.estimator.round_trip

    @property
    def congested(self):
        return bool(self.estimator.congested)

    @property
    def in_flight(self):
        """Bytes that nothing was heard of yet."""
        return self.estimator.log.in_flight

    @property
    def memory(self):
        """Bytes that the estimator holds."""
        cdef size_t entries = self.estimator.log.mask + 1
        return sizeof(Estimator) + 8 * entries + (4 * entries + 512 if self.estimator.log.names != NULL else 0)
