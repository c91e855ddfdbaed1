"""ICE over TCP (RFC 6544), the passive side: connections that others open, datagrams on them in frames (RFC 4571).

A connection is a transport address of its own: its `Addr` carries its id. What it brings goes to the engine as if it
were datagrams; what the engine sends to it waits here when the connection is slow, within bounds.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from mediaserver.sfu.stream.outbox cimport Outbox
from mediaserver.sfu.stream.state cimport Counters, EngineState

cdef enum:
    TCP_UNPROVED = 256           # connections at once from which no valid check has come
    TCP_PROOF_US = 5000000       # within which one must come
    TCP_IDLE_US = 30000000       # without a frame: browsers check every 2.5 to 6 s
    TCP_STALL_US = 10000000      # without taking a byte while some wait
    TCP_SWEEP_US = 500000

cdef struct Tcp

# Takes a listening socket over (it stays the caller's to close) and registers it with `epoll`; the data of its
# events are `listener_tag`, those of connections their id shifted left by 8. At most `limit` connections (up to 65535).
# NULL without memory.
cdef Tcp* tcp_new(int listener, int epoll, uint64_t listener_tag, uint32_t limit, uint64_t seed,
                  Counters* counters) noexcept nogil
cdef void tcp_free(Tcp* tcp) noexcept nogil
cdef void tcp_accept(Tcp* tcp, int64_t now) noexcept nogil
# Takes what has come on a connection to the engine.
cdef void tcp_receive(Tcp* tcp, EngineState* engine, uint32_t id) noexcept nogil
# The connection can take more.
cdef void tcp_flush(Tcp* tcp, uint32_t id, int64_t now) noexcept nogil
# The runs of an outbox that go to connections.
cdef void tcp_drain(Tcp* tcp, Outbox* outbox, int64_t now) noexcept nogil
# Ends what is overdue and closes what has ended; the engine forgets their addresses.
cdef void tcp_sweep(Tcp* tcp, EngineState* engine, int64_t now) noexcept nogil
