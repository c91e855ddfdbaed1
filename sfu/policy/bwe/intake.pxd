"""Feedback messages, turned into what has become of each packet."""

from libc.stdint cimport int64_t

from mediaserver.sfu.policy.bwe.state cimport Estimator
from mediaserver.sfu.wire.rtcp cimport RtcpItem

# Both: 1 when e.report tells of packets that arrived, 0 when nothing is to be concluded.
cdef int intake_transport(Estimator* e, const RtcpItem* item, int64_t now) noexcept nogil
cdef int intake_ccfb(Estimator* e, const RtcpItem* item, int64_t now) noexcept nogil
