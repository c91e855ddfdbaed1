"""One run of OpenSSL's DTLS on memory: what the thread that carries out handshakes cimports."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from mediaserver.sfu.session.alerts cimport Alerts

cdef extern from "<openssl/ssl.h>" nogil:
    ctypedef struct SSL:
        pass
    ctypedef struct SSL_CTX:
        pass
    ctypedef struct BIO:
        pass
    ctypedef struct EVP_MD:
        pass

cdef enum:
    DIGEST_MAX = 64          # bytes, of SHA-512
    DIGESTS_MAX = 8          # of one certificate, by one hash function
    MATERIAL_MAX = 92        # bytes of key material: two keys of 32, two salts of 14

# Belongs to one thread at a time.
cdef struct Shaking:
    SSL* ssl                 # NULL once `alerts` can say all that is still to be said
    BIO* incoming            # both are the SSL's
    BIO* outgoing
    uint8_t done             # the handshake is through
    uint8_t failed
    uint8_t closed           # the peer has ended the session
    const EVP_MD* function   # by which the peer's certificate is known; NULL: nobody's is good
    uint8_t digest_count
    uint8_t digests[DIGESTS_MAX][DIGEST_MAX]
    uint16_t profile         # for SRTP; 0: none in common, or not done
    uint8_t material[MATERIAL_MAX]
    Alerts alerts

# A datagram and what came of it. `out` is for libc's free; NULL: nothing is to be sent.
cdef struct Step:
    uint8_t reads            # it is for the session that stands
    uint8_t done
    uint8_t failed
    uint8_t closed
    uint8_t* out
    uint32_t out_size
    uint32_t size
    uint8_t data[0]

# Lets OpenSSL go on with the step's datagram as far as it can. What comes for a handshake that is through is passed over.
cdef void take_step(Shaking* self, Step* step) noexcept nogil

cdef class Context:
    cdef SSL_CTX* context

cdef class Handshake:
    cdef Shaking shaking
    cdef Context context
