"""SRTP and SRTCP (RFC 3711, RFC 7714) for the DTLS-SRTP profiles that WebRTC uses.

Indices, replay and packet layout; the cryptography is in `srtp_transform`. After an error the bytes of a packet that
was to be opened are undefined, and the state is as it was: nothing follows from a packet that does not verify.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from mediaserver.sfu.wire.lines cimport lines_new
from mediaserver.sfu.wire.packet cimport RTP_HEADER_SIZE, RtpHeader, read_u16, read_u32, rtp_parse, write_u32
from mediaserver.sfu.wire.replay cimport estimate_index, replay_mark, replay_seen
from mediaserver.sfu.wire.srtp_transform cimport (
    AUTH_KEY,
    CM_TAG,
    CRYPTO_memcmp,
    GCM_TAG,
    MAX_SALT,
    OPENSSL_cleanse,
    SHA1_SIZE,
    SessionKeys,
    Transform,
    aead_open,
    aead_seal,
    cm_crypt,
    cm_tag,
    derive_keys,
    transform_start,
    transform_stop,
)


cdef enum:
    RTCP_CLEAR_HEADER = 8        # the first header and the sender's SSRC stay in the clear
    RTCP_WORD = 4                # E flag and 31-bit index
    # Only the peer itself can make entries, since they follow authentication. Past this bound its new sources are
    # refused: to forget an old one instead would open that one to replays.
    MAX_RTCP_SOURCES = 1024

cdef uint64_t INDEX_END = <uint64_t>1 << 48
cdef uint32_t RTCP_INDEX_END = <uint32_t>1 << 31


# ---- contexts

cdef size_t srtp_key_size(int profile) noexcept nogil:
    if profile == PROFILE_AES128_CM_SHA1_80 or profile == PROFILE_AEAD_AES_128_GCM:
        return 16
    return 32 if profile == PROFILE_AEAD_AES_256_GCM else 0


cdef size_t srtp_salt_size(int profile) noexcept nogil:
    if profile == PROFILE_AES128_CM_SHA1_80:
        return 14
    return 12 if profile == PROFILE_AEAD_AES_128_GCM or profile == PROFILE_AEAD_AES_256_GCM else 0


cdef SrtpContext* context_new(int profile, const SessionKeys* rtp, const SessionKeys* rtcp) noexcept nogil:
    cdef bint aead = profile != PROFILE_AES128_CM_SHA1_80
    cdef size_t key_size = srtp_key_size(profile)
    cdef SrtpContext* context = <SrtpContext*>lines_new(sizeof(SrtpContext))
    if context != NULL and not (transform_start(&context.rtp, aead, key_size, rtp)
                                and transform_start(&context.rtcp, aead, key_size, rtcp)):
        srtp_free(context)
        return NULL
    return context


cdef SrtpContext* srtp_new(int profile, const uint8_t* key, size_t key_size,
                           const uint8_t* salt, size_t salt_size) noexcept nogil:
    cdef SessionKeys keys[2]
    cdef SrtpContext* context = NULL
    if key_size == 0 or key_size != srtp_key_size(profile) or salt_size != srtp_salt_size(profile):
        return NULL
    if derive_keys(key, key_size, salt, salt_size, &keys[0], &keys[1]):
        context = context_new(profile, &keys[0], &keys[1])
    OPENSSL_cleanse(keys, sizeof(keys))
    return context


cdef void srtp_free(SrtpContext* context) noexcept nogil:
    if context == NULL:
        return
    transform_stop(&context.rtp)
    transform_stop(&context.rtcp)
    free(context.sources)
    free(context)


cdef size_t srtp_tag_size(const SrtpContext* context) noexcept nogil:
    return context.rtp.tag_size


# ---- SRTP

cdef int open_rtp(const Transform* transform, uint8_t* packet, size_t plain, size_t header_size,
                  uint64_t index) noexcept nogil:
    cdef uint8_t roc[4]
    cdef uint8_t digest[SHA1_SIZE]
    cdef uint8_t* payload = packet + header_size
    cdef uint32_t ssrc = read_u32(packet + 8)
    if transform.aead:
        return aead_open(transform, ssrc, index, packet, header_size, NULL, payload, plain - header_size,
                         packet + plain)
    write_u32(roc, <uint32_t>(index >> 16))
    cm_tag(transform, packet, plain, roc, digest)
    if CRYPTO_memcmp(digest, packet + plain, CM_TAG) != 0:
        return SRTP_ERR_AUTH
    return cm_crypt(transform, ssrc, index, payload, plain - header_size, payload)


cdef int srtp_unprotect(SrtpContext* context, SrtpReceiver* receiver, uint8_t* packet, size_t size,
                        size_t header_size, uint64_t* index) noexcept nogil:
    cdef size_t tag_size = context.rtp.tag_size
    cdef uint64_t guess
    cdef int status
    if header_size < RTP_HEADER_SIZE or size > SRTP_MAX_PACKET or size < header_size + tag_size:
        return SRTP_ERR_SHORT
    guess = estimate_index(receiver.highest, read_u16(packet + 2))
    if guess >= INDEX_END:
        return SRTP_ERR_LIMIT
    if replay_seen(receiver.window, SRTP_WINDOW_WORDS * 64, receiver.highest, guess):
        return SRTP_ERR_REPLAY
    status = open_rtp(&context.rtp, packet, size - tag_size, header_size, guess)
    if status != SRTP_OK:
        return status
    replay_mark(receiver.window, SRTP_WINDOW_WORDS * 64, &receiver.highest, guess)
    index[0] = guess
    return <int>(size - tag_size)


cdef int srtp_protect(SrtpContext* context, uint64_t index, uint8_t* out, size_t header_size,
                      const uint8_t* payload, size_t payload_size) noexcept nogil:
    cdef const Transform* transform = &context.rtp
    cdef size_t plain = header_size + payload_size
    cdef uint8_t roc[4]
    cdef uint8_t digest[SHA1_SIZE]
    cdef uint32_t ssrc
    cdef int status
    # An index that contradicts the header's sequence number is a caller's error that no receiver could undo.
    if header_size < RTP_HEADER_SIZE or header_size > SRTP_MAX_PACKET or payload_size > SRTP_MAX_PACKET \
            or plain + transform.tag_size > SRTP_MAX_PACKET or (index & 0xFFFF) != read_u16(out + 2):
        return SRTP_ERR_SHORT
    if index >= INDEX_END:
        return SRTP_ERR_LIMIT
    ssrc = read_u32(out + 8)
    if transform.aead:
        status = aead_seal(transform, ssrc, index, out, header_size, NULL, payload, payload_size, out + header_size,
                           out + plain)
    else:
        status = cm_crypt(transform, ssrc, index, payload, payload_size, out + header_size)
        write_u32(roc, <uint32_t>(index >> 16))
        cm_tag(transform, out, plain, roc, digest)
        memcpy(out + plain, digest, CM_TAG)
    return status if status != SRTP_OK else <int>(plain + transform.tag_size)


# ---- SRTCP. The word with E flag and index stands before the tag with AES-CM, after it with GCM.

cdef SrtcpSource* find_source(SrtpContext* context, uint32_t ssrc) noexcept nogil:
    cdef uint32_t i
    if context.source_recent < context.source_count and context.sources[context.source_recent].ssrc == ssrc:
        return &context.sources[context.source_recent]
    for i in range(context.source_count):
        if context.sources[i].ssrc == ssrc:
            context.source_recent = i
            return &context.sources[i]
    return NULL


cdef SrtcpSource* add_source(SrtpContext* context, uint32_t ssrc) noexcept nogil:
    """A fresh entry, or NULL when there is no room."""
    cdef uint32_t room = context.source_room * 2 if context.source_room else 8
    cdef SrtcpSource* source
    if context.source_count == context.source_room:
        source = NULL
        if room <= MAX_RTCP_SOURCES:
            source = <SrtcpSource*>realloc(context.sources, room * sizeof(SrtcpSource))
        if source == NULL:
            return NULL
        context.sources = source
        context.source_room = room
    source = &context.sources[context.source_count]
    memset(source, 0, sizeof(SrtcpSource))
    source.ssrc = ssrc
    context.source_recent = context.source_count
    context.source_count += 1
    return source


cdef int open_rtcp(const Transform* transform, uint8_t* packet, size_t plain, uint32_t ssrc,
                   uint32_t index) noexcept nogil:
    cdef uint8_t digest[SHA1_SIZE]
    cdef uint8_t* body = packet + RTCP_CLEAR_HEADER
    cdef size_t body_size = plain - RTCP_CLEAR_HEADER
    if transform.aead:
        return aead_open(transform, ssrc, index, packet, RTCP_CLEAR_HEADER, packet + plain + GCM_TAG, body, body_size,
                         packet + plain)
    cm_tag(transform, packet, plain + RTCP_WORD, NULL, digest)
    if CRYPTO_memcmp(digest, packet + plain + RTCP_WORD, CM_TAG) != 0:
        return SRTP_ERR_AUTH
    return cm_crypt(transform, ssrc, index, body, body_size, body)


cdef int srtcp_unprotect(SrtpContext* context, uint8_t* packet, size_t size) noexcept nogil:
    cdef const Transform* transform = &context.rtcp
    cdef size_t plain
    cdef uint32_t word, ssrc, index
    cdef SrtcpSource* source
    cdef int status
    if size > SRTP_MAX_PACKET or size < <size_t>RTCP_CLEAR_HEADER + RTCP_WORD + transform.tag_size:
        return SRTP_ERR_SHORT
    plain = size - RTCP_WORD - transform.tag_size
    word = read_u32(packet + (plain + GCM_TAG if transform.aead else plain))
    ssrc = read_u32(packet + 4)
    index = word & 0x7FFFFFFF
    # WebRTC always encrypts SRTCP: a packet that says it is not (E flag 0) is none of this session.
    if word < RTCP_INDEX_END:
        return SRTP_ERR_AUTH
    source = find_source(context, ssrc)
    if source != NULL and replay_seen(source.window, SRTCP_WINDOW_WORDS * 64, source.highest, index):
        return SRTP_ERR_REPLAY
    status = open_rtcp(transform, packet, plain, ssrc, index)
    if status != SRTP_OK:
        return status
    if source == NULL:
        source = add_source(context, ssrc)
        if source == NULL:
            return SRTP_ERR_LIMIT
    replay_mark(source.window, SRTCP_WINDOW_WORDS * 64, &source.highest, index)
    return <int>plain


cdef int srtcp_protect(SrtpContext* context, uint8_t* packet, size_t size, size_t capacity) noexcept nogil:
    # One index serves all sources of the context, so that none comes twice under one of them.
    cdef const Transform* transform = &context.rtcp
    cdef uint8_t digest[SHA1_SIZE]
    cdef uint8_t* body = packet + RTCP_CLEAR_HEADER
    cdef uint8_t* end = packet + size
    cdef uint32_t index = context.rtcp_index
    cdef size_t total = size + RTCP_WORD + transform.tag_size
    cdef uint32_t ssrc
    cdef int status
    if size < RTCP_CLEAR_HEADER or size > SRTP_MAX_PACKET or total > SRTP_MAX_PACKET or total > capacity:
        return SRTP_ERR_SHORT
    if index >= RTCP_INDEX_END:
        return SRTP_ERR_LIMIT
    context.rtcp_index += 1
    ssrc = read_u32(packet + 4)
    if transform.aead:
        write_u32(end + GCM_TAG, index | RTCP_INDEX_END)
        status = aead_seal(transform, ssrc, index, packet, RTCP_CLEAR_HEADER, end + GCM_TAG, body,
                           size - RTCP_CLEAR_HEADER, body, end)
    else:
        write_u32(end, index | RTCP_INDEX_END)
        status = cm_crypt(transform, ssrc, index, body, size - RTCP_CLEAR_HEADER, body)
        cm_tag(transform, packet, size + RTCP_WORD, NULL, digest)
        memcpy(end + RTCP_WORD, digest, CM_TAG)
    return status if status != SRTP_OK else <int>total


# ---- the face for Python

class SrtpError(ValueError):
    """A packet was refused. `code` is the kernel's: -1 short, -2 does not verify, -3 replayed, -4 a limit."""

    def __init__(self, code: int) -> None:
        super().__init__({-1: "short", -2: "does not verify", -3: "replayed", -4: "limit reached"}[code])
        self.code = code


