"""The cryptographic transforms of SRTP: AES-CM with HMAC-SHA1 (RFC 3711) by libcrypto and AES-GCM (RFC 7714) by
ipsec-mb where `gcm` has it, else by libcrypto.

A transform holds the session keys of SRTP or of SRTCP in one direction. Its cipher context lives as long as it does:
the key schedule and the provider lookup, which cost more than a packet, are paid once, and a packet sets only its IV.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from mediaserver.sfu.wire.gcm cimport gcm_free, gcm_new, gcm_open, gcm_seal
from mediaserver.sfu.wire.packet cimport write_u32


cdef extern from *:
    ctypedef struct EVP_CIPHER:
        pass
    const EVP_CIPHER* EVP_aes_128_ctr() nogil
    const EVP_CIPHER* EVP_aes_256_ctr() nogil
    const EVP_CIPHER* EVP_aes_128_gcm() nogil
    const EVP_CIPHER* EVP_aes_256_gcm() nogil
    EVP_CIPHER_CTX* EVP_CIPHER_CTX_new() nogil
    void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX*) nogil
    int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX*, int, int, void*) nogil
    int EVP_EncryptInit_ex(EVP_CIPHER_CTX*, const EVP_CIPHER*, void*, const uint8_t*, const uint8_t*) nogil
    int EVP_EncryptUpdate(EVP_CIPHER_CTX*, uint8_t*, int*, const uint8_t*, int) nogil
    int EVP_EncryptFinal_ex(EVP_CIPHER_CTX*, uint8_t*, int*) nogil
    int EVP_DecryptInit_ex(EVP_CIPHER_CTX*, const EVP_CIPHER*, void*, const uint8_t*, const uint8_t*) nogil
    int EVP_DecryptUpdate(EVP_CIPHER_CTX*, uint8_t*, int*, const uint8_t*, int) nogil
    int EVP_DecryptFinal_ex(EVP_CIPHER_CTX*, uint8_t*, int*) nogil
    int EVP_CTRL_AEAD_GET_TAG
    int EVP_CTRL_AEAD_SET_TAG
    int SHA1_Init(SHA_CTX*) nogil
    int SHA1_Update(SHA_CTX*, const void*, size_t) nogil
    int SHA1_Final(uint8_t*, SHA_CTX*) nogil

cdef enum:
    SHA1_BLOCK = 64
    RTCP_AAD = 8              # of an SRTCP packet's header, before the word (RFC 7714 section 9.2)


# ---- initialisation vectors

cdef inline void aead_iv(const Transform* transform, uint32_t ssrc, uint64_t index, uint8_t* iv) noexcept nogil:
    """RFC 7714 sections 8.1 and 9.1: 16 zero bits, SSRC, 48-bit index (16 zero bits and 32 for SRTCP), xor salt."""
    cdef int i
    iv[0] = 0
    iv[1] = 0
    write_u32(iv + 2, ssrc)
    iv[6] = <uint8_t>(index >> 40)
    iv[7] = <uint8_t>(index >> 32)
    write_u32(iv + 8, <uint32_t>index)
    for i in range(12):
        iv[i] ^= transform.salt[i]


cdef inline void cm_iv(const Transform* transform, uint32_t ssrc, uint64_t index, uint8_t* iv) noexcept nogil:
    """RFC 3711 section 4.1.1: salt * 2^16 xor SSRC * 2^64 xor index * 2^16."""
    cdef int i
    memset(iv, 0, 16)
    write_u32(iv + 4, ssrc)
    iv[8] = <uint8_t>(index >> 40)
    iv[9] = <uint8_t>(index >> 32)
    write_u32(iv + 10, <uint32_t>index)
    for i in range(14):
        iv[i] ^= transform.salt[i]


# ---- packets

cdef inline size_t join_aad(const uint8_t** aad, size_t size, const uint8_t* word, uint8_t* joined) noexcept nogil:
    """Puts the word, where there is one, behind the header of an SRTCP packet, for ipsec-mb takes them in one piece."""
    if word == NULL:
        return size
    memcpy(joined, aad[0], RTCP_AAD)
    memcpy(joined + RTCP_AAD, word, EXTRA_WORD)
    aad[0] = joined
    return RTCP_AAD + EXTRA_WORD


cdef int aead_seal(const Transform* transform, uint32_t ssrc, uint64_t index, const uint8_t* aad, size_t aad_size,
                   const uint8_t* word, const uint8_t* data, size_t size, uint8_t* out, uint8_t* tag) noexcept nogil:
    cdef EVP_CIPHER_CTX* cipher = transform.cipher
    cdef uint8_t nothing[16]
    cdef int done
    cdef uint8_t iv[12]
    cdef uint8_t joined[RTCP_AAD + EXTRA_WORD]
    aead_iv(transform, ssrc, index, iv)
    if transform.gcm != NULL:
        aad_size = join_aad(&aad, aad_size, word, joined)
        gcm_seal(transform.gcm, iv, aad, aad_size, data, size, out, tag)
        return SRTP_OK
    if (EVP_EncryptInit_ex(cipher, NULL, NULL, NULL, iv) == 1
            and EVP_EncryptUpdate(cipher, NULL, &done, aad, <int>aad_size) == 1
            and (word == NULL or EVP_EncryptUpdate(cipher, NULL, &done, word, EXTRA_WORD) == 1)
            and (size == 0 or EVP_EncryptUpdate(cipher, out, &done, data, <int>size) == 1)
            and EVP_EncryptFinal_ex(cipher, nothing, &done) == 1
            and EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, GCM_TAG, tag) == 1):
        return SRTP_OK
    return SRTP_ERR_LIMIT


cdef int aead_open(const Transform* transform, uint32_t ssrc, uint64_t index, const uint8_t* aad, size_t aad_size,
                   const uint8_t* word, uint8_t* data, size_t size, uint8_t* tag) noexcept nogil:
    cdef EVP_CIPHER_CTX* cipher = transform.cipher
    cdef uint8_t nothing[16]
    cdef int done
    cdef uint8_t iv[12]
    cdef uint8_t joined[RTCP_AAD + EXTRA_WORD]
    aead_iv(transform, ssrc, index, iv)
    if transform.gcm != NULL:
        aad_size = join_aad(&aad, aad_size, word, joined)
        return SRTP_OK if gcm_open(transform.gcm, iv, aad, aad_size, data, size, tag) else SRTP_ERR_AUTH
    if not (EVP_DecryptInit_ex(cipher, NULL, NULL, NULL, iv) == 1
            and EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, GCM_TAG, tag) == 1
            and EVP_DecryptUpdate(cipher, NULL, &done, aad, <int>aad_size) == 1
            and (word == NULL or EVP_DecryptUpdate(cipher, NULL, &done, word, EXTRA_WORD) == 1)
            and (size == 0 or EVP_DecryptUpdate(cipher, data, &done, data, <int>size) == 1)):
        return SRTP_ERR_LIMIT
    return SRTP_OK if EVP_DecryptFinal_ex(cipher, nothing, &done) == 1 else SRTP_ERR_AUTH


cdef int cm_crypt(const Transform* transform, uint32_t ssrc, uint64_t index, const uint8_t* data, size_t size,
                  uint8_t* out) noexcept nogil:
    cdef uint8_t iv[16]
    cdef int done
    if size == 0:
        return SRTP_OK
    cm_iv(transform, ssrc, index, iv)
    if (EVP_EncryptInit_ex(transform.cipher, NULL, NULL, NULL, iv) == 1
            and EVP_EncryptUpdate(transform.cipher, out, &done, data, <int>size) == 1):
        return SRTP_OK
    return SRTP_ERR_LIMIT


cdef void cm_tag(const Transform* transform, const uint8_t* data, size_t size, const uint8_t* word,
                 uint8_t* digest) noexcept nogil:
    cdef SHA_CTX state = transform.inner
    SHA1_Update(&state, data, size)
    if word != NULL:
        SHA1_Update(&state, word, EXTRA_WORD)
    SHA1_Final(digest, &state)
    state = transform.outer
    SHA1_Update(&state, digest, SHA1_SIZE)
    SHA1_Final(digest, &state)


# ---- keys

cdef bint derive_part(EVP_CIPHER_CTX* cipher, const uint8_t* salt, uint8_t label, uint8_t* out,
                      int size) noexcept nogil:
    """AES-CM as the key derivation function, with a key derivation rate of 0 (RFC 3711 section 4.3.3)."""
    cdef uint8_t iv[16]
    cdef int done
    cdef bint good
    memcpy(iv, salt, MAX_SALT)
    iv[7] ^= label
    iv[14] = 0
    iv[15] = 0
    memset(out, 0, size)
    good = (EVP_EncryptInit_ex(cipher, NULL, NULL, NULL, iv) == 1
            and EVP_EncryptUpdate(cipher, out, &done, out, size) == 1)
    OPENSSL_cleanse(iv, sizeof(iv))
    return good


cdef bint derive_keys(const uint8_t* key, size_t key_size, const uint8_t* salt, size_t salt_size, SessionKeys* rtp,
                      SessionKeys* rtcp) noexcept nogil:
    cdef const EVP_CIPHER* algorithm = EVP_aes_256_ctr() if key_size == 32 else EVP_aes_128_ctr()
    cdef uint8_t padded[MAX_SALT]
    cdef EVP_CIPHER_CTX* cipher = EVP_CIPHER_CTX_new()
    cdef bint good
    if cipher == NULL or (key_size != 16 and key_size != 32) or salt_size > MAX_SALT:
        EVP_CIPHER_CTX_free(cipher)
        return False
    # The 96-bit salt of GCM is used as if zeros followed it (RFC 7714 section 11).
    memset(padded, 0, MAX_SALT)
    memcpy(padded, salt, salt_size)
    good = (EVP_EncryptInit_ex(cipher, algorithm, NULL, key, NULL) == 1
            and derive_part(cipher, padded, 0, rtp.key, <int>key_size)
            and derive_part(cipher, padded, 1, rtp.auth, AUTH_KEY)
            and derive_part(cipher, padded, 2, rtp.salt, MAX_SALT)
            and derive_part(cipher, padded, 3, rtcp.key, <int>key_size)
            and derive_part(cipher, padded, 4, rtcp.auth, AUTH_KEY)
            and derive_part(cipher, padded, 5, rtcp.salt, MAX_SALT))
    EVP_CIPHER_CTX_free(cipher)
    OPENSSL_cleanse(padded, sizeof(padded))
    return good


cdef bint transform_start(Transform* transform, bint aead, size_t key_size, const SessionKeys* keys) noexcept nogil:
    cdef const EVP_CIPHER* algorithm
    cdef uint8_t block[SHA1_BLOCK]
    cdef int i
    if aead:
        algorithm = EVP_aes_256_gcm() if key_size == 32 else EVP_aes_128_gcm()
    else:
        algorithm = EVP_aes_256_ctr() if key_size == 32 else EVP_aes_128_ctr()
    transform.aead = aead
    transform.tag_size = GCM_TAG if aead else CM_TAG
    memcpy(transform.salt, keys.salt, MAX_SALT)
    # RFC 2104: the key, padded to a block, xor 0x36 begins the inner hash and xor 0x5c the outer one.
    memset(block, 0x36, SHA1_BLOCK)
    for i in range(AUTH_KEY):
        block[i] ^= keys.auth[i]
    SHA1_Init(&transform.inner)
    SHA1_Update(&transform.inner, block, SHA1_BLOCK)
    for i in range(SHA1_BLOCK):
        block[i] ^= 0x36 ^ 0x5C
    SHA1_Init(&transform.outer)
    SHA1_Update(&transform.outer, block, SHA1_BLOCK)
    OPENSSL_cleanse(block, sizeof(block))
    if aead:
        transform.gcm = gcm_new(keys.key, key_size)
        if transform.gcm != NULL:
            return True
    transform.cipher = EVP_CIPHER_CTX_new()
    return transform.cipher != NULL and EVP_EncryptInit_ex(transform.cipher, algorithm, NULL, keys.key, NULL) == 1


cdef void transform_stop(Transform* transform) noexcept nogil:
    # libcrypto cleanses the key schedule with its context.
    EVP_CIPHER_CTX_free(transform.cipher)
    gcm_free(transform.gcm)
    OPENSSL_cleanse(transform, sizeof(Transform))
