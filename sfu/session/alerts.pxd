"""The alerts of a DTLS 1.2 session that stands (RFC 6347, RFC 5246 section 7.2), sealed and opened without OpenSSL's SSL."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

cdef extern from "<openssl/evp.h>" nogil:
    ctypedef struct EVP_CIPHER:
        pass

cdef enum:
    ALERT_RECORD = 39        # bytes of a close_notify at most: header, part of the nonce, alert, tag
    MASTER_SECRET = 48
    RANDOM = 32

# What is left of a session: the keys of both directions. Zeroed: nothing can be said.
cdef struct Alerts:
    const EVP_CIPHER* cipher
    uint8_t iv_size          # 4 with GCM, where the record bears the rest of the nonce; 12 with ChaCha20
    uint8_t ours[32]
    uint8_t theirs[32]
    uint8_t our_iv[12]
    uint8_t their_iv[12]
    uint8_t said

# 0, or -1 for a cipher suite that is none of AES-GCM and ChaCha20, and when libcrypto fails. `nid` is the cipher's.
cdef int alerts_init(Alerts* self, int nid, int client, const uint8_t* master_secret, const uint8_t* client_random,
                     const uint8_t* server_random) noexcept nogil
# The record of our close_notify, once: its size, else 0.
cdef size_t alerts_close(Alerts* self, uint8_t* out) noexcept nogil
# Whether a datagram holds an alert of the peer that ends the session: close_notify, or a fatal one.
cdef int alerts_end(const Alerts* self, const uint8_t* data, size_t size) noexcept nogil
