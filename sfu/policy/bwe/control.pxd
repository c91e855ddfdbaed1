"""From what the packets tell to the rates that the caller reads."""

from libc.stdint cimport int64_t

from mediaserver.sfu.policy.bwe.state cimport Estimator

cdef void control_init(Estimator* e, int64_t now) noexcept nogil
# After a message of which e.report tells.
cdef void control_report(Estimator* e, int64_t now) noexcept nogil
cdef void control_remb(Estimator* e, double bps, int64_t now) noexcept nogil
# A receiver report, `share` of the packets lost.
cdef void control_loss(Estimator* e, double share, int64_t now) noexcept nogil
# The far end has proved that it is heard by another path.
cdef void control_moved(Estimator* e, int64_t now) noexcept nogil
# What has come due, and the rates anew.
cdef void control_update(Estimator* e, int64_t now) noexcept nogil
