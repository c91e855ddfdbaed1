"""The data plane without I/O: datagrams and commands in, datagrams and reports out."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t

from mediaserver.sfu.stream.outbox cimport Addr, Outbox
from mediaserver.sfu.stream.plane cimport BasePlane
from mediaserver.sfu.stream.state cimport EngineState

# `drain` as in outbox_init. 0, or -1 without memory.
cdef int engine_init(EngineState* engine, size_t memory, int64_t consent_timeout, const uint8_t* seed,
                     void (*drain)(void*, Outbox*) noexcept nogil, void* context) noexcept nogil
cdef void engine_close(EngineState* engine) noexcept nogil
# One datagram. Media goes out at engine_end_batch.
cdef void engine_receive(EngineState* engine, const Addr* addr, const uint8_t* data, size_t size) noexcept nogil
# The same, with the address_key of `addr`.
cdef void engine_take(EngineState* engine, const Addr* addr, uint64_t key, const uint8_t* data,
                      size_t size) noexcept nogil
# Sends what the batch left, and whatever is due.
cdef void engine_end_batch(EngineState* engine) noexcept nogil
# µs of the next thing to do without input.
cdef int64_t engine_deadline(const EngineState* engine) noexcept nogil
