"""The engine's clock in NTP's form, and how the clocks of publishers stand to it."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from mediaserver.sfu.stream.inbound cimport ntp_of
from mediaserver.sfu.stream.state cimport Peer

cdef enum:
    CLOCK_START = 0xE0000000     # s of the engine's clock at its time 0: far from where NTP's seconds turn over

cdef inline uint64_t engine_ntp(int64_t now) noexcept nogil:
    """32.32 fixed point. What viewers see as the server's clock."""
    return (<uint64_t>CLOCK_START << 32) + ntp_of(now)

cdef inline uint64_t engine_minus_peer(const Peer* peer) noexcept nogil:
    """What brings a time of the peer's clock to the engine's: the offset that its sender reports show, less the time
    that they took on their way."""
    return peer.clock_offset - ntp_of(peer.way)

cdef inline uint32_t rtp_units(uint64_t span, uint32_t clock_rate) noexcept nogil:
    """A span of time, signed and in 32.32 form, in units of the RTP clock, modulo 2^32."""
    cdef int64_t seconds = <int64_t>span >> 32
    return <uint32_t>(seconds * clock_rate + <int64_t>((<uint64_t>(<uint32_t>span) * clock_rate) >> 32))
