"""A loop of media cut into RTP payloads, as the swarm's thread reads it."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t


cdef struct ClipPacket:
    const uint8_t* payload
    uint16_t size
    uint8_t marker

cdef struct ClipFrame:
    uint32_t first          # packet
    uint32_t count          # packets
    uint8_t keyframe

cdef struct ClipData:
    ClipPacket* packets
    ClipFrame* frames
    uint8_t* bytes
    uint32_t packet_count
    uint32_t frame_count
    uint32_t duration       # of a frame, in units of the clock rate
    uint32_t clock_rate
    uint8_t video

cdef class Clip:
    cdef ClipData data
