"""The swarm: the Python face of the engine."""

from mediaserver.loadtest.engine cimport Engine
from mediaserver.loadtest.state cimport Peer

cdef class Swarm:
    cdef Engine engine
    cdef object thread
    cdef dict sockets        # number -> (slot, socket, parameters: they hold the clips)
    cdef void take_lock(self) noexcept
    cdef void give_lock(self) noexcept
    cdef int enter(self, Peer* peer) except -1
