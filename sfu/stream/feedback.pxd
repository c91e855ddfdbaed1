"""RTCP both ways: what publishers are told and asked, and what viewers say."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

from mediaserver.sfu.stream.state cimport EngineState, Peer

# A compound from a peer, decrypted.
cdef void read_rtcp(EngineState* engine, Peer* peer, const uint8_t* data, size_t size) noexcept nogil
# NACKs, transport-wide feedback and keyframe requests that are due; sets when the next will be.
cdef void serve_hot(EngineState* engine) noexcept nogil
# Receiver and sender reports, once a second.
cdef void send_reports(EngineState* engine, Peer* peer) noexcept nogil
# BYE for an SSRC that ends (RFC 3550, section 6.6).
cdef void send_bye(EngineState* engine, Peer* peer, const uint32_t* ssrcs, size_t count) noexcept nogil
