"""Capture times (abs-capture-time): what a publisher says of when a picture came into being, for the viewers' clocks.

The extension (http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time) is an NTP timestamp of the capturing
system's clock and, optionally, the offset of that clock from the sender's: capture clock = sender's clock + offset. A
publisher is the sender to us, and we are to the viewers, so the offset between it and us is added. It is added once, as
the packet comes: whatever is sent of it later, retransmissions too, has the same bytes.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from mediaserver.sfu.stream.buffers cimport PACKET_LARGE, PACKET_SMALL
from mediaserver.sfu.stream.spread cimport spread_add
from mediaserver.sfu.stream.clocks cimport engine_minus_peer, engine_ntp
from mediaserver.sfu.wire.packet cimport EXT_ABS_CAPTURE_TIME, read_u64, write_u64

cdef enum:
    SHORT = 8                # the timestamp alone
    LONG = 16                # with the offset
    OLDEST_S = 60            # a capture further back, or in the future, is of a clock that was set


cdef void count(EngineState* engine, Track* track, uint64_t captured) noexcept nogil:
    """`captured` by the engine's clock."""
    cdef int64_t age = <int64_t>(engine_ntp(engine.now) - captured)
    cdef uint64_t us
    if age < 0 or age >= <int64_t>OLDEST_S << 32:
        return
    us = (<uint64_t>age * 15625) >> 26   # of 32.32 seconds: times 1000000, over 2^32
    track.stats.captures += 1
    track.stats.capture_us += us
    track.stats.capture_last_us = us
    spread_add(&track.stats.captured, <int64_t>us, 1)
    if us > track.stats.capture_max_us:
        track.stats.capture_max_us = us


cdef void note_capture(EngineState* engine, Peer* peer, Track* track, Packet* packet, size_t size, int fresh) noexcept nogil:
    cdef uint8_t given = packet.ext.size[<int>EXT_ABS_CAPTURE_TIME]
    cdef const uint8_t* value = packet.ext.data[<int>EXT_ABS_CAPTURE_TIME]
    cdef uint8_t* out = NULL
    cdef uint64_t offset
    if given < SHORT:
        packet.ext.present &= ~(<uint32_t>1 << EXT_ABS_CAPTURE_TIME)
        return
    if not peer.clock_known:
        packet.ext.size[<int>EXT_ABS_CAPTURE_TIME] = SHORT  # its offset is not ours, and ours is not known yet
        return
    offset = read_u64(value + SHORT) if given >= LONG else 0
    if fresh:
        count(engine, track, read_u64(value) - offset + engine_minus_peer(peer))
    if given >= LONG:
        out = <uint8_t*>value
    elif size + LONG <= (<size_t>PACKET_LARGE if packet.large else <size_t>PACKET_SMALL):
        out = packet.data + size  # behind the datagram: its short form has no room for the offset
        memcpy(out, value, SHORT)
    if out == NULL:
        return
    write_u64(out + SHORT, offset - engine_minus_peer(peer))
    packet.ext.data[<int>EXT_ABS_CAPTURE_TIME] = out
    packet.ext.size[<int>EXT_ABS_CAPTURE_TIME] = LONG
