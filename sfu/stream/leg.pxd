"""An outgoing copy of a track to one viewer."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from mediaserver.codecs.dependency cimport DEPENDENCY_MAX
from mediaserver.sfu.stream.buffers cimport Packet
from mediaserver.sfu.stream.outbox cimport DATAGRAM_MAX
from mediaserver.sfu.stream.state cimport EngineState, Leg, LegConfig, leaves_as
from mediaserver.sfu.wire.srtp cimport SRTP_MAX_TAG

# How a packet leaves to this viewer. `payload` points into the packet, or into the engine's scratch.
cdef struct Shape:
    const uint8_t* payload
    uint16_t size
    uint8_t padding              # bytes that stand behind it
    uint8_t marker
    uint8_t payload_type         # the viewer's
    uint8_t descriptor_size      # 0: the dependency descriptor leaves as it came
    uint8_t descriptor[DEPENDENCY_MAX]

# Lays out what does not change from packet to packet. Call after each change of the configuration.
cdef void leg_configure(Leg* leg, const LegConfig* config) noexcept nogil
# With `numbered` its packets bear transport-wide numbers where these were agreed, as after leg_configure; else none.
cdef void leg_number(Leg* leg, int numbered) noexcept nogil
# Forwards one packet: header, encryption, outbox.
cdef void leg_forward(EngineState* engine, Leg* leg, Packet* packet) noexcept nogil
# The source has changed, or packets were left out: go on without a gap, at a picture that can be decoded.
cdef void leg_restart(EngineState* engine, Leg* leg, int new_source) noexcept nogil
# Writes a sender report with its CNAME in the publisher's clock (RFC 3550, section 6.4.1): bytes, 0 when there is
# nothing to say yet.
cdef int leg_sender_report(Leg* leg, uint8_t* out, uint32_t capacity, int64_t now) noexcept nogil

# ---- for what is sent besides

# What of a packet is this viewer's own, the same each time; 0 for one that must not leave.
cdef int shape(EngineState* engine, Leg* leg, const Packet* packet, Shape* made) noexcept nogil
# The transport-wide number that the estimator will give next, or the time in 6.18 fixed point.
cdef void stamp_now(EngineState* engine, const Leg* leg, uint8_t* stamp) noexcept nogil
# The same bytes for the same packet, number and stamp, each time: a retransmission may have to repeat them. `stamp` is
# NULL where there is none. Bytes written.
cdef int write_header(Leg* leg, uint8_t* out, const Packet* packet, const Shape* made, uint8_t payload_type,
                      uint16_t sequence, uint32_t ssrc, const uint8_t* stamp) noexcept nogil

cdef inline int has_repair(const Leg* leg, uint8_t payload_type) noexcept nogil:
    return leaves_as(&leg.config, payload_type).rtx_type and leg.config.rtx_ssrc

cdef inline int fits(int header_size, const Shape* made) noexcept nogil:
    return header_size + made.size + made.padding + 2 + SRTP_MAX_TAG <= DATAGRAM_MAX
