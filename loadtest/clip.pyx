"""A loop of media cut into RTP payloads: shared by all streams that replay it."""

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy


cdef class Clip:
    """`frames[i]` are the payloads of frame i, `keyframes[i]` whether a decoder can start there.

    Raises `ValueError` when there is nothing to send or a payload is empty or over 1,400 bytes.
    """

    def __cinit__(self, frames, keyframes, int duration, int clock_rate, bint video):
        cdef size_t offset = 0
        cdef uint32_t packet = 0, number
        cdef size_t total
        frames = [list(payloads) for payloads in frames]
        keyframes = list(keyframes)
        if not frames or len(keyframes) != len(frames) or duration <= 0 or clock_rate <= 0:
            raise ValueError("a clip needs frames, a keyframe flag for each, and a positive rate")
        if not any(keyframes):
            raise ValueError("a clip needs a keyframe")
        if any(not payloads or any(not 0 < len(payload) <= 1400 for payload in payloads) for payloads in frames):
            raise ValueError("each frame needs payloads of 1 to 1400 bytes")
        total = sum(len(payload) for payloads in frames for payload in payloads)
        self.data.packet_count = sum(map(len, frames))
        self.data.frame_count = len(frames)
        self.data.duration = duration
        self.data.clock_rate = clock_rate
        self.data.video = video
        self.data.bytes = <uint8_t*>malloc(total)
        self.data.packets = <ClipPacket*>calloc(self.data.packet_count, sizeof(ClipPacket))
        self.data.frames = <ClipFrame*>calloc(self.data.frame_count, sizeof(ClipFrame))
        if self.data.bytes is NULL or self.data.packets is NULL or self.data.frames is NULL:
            raise MemoryError
        for number in range(self.data.frame_count):
            payloads = frames[number]
            self.data.frames[number].first = packet
            self.data.frames[number].count = len(payloads)
            self.data.frames[number].keyframe = keyframes[number]
            for payload in payloads:
                memcpy(self.data.bytes + offset, <const uint8_t*><bytes>payload, len(payload))
                self.data.packets[packet].payload = self.data.bytes + offset
                self.data.packets[packet].size = len(payload)
                offset += len(payload)
                packet += 1
            # The marker ends a frame of video; with audio it would mean the start of a talk spurt (RFC 3551).
            self.data.packets[packet - 1].marker = video

    def __dealloc__(self):
        free(self.data.bytes)
        free(self.data.packets)
        free(self.data.frames)

    @property
    def packets(self):
        """How many packets one turn of the loop has."""
        return self.data.packet_count

    @property
    def seconds(self):
        return <double>self.data.frame_count * self.data.duration / self.data.clock_rate
