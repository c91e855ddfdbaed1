"""AES-GCM by Intel's ipsec-mb, which costs a packet a quarter to a half of what libcrypto's EVP does.

It is an option. `setup.py` says whether the header was there for the build; the library is opened when this module
is loaded. Where its version is not the header's, its self-test fails or the processor lacks the instructions, it is
let alone and libcrypto serves. It has code for SSE, AVX, AVX2, AVX-512 and VAES, and takes the best for the processor.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free

from mediaserver.sfu.wire.lines cimport ahead_bytes, lines_new


cdef extern from *:
    # Where the header lacked, the same names let this file compile, and nothing of them is ever called.
    """
    #include <dlfcn.h>
    #include <stdlib.h>
    #include <openssl/crypto.h>
    #ifdef MEDIASERVER_IPSEC_MB
    #include <intel-ipsec-mb.h>
    enum { IPSEC_MB_BUILT = 1 };
    #else
    #include <stdint.h>
    enum { IPSEC_MB_BUILT = 0, IMB_VERSION_NUM = 0 };
    #define IMB_VERSION_STR ""
    enum { IMB_FEATURE_AESNI, IMB_FEATURE_PCLMULQDQ, IMB_FEATURE_SELF_TEST, IMB_FEATURE_SELF_TEST_PASS };
    typedef int IMB_ARCH;
    struct gcm_key_data { uint8_t none; };
    struct gcm_context_data { uint8_t none; };
    typedef void (*aes_gcm_enc_dec_t)(const struct gcm_key_data *, struct gcm_context_data *, uint8_t *,
                                      const uint8_t *, uint64_t, const uint8_t *, const uint8_t *, uint64_t,
                                      uint8_t *, uint64_t);
    typedef void (*aes_gcm_pre_t)(const void *, struct gcm_key_data *);
    typedef struct { uint64_t features; aes_gcm_enc_dec_t gcm128_enc, gcm128_dec, gcm256_enc, gcm256_dec;
                     aes_gcm_pre_t gcm128_pre, gcm256_pre; } IMB_MGR;
    #endif
    """
    bint IPSEC_MB_BUILT
    unsigned IMB_VERSION_NUM
    const char* IMB_VERSION_STR
    uint64_t IMB_FEATURE_AESNI
    uint64_t IMB_FEATURE_PCLMULQDQ
    uint64_t IMB_FEATURE_SELF_TEST
    uint64_t IMB_FEATURE_SELF_TEST_PASS
    ctypedef int IMB_ARCH
    struct gcm_key_data:
        pass
    struct gcm_context_data:
        pass
    ctypedef void (*aes_gcm_enc_dec_t)(const gcm_key_data*, gcm_context_data*, uint8_t*, const uint8_t*, uint64_t,
                                       const uint8_t*, const uint8_t*, uint64_t, uint8_t*, uint64_t) noexcept nogil
    ctypedef void (*aes_gcm_pre_t)(const void*, gcm_key_data*) noexcept nogil
    ctypedef struct IMB_MGR:
        uint64_t features
        aes_gcm_enc_dec_t gcm128_enc
        aes_gcm_enc_dec_t gcm128_dec
        aes_gcm_enc_dec_t gcm256_enc
        aes_gcm_enc_dec_t gcm256_dec
        aes_gcm_pre_t gcm128_pre
        aes_gcm_pre_t gcm256_pre
    int RTLD_NOW
    int RTLD_LOCAL
    void* dlopen(const char*, int)
    void* dlsym(void*, const char*)
    void OPENSSL_cleanse(void*, size_t) nogil
    int CRYPTO_memcmp(const void*, const void*, size_t) nogil
    const char* OpenSSL_version(int)
    int OPENSSL_VERSION_STRING

# The library's functions for one size of key.
cdef struct Code:
    aes_gcm_pre_t prepare
    aes_gcm_enc_dec_t seal
    aes_gcm_enc_dec_t open

# Its alignment is that of cache lines, and its end shares one with the first power of the hash key.
cdef struct GcmKey:
    gcm_key_data schedule
    const Code* code

cdef enum:
    TAG = 16
    ROUND_KEYS = 176         # bytes, of a key of 16
    LOW_POWERS = 192         # bytes: of packets of up to some 128 bytes, and the library's functions

cdef Code small               # 16 bytes of key
cdef Code large               # 32
cdef bint usable = False
cdef bint allowed = True
cdef str problem = ""

ctypedef unsigned (*GetVersion)() noexcept
ctypedef IMB_MGR* (*Allocate)(uint64_t) noexcept
ctypedef void (*Start)(IMB_MGR*, IMB_ARCH*) noexcept
ctypedef void (*Release)(IMB_MGR*) noexcept


# ---- the library

cdef str take_code(IMB_MGR* manager):
    """The functions of a started manager, which are of no further use to it; or why they can't be used."""
    cdef uint64_t needed = IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ
    if manager.features & needed != needed:
        return "the processor has no AES and PCLMULQDQ instructions"
    if manager.features & IMB_FEATURE_SELF_TEST and not manager.features & IMB_FEATURE_SELF_TEST_PASS:
        return "its self-test has failed"
    small.prepare = manager.gcm128_pre
    small.seal = manager.gcm128_enc
    small.open = manager.gcm128_dec
    large.prepare = manager.gcm256_pre
    large.seal = manager.gcm256_enc
    large.open = manager.gcm256_dec
    return ""


