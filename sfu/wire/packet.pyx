"""RTP on the wire (RFC 3550), header extensions (RFC 8285), and telling protocols apart (RFC 7983, RFC 5761).

The kernels are declared in `packet.pxd`; what follows them here are their Python faces.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from typing import NamedTuple

cdef extern from *:
    int lowest_bit "__builtin_ctz"(unsigned int value) nogil

cdef enum:
    KNOWN_KINDS = (1 << EXT_COUNT) - 2    # a bit for each kind but EXT_NONE


EXT_URIS = {
    "urn:ietf:params:rtp-hdrext:sdes:mid": EXT_MID,
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id": EXT_RID,
    "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id": EXT_RRID,
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01": EXT_TWCC,
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time": EXT_ABS_SEND_TIME,
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level": EXT_AUDIO_LEVEL,
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time": EXT_ABS_CAPTURE_TIME,
    "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay": EXT_PLAYOUT_DELAY,
    "urn:3gpp:video-orientation": EXT_VIDEO_ORIENTATION,
    "urn:ietf:params:rtp-hdrext:toffset": EXT_TOFFSET,
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension":
        EXT_DEPENDENCY_DESCRIPTOR,
    "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type": EXT_VIDEO_CONTENT_TYPE,
    "http://www.webrtc.org/experiments/rtp-hdrext/video-timing": EXT_VIDEO_TIMING,
    "http://www.webrtc.org/experiments/rtp-hdrext/color-space": EXT_COLOR_SPACE,
    "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00": EXT_VIDEO_LAYERS_ALLOCATION,
}


cdef int rtp_parse(const uint8_t* data, size_t size, RtpHeader* header) noexcept nogil:
    cdef size_t header_size, ext_size
    memset(header, 0, sizeof(RtpHeader))
    if size < RTP_HEADER_SIZE or size > RTP_MAX_PACKET:
        return RTP_ERR_SHORT
    if data[0] >> 6 != 2:
        return RTP_ERR_VERSION
    header_size = RTP_HEADER_SIZE + 4 * (data[0] & 0x0F)
    if data[0] & RTP_X_BIT:
        if header_size + 4 > size:
            return RTP_ERR_SHORT
        ext_size = 4 * <size_t>read_u16(data + header_size + 2)
        if header_size + 4 + ext_size > size:
            return RTP_ERR_SHORT
        header.ext_profile = read_u16(data + header_size)
        header.ext_offset = <uint16_t>(header_size + 4)
        header.ext_size = <uint16_t>ext_size
        header_size += 4 + ext_size
    elif header_size > size:
        return RTP_ERR_SHORT
    header.payload_type = data[1] & 0x7F
    header.marker = data[1] >> 7
    header.padding = (data[0] >> 5) & 1
    header.csrc_count = data[0] & 0x0F
    header.sequence = read_u16(data + 2)
    header.timestamp = read_u32(data + 4)
    header.ssrc = read_u32(data + 8)
    header.header_size = <uint16_t>header_size
    header.payload_size = <uint16_t>(size - header_size)
    return 0


cdef int rtp_padding(const uint8_t* data, size_t plain_size, const RtpHeader* header) noexcept nogil:
    cdef size_t count
    if not header.padding:
        return 0
    if plain_size <= header.header_size:
        return RTP_ERR_PADDING
    count = data[plain_size - 1]
    if count == 0 or count > plain_size - header.header_size:
        return RTP_ERR_PADDING
    return <int>count


cdef inline void keep(const uint8_t* data, uint8_t size, uint8_t kind, ExtValues* values) noexcept nogil:
    if 0 < kind < EXT_COUNT and not values.present >> kind & 1:
        values.data[kind] = data
        values.size[kind] = size
        values.present |= <uint32_t>1 << kind


cdef void read_one_byte(const uint8_t* data, size_t size, const ExtMap* ids, ExtValues* values) noexcept nogil:
    cdef size_t offset = 0, length
    cdef uint8_t first
    while offset < size:
        first = data[offset]
        offset += 1
        if first == 0:
            continue
        # Id 15 ends the block, and so does a padding byte that claims a length (RFC 8285, section 4.2).
        if first >> 4 == 15 or first >> 4 == 0:
            return
        length = <size_t>(first & 0x0F) + 1
        if length > size - offset:
            return
        keep(data + offset, <uint8_t>length, ids.kind[first >> 4], values)
        offset += length


cdef void read_two_byte(const uint8_t* data, size_t size, const ExtMap* ids, ExtValues* values) noexcept nogil:
    cdef size_t offset = 0, length
    cdef uint8_t id
    while offset < size:
        id = data[offset]
        offset += 1
        if id == 0:
            continue
        if offset == size:
            return
        length = data[offset]
        offset += 1
        if length > size - offset:
            return
        keep(data + offset, <uint8_t>length, ids.kind[id], values)
        offset += length


cdef void ext_read(const uint8_t* packet, const RtpHeader* header, const ExtMap* ids, ExtValues* values) noexcept nogil:
    values.present = 0
    if header.ext_profile == RTP_EXT_ONE_BYTE:
        read_one_byte(packet + header.ext_offset, header.ext_size, ids, values)
    elif header.ext_profile & 0xFFF0 == RTP_EXT_TWO_BYTE:
        read_two_byte(packet + header.ext_offset, header.ext_size, ids, values)


cdef inline void copy_value(uint8_t* out, const uint8_t* data, uint8_t size) noexcept nogil:
    # Nearly all values are this short, and a call costs more than the copy.
    if size > 4:
        memcpy(out, data, size)
        return
    if size > 0:
        out[0] = data[0]
    if size > 1:
        out[1] = data[1]
    if size > 2:
        out[2] = data[2]
    if size > 3:
        out[3] = data[3]


cdef inline int finish_block(uint8_t* out, size_t capacity, uint16_t profile, size_t offset) noexcept nogil:
    """Zero padding up to 32 bits, and the block's header."""
    cdef size_t total = (offset + 3) & ~<size_t>3
    if offset == 4:
        return 0
    if total > capacity:
        return RTP_ERR_ROOM
    while offset < total:
        out[offset] = 0
        offset += 1
    write_u16(out, profile)
    write_u16(out + 2, <uint16_t>(total // 4 - 1))
    return <int>total


cdef int write_two_byte(uint8_t* out, size_t capacity, const ExtValues* values, const uint8_t* ids,
                        uint32_t bits) noexcept nogil:
    cdef size_t offset = 4
    cdef int kind
    cdef uint8_t size
    while bits:
        kind = lowest_bit(bits)
        bits &= bits - 1
        if ids[kind] == 0:
            continue
        size = values.size[kind]
        if offset + 2 + size > capacity:
            return RTP_ERR_ROOM
        out[offset] = ids[kind]
        out[offset + 1] = size
        copy_value(out + offset + 2, values.data[kind], size)
        offset += 2 + size
    return finish_block(out, capacity, RTP_EXT_TWO_BYTE, offset)


cdef int ext_write(uint8_t* out, size_t capacity, const ExtValues* values, const uint8_t* ids,
                   uint32_t wanted) noexcept nogil:
    cdef uint32_t all_bits = wanted & values.present & <uint32_t>KNOWN_KINDS
    cdef uint32_t bits = all_bits
    cdef size_t offset = 4
    cdef int kind
    cdef uint8_t size, id
    while bits:
        kind = lowest_bit(bits)
        bits &= bits - 1
        id = ids[kind]
        if id == 0:
            continue
        size = values.size[kind]
        if id > 14 or size == 0 or size > 16:
            return write_two_byte(out, capacity, values, ids, all_bits)
        if offset + 1 + size > capacity:
            return RTP_ERR_ROOM
        out[offset] = <uint8_t>(id << 4 | (size - 1))
        copy_value(out + offset + 1, values.data[kind], size)
        offset += 1 + size
    return finish_block(out, capacity, RTP_EXT_ONE_BYTE, offset)


class RtpPacket(NamedTuple):
    """The header of one RTP packet. Sizes and offsets are bytes; padding is not removed from `payload_size`."""

    payload_type: int
    marker: bool
    padding: bool
    csrc_count: int
    sequence: int
    timestamp: int
    ssrc: int
    header_size: int
    ext_profile: int
    ext_offset: int
    ext_size: int
    payload_size: int


cdef dict REASONS = {
    RTP_ERR_SHORT: "shorter than its fields say",
    RTP_ERR_VERSION: "not RTP version 2",
    RTP_ERR_PADDING: "padding count of 0 or past the payload",
    RTP_ERR_ROOM: "does not fit",
    RTP_ERR_VALUE: "a value out of range",
}


cdef int fill_map(ExtMap* map, ids) except -1:
    """From pairs of negotiated id and `ExtKind`, for both directions."""
    memset(map, 0, sizeof(ExtMap))
    for id, kind in ids.items():
        if not (1 <= id <= 255 and 1 <= kind < EXT_COUNT):
            raise ValueError(f"no extension id {id} for kind {kind}")
        map.kind[<uint8_t>id] = kind
        map.id[<int>kind] = id
    return 0


def parse_rtp(bytes data not None):
    """The header of an RTP packet (RFC 3550, section 5.1) as an `RtpPacket`. ValueError when it is malformed."""
    cdef RtpHeader header
    cdef int result = rtp_parse(<const uint8_t*>data, len(data), &header)
    if result < 0:
        raise ValueError(REASONS[result])
    return RtpPacket(
        header.payload_type, bool(header.marker), bool(header.padding), header.csrc_count, header.sequence,
        header.timestamp, header.ssrc, header.header_size, header.ext_profile, header.ext_offset, header.ext_size,
        header.payload_size,
    )


def payload_of(bytes data not None):
    """The payload of a plain RTP packet without its padding. ValueError when either is malformed."""
    cdef RtpHeader header
    cdef int result = rtp_parse(<const uint8_t*>data, len(data), &header)
    if result == 0:
        result = rtp_padding(<const uint8_t*>data, len(data), &header)
    if result < 0:
        raise ValueError(REASONS[result])
    return data[header.header_size:len(data) - result]


def read_extensions(bytes data not None, ids):
    """The header extensions of an RTP packet: {`ExtKind`: value}. `ids` maps negotiated ids to kinds."""
    cdef RtpHeader header
    cdef ExtMap map
    cdef ExtValues values
    cdef int result = rtp_parse(<const uint8_t*>data, len(data), &header)
    if result < 0:
        raise ValueError(REASONS[result])
    fill_map(&map, ids)
    ext_read(<const uint8_t*>data, &header, &map, &values)
    return {
        kind: <bytes>values.data[<int>kind][:values.size[<int>kind]]
        for kind in range(1, EXT_COUNT)
        if values.present >> <int>kind & 1
    }


def write_extensions(values, ids, size_t capacity=4096, uint32_t wanted=0xFFFFFFFF):
    """An extension block (RFC 8285) of {`ExtKind`: value of up to 255 bytes}, b"" when none of them has an id.

    `ids` maps negotiated ids to kinds. ValueError when the block exceeds `capacity`.
    """
    cdef ExtMap map
    cdef ExtValues given
    cdef bytes held
    cdef bytearray out = bytearray(capacity)
    given.present = 0
    fill_map(&map, ids)
    alive = []
    for kind, value in values.items():
        held = value
        if not 1 <= kind < EXT_COUNT or len(held) > 255:
            raise ValueError(f"no such extension: kind {kind}, {len(held)} bytes")
        alive.append(held)
        given.data[<int>kind] = held
        given.size[<int>kind] = len(held)
        given.present |= <uint32_t>1 << <int>kind
    cdef int size = ext_write(<uint8_t*>out, capacity, &given, map.id, wanted)
    if size < 0:
        raise ValueError(REASONS[size])
    return bytes(out[:size])


def write_rtp(*, uint8_t payload_type, bint marker, uint16_t sequence, uint32_t timestamp, uint32_t ssrc,
              bytes extensions not None=b"", bytes payload not None=b""):
    """A whole RTP packet; `extensions` is a block as `write_extensions` makes it."""
    cdef uint8_t out[RTP_HEADER_SIZE]
    rtp_write(out, payload_type, marker, sequence, timestamp, ssrc)
    if extensions:
        out[0] |= RTP_X_BIT
    return <bytes>out[:RTP_HEADER_SIZE] + extensions + payload


def classify(bytes datagram not None):
    """The `DemuxKind` of a datagram by its first byte (RFC 7983, section 7); of an empty one DEMUX_OTHER."""
    return DemuxKind(demux_kind((<const uint8_t*>datagram)[0])) if datagram else DemuxKind.DEMUX_OTHER


def looks_like_rtcp(bytes datagram not None):
    """Whether a datagram of DEMUX_RTP is RTCP (RFC 5761, section 4)."""
    return bool(is_rtcp(<const uint8_t*>datagram, len(datagram)))
