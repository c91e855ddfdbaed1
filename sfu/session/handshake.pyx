"""One run of OpenSSL's DTLS on memory, without Python on the way: a thread can carry it out while others have the GIL.

What it leaves to `dtls`: which datagrams reach it, timers (OpenSSL's own are stopped, for they read a clock), datagram
boundaries, and what is sent again.
"""

from collections import namedtuple

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from mediaserver.sfu.session.alerts cimport (
    ALERT_RECORD,
    MASTER_SECRET,
    RANDOM,
    alerts_close,
    alerts_end,
    alerts_init,
)

cdef extern from "<openssl/bio.h>" nogil:
    ctypedef struct BIO_METHOD:
        pass
    BIO* BIO_new(const BIO_METHOD*)
    const BIO_METHOD* BIO_s_mem()
    int BIO_write(BIO*, const void*, int)
    int BIO_read(BIO*, void*, int)
    size_t BIO_ctrl_pending(BIO*)
    int BIO_set_mem_eof_return(BIO*, int)

cdef extern from "<openssl/evp.h>" nogil:
    const EVP_MD* EVP_get_digestbyname(const char*)
    int EVP_MD_get_size(const EVP_MD*)

cdef extern from "<openssl/x509_vfy.h>" nogil:
    ctypedef struct X509:
        pass
    ctypedef struct X509_STORE_CTX:
        pass
    int X509_digest(const X509*, const EVP_MD*, unsigned char*, unsigned int*)
    X509* X509_STORE_CTX_get0_cert(X509_STORE_CTX*)
    void* X509_STORE_CTX_get_ex_data(X509_STORE_CTX*, int)
    void X509_STORE_CTX_set_error(X509_STORE_CTX*, int)
    int X509_V_OK, X509_V_ERR_CERT_REJECTED

cdef extern from "<openssl/err.h>" nogil:
    void ERR_clear_error()
    unsigned long ERR_get_error()
    void ERR_error_string_n(unsigned long, char*, size_t)

cdef extern from "<openssl/srtp.h>" nogil:
    ctypedef struct SRTP_PROTECTION_PROFILE:
        unsigned long id
    SRTP_PROTECTION_PROFILE* SSL_get_selected_srtp_profile(SSL*)
    int SSL_CTX_set_tlsext_use_srtp(SSL_CTX*, const char*)

cdef extern from "<openssl/ssl.h>" nogil:
    ctypedef struct SSL_METHOD:
        pass
    const SSL_METHOD* DTLS_method()
    SSL_CTX* SSL_CTX_new(const SSL_METHOD*)
    void SSL_CTX_free(SSL_CTX*)
    int SSL_CTX_set_min_proto_version(SSL_CTX*, int)
    int SSL_CTX_set_max_proto_version(SSL_CTX*, int)
    unsigned long SSL_CTX_set_options(SSL_CTX*, unsigned long)
    long SSL_CTX_set_mode(SSL_CTX*, long)
    long SSL_CTX_set_session_cache_mode(SSL_CTX*, long)
    void SSL_CTX_set_security_level(SSL_CTX*, int)
    int SSL_CTX_set_cipher_list(SSL_CTX*, const char*)
    void SSL_CTX_set_verify(SSL_CTX*, int, void*)
    ctypedef int (*CertVerify)(X509_STORE_CTX*, void*) noexcept nogil
    void SSL_CTX_set_cert_verify_callback(SSL_CTX*, CertVerify, void*)
    int SSL_CTX_use_certificate_ASN1(SSL_CTX*, int, const unsigned char*)
    int SSL_CTX_use_PrivateKey_ASN1(int, SSL_CTX*, const unsigned char*, long)
    int SSL_CTX_check_private_key(const SSL_CTX*)
    SSL* SSL_new(SSL_CTX*)
    void SSL_free(SSL*)
    int SSL_set_app_data(SSL*, void*)
    void* SSL_get_app_data(SSL*)
    int SSL_get_ex_data_X509_STORE_CTX_idx()
    void SSL_set_bio(SSL*, BIO*, BIO*)
    long SSL_set_mtu(SSL*, long)
    ctypedef unsigned int (*Timer)(SSL*, unsigned int) noexcept nogil
    void DTLS_set_timer_cb(SSL*, Timer)
    void SSL_set_connect_state(SSL*)
    void SSL_set_accept_state(SSL*)
    int SSL_do_handshake(SSL*)
    int SSL_read(SSL*, void*, int)
    int SSL_shutdown(SSL*)
    int SSL_want_read(const SSL*)
    int SSL_want_write(const SSL*)
    int SSL_get_shutdown(const SSL*)
    ctypedef struct SSL_CIPHER:
        pass
    const SSL_CIPHER* SSL_get_current_cipher(const SSL*)
    int SSL_CIPHER_get_cipher_nid(const SSL_CIPHER*)
    ctypedef struct SSL_SESSION:
        pass
    SSL_SESSION* SSL_get_session(const SSL*)
    size_t SSL_SESSION_get_master_key(const SSL_SESSION*, unsigned char*, size_t)
    size_t SSL_get_client_random(const SSL*, unsigned char*, size_t)
    size_t SSL_get_server_random(const SSL*, unsigned char*, size_t)
    int SSL_is_server(const SSL*)
    int SSL_export_keying_material(SSL*, unsigned char*, size_t, const char*, size_t, const unsigned char*, size_t, int)
    int DTLS1_2_VERSION, EVP_PKEY_EC, SSL_VERIFY_PEER, SSL_VERIFY_FAIL_IF_NO_PEER_CERT, SSL_SESS_CACHE_OFF
    int SSL_RECEIVED_SHUTDOWN, SSL_MODE_RELEASE_BUFFERS
    unsigned long SSL_OP_NO_ENCRYPT_THEN_MAC, SSL_OP_NO_QUERY_MTU, SSL_OP_NO_RENEGOTIATION, SSL_OP_NO_TICKET