cdef str open_library():
    """Empty, or why ipsec-mb can't be used. It stays open for the life of the process."""
    cdef void* library
    cdef void* version
    cdef void* allocate
    cdef void* start
    cdef void* release
    cdef IMB_MGR* manager
    cdef IMB_ARCH arch
    cdef str found
    if not IPSEC_MB_BUILT:
        return "it was not there for the build"
    name = b"libIPSec_MB.so." + (<bytes>IMB_VERSION_STR).split(b".")[0]
    library = dlopen(name, RTLD_NOW | RTLD_LOCAL)
    if library == NULL:
        return f"there is no {name.decode()}"
    version = dlsym(library, b"imb_get_version")
    allocate = dlsym(library, b"alloc_mb_mgr")
    start = dlsym(library, b"init_mb_mgr_auto")
    release = dlsym(library, b"free_mb_mgr")
    # The layouts of the header hold for that version alone.
    if (version == NULL or allocate == NULL or start == NULL or release == NULL
            or (<GetVersion>version)() != IMB_VERSION_NUM):
        return f"{name.decode()} is not of version {(<bytes>IMB_VERSION_STR).decode()}"
    manager = (<Allocate>allocate)(0)
    if manager == NULL:
        return "there is no memory for it"
    (<Start>start)(manager, &arch)
    found = take_code(manager)
    (<Release>release)(manager)
    return found


# ---- keys and packets

cdef GcmKey* gcm_new(const uint8_t* key, size_t key_size) noexcept nogil:
    cdef GcmKey* made
    if not usable or not allowed:
        return NULL
    made = <GcmKey*>lines_new(sizeof(GcmKey))
    if made != NULL:
        made.code = &large if key_size == 32 else &small
        made.code.prepare(key, &made.schedule)
    return made


cdef void gcm_free(GcmKey* key) noexcept nogil:
    if key != NULL:
        OPENSSL_cleanse(key, sizeof(GcmKey))
        free(key)


cdef void gcm_seal(const GcmKey* key, const uint8_t* iv, const uint8_t* aad, size_t aad_size, const uint8_t* data,
                   size_t size, uint8_t* out, uint8_t* tag) noexcept nogil:
    cdef gcm_context_data work
    key.code.seal(&key.schedule, &work, out, data, size, iv, aad, aad_size, tag, TAG)


cdef bint gcm_open(const GcmKey* key, const uint8_t* iv, const uint8_t* aad, size_t aad_size, uint8_t* data,
                   size_t size, const uint8_t* tag) noexcept nogil:
    cdef gcm_context_data work
    cdef uint8_t expected[TAG]
    key.code.open(&key.schedule, &work, data, data, size, iv, aad, aad_size, expected, TAG)
    # In a time that does not tell how much of a forged tag was right.
    return CRYPTO_memcmp(expected, tag, TAG) == 0


cdef void gcm_ahead(const GcmKey* key) noexcept nogil:
    # The round keys stand first, the low powers of the hash key last.
    if key != NULL:
        ahead_bytes(&key.schedule, ROUND_KEYS)
        ahead_bytes(<const uint8_t*>key + sizeof(GcmKey) - LOW_POWERS, LOW_POWERS)


cdef void gcm_allow(bint allow) noexcept nogil:
    global allowed
    allowed = allow


# ---- the face for Python

def choose(str library not None):
    if library not in ("auto", "openssl"):
        raise ValueError(f"{library!r} is no library for SRTP")
    gcm_allow(library == "auto")


def library():
    if usable and allowed:
        return f"ipsec-mb {(<bytes>IMB_VERSION_STR).decode()}"
    return f"OpenSSL {(<bytes>OpenSSL_version(OPENSSL_VERSION_STRING)).decode()}"


def obstacle():
    return problem


problem = open_library()
usable = not problem
