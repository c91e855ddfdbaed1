"""Datagrams on a stream: each behind its length in two bytes (RFC 4571, section 2)."""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset


cdef size_t deframer_begin(Deframer* deframer, uint8_t* buffer) noexcept nogil:
    cdef size_t size = deframer.size
    if size:
        memcpy(buffer, deframer.kept, size)
    return size


cdef int deframer_keep(Deframer* deframer, const uint8_t* rest, size_t size) noexcept nogil:
    if size == 0:
        deframer_close(deframer)
        return 0
    if size > FRAME_HEAD + FRAME_MAX:
        return -1
    if deframer.kept == NULL:
        deframer.kept = <uint8_t*>malloc(FRAME_HEAD + FRAME_MAX)
        if deframer.kept == NULL:
            return -1
    memcpy(deframer.kept, rest, size)
    deframer.size = <uint32_t>size
    return 0


cdef void deframer_close(Deframer* deframer) noexcept nogil:
    free(deframer.kept)
    memset(deframer, 0, sizeof(Deframer))


cdef int frame_next(const uint8_t* data, size_t size, size_t* at, const uint8_t** frame,
                    size_t* frame_size) noexcept nogil:
    cdef size_t length
    if size - at[0] < FRAME_HEAD:
        return FRAME_UNFINISHED
    length = (<size_t>data[at[0]] << 8) | data[at[0] + 1]
    if length > FRAME_MAX:
        return FRAME_TOO_LONG
    if size - at[0] - FRAME_HEAD < length:
        return FRAME_UNFINISHED
    frame[0] = data + at[0] + FRAME_HEAD
    frame_size[0] = length
    at[0] += FRAME_HEAD + length
    return FRAME_READ


cdef void frame_head(uint8_t* out, uint32_t size) noexcept nogil:
    out[0] = <uint8_t>(size >> 8)
    out[1] = <uint8_t>size


# ---- for Python


cdef class FrameReader:
    cdef Deframer deframer
    cdef readonly bint broken

    def __dealloc__(self):
        deframer_close(&self.deframer)

    @property
    def kept(self):
        return self.deframer.size

    def push(self, bytes data not None):
        cdef bytearray joined = bytearray(self.deframer.size + len(data) + FRAME_HEAD + FRAME_MAX)
        cdef uint8_t* start = joined
        cdef const uint8_t* frame
        cdef size_t at = 0, frame_size = 0
        cdef size_t size = deframer_begin(&self.deframer, start)
        cdef int result = FRAME_TOO_LONG
        if self.broken:
            raise ValueError("the stream has ended in a frame that is too long")
        memcpy(start + size, <const char*>data, len(data))
        size += len(data)
        frames = []
        while True:
            result = frame_next(start, size, &at, &frame, &frame_size)
            if result != FRAME_READ:
                break
            frames.append(<bytes>frame[:frame_size])
        if result == FRAME_TOO_LONG:
            self.broken = True
            deframer_close(&self.deframer)
        elif deframer_keep(&self.deframer, start + at, size - at) < 0:
            raise MemoryError
        return frames


def framed(bytes datagram not None):
    cdef uint8_t head[FRAME_HEAD]
    if len(datagram) > FRAME_MAX:
        raise ValueError(f"a frame has at most {FRAME_MAX} bytes, not {len(datagram)}")
    frame_head(head, <uint32_t>len(datagram))
    return <bytes>head[:FRAME_HEAD] + datagram
