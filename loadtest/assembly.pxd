"""Peers from their parameters, and their counts for Python."""

from libc.stdint cimport int64_t

from mediaserver.loadtest.state cimport Peer

# Allocated; raises ValueError for parameters that no peer can be made of.
cdef Peer* make_peer(object params, object address, int64_t now) except NULL
cdef void free_peer(Peer* peer) noexcept
cdef object peer_stats(const Peer* peer, int64_t now)
