"""STUN (RFC 8489) as ICE uses it (RFC 8445): binding requests and their answers."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    STUN_ERR_SHORT = -1         # truncated, or lengths that do not add up
    STUN_ERR_COOKIE = -2        # not STUN after RFC 5389
    STUN_ERR_ATTRIBUTE = -3     # an attribute with a size or value that its type forbids
    STUN_ERR_FINGERPRINT = -4   # FINGERPRINT does not match, or is not the last attribute
    STUN_ERR_ROOM = -5          # the output buffer is too small
    STUN_ERR_CRYPTO = -6        # libcrypto failed

# RFC 8489, section 5: method 1 with each class.
cpdef enum StunType:
    STUN_BINDING_REQUEST = 0x0001
    STUN_BINDING_INDICATION = 0x0011
    STUN_BINDING_SUCCESS = 0x0101
    STUN_BINDING_ERROR = 0x0111

cpdef enum StunFamily:
    STUN_NO_ADDRESS = 0
    STUN_IPV4 = 1
    STUN_IPV6 = 2

cpdef enum StunRole:
    STUN_NO_ROLE = 0
    STUN_CONTROLLING = 1
    STUN_CONTROLLED = 2

cdef enum:
    STUN_HEADER_SIZE = 20
    STUN_MAX_USERNAME = 513     # bytes (RFC 8489, section 14.3)
    STUN_MAX_MESSAGE = 1500     # longer input is refused
    STUN_MAX_ANSWER = 128       # the most that stun_write_success and stun_write_error write

cdef struct StunMessage:
    uint16_t type
    uint8_t txid[12]
    const uint8_t* username        # into the message; NULL when absent
    uint16_t username_size
    uint16_t integrity_offset      # of the MESSAGE-INTEGRITY attribute, 0 absent
    uint16_t fingerprint_offset    # of the FINGERPRINT attribute, 0 absent
    uint8_t use_candidate
    uint8_t has_priority
    uint8_t role                   # StunRole: what the sender says it is
    uint32_t priority
    uint64_t tie_breaker           # 0 without a role
    uint16_t error_code            # 300 to 699, 0 absent
    uint16_t unknown_required      # the first attribute of 0x0000..0x7FFF that is not understood, 0 none (for 420)
    uint8_t family                 # StunFamily of the (xor-)mapped address
    uint16_t port                  # host order
    uint8_t ip[16]                 # network order, the first 4 bytes for IPv4

# 0, or < 0 for a malformed message. FINGERPRINT is checked when present. What follows MESSAGE-INTEGRITY is not
# read, save FINGERPRINT (RFC 8489, section 14.5); of a repeated attribute the first counts.
cdef int stun_parse(const uint8_t* data, size_t size, StunMessage* message) noexcept nogil
# 1 when MESSAGE-INTEGRITY is there and right under the short-term password, else 0. In constant time over the digest.
cdef int stun_verify(const uint8_t* data, size_t size, const StunMessage* message,
                     const uint8_t* password, size_t password_size) noexcept nogil

# Writers: bytes written or < 0. All end with FINGERPRINT; MESSAGE-INTEGRITY precedes it, unless the password is
# empty (as in answers of 400 and 401, RFC 8489, section 9.1.3).
# The port is in host order, the address in network order: 4 or 16 bytes by family.
cdef int stun_write_success(uint8_t* out, size_t capacity, const uint8_t* txid, int family, const uint8_t* ip,
                            uint16_t port, const uint8_t* password, size_t password_size) noexcept nogil
# code: 300 to 699. unknown_attribute: named by UNKNOWN-ATTRIBUTES when the code is 420.
cdef int stun_write_error(uint8_t* out, size_t capacity, const uint8_t* txid, int code, uint16_t unknown_attribute,
                          const uint8_t* password, size_t password_size) noexcept nogil
# role: STUN_CONTROLLING or STUN_CONTROLLED. For clients.
cdef int stun_write_request(uint8_t* out, size_t capacity, const uint8_t* txid,
                            const uint8_t* username, size_t username_size,
                            const uint8_t* password, size_t password_size,
                            uint32_t priority, int role, uint64_t tie_breaker, int use_candidate) noexcept nogil