cdef extern from "<openssl/crypto.h>" nogil:
    void OPENSSL_cleanse(void*, size_t)

cdef enum:
    RECORD_HEADER = 13
    ALERT = 21               # the content type
    FINISHED_LEAST = 40      # bytes of a sealed Finished, whatever the cipher: 24 and a tag of 16
    ALERT_LEAST = 32         # of a sealed alert with CBC
    SECURITY_LEVEL = 2       # 112 bits; said here, for a machine's openssl.cnf may say otherwise
    NEVER_US = 4000000000    # the timer of OpenSSL, which would read a clock: over an hour is longer than any handshake

Outcome = namedtuple("Outcome", "out done failed closed")


cdef unsigned int never(SSL* ssl, unsigned int before) noexcept nogil:
    return <unsigned int>NEVER_US


cdef int judge(X509_STORE_CTX* store, void* nothing) noexcept nogil:
    """The peer's certificate must be one that its description names (RFC 8122, section 5); who signed it is nothing to us."""
    cdef Shaking* self = <Shaking*>SSL_get_app_data(
        <SSL*>X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx())
    )
    cdef X509* certificate = X509_STORE_CTX_get0_cert(store)
    cdef unsigned char digest[DIGEST_MAX]
    cdef unsigned int size = 0
    cdef int i
    X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED)
    if self.function == NULL or certificate == NULL or X509_digest(certificate, self.function, digest, &size) != 1:
        return 0
    for i in range(self.digest_count):
        if memcmp(digest, self.digests[i], size) == 0:
            X509_STORE_CTX_set_error(store, X509_V_OK)
            return 1
    return 0


cdef int sizes_of(int profile, size_t* key, size_t* salt) noexcept nogil:
    """Bytes of master key and salt (RFC 5764, section 4.1.2; RFC 7714, section 14.2); 0 for a profile that is not ours."""
    key[0] = 32 if profile == 8 else 16
    salt[0] = 14 if profile == 1 else 12
    return profile == 1 or profile == 7 or profile == 8


cdef void conclude(Shaking* self) noexcept nogil:
    """The handshake is through: what SRTP gets of it (RFC 5764, section 4.2)."""
    cdef const char* label = b"EXTRACTOR-dtls_srtp"
    cdef SRTP_PROTECTION_PROFILE* agreed = SSL_get_selected_srtp_profile(self.ssl)
    cdef size_t key = 0, salt = 0
    self.done = 1
    if agreed == NULL or not sizes_of(<int>agreed.id, &key, &salt):
        return
    if SSL_export_keying_material(self.ssl, self.material, 2 * (key + salt), label, 19, NULL, 0, 0) == 1:
        self.profile = <uint16_t>agreed.id


cdef void collect(Shaking* self, Step* step) noexcept nogil:
    cdef size_t size = BIO_ctrl_pending(self.outgoing)
    if size == 0:
        return
    step.out = <uint8_t*>malloc(size)
    if step.out != NULL:
        step.out_size = <uint32_t>BIO_read(self.outgoing, step.out, <int>size)


