"""The face of a data plane: commands from Python objects, events to them."""

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from mediaserver.sfu.stream.control cimport Command
from mediaserver.sfu.stream.relay cimport Doorbell, Relay
from mediaserver.sfu.stream.ring cimport Ring
from mediaserver.sfu.stream.state cimport EngineState, Report

cdef class BasePlane:
    cdef EngineState engine
    cdef Ring reports
    cdef dict blocks         # id -> address and kind of a stats block, or the TapRing, until REMOVED is read
    cdef dict homes          # id() of another plane -> address of the Relay from there
    cdef list relays         # addresses of those that this plane is an end of
    cdef object entropy      # count of bytes -> that many random bytes
    # Carries a command out, or sends it on its way; the callee frees it.
    cdef int submit(self, Command* command) except -1
    cdef Command* command(self, int kind, id, size_t size) except NULL
    cdef uint64_t random_word(self) except? 0
    cdef int simple(self, int kind, id, value=*) except -1
    cdef int credentials(self, int kind, peer, str ufrag, str pwd) except -1
    cdef void* block(self, id, size_t size, int of=*) except NULL
    cdef int free_block(self, block) except -1
    cdef object event(self, Report* item)
    # How its thread is woken; NULL: it has none.
    cdef Doorbell* bell(self) noexcept
    cdef Relay* relay_from(self, BasePlane home) except NULL