cdef size_t rtp_header_size(const uint8_t* data, size_t size) except 0:
    cdef RtpHeader header
    if rtp_parse(data, size, &header) < 0:
        raise SrtpError(SRTP_ERR_SHORT)
    return header.header_size


cdef void load_keys(SessionKeys* keys, tuple parts) except *:
    """Key, salt and auth, each cut to its room."""
    cdef bytes key, salt, auth
    key, salt, auth = parts
    memset(keys, 0, sizeof(SessionKeys))
    memcpy(keys.key, PyBytes_AS_STRING(key), min(<size_t>len(key), sizeof(keys.key)))
    memcpy(keys.salt, PyBytes_AS_STRING(salt), min(<size_t>len(salt), sizeof(keys.salt)))
    memcpy(keys.auth, PyBytes_AS_STRING(auth), min(<size_t>len(auth), sizeof(keys.auth)))


def session_keys(int profile, bytes key not None, bytes salt not None):
    """The session keys of RFC 3711 section 4.3: ((key, salt, auth) of SRTP, (key, salt, auth) of SRTCP).

    Raises ValueError for sizes that do not fit the profile.
    """
    cdef SessionKeys keys[2]
    cdef size_t key_size = srtp_key_size(profile)
    cdef size_t salt_size = srtp_salt_size(profile)
    if key_size == 0 or <size_t>len(key) != key_size or <size_t>len(salt) != salt_size:
        raise ValueError("key or salt does not fit the profile")
    if not derive_keys(<const uint8_t*>PyBytes_AS_STRING(key), key_size, <const uint8_t*>PyBytes_AS_STRING(salt),
                       salt_size, &keys[0], &keys[1]):
        raise MemoryError
    result = tuple([((<char*>keys[i].key)[:key_size], (<char*>keys[i].salt)[:salt_size],
                     (<char*>keys[i].auth)[:AUTH_KEY]) for i in range(2)])
    OPENSSL_cleanse(keys, sizeof(keys))
    return result


