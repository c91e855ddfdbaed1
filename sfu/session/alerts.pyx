"""The alerts of a DTLS 1.2 session that stands (RFC 6347, RFC 5246 section 7.2), sealed and opened without OpenSSL's SSL.

After its handshake a session for SRTP says and hears one thing: that it ends. OpenSSL keeps some 70 KiB for that; the
keys are 100 bytes. They are derived from the master secret as TLS derives them (RFC 5246, section 6.3).
"""

from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memset

cdef extern from "<openssl/evp.h>" nogil:
    ctypedef struct EVP_CIPHER_CTX:
        pass
    ctypedef struct EVP_KDF:
        pass
    ctypedef struct EVP_KDF_CTX:
        pass
    const EVP_CIPHER* EVP_aes_128_gcm()
    const EVP_CIPHER* EVP_aes_256_gcm()
    const EVP_CIPHER* EVP_chacha20_poly1305()
    EVP_CIPHER_CTX* EVP_CIPHER_CTX_new()
    void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX*)
    int EVP_CipherInit_ex(EVP_CIPHER_CTX*, const EVP_CIPHER*, void*, const unsigned char*, const unsigned char*, int)
    int EVP_CipherUpdate(EVP_CIPHER_CTX*, unsigned char*, int*, const unsigned char*, int)
    int EVP_CipherFinal_ex(EVP_CIPHER_CTX*, unsigned char*, int*)
    int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX*, int, int, void*)
    int EVP_CTRL_AEAD_SET_TAG, EVP_CTRL_AEAD_GET_TAG
    int NID_aes_128_gcm, NID_aes_256_gcm, NID_chacha20_poly1305

cdef extern from "<openssl/kdf.h>" nogil:
    EVP_KDF* EVP_KDF_fetch(void*, const char*, const char*)
    void EVP_KDF_free(EVP_KDF*)
    EVP_KDF_CTX* EVP_KDF_CTX_new(EVP_KDF*)
    void EVP_KDF_CTX_free(EVP_KDF_CTX*)
    ctypedef struct OSSL_PARAM:
        pass
    int EVP_KDF_derive(EVP_KDF_CTX*, unsigned char*, size_t, const OSSL_PARAM*)

cdef extern from "<openssl/params.h>" nogil:
    OSSL_PARAM OSSL_PARAM_construct_utf8_string(const char*, char*, size_t)
    OSSL_PARAM OSSL_PARAM_construct_octet_string(const char*, void*, size_t)
    OSSL_PARAM OSSL_PARAM_construct_end()

cdef extern from "<openssl/crypto.h>" nogil:
    void OPENSSL_cleanse(void*, size_t)

cdef enum:
    HEADER = 13
    TAG = 16
    ALERT = 21               # the content type
    ALERT_SIZE = 2
    FATAL = 2
    CLOSE_NOTIFY = 0
    EXPLICIT = 8             # bytes of a GCM record's nonce in the record
    SEEDED = 13              # "key expansion"


cdef int derive(const char* digest, const uint8_t* secret, const uint8_t* seed, size_t seed_size, uint8_t* out,
                size_t size) noexcept nogil:
    """The PRF of TLS 1.2 (RFC 5246, section 5)."""
    cdef OSSL_PARAM params[4]
    cdef EVP_KDF* kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL)
    cdef EVP_KDF_CTX* context = EVP_KDF_CTX_new(kdf) if kdf != NULL else NULL
    cdef int done = 0
    if context != NULL:
        params[0] = OSSL_PARAM_construct_utf8_string("digest", <char*>digest, 0)
        params[1] = OSSL_PARAM_construct_octet_string("secret", <void*>secret, MASTER_SECRET)
        params[2] = OSSL_PARAM_construct_octet_string("seed", <void*>seed, seed_size)
        params[3] = OSSL_PARAM_construct_end()
        done = EVP_KDF_derive(context, out, size, params) == 1
    EVP_KDF_CTX_free(context)
    EVP_KDF_free(kdf)
    return done


cdef int alerts_init(Alerts* self, int nid, int client, const uint8_t* master_secret, const uint8_t* client_random,
                     const uint8_t* server_random) noexcept nogil:
    cdef uint8_t seed[SEEDED + 2 * RANDOM]
    cdef uint8_t block[2 * 32 + 2 * 12]
    cdef size_t key = 32, iv = 4
    cdef const char* digest = "SHA256"
    memset(self, 0, sizeof(Alerts))
    if nid == NID_aes_128_gcm:
        self.cipher, key = EVP_aes_128_gcm(), 16
    elif nid == NID_aes_256_gcm:
        self.cipher, digest = EVP_aes_256_gcm(), "SHA384"
    elif nid == NID_chacha20_poly1305:
        self.cipher, iv = EVP_chacha20_poly1305(), 12
    else:
        return -1
    memcpy(seed, b"key expansion", SEEDED)
    memcpy(seed + SEEDED, server_random, RANDOM)
    memcpy(seed + SEEDED + RANDOM, client_random, RANDOM)
    if not derive(digest, master_secret, seed, sizeof(seed), block, 2 * (key + iv)):
        self.cipher = NULL
        return -1
    self.iv_size = <uint8_t>iv
    # client_write_key, server_write_key, client_write_IV, server_write_IV
    memcpy(self.ours, block + (0 if client else key), key)
    memcpy(self.theirs, block + (key if client else 0), key)
    memcpy(self.our_iv, block + 2 * key + (0 if client else iv), iv)
    memcpy(self.their_iv, block + 2 * key + (iv if client else 0), iv)
    OPENSSL_cleanse(block, sizeof(block))
    return 0


