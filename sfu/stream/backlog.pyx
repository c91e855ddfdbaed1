"""What waits for a TCP connection that does not take it: bounded in bytes and in age, the oldest media given up first."""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from mediaserver.sfu.wire.framing cimport frame_head


cdef void backlog_close(Backlog* backlog) noexcept nogil:
    free(backlog.rest)
    free(backlog.control.data)
    free(backlog.media.data)
    memset(backlog, 0, sizeof(Backlog))


cdef int backlog_empty(const Backlog* backlog) noexcept nogil:
    return (
        backlog.rest_at == backlog.rest_size
        and backlog.control.head == backlog.control.tail
        and backlog.media.head == backlog.media.tail
    )


cdef size_t backlog_memory(const Backlog* backlog) noexcept nogil:
    return (
        (FRAME_HEAD + FRAME_MAX if backlog.rest != NULL else 0)
        + (backlog.control.room if backlog.control.data != NULL else 0)
        + (backlog.media.room if backlog.media.data != NULL else 0)
    )


cdef void backlog_shrink(Backlog* backlog) noexcept nogil:
    cdef uint64_t dropped = backlog.dropped
    if backlog_empty(backlog):
        backlog_close(backlog)
        backlog.dropped = dropped


# ---- rings


cdef int ring_ready(FrameRing* ring, uint32_t room) noexcept nogil:
    if ring.data == NULL:
        ring.data = <uint8_t*>malloc(room)
        ring.room = room
        ring.head = ring.tail = 0
    return 0 if ring.data != NULL else -1


cdef void ring_write(FrameRing* ring, const uint8_t* data, uint32_t size) noexcept nogil:
    cdef uint32_t at = <uint32_t>(ring.tail & (ring.room - 1))
    cdef uint32_t first = ring.room - at
    if first > size:
        first = size
    memcpy(ring.data + at, data, first)
    memcpy(ring.data, data + first, size - first)
    ring.tail += size


cdef void ring_read(const FrameRing* ring, uint64_t position, uint8_t* out, uint32_t size) noexcept nogil:
    cdef uint32_t at = <uint32_t>(position & (ring.room - 1))
    cdef uint32_t first = ring.room - at
    if first > size:
        first = size
    memcpy(out, ring.data + at, first)
    memcpy(out + first, ring.data, size - first)


cdef uint32_t first_size(const FrameRing* ring) noexcept nogil:
    """Bytes of the oldest frame with its length."""
    cdef uint8_t head[FRAME_HEAD]
    ring_read(ring, ring.head, head, FRAME_HEAD)
    return FRAME_HEAD + ((<uint32_t>head[0] << 8) | head[1])


cdef int ring_spans(const FrameRing* ring, Span* spans) noexcept nogil:
    cdef uint32_t at, first
    cdef uint64_t size = ring.tail - ring.head
    if size == 0:
        return 0
    at = <uint32_t>(ring.head & (ring.room - 1))
    first = ring.room - at
    spans[0].data = ring.data + at
    if first >= size:
        spans[0].size = size
        return 1
    spans[0].size = first
    spans[1].data = ring.data
    spans[1].size = size - first
    return 2


# ---- in


cdef void give_up(Backlog* backlog, uint64_t until) noexcept nogil:
    """The frames that begin before that place."""
    while backlog.media.head < until and backlog.media.head < backlog.media.tail:
        backlog.media.head += first_size(&backlog.media)
        backlog.dropped += 1


