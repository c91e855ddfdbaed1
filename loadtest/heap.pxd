"""A binary heap of streams by the time their next frame is due."""

from libc.stdint cimport uint32_t

from mediaserver.loadtest.state cimport OutStream

cdef inline void heap_down(OutStream** heap, uint32_t count, uint32_t position) noexcept nogil:
    cdef OutStream* moved = heap[position]
    cdef uint32_t child
    while True:
        child = 2 * position + 1
        if child >= count:
            break
        if child + 1 < count and heap[child + 1].due < heap[child].due:
            child += 1
        if moved.due <= heap[child].due:
            break
        heap[position] = heap[child]
        position = child
    heap[position] = moved

cdef inline void heap_build(OutStream** heap, uint32_t count) noexcept nogil:
    cdef uint32_t position = count // 2
    while position > 0:
        position -= 1
        heap_down(heap, count, position)