cdef class Receiver:
    cdef SrtpReceiver state


cdef class SrtpSession:
    """One direction of one session, on bytes.

    `derived` gives session keys in the form of `session_keys`, instead of a master key and salt.
    Raises ValueError for keys that do not fit the profile.
    """

    cdef SrtpContext* context
    cdef dict receivers

    def __cinit__(self, int profile, bytes key not None=b"", bytes salt not None=b"", *, tuple derived=None):
        cdef SessionKeys keys[2]
        self.receivers = {}
        if derived is None:
            self.context = srtp_new(profile, <const uint8_t*>PyBytes_AS_STRING(key), len(key),
                                    <const uint8_t*>PyBytes_AS_STRING(salt), len(salt))
        elif srtp_key_size(profile):
            load_keys(&keys[0], derived[0])
            load_keys(&keys[1], derived[1])
            self.context = context_new(profile, &keys[0], &keys[1])
            OPENSSL_cleanse(keys, sizeof(keys))
        if self.context == NULL:
            raise ValueError("key or salt does not fit the profile")

    def __dealloc__(self):
        srtp_free(self.context)

    @property
    def rtcp_index(self):
        """The index of the next SRTCP packet to be sent. It may be set, to go on where another session ended."""
        return self.context.rtcp_index

    @rtcp_index.setter
    def rtcp_index(self, uint32_t value):
        self.context.rtcp_index = value

    def protect(self, bytes packet not None, uint32_t roc=0):
        """SRTP packet of an RTP packet, under the roll-over counter roc. Raises SrtpError."""
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(packet)
        cdef size_t size = len(packet)
        cdef size_t header = rtp_header_size(data, size)
        cdef uint64_t index = <uint64_t>roc << 16 | read_u16(data + 2)
        cdef bytes out = PyBytes_FromStringAndSize(NULL, size + srtp_tag_size(self.context))
        cdef uint8_t* room = <uint8_t*>PyBytes_AS_STRING(out)
        memcpy(room, data, header)
        checked(srtp_protect(self.context, index, room, header, data + header, size - header))
        return out

    def unprotect(self, bytes packet not None):
        """RTP packet of an SRTP packet. The replay state of each SSRC is kept here. Raises SrtpError."""
        cdef size_t size = len(packet)
        cdef bytearray work = bytearray(packet)
        cdef uint8_t* data = work
        cdef size_t header = rtp_header_size(data, size)
        cdef uint32_t ssrc = read_u32(data + 8)
        cdef Receiver receiver = self.receivers.get(ssrc) or Receiver()
        cdef uint64_t index
        cdef int plain = checked(srtp_unprotect(self.context, &receiver.state, data, size, header, &index))
        self.receivers[ssrc] = receiver
        return bytes(work[:plain])

    def highest_index(self, uint32_t ssrc):
        """The highest index, ROC << 16 | sequence, that was accepted from an SSRC. KeyError before the first."""
        return (<Receiver>self.receivers[ssrc]).state.highest

    def protect_rtcp(self, bytes packet not None):
        """SRTCP packet of an RTCP compound packet. Raises SrtpError."""
        cdef bytearray work = bytearray(packet) + bytearray(SRTCP_MAX_OVERHEAD)
        cdef int total = checked(srtcp_protect(self.context, <uint8_t*>work, len(packet), len(work)))
        return bytes(work[:total])

    def unprotect_rtcp(self, bytes packet not None):
        """RTCP compound packet of an SRTCP packet. Raises SrtpError."""
        cdef bytearray work = bytearray(packet)
        cdef int plain = checked(srtcp_unprotect(self.context, <uint8_t*>work, len(packet)))
        return bytes(work[:plain])


cdef int checked(int status) except -1:
    if status < 0:
        raise SrtpError(status)
    return status