cdef int backlog_add(Backlog* backlog, const uint8_t* frame, uint32_t size, int media, int64_t now) noexcept nogil:
    cdef uint8_t head[FRAME_HEAD]
    cdef FrameRing* ring = &backlog.media if media else &backlog.control
    cdef Mark* mark
    cdef uint32_t whole = FRAME_HEAD + size
    if ring_ready(ring, BACKLOG_MEDIA if media else BACKLOG_CONTROL) < 0 or size > FRAME_MAX:
        return -1
    if ring.tail - ring.head + whole > ring.room:
        if not media:
            return -1
        # Half of it at once: one long hole is repaired by a keyframe, many short ones by nothing.
        give_up(backlog, ring.tail - ring.room // 2)
    if media:
        mark = &backlog.marks[(now // BACKLOG_MARK_US) & (BACKLOG_MARKS - 1)]
        if mark.time // BACKLOG_MARK_US != now // BACKLOG_MARK_US:
            mark.time = now
            mark.tail = ring.tail
    frame_head(head, size)
    ring_write(ring, head, FRAME_HEAD)
    ring_write(ring, frame, size)
    return 0


cdef int keep_rest(Backlog* backlog, uint32_t size) noexcept nogil:
    if backlog.rest == NULL:
        backlog.rest = <uint8_t*>malloc(FRAME_HEAD + FRAME_MAX)
    backlog.rest_at = 0
    backlog.rest_size = size if backlog.rest != NULL else 0
    return 0 if backlog.rest != NULL else -1


cdef int backlog_split(Backlog* backlog, const uint8_t* frame, uint32_t size, uint32_t sent) noexcept nogil:
    if keep_rest(backlog, FRAME_HEAD + size) < 0:
        return -1
    frame_head(backlog.rest, size)
    memcpy(backlog.rest + FRAME_HEAD, frame, size)
    backlog.rest_at = sent
    return 0


# ---- out


cdef int backlog_spans(Backlog* backlog, Span* spans, int64_t now) noexcept nogil:
    cdef int count = 0, i
    cdef uint64_t old = 0
    cdef int64_t limit = now - BACKLOG_AGE_US
    if backlog.media.head < backlog.media.tail:
        for i in range(BACKLOG_MARKS):
            # All before the mark had come by then.
            if backlog.marks[i].time <= limit and old < backlog.marks[i].tail <= backlog.media.tail:
                old = backlog.marks[i].tail
        give_up(backlog, old)
    if backlog.rest_at < backlog.rest_size:
        spans[0].data = backlog.rest + backlog.rest_at
        spans[0].size = backlog.rest_size - backlog.rest_at
        count = 1
    count += ring_spans(&backlog.control, spans + count)
    return count + ring_spans(&backlog.media, spans + count)


cdef int ring_written(Backlog* backlog, FrameRing* ring, size_t* size) noexcept nogil:
    """Takes the frames that have gone; of one that has gone in part the rest is laid aside, as it must follow."""
    cdef uint32_t whole
    while size[0] and ring.head < ring.tail:
        whole = first_size(ring)
        if whole > size[0]:
            if keep_rest(backlog, whole) < 0:
                return -1
            ring_read(ring, ring.head, backlog.rest, whole)
            backlog.rest_at = <uint32_t>size[0]
            size[0] = 0
        else:
            size[0] -= whole
        ring.head += whole
    return 0


cdef int backlog_written(Backlog* backlog, size_t size) noexcept nogil:
    cdef size_t part = backlog.rest_size - backlog.rest_at
    if part > size:
        part = size
    backlog.rest_at += <uint32_t>part
    size -= part
    if ring_written(backlog, &backlog.control, &size) < 0:
        return -1
    return ring_written(backlog, &backlog.media, &size)


# ---- for Python


cdef class FrameBacklog:
    cdef Backlog backlog

    def __dealloc__(self):
        backlog_close(&self.backlog)

    @property
    def empty(self):
        return bool(backlog_empty(&self.backlog))

    @property
    def memory(self):
        return backlog_memory(&self.backlog)

    @property
    def dropped(self):
        return self.backlog.dropped

    def split(self, bytes frame not None, uint32_t sent):
        if not self.empty or len(frame) > FRAME_MAX or sent >= FRAME_HEAD + len(frame):
            raise ValueError("nothing else may wait when a frame is split")
        if backlog_split(&self.backlog, <const uint8_t*><const char*>frame, <uint32_t>len(frame), sent) < 0:
            raise MemoryError

    def add(self, bytes frame not None, bint media, int64_t now):
        return backlog_add(&self.backlog, <const uint8_t*><const char*>frame, <uint32_t>len(frame), media, now) == 0

    def take(self, size_t size, int64_t now):
        cdef Span spans[BACKLOG_SPANS]
        cdef int i, count = backlog_spans(&self.backlog, spans, now)
        out = b""
        for i in range(count):
            out += (<char*>spans[i].data)[:spans[i].size]
        out = out[:size]
        if backlog_written(&self.backlog, len(out)) < 0:
            raise MemoryError
        return out

    def shrink(self):
        backlog_shrink(&self.backlog)
