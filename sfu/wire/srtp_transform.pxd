"""The cryptographic transforms of SRTP: what `srtp` builds on."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from mediaserver.sfu.wire.gcm cimport GcmKey


cdef extern from *:
    # HMAC-SHA1 stands on the plain SHA_CTX: its two keyed states are copied as structs. Resetting an EVP_MAC or an
    # HMAC_CTX clones a provider context, so each packet would allocate twice and touch a shared reference count.
    """
    #define OPENSSL_SUPPRESS_DEPRECATED
    #include <openssl/crypto.h>
    #include <openssl/evp.h>
    #include <openssl/sha.h>
    """
    ctypedef struct EVP_CIPHER_CTX:
        pass
    ctypedef struct SHA_CTX:
        pass
    void OPENSSL_cleanse(void*, size_t) nogil
    int CRYPTO_memcmp(const void*, const void*, size_t) nogil

cdef enum:
    SRTP_OK = 0
    SRTP_ERR_SHORT = -1    # truncated, no room, or not a packet of this kind
    SRTP_ERR_AUTH = -2     # the tag does not verify
    SRTP_ERR_REPLAY = -3   # seen before, or older than the replay window
    SRTP_ERR_LIMIT = -4    # index space exhausted, too many SRTCP sources, or libcrypto failed

cdef enum:
    MAX_KEY = 32
    MAX_SALT = 14
    AUTH_KEY = 20
    SHA1_SIZE = 20
    GCM_TAG = 16
    CM_TAG = 10
    EXTRA_WORD = 4

# What RFC 3711 section 4.3 derives for SRTP or for SRTCP. GCM uses 12 bytes of the salt and no auth key.
cdef struct SessionKeys:
    uint8_t key[MAX_KEY]
    uint8_t salt[MAX_SALT]
    uint8_t auth[AUTH_KEY]

# Session keys at work. What GCM needs of them stands in one cache line.
cdef struct Transform:
    GcmKey* gcm               # ipsec-mb's, or NULL: then the cipher is libcrypto's
    EVP_CIPHER_CTX* cipher
    uint8_t salt[MAX_SALT]
    uint8_t aead
    uint8_t tag_size
    SHA_CTX inner
    SHA_CTX outer

# Session keys from a master key of 16 or 32 bytes and a master salt of up to 14.
cdef bint derive_keys(const uint8_t* key, size_t key_size, const uint8_t* salt, size_t salt_size, SessionKeys* rtp,
                      SessionKeys* rtcp) noexcept nogil
# False when libcrypto fails; transform_stop is due either way. The transform was zero-initialised.
cdef bint transform_start(Transform* transform, bint aead, size_t key_size, const SessionKeys* keys) noexcept nogil
cdef void transform_stop(Transform* transform) noexcept nogil

# GCM. word: 4 more bytes of associated data (the SRTCP word), or NULL. 0 or an error.
cdef int aead_seal(const Transform* transform, uint32_t ssrc, uint64_t index, const uint8_t* aad, size_t aad_size,
                   const uint8_t* word, const uint8_t* data, size_t size, uint8_t* out, uint8_t* tag) noexcept nogil
cdef int aead_open(const Transform* transform, uint32_t ssrc, uint64_t index, const uint8_t* aad, size_t aad_size,
                   const uint8_t* word, uint8_t* data, size_t size, uint8_t* tag) noexcept nogil

# AES-CM and HMAC-SHA1. word: 4 more bytes under the tag (the ROC), or NULL. digest: SHA1_SIZE bytes.
cdef int cm_crypt(const Transform* transform, uint32_t ssrc, uint64_t index, const uint8_t* data, size_t size,
                  uint8_t* out) noexcept nogil
cdef void cm_tag(const Transform* transform, const uint8_t* data, size_t size, const uint8_t* word,
                 uint8_t* digest) noexcept nogil
