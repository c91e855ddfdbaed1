"""A peer whose address has changed is asked at the new one, so that it need not wait for its own next check.

A lite agent sends no checks (RFC 8445, section 2.5), and browsers check every 2.5 to 6 s: so long would a picture stand
still behind a NAT that has forgotten the peer. But what the peer sends comes from the new address at once. That is a
hint and no more, as anybody may repeat a datagram from anywhere; so we send one check there, and only a peer that
answers it, with the password that it has told us, has its media sent there (RFC 7675, section 5.1).
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from mediaserver.sfu.stream.outbox cimport Addr
from mediaserver.sfu.stream.state cimport EngineState

# SRTP or SRTCP from an address at which no peer has passed a check.
cdef void follow_stranger(EngineState* engine, const Addr* addr, const uint8_t* data, size_t size) noexcept nogil
# A STUN success response.
cdef void take_answer(EngineState* engine, const Addr* addr, const uint8_t* data, size_t size) noexcept nogil