cdef int goes_on(Shaking* self) noexcept nogil:
    """It waits for more. The queue of errors does not tell: a record that did not open leaves one there, and is passed
    over."""
    return SSL_want_read(self.ssl) or SSL_want_write(self.ssl)


cdef int is_short(const Step* step, size_t least) noexcept nogil:
    """A record under keys that is too short to be sealed. OpenSSL 3.0 ends the session for it, and anybody can forge one."""
    cdef size_t at = 0, size
    while at + RECORD_HEADER <= step.size:
        size = step.data[at + 11] << 8 | step.data[at + 12]
        if (step.data[at + 3] or step.data[at + 4]) and size < least:
            return 1
        at += RECORD_HEADER + size
    return 0


cdef int is_alert(const Step* step) noexcept nogil:
    """All of its records are."""
    cdef size_t at = 0
    while at + RECORD_HEADER <= step.size:
        if step.data[at] != ALERT:
            return 0
        at += RECORD_HEADER + (step.data[at + 11] << 8 | step.data[at + 12])
    return 1


cdef void let_go(Shaking* self) noexcept nogil:
    """Of a session that stands keep what its end takes. With CBC that is all of it."""
    cdef uint8_t master[MASTER_SECRET]
    cdef uint8_t client[RANDOM]
    cdef uint8_t server[RANDOM]
    cdef int nid = SSL_CIPHER_get_cipher_nid(SSL_get_current_cipher(self.ssl))
    SSL_SESSION_get_master_key(SSL_get_session(self.ssl), master, MASTER_SECRET)
    SSL_get_client_random(self.ssl, client, RANDOM)
    SSL_get_server_random(self.ssl, server, RANDOM)
    if alerts_init(&self.alerts, nid, not SSL_is_server(self.ssl), master, client, server) == 0:
        SSL_free(self.ssl)
        self.ssl = NULL
    OPENSSL_cleanse(master, MASTER_SECRET)


cdef void read_end(Shaking* self, Step* step) noexcept nogil:
    cdef uint8_t scratch[4096]
    if self.ssl == NULL:
        self.closed = alerts_end(&self.alerts, step.data, step.size)
        return
    # Of a record of another kind that does not open OpenSSL makes an error, and anybody can forge one.
    if is_short(step, ALERT_LEAST) or not is_alert(step):
        return
    BIO_write(self.incoming, step.data, <int>step.size)
    while SSL_read(self.ssl, scratch, sizeof(scratch)) > 0:
        pass
    self.closed = SSL_get_shutdown(self.ssl) & SSL_RECEIVED_SHUTDOWN != 0
    collect(self, step)
    free(step.out)  # nothing is answered: what OpenSSL would say is about records that were not media
    step.out = NULL
    step.out_size = 0


cdef void take_step(Shaking* self, Step* step) noexcept nogil:
    cdef int returned
    ERR_clear_error()
    if step.reads and self.done and not self.closed:
        read_end(self, step)
    elif not step.reads and not self.done and not self.failed and not is_short(step, FINISHED_LEAST):
        if step.size:
            BIO_write(self.incoming, step.data, <int>step.size)
        returned = SSL_do_handshake(self.ssl)
        if returned == 1:
            conclude(self)
        elif not goes_on(self):
            self.failed = 1
        collect(self, step)
        if self.done:
            let_go(self)
    ERR_clear_error()
    step.done, step.failed, step.closed = self.done, self.failed, self.closed


cdef object last_error():
    cdef char text[256]
    ERR_error_string_n(ERR_get_error(), text, sizeof(text))
    return (<bytes>text).decode()


cdef class Context:
    """What all sessions of one certificate share. It is not changed once it is made."""

    def __cinit__(self, bytes certificate not None, bytes key not None, bytes ciphers not None, bytes profiles not None):
        cdef SSL_CTX* context
        ERR_clear_error()
        self.context = context = SSL_CTX_new(DTLS_method())
        if context == NULL:
            raise MemoryError
        SSL_CTX_set_min_proto_version(context, DTLS1_2_VERSION)
        SSL_CTX_set_max_proto_version(context, DTLS1_2_VERSION)
        SSL_CTX_set_options(context, SSL_OP_NO_QUERY_MTU | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET)
        # With it (RFC 7366) OpenSSL 3.0 ends the session for a record that does not open. What is sealed here is no secret.
        SSL_CTX_set_options(context, SSL_OP_NO_ENCRYPT_THEN_MAC)
        SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS)
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF)
        SSL_CTX_set_security_level(context, SECURITY_LEVEL)
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL)
        SSL_CTX_set_cert_verify_callback(context, judge, NULL)
        if (
            SSL_CTX_set_cipher_list(context, ciphers) != 1
            or SSL_CTX_set_tlsext_use_srtp(context, profiles) != 0
            or SSL_CTX_use_certificate_ASN1(context, <int>len(certificate), certificate) != 1
            or SSL_CTX_use_PrivateKey_ASN1(EVP_PKEY_EC, context, key, <long>len(key)) != 1
            or SSL_CTX_check_private_key(context) != 1
        ):
            raise ValueError(f"OpenSSL does not take this certificate and key: {last_error()}")

    def __dealloc__(self):
        SSL_CTX_free(self.context)


