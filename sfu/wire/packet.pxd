"""RTP on the wire (RFC 3550), header extensions (RFC 8285), and telling protocols apart (RFC 7983, RFC 5761)."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    RTP_ERR_SHORT = -1      # shorter than its own fields say
    RTP_ERR_VERSION = -2    # not version 2
    RTP_ERR_PADDING = -3    # a padding count of 0 or past the payload
    RTP_ERR_ROOM = -4       # the output buffer is too small
    RTP_ERR_VALUE = -5      # a value that the format cannot hold

cdef enum:
    RTP_HEADER_SIZE = 12
    RTP_MAX_PACKET = 65507      # the most a UDP datagram carries; longer input is refused
    RTP_P_BIT = 0x20            # of the first byte: the last byte of the payload says how many of it are padding
    RTP_X_BIT = 0x10            # of the first byte: an extension block follows
    RTP_EXT_ONE_BYTE = 0xBEDE
    RTP_EXT_TWO_BYTE = 0x1000   # the low four bits are the application's

cdef struct RtpHeader:
    uint8_t payload_type
    uint8_t marker
    uint8_t padding            # the P bit; the count itself lies in the ciphertext, see rtp_padding
    uint8_t csrc_count
    uint16_t sequence
    uint16_t header_size       # CSRC list and extension block included
    uint32_t timestamp
    uint32_t ssrc
    uint16_t ext_profile       # 0 when there is no extension block
    uint16_t ext_offset        # of the extension data, behind the block's 4-byte header
    uint16_t ext_size          # bytes of extension data, 0 when there is none
    uint16_t payload_size      # padding not removed

# 0, or < 0 for a malformed packet, with *header all zero. For ciphertext the size includes the tag.
cdef int rtp_parse(const uint8_t* data, size_t size, RtpHeader* header) noexcept nogil
# After decryption: how many bytes of padding end the plain packet of `plain_size` bytes, 0 when the P bit is
# not set, or RTP_ERR_PADDING. A packet may consist of padding alone.
cdef int rtp_padding(const uint8_t* data, size_t plain_size, const RtpHeader* header) noexcept nogil

# The header extensions that this server knows. Kinds are its own numbers; ids are negotiated per session.
cpdef enum ExtKind:
    EXT_NONE = 0
    EXT_MID = 1
    EXT_RID = 2
    EXT_RRID = 3
    EXT_TWCC = 4
    EXT_ABS_SEND_TIME = 5
    EXT_AUDIO_LEVEL = 6
    EXT_ABS_CAPTURE_TIME = 7
    EXT_PLAYOUT_DELAY = 8
    EXT_VIDEO_ORIENTATION = 9
    EXT_TOFFSET = 10
    EXT_DEPENDENCY_DESCRIPTOR = 11
    EXT_VIDEO_CONTENT_TYPE = 12
    EXT_VIDEO_TIMING = 13
    EXT_COLOR_SPACE = 14
    EXT_VIDEO_LAYERS_ALLOCATION = 15
    EXT_COUNT = 16

# Zero-initialised: nothing negotiated. Set entries for kinds 1 to EXT_COUNT - 1 and ids 1 to 255 only.
cdef struct ExtMap:
    uint8_t kind[256]         # incoming id -> kind, 0 unknown
    uint8_t id[EXT_COUNT]     # kind -> outgoing id, 0 not negotiated

# The values point into the packet that they were read from (or wherever the caller lets them point).
cdef struct ExtValues:
    const uint8_t* data[EXT_COUNT]
    uint8_t size[EXT_COUNT]
    uint32_t present          # bit 1 << kind; data and size of other kinds are undefined

# Both forms. Stops at id 15 of the one-byte form and at the first element that does not fit, keeping what was
# read before. Of a repeated id the first counts. Always sets `present`.
cdef void ext_read(const uint8_t* packet, const RtpHeader* header, const ExtMap* ids, ExtValues* values) noexcept nogil
# Writes the whole extension block (4-byte header, elements, zero padding) with those of the `wanted` kinds that
# are present and negotiated. One-byte form, unless an id over 14 or a size of 0 or over 16 needs the other.
# Bytes written, 0 when there is nothing to write (leave the X bit clear), RTP_ERR_ROOM.
cdef int ext_write(uint8_t* out, size_t capacity, const ExtValues* values, const uint8_t* ids,
                   uint32_t wanted) noexcept nogil

cdef inline uint16_t read_u16(const uint8_t* data) noexcept nogil:
    return <uint16_t>((data[0] << 8) | data[1])

cdef inline uint32_t read_u24(const uint8_t* data) noexcept nogil:
    return (<uint32_t>data[0] << 16) | (<uint32_t>data[1] << 8) | data[2]

cdef inline uint32_t read_u32(const uint8_t* data) noexcept nogil:
    return (<uint32_t>data[0] << 24) | (<uint32_t>data[1] << 16) | (<uint32_t>data[2] << 8) | data[3]

cdef inline uint64_t read_u64(const uint8_t* data) noexcept nogil:
    return (<uint64_t>read_u32(data) << 32) | read_u32(data + 4)

cdef inline void write_u16(uint8_t* out, uint16_t value) noexcept nogil:
    out[0] = <uint8_t>(value >> 8)
    out[1] = <uint8_t>value

cdef inline void write_u24(uint8_t* out, uint32_t value) noexcept nogil:
    out[0] = <uint8_t>(value >> 16)
    out[1] = <uint8_t>(value >> 8)
    out[2] = <uint8_t>value

cdef inline void write_u32(uint8_t* out, uint32_t value) noexcept nogil:
    out[0] = <uint8_t>(value >> 24)
    out[1] = <uint8_t>(value >> 16)
    out[2] = <uint8_t>(value >> 8)
    out[3] = <uint8_t>value

cdef inline void write_u64(uint8_t* out, uint64_t value) noexcept nogil:
    write_u32(out, <uint32_t>(value >> 32))
    write_u32(out + 4, <uint32_t>value)

# The fixed 12 bytes, with P, X and CC zero; for an extension block the caller sets RTP_X_BIT in out[0]. Returns 12.
cdef inline int rtp_write(uint8_t* out, uint8_t payload_type, uint8_t marker, uint16_t sequence,
                          uint32_t timestamp, uint32_t ssrc) noexcept nogil:
    out[0] = 0x80
    out[1] = <uint8_t>((0x80 if marker else 0) | (payload_type & 0x7F))
    write_u16(out + 2, sequence)
    write_u32(out + 4, timestamp)
    write_u32(out + 8, ssrc)
    return RTP_HEADER_SIZE

cpdef enum DemuxKind:
    DEMUX_OTHER = 0
    DEMUX_STUN = 1
    DEMUX_DTLS = 2
    DEMUX_RTP = 3     # RTP or RTCP, see is_rtcp

# RFC 7983, section 7: by the first byte. ZRTP (16..19) and TURN channels (64..79) are DEMUX_OTHER.
cdef inline int demux_kind(uint8_t first_byte) noexcept nogil:
    if 128 <= first_byte <= 191:
        return DEMUX_RTP
    if 20 <= first_byte <= 63:
        return DEMUX_DTLS
    if first_byte <= 3:
        return DEMUX_STUN
    return DEMUX_OTHER

# RFC 5761, section 4: the second byte of RTCP is its packet type, 192 to 223. Good for plain and protected packets.
cdef inline bint is_rtcp(const uint8_t* data, size_t size) noexcept nogil:
    return size >= 2 and 192 <= data[1] <= 223