cdef void write_nonce(const Alerts* self, uint8_t* nonce, const uint8_t* iv, const uint8_t* number,
                      const uint8_t* explicit) noexcept nogil:
    """RFC 5288, section 3, and RFC 7905, section 2. `number`: epoch and sequence number of the record."""
    cdef int i
    memcpy(nonce, iv, self.iv_size)
    if self.iv_size == 4:
        memcpy(nonce + 4, explicit, EXPLICIT)
    else:
        for i in range(8):
            nonce[4 + i] ^= number[i]


cdef int crypt(const Alerts* self, int seal, const uint8_t* key, const uint8_t* nonce, const uint8_t* header,
               const uint8_t* data, uint8_t* out, uint8_t* tag) noexcept nogil:
    """An alert under its keys. The header as associated data has the size of what is inside (RFC 5246, 6.2.3.3)."""
    cdef EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new()
    cdef uint8_t aad[HEADER]
    cdef int size, done
    memcpy(aad, header + 3, 8)
    memcpy(aad + 8, header, 3)
    aad[11], aad[12] = 0, ALERT_SIZE
    done = (
        context != NULL
        and EVP_CipherInit_ex(context, self.cipher, NULL, key, nonce, seal) == 1
        and EVP_CipherUpdate(context, NULL, &size, aad, HEADER) == 1
        and EVP_CipherUpdate(context, out, &size, data, ALERT_SIZE) == 1
        and (seal or EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG, tag) == 1)
        and EVP_CipherFinal_ex(context, out + ALERT_SIZE, &size) == 1
        and (not seal or EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG, tag) == 1)
    )
    EVP_CIPHER_CTX_free(context)
    return done


cdef size_t alerts_close(Alerts* self, uint8_t* out) noexcept nogil:
    cdef size_t explicit = EXPLICIT if self.iv_size == 4 else 0
    cdef uint8_t alert[ALERT_SIZE]
    cdef uint8_t nonce[12]
    cdef uint8_t* body = out + HEADER + explicit
    if self.cipher == NULL or self.said:
        return 0
    self.said = 1
    memset(out, 0, HEADER)
    out[0], out[1], out[2] = ALERT, 0xFE, 0xFD
    # Epoch 1. Our Finished had the number 0, and is sent again as the same bytes; nothing else was ever sealed.
    out[4], out[10] = 1, 1
    out[12] = <uint8_t>(explicit + ALERT_SIZE + TAG)
    # OpenSSL draws the explicit nonce of its first record at random: with this one they never meet, to 1 in 2^64.
    memcpy(out + HEADER, out + 3, explicit)
    write_nonce(self, nonce, self.our_iv, out + 3, out + 3)
    alert[0], alert[1] = 1, CLOSE_NOTIFY
    if not crypt(self, 1, self.ours, nonce, out, alert, body, body + ALERT_SIZE):
        return 0
    return HEADER + explicit + ALERT_SIZE + TAG


cdef int alerts_end(const Alerts* self, const uint8_t* data, size_t size) noexcept nogil:
    cdef size_t explicit = EXPLICIT if self.iv_size == 4 else 0
    cdef size_t at = 0, length
    cdef uint8_t nonce[12]
    cdef uint8_t alert[ALERT_SIZE + TAG]
    cdef uint8_t tag[TAG]
    cdef const uint8_t* body
    while self.cipher != NULL and at + HEADER <= size:
        length = data[at + 11] << 8 | data[at + 12]
        if at + HEADER + length > size:
            return 0
        body = data + at + HEADER
        # Under the keys of epoch 1 alone; an alert is of one size.
        if data[at] == ALERT and data[at + 3] == 0 and data[at + 4] == 1 and length == explicit + ALERT_SIZE + TAG:
            write_nonce(self, nonce, self.their_iv, data + at + 3, body)
            memcpy(tag, body + explicit + ALERT_SIZE, TAG)
            if crypt(self, 0, self.theirs, nonce, data + at, body + explicit, alert, tag):
                if alert[0] == FATAL or alert[1] == CLOSE_NOTIFY:
                    return 1
        at += HEADER + length
    return 0
