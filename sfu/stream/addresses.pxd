"""Transport addresses between text and the form of the data plane."""

from mediaserver.sfu.stream.outbox cimport Addr

# ValueError for text that is no IP address.
cdef int address_from(Addr* addr, str ip, int port) except -1
cdef tuple address_text(const Addr* addr)
