"""SRTP and SRTCP (RFC 3711, RFC 7714) over libcrypto: what other modules cimport."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from mediaserver.sfu.wire.srtp_transform cimport (
    SRTP_ERR_AUTH,
    SRTP_ERR_LIMIT,
    SRTP_ERR_REPLAY,
    SRTP_ERR_SHORT,
    SRTP_OK,
    Transform,
)


# The protection profiles by their DTLS-SRTP numbers (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
cpdef enum:
    PROFILE_AES128_CM_SHA1_80 = 0x0001
    PROFILE_AEAD_AES_128_GCM = 0x0007
    PROFILE_AEAD_AES_256_GCM = 0x0008

cdef enum:
    SRTP_MAX_TAG = 16        # most bytes that srtp_protect adds
    SRTCP_MAX_OVERHEAD = 20  # most bytes that srtcp_protect adds
    SRTP_WINDOW_WORDS = 64   # 4,096 packets: five seconds of a large picture, for as long as a recorder asks for it
    SRTCP_WINDOW_WORDS = 2   # 128 packets
    SRTP_MAX_PACKET = 65535

# SRTCP replay state of one inbound SSRC.
cdef struct SrtcpSource:
    uint64_t highest
    uint64_t window[SRTCP_WINDOW_WORDS]
    uint32_t ssrc

# One direction of one session: the session keys with their persistent cipher contexts, the SRTCP index of the
# sender and the SRTCP replay windows of the receiver. Belongs to one thread at a time.
cdef struct SrtpContext:
    Transform rtp
    Transform rtcp
    uint32_t rtcp_index          # of the next SRTCP packet to send
    SrtcpSource* sources
    uint32_t source_count
    uint32_t source_room
    uint32_t source_recent

# The replay state of one inbound SSRC. Zero-initialised is fresh.
cdef struct SrtpReceiver:
    uint64_t highest                     # highest authenticated index, ROC << 16 | sequence
    uint64_t window[SRTP_WINDOW_WORDS]   # bit index % 4096: that index was seen

# NULL when the profile is unknown, a size does not fit it, or libcrypto fails.
cdef SrtpContext* srtp_new(int profile, const uint8_t* key, size_t key_size,
                           const uint8_t* salt, size_t salt_size) noexcept nogil
cdef void srtp_free(SrtpContext* context) noexcept nogil
cdef size_t srtp_tag_size(const SrtpContext* context) noexcept nogil
cdef size_t srtp_key_size(int profile) noexcept nogil    # master key bytes; 0 for an unknown profile
cdef size_t srtp_salt_size(int profile) noexcept nogil   # master salt bytes; 0 for an unknown profile

# In place. Plain size (header and payload) or an error; *index is the packet's 48-bit index.
cdef int srtp_unprotect(SrtpContext* context, SrtpReceiver* receiver, uint8_t* packet, size_t size,
                        size_t header_size, uint64_t* index) noexcept nogil
# Out of place: the header stands at out already, the payload is read from elsewhere and never modified.
# out has room for header_size + payload_size + srtp_tag_size. index = ROC << 16 | sequence, never used twice
# for one SSRC. Total size or an error.
cdef int srtp_protect(SrtpContext* context, uint64_t index, uint8_t* out, size_t header_size,
                      const uint8_t* payload, size_t payload_size) noexcept nogil
# In place. Sizes or errors.
cdef int srtcp_protect(SrtpContext* context, uint8_t* packet, size_t size, size_t capacity) noexcept nogil
cdef int srtcp_unprotect(SrtpContext* context, uint8_t* packet, size_t size) noexcept nogil
