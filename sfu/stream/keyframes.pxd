"""Keyframes are asked for once for everybody, and never more often than the publisher can bear."""

from libc.stdint cimport int64_t

from mediaserver.sfu.stream.state cimport Encoding, EngineState, Leg

# Somebody needs a keyframe: merged with other requests, and never more often than the track allows.
cdef void want_keyframe(EngineState* engine, Encoding* encoding) noexcept nogil
# Of the encoding that the leg gets, or is to get.
cdef void leg_wants_keyframe(EngineState* engine, Leg* leg) noexcept nogil
# Sends the request when it may be sent; when it may next be repeated, or 0 for no need.
cdef int64_t ask_keyframe(EngineState* engine, Encoding* encoding) noexcept nogil
