"""STUN (RFC 8489) as ICE uses it (RFC 8445): binding requests and their answers.

The kernels are declared in `stun.pxd`; what follows them here are their Python faces.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from mediaserver.sfu.wire.packet cimport read_u16, read_u32, read_u64, write_u16, write_u32, write_u64

from typing import NamedTuple


cdef extern from "<openssl/evp.h>" nogil:
    ctypedef struct EVP_MAC
    ctypedef struct EVP_MAC_CTX
    ctypedef struct OSSL_PARAM:
        pass
    EVP_MAC* EVP_MAC_fetch(void* library, const char* algorithm, const char* properties)
    void EVP_MAC_free(EVP_MAC* mac)
    EVP_MAC_CTX* EVP_MAC_CTX_new(EVP_MAC* mac)
    EVP_MAC_CTX* EVP_MAC_CTX_dup(const EVP_MAC_CTX* context)
    void EVP_MAC_CTX_free(EVP_MAC_CTX* context)
    int EVP_MAC_init(EVP_MAC_CTX* context, const unsigned char* key, size_t size, const OSSL_PARAM* params)
    int EVP_MAC_update(EVP_MAC_CTX* context, const unsigned char* data, size_t size)
    int EVP_MAC_final(EVP_MAC_CTX* context, unsigned char* out, size_t* size, size_t capacity)

cdef extern from "<openssl/params.h>" nogil:
    OSSL_PARAM OSSL_PARAM_construct_utf8_string(const char* key, char* value, size_t size)
    OSSL_PARAM OSSL_PARAM_construct_end()

cdef extern from "<openssl/crypto.h>" nogil:
    int CRYPTO_memcmp(const void* a, const void* b, size_t size)


cdef enum:
    MAGIC_COOKIE = 0x2112A442
    FINGERPRINT_MASK = 0x5354554E
    DIGEST_SIZE = 20
    INTEGRITY_SIZE = 4 + DIGEST_SIZE
    FINGERPRINT_SIZE = 8

# RFC 8489, section 18.3; RFC 8445, section 16.1.
cdef enum:
    ATTR_MAPPED_ADDRESS = 0x0001
    ATTR_USERNAME = 0x0006
    ATTR_MESSAGE_INTEGRITY = 0x0008
    ATTR_ERROR_CODE = 0x0009
    ATTR_UNKNOWN_ATTRIBUTES = 0x000A
    ATTR_REALM = 0x0014
    ATTR_NONCE = 0x0015
    ATTR_XOR_MAPPED_ADDRESS = 0x0020
    ATTR_PRIORITY = 0x0024
    ATTR_USE_CANDIDATE = 0x0025
    ATTR_FINGERPRINT = 0x8028
    ATTR_ICE_CONTROLLED = 0x8029
    ATTR_ICE_CONTROLLING = 0x802A

cdef uint32_t[256] CRC_TABLE
# Carries the digest that was fetched once. A check copies it and sets its own key: fetching anew costs more than hashing.
cdef EVP_MAC_CTX* hmac_sha1 = NULL


cdef void fill_crc_table() noexcept nogil:
    cdef uint32_t i, bit, value
    for i in range(256):
        value = i
        for bit in range(8):
            value = (value >> 1) ^ (<uint32_t>0xEDB88320 if value & 1 else 0)
        CRC_TABLE[i] = value


cdef EVP_MAC_CTX* make_hmac() noexcept nogil:
    cdef OSSL_PARAM params[2]
    cdef EVP_MAC* mac = EVP_MAC_fetch(NULL, b"HMAC", NULL)
    cdef EVP_MAC_CTX* context
    if mac == NULL:
        return NULL
    context = EVP_MAC_CTX_new(mac)
    EVP_MAC_free(mac)
    params[0] = OSSL_PARAM_construct_utf8_string(b"digest", b"SHA1", 0)
    params[1] = OSSL_PARAM_construct_end()
    # A context can be copied only after it has had a key.
    if context != NULL and EVP_MAC_init(context, b"-", 1, params) != 1:
        EVP_MAC_CTX_free(context)
        context = NULL
    return context


cdef uint32_t fingerprint_of(const uint8_t* data, size_t size) noexcept nogil:
    cdef uint32_t value = 0xFFFFFFFF
    cdef size_t i
    for i in range(size):
        value = (value >> 8) ^ CRC_TABLE[(value ^ data[i]) & 0xFF]
    return ~value ^ <uint32_t>FINGERPRINT_MASK


cdef int integrity_of(const uint8_t* data, size_t offset, const uint8_t* password, size_t password_size,
                      uint8_t* digest) noexcept nogil:
    """The HMAC over the message up to the attribute at `offset`, its length field as if it ended behind that one."""
    cdef uint8_t header[STUN_HEADER_SIZE]
    cdef size_t written = 0
    cdef EVP_MAC_CTX* context
    cdef bint good
    memcpy(header, data, STUN_HEADER_SIZE)
    write_u16(header + 2, <uint16_t>(offset + INTEGRITY_SIZE - STUN_HEADER_SIZE))
    context = EVP_MAC_CTX_dup(hmac_sha1)
    if context == NULL:
        return STUN_ERR_CRYPTO
    good = (
        EVP_MAC_init(context, password, password_size, NULL) == 1
        and EVP_MAC_update(context, header, STUN_HEADER_SIZE) == 1
        and EVP_MAC_update(context, data + STUN_HEADER_SIZE, offset - STUN_HEADER_SIZE) == 1
        and EVP_MAC_final(context, digest, &written, DIGEST_SIZE) == 1
        and written == DIGEST_SIZE
    )
    EVP_MAC_CTX_free(context)
    return 0 if good else STUN_ERR_CRYPTO


cdef int read_address(const uint8_t* value, size_t size, bint xored, const uint8_t* header,
                      StunMessage* message) noexcept nogil:
    cdef size_t ip_size, i
    if size < 4 or value[1] not in (STUN_IPV4, STUN_IPV6):
        return STUN_ERR_ATTRIBUTE
    ip_size = 4 if value[1] == STUN_IPV4 else 16
    if size != 4 + ip_size:
        return STUN_ERR_ATTRIBUTE
    message.family = value[1]
    message.port = read_u16(value + 2)
    memcpy(message.ip, value + 4, ip_size)
    if xored:
        # With the cookie and, for IPv6, the transaction id behind it (RFC 8489, section 14.2).
        message.port ^= <uint16_t>(MAGIC_COOKIE >> 16)
        for i in range(4):
            message.ip[i] ^= header[4 + i]
        if ip_size == 16:
            for i in range(4, 16):
                message.ip[i] ^= header[4 + i]
    return 0


cdef int read_role(uint8_t role, const uint8_t* value, size_t size, StunMessage* message) noexcept nogil:
    if size != 8:
        return STUN_ERR_ATTRIBUTE
    message.role = role
    message.tie_breaker = read_u64(value)
    return 0


# The attributes that have their place in StunMessage, as bits of what has been seen.
cdef enum:
    SEEN_USERNAME = 1
    SEEN_PRIORITY = 2
    SEEN_USE_CANDIDATE = 4
    SEEN_ROLE = 8
    SEEN_ERROR_CODE = 16
    SEEN_MAPPED = 32
    SEEN_XOR_MAPPED = 64


cdef uint32_t seen_bit(uint16_t kind) noexcept nogil:
    if kind == ATTR_USERNAME:
        return SEEN_USERNAME
    if kind == ATTR_PRIORITY:
        return SEEN_PRIORITY
    if kind == ATTR_USE_CANDIDATE:
        return SEEN_USE_CANDIDATE
    if kind == ATTR_ICE_CONTROLLING or kind == ATTR_ICE_CONTROLLED:
        return SEEN_ROLE
    if kind == ATTR_ERROR_CODE:
        return SEEN_ERROR_CODE
    if kind == ATTR_XOR_MAPPED_ADDRESS:
        return SEEN_XOR_MAPPED
    if kind == ATTR_MAPPED_ADDRESS:
        return SEEN_MAPPED
    return 0


cdef int read_attribute(uint16_t kind, const uint8_t* value, size_t size, const uint8_t* data, uint32_t* seen,
                        StunMessage* message) noexcept nogil:
    cdef uint32_t bit = seen_bit(kind)
    if bit & seen[0]:
        return 0
    seen[0] |= bit
    if bit == 0:
        if kind < 0x8000 and kind != ATTR_UNKNOWN_ATTRIBUTES and kind != ATTR_REALM and kind != ATTR_NONCE:
            if message.unknown_required == 0:
                message.unknown_required = kind
    elif bit == SEEN_USERNAME:
        if size > STUN_MAX_USERNAME:
            return STUN_ERR_ATTRIBUTE
        message.username = value
        message.username_size = <uint16_t>size
    elif bit == SEEN_PRIORITY:
        if size != 4:
            return STUN_ERR_ATTRIBUTE
        message.has_priority = 1
        message.priority = read_u32(value)
    elif bit == SEEN_USE_CANDIDATE:
        if size != 0:
            return STUN_ERR_ATTRIBUTE
        message.use_candidate = 1
    elif bit == SEEN_ROLE:
        return read_role(STUN_CONTROLLING if kind == ATTR_ICE_CONTROLLING else STUN_CONTROLLED, value, size, message)
    elif bit == SEEN_ERROR_CODE:
        if size < 4 or not 3 <= value[2] & 7 <= 6 or value[3] > 99:
            return STUN_ERR_ATTRIBUTE
        message.error_code = <uint16_t>((value[2] & 7) * 100 + value[3])
    elif bit == SEEN_XOR_MAPPED:
        return read_address(value, size, True, data, message)
    elif not seen[0] & SEEN_XOR_MAPPED:
        return read_address(value, size, False, data, message)
    return 0


cdef int check_fingerprint(const uint8_t* data, size_t offset, size_t size) noexcept nogil:
    if size - offset != FINGERPRINT_SIZE or read_u16(data + offset + 2) != 4:
        return STUN_ERR_FINGERPRINT
    return 0 if read_u32(data + offset + 4) == fingerprint_of(data, offset) else STUN_ERR_FINGERPRINT


cdef int stun_parse(const uint8_t* data, size_t size, StunMessage* message) noexcept nogil:
    cdef size_t offset = STUN_HEADER_SIZE, length
    cdef uint16_t kind
    cdef uint32_t seen = 0
    cdef int result
    memset(message, 0, sizeof(StunMessage))
    if size < STUN_HEADER_SIZE or size > STUN_MAX_MESSAGE or size % 4 or data[0] > 0x3F:
        return STUN_ERR_SHORT
    if read_u32(data + 4) != MAGIC_COOKIE:
        return STUN_ERR_COOKIE
    if read_u16(data + 2) != size - STUN_HEADER_SIZE:
        return STUN_ERR_SHORT
    message.type = read_u16(data)
    memcpy(message.txid, data + 8, 12)
    while offset < size:
        # Sizes are multiples of 4 on both sides, so the attribute's header is there.
        kind = read_u16(data + offset)
        length = read_u16(data + offset + 2)
        if length > size - offset - 4:
            return STUN_ERR_SHORT
        if kind == ATTR_FINGERPRINT:
            result = check_fingerprint(data, offset, size)
            message.fingerprint_offset = <uint16_t>offset
        elif message.integrity_offset:
            result = 0
        elif kind == ATTR_MESSAGE_INTEGRITY:
            result = 0 if length == DIGEST_SIZE else STUN_ERR_ATTRIBUTE
            message.integrity_offset = <uint16_t>offset
        else:
            result = read_attribute(kind, data + offset + 4, length, data, &seen, message)
        if result < 0:
            return result
        offset += 4 + ((length + 3) & ~<size_t>3)
    return 0


cdef int stun_verify(const uint8_t* data, size_t size, const StunMessage* message,
                     const uint8_t* password, size_t password_size) noexcept nogil:
    cdef uint8_t digest[DIGEST_SIZE]
    cdef size_t offset = message.integrity_offset
    if offset < STUN_HEADER_SIZE or offset + INTEGRITY_SIZE > size or password_size == 0:
        return 0
    if integrity_of(data, offset, password, password_size, digest) < 0:
        return 0
    return CRYPTO_memcmp(digest, data + offset + 4, DIGEST_SIZE) == 0


cdef void begin(uint8_t* out, uint16_t type, const uint8_t* txid) noexcept nogil:
    write_u16(out, type)
    write_u32(out + 4, <uint32_t>MAGIC_COOKIE)
    memcpy(out + 8, txid, 12)


cdef size_t put(uint8_t* out, size_t offset, uint16_t kind, const uint8_t* value, size_t size) noexcept nogil:
    """An attribute, padded with zeros. Where the next one goes."""
    cdef size_t end = offset + 4 + size
    write_u16(out + offset, kind)
    write_u16(out + offset + 2, <uint16_t>size)
    if size:
        memcpy(out + offset + 4, value, size)
    while end & 3:
        out[end] = 0
        end += 1
    return end


cdef size_t tail_size(size_t password_size) noexcept nogil:
    """How many bytes `finish` adds."""
    return INTEGRITY_SIZE + FINGERPRINT_SIZE if password_size else FINGERPRINT_SIZE


cdef int finish(uint8_t* out, size_t offset, const uint8_t* password, size_t password_size) noexcept nogil:
    cdef uint8_t crc[4]
    if password_size:
        write_u16(out + offset, ATTR_MESSAGE_INTEGRITY)
        write_u16(out + offset + 2, DIGEST_SIZE)
        if integrity_of(out, offset, password, password_size, out + offset + 4) < 0:
            return STUN_ERR_CRYPTO
        offset += INTEGRITY_SIZE
    write_u16(out + 2, <uint16_t>(offset + FINGERPRINT_SIZE - STUN_HEADER_SIZE))
    write_u32(crc, fingerprint_of(out, offset))
    return <int>put(out, offset, ATTR_FINGERPRINT, crc, 4)


cdef int stun_write_success(uint8_t* out, size_t capacity, const uint8_t* txid, int family, const uint8_t* ip,
                            uint16_t port, const uint8_t* password, size_t password_size) noexcept nogil:
    cdef uint8_t value[20]
    cdef size_t ip_size = 4 if family == STUN_IPV4 else 16
    cdef size_t i, offset
    if family != STUN_IPV4 and family != STUN_IPV6:
        return STUN_ERR_ATTRIBUTE
    if capacity < STUN_HEADER_SIZE + 8 + ip_size + tail_size(password_size):
        return STUN_ERR_ROOM
    begin(out, STUN_BINDING_SUCCESS, txid)
    value[0] = 0
    value[1] = <uint8_t>family
    write_u16(value + 2, port ^ <uint16_t>(MAGIC_COOKIE >> 16))
    for i in range(ip_size):
        value[4 + i] = ip[i] ^ out[4 + i]
    offset = put(out, STUN_HEADER_SIZE, ATTR_XOR_MAPPED_ADDRESS, value, 4 + ip_size)
    return finish(out, offset, password, password_size)


cdef int stun_write_error(uint8_t* out, size_t capacity, const uint8_t* txid, int code, uint16_t unknown_attribute,
                          const uint8_t* password, size_t password_size) noexcept nogil:
    cdef uint8_t value[4]
    cdef size_t offset
    if not 300 <= code <= 699:
        return STUN_ERR_ATTRIBUTE
    if capacity < STUN_HEADER_SIZE + 8 + 8 + tail_size(password_size):
        return STUN_ERR_ROOM
    begin(out, STUN_BINDING_ERROR, txid)
    value[0] = value[1] = 0
    value[2] = <uint8_t>(code // 100)
    value[3] = <uint8_t>(code % 100)
    offset = put(out, STUN_HEADER_SIZE, ATTR_ERROR_CODE, value, 4)
    if code == 420:
        write_u16(value, unknown_attribute)
        offset = put(out, offset, ATTR_UNKNOWN_ATTRIBUTES, value, 2)
    return finish(out, offset, password, password_size)


cdef int stun_write_request(uint8_t* out, size_t capacity, const uint8_t* txid,
                            const uint8_t* username, size_t username_size,
                            const uint8_t* password, size_t password_size,
                            uint32_t priority, int role, uint64_t tie_breaker, int use_candidate) noexcept nogil:
    cdef uint8_t value[8]
    cdef size_t offset = STUN_HEADER_SIZE
    if username_size > STUN_MAX_USERNAME or (role != STUN_CONTROLLING and role != STUN_CONTROLLED):
        return STUN_ERR_ATTRIBUTE
    # Header, username with its padding, priority, role, nomination, and what `finish` adds.
    if capacity < STUN_HEADER_SIZE + 7 + username_size + 8 + 12 + 4 + tail_size(password_size):
        return STUN_ERR_ROOM
    begin(out, STUN_BINDING_REQUEST, txid)
    offset = put(out, offset, ATTR_USERNAME, username, username_size)
    write_u32(value, priority)
    offset = put(out, offset, ATTR_PRIORITY, value, 4)
    write_u64(value, tie_breaker)
    offset = put(out, offset, ATTR_ICE_CONTROLLING if role == STUN_CONTROLLING else ATTR_ICE_CONTROLLED, value, 8)
    if use_candidate:
        offset = put(out, offset, ATTR_USE_CANDIDATE, value, 0)
    return finish(out, offset, password, password_size)


class Stun(NamedTuple):
    """What a STUN message says; None where it says nothing. `address` is the packed IP and the port."""

    type: int
    transaction: bytes
    username: bytes | None
    has_integrity: bool
    has_fingerprint: bool
    use_candidate: bool
    priority: int | None
    role: StunRole
    tie_breaker: int
    error_code: int | None
    unknown_required: int | None
    address: tuple[bytes, int] | None


cdef dict REASONS = {
    STUN_ERR_SHORT: "truncated, or lengths that do not add up",
    STUN_ERR_COOKIE: "no magic cookie",
    STUN_ERR_ATTRIBUTE: "an attribute with a size or value that is not allowed",
    STUN_ERR_FINGERPRINT: "wrong fingerprint",
    STUN_ERR_ROOM: "does not fit",
    STUN_ERR_CRYPTO: "libcrypto failed",
}


cdef int parsed(bytes data, StunMessage* message) except -1:
    cdef int result = stun_parse(<const uint8_t*>data, len(data), message)
    if result < 0:
        raise ValueError(REASONS[result])
    return 0


cdef const uint8_t* transaction_of(bytes transaction) except NULL:
    if len(transaction) != 12:
        raise ValueError("a transaction id has 12 bytes")
    return <const uint8_t*>transaction


cdef bytes written(const uint8_t* out, int size):
    if size < 0:
        raise ValueError(REASONS[size])
    return <bytes>out[:size]


def parse(bytes data not None):
    """A STUN message as `Stun`. ValueError when it is malformed or its fingerprint is wrong."""
    cdef StunMessage message
    parsed(data, &message)
    return Stun(
        type=message.type,
        transaction=<bytes>message.txid[:12],
        username=<bytes>message.username[:message.username_size] if message.username != NULL else None,
        has_integrity=message.integrity_offset != 0,
        has_fingerprint=message.fingerprint_offset != 0,
        use_candidate=bool(message.use_candidate),
        priority=message.priority if message.has_priority else None,
        role=StunRole(message.role),
        tie_breaker=message.tie_breaker,
        error_code=message.error_code or None,
        unknown_required=message.unknown_required or None,
        address=(<bytes>message.ip[:4 if message.family == STUN_IPV4 else 16], message.port)
        if message.family else None,
    )


def verify(bytes data not None, bytes password not None):
    """Whether MESSAGE-INTEGRITY is there and right under the short-term password. ValueError when malformed."""
    cdef StunMessage message
    parsed(data, &message)
    return bool(stun_verify(<const uint8_t*>data, len(data), &message, <const uint8_t*>password, len(password)))


def write_success(bytes transaction not None, bytes ip not None, uint16_t port, bytes password not None=b""):
    """A binding success; `ip` is packed, 4 or 16 bytes."""
    cdef uint8_t out[STUN_MAX_ANSWER]
    cdef int family = {4: STUN_IPV4, 16: STUN_IPV6}.get(len(ip), STUN_NO_ADDRESS)
    return written(out, stun_write_success(
        out, sizeof(out), transaction_of(transaction), family, <const uint8_t*>ip, port,
        <const uint8_t*>password, len(password),
    ))


def write_error(bytes transaction not None, int code, uint16_t unknown_attribute=0, bytes password not None=b""):
    """A binding error; with 420 it names `unknown_attribute`."""
    cdef uint8_t out[STUN_MAX_ANSWER]
    return written(out, stun_write_error(
        out, sizeof(out), transaction_of(transaction), code, unknown_attribute,
        <const uint8_t*>password, len(password),
    ))


def write_request(bytes transaction not None, bytes username not None, bytes password not None, *, uint32_t priority,
                  int role, uint64_t tie_breaker, bint use_candidate=False):
    """A binding request of an ICE check (RFC 8445, section 7.1). `role` is a `StunRole`."""
    cdef uint8_t out[STUN_MAX_MESSAGE]
    return written(out, stun_write_request(
        out, sizeof(out), transaction_of(transaction), <const uint8_t*>username, len(username),
        <const uint8_t*>password, len(password), priority, role, tie_breaker, use_candidate,
    ))


fill_crc_table()
hmac_sha1 = make_hmac()
if hmac_sha1 == NULL:
    raise ImportError("libcrypto has no HMAC with SHA-1")