cdef class Handshake:
    """A session from its first flight to its end; as server it waits for the peer's.

    The peer's certificate must have one of `digests` by the hash `function` ("sha256"); where that is "" none is good.
    """

    def __cinit__(self, Context context not None, str function not None, digests, *, bint client, long mtu):
        cdef bytes name = function.encode()
        cdef size_t size
        memset(&self.shaking, 0, sizeof(Shaking))
        self.context = context
        self.shaking.ssl = SSL_new(context.context)
        self.shaking.incoming = BIO_new(BIO_s_mem())
        self.shaking.outgoing = BIO_new(BIO_s_mem())
        if self.shaking.ssl == NULL or self.shaking.incoming == NULL or self.shaking.outgoing == NULL:
            raise MemoryError
        # An empty one is no end: more comes.
        BIO_set_mem_eof_return(self.shaking.incoming, -1)
        BIO_set_mem_eof_return(self.shaking.outgoing, -1)
        SSL_set_bio(self.shaking.ssl, self.shaking.incoming, self.shaking.outgoing)
        SSL_set_app_data(self.shaking.ssl, &self.shaking)
        SSL_set_mtu(self.shaking.ssl, mtu)
        DTLS_set_timer_cb(self.shaking.ssl, never)
        if function:
            self.shaking.function = EVP_get_digestbyname(name)
        if self.shaking.function != NULL:
            size = EVP_MD_get_size(self.shaking.function)
            for digest in digests:
                if len(digest) == size <= DIGEST_MAX and self.shaking.digest_count < DIGESTS_MAX:
                    memcpy(self.shaking.digests[self.shaking.digest_count], <const char*>(<bytes>digest), size)
                    self.shaking.digest_count += 1
        if client:
            SSL_set_connect_state(self.shaking.ssl)
        else:
            SSL_set_accept_state(self.shaking.ssl)

    def __dealloc__(self):
        SSL_free(self.shaking.ssl)
        OPENSSL_cleanse(&self.shaking, sizeof(Shaking))

    def step(self, bytes datagram not None=b"", *, bint reads=False):
        """Go on with a datagram, or without one for a client's first flight; what comes of it. With `reads` it is for
        the session that stands, and only its end matters.

        No two threads at once.
        """
        cdef Step* step = <Step*>calloc(1, sizeof(Step) + len(datagram))
        if step == NULL:
            raise MemoryError
        try:
            step.reads = reads
            step.size = <uint32_t>len(datagram)
            memcpy(step.data, <const char*>datagram, step.size)
            with nogil:
                take_step(&self.shaking, step)
            return Outcome(
                <bytes>(<char*>step.out)[:step.out_size] if step.out != NULL else b"",
                bool(step.done),
                bool(step.failed),
                bool(step.closed),
            )
        finally:
            free(step.out)
            free(step)

    def close(self):
        """End the session; the close_notify to send."""
        cdef uint8_t record[ALERT_RECORD]
        cdef Step step
        if not self.shaking.done:
            return b""
        if self.shaking.ssl == NULL:
            return <bytes>(<char*>record)[:alerts_close(&self.shaking.alerts, record)]
        memset(&step, 0, sizeof(Step))
        ERR_clear_error()
        SSL_shutdown(self.shaking.ssl)
        ERR_clear_error()
        collect(&self.shaking, &step)
        try:
            return <bytes>(<char*>step.out)[:step.out_size] if step.out != NULL else b""
        finally:
            free(step.out)

    @property
    def profile(self):
        """The number of the SRTP protection profile (RFC 5764, RFC 7714); 0 before the end, or when none is in common."""
        return self.shaking.profile

    @property
    def material(self):
        """The keying material of that profile: client key, server key, client salt, server salt."""
        cdef size_t key = 0, salt = 0
        if not self.shaking.profile or not sizes_of(self.shaking.profile, &key, &salt):
            return b""
        return <bytes>(<char*>self.shaking.material)[:2 * (key + salt)]
