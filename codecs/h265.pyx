"""H.265 in RTP (RFC 7798): single NAL units, aggregation packets and fragmentation units; PACI packets are refused."""

from typing import NamedTuple

from libc.stdint cimport int8_t, uint16_t
from libc.string cimport memset

from mediaserver.codecs.bits cimport BitReader, bits_open, bits_read, bits_skip, bits_ue
from mediaserver.codecs.nal cimport NAL_OTHER, NAL_PPS, NAL_PREFIX, NAL_SLICE, NAL_SPS, NAL_VPS, NalFacts

cdef enum:
    TYPE_TSA_N = 2
    TYPE_STSA_R = 5
    TYPE_SUBLAYER_MAX = 14  # up to here even types are sub-layer non-reference pictures
    TYPE_BLA_W_LP = 16
    TYPE_CRA = 21
    TYPE_IRAP_MAX = 23
    TYPE_SLICE_MAX = 31
    TYPE_VPS = 32
    TYPE_SPS = 33
    TYPE_PPS = 34
    TYPE_AUD = 35
    TYPE_SEI_PREFIX = 39
    TYPE_SINGLE_MAX = 47
    TYPE_AP = 48
    TYPE_FU = 49

    HEADER_SIZE = 2
    MAX_SIDE = 16888        # luma samples: level 6.2 by the square root rule of annex A


cdef inline uint8_t nal_type(const uint8_t* nal) noexcept nogil:
    return (nal[0] >> 1) & 0x3F


cdef inline bint is_sound_header(const uint8_t* nal) noexcept nogil:
    """Neither the forbidden bit nor a temporal id of -1."""
    return not nal[0] & 0x80 and nal[1] & 7


cdef void read_profile(BitReader* reader, unsigned max_sub_layers_minus1, H265Sps* sps) noexcept nogil:
    """profile_tier_level() (section 7.3.3)."""
    cdef uint32_t present
    cdef unsigned i
    bits_skip(reader, 2)
    sps.tier = <uint8_t>bits_read(reader, 1)
    sps.profile_idc = <uint8_t>bits_read(reader, 5)
    bits_skip(reader, 32 + 48)
    sps.level_idc = <uint8_t>bits_read(reader, 8)
    if not max_sub_layers_minus1:
        return
    present = bits_read(reader, 16)
    for i in range(max_sub_layers_minus1):
        if present & (<uint32_t>0x8000 >> (2 * i)):
            bits_skip(reader, 88)
        if present & (<uint32_t>0x4000 >> (2 * i)):
            bits_skip(reader, 8)


cdef void read_size(BitReader* reader, H265Sps* sps) noexcept nogil:
    cdef uint32_t left, right, top, bottom, unit_x, unit_y
    sps.width = bits_ue(reader)
    sps.height = bits_ue(reader)
    if not 0 < sps.width <= MAX_SIDE or not 0 < sps.height <= MAX_SIDE:
        reader.error = 1
        return
    if not bits_read(reader, 1):
        return
    left = bits_ue(reader)
    right = bits_ue(reader)
    top = bits_ue(reader)
    bottom = bits_ue(reader)
    # SubWidthC and SubHeightC (table 6-1)
    unit_x = 2 if sps.chroma_format in (1, 2) else 1
    unit_y = 2 if sps.chroma_format == 1 else 1
    if left > MAX_SIDE or right > MAX_SIDE or top > MAX_SIDE or bottom > MAX_SIDE:
        reader.error = 1
    elif (left + right) * unit_x >= sps.width or (top + bottom) * unit_y >= sps.height:
        reader.error = 1
    else:
        sps.width -= (left + right) * unit_x
        sps.height -= (top + bottom) * unit_y


cdef int h265_parse_sps(const uint8_t* nal, size_t size, H265Sps* sps) noexcept nogil:
    cdef BitReader reader
    cdef uint32_t sub_layers, id, chroma
    memset(sps, 0, sizeof(H265Sps))
    if size < 4 or nal_type(nal) != TYPE_SPS:
        return 0
    bits_open(&reader, nal + HEADER_SIZE, size - HEADER_SIZE, True)
    sps.vps = <uint8_t>bits_read(&reader, 4)
    sub_layers = bits_read(&reader, 3)
    bits_skip(&reader, 1)
    if sub_layers > 6:
        return 0
    read_profile(&reader, sub_layers, sps)
    id = bits_ue(&reader)
    chroma = bits_ue(&reader)
    if id > 15 or chroma > 3:
        return 0
    sps.id = <uint8_t>id
    if chroma == 3 and bits_read(&reader, 1):
        # separate_colour_plane_flag: three monochrome pictures, cropped like one
        chroma = 0
    sps.chroma_format = <uint8_t>chroma
    read_size(&reader, sps)
    sps.bit_depth = <uint8_t>((8 + bits_ue(&reader)) & 0xFF)
    return not reader.error


cdef void read_slice(const uint8_t* nal, size_t size, uint8_t kind, NalFacts* facts) noexcept nogil:
    cdef BitReader reader
    cdef uint32_t first, id
    facts.kind = NAL_SLICE
    facts.random_access = TYPE_BLA_W_LP <= kind <= TYPE_CRA
    facts.discardable = kind <= TYPE_SUBLAYER_MAX and not kind & 1
    facts.switch_up = TYPE_TSA_N <= kind <= TYPE_STSA_R
    bits_open(&reader, nal + HEADER_SIZE, 16 if size > 16 + HEADER_SIZE else size - HEADER_SIZE, True)
    # slice_segment_header(): first_slice_segment_in_pic_flag, no_output_of_prior_pics_flag, slice_pic_parameter_set_id
    first = bits_read(&reader, 1)
    if kind >= TYPE_BLA_W_LP:
        bits_skip(&reader, 1)
    id = bits_ue(&reader)
    if not reader.error and id <= 63:
        facts.first = <uint8_t>first
        facts.id = <int>id


cdef void h265_nal(const uint8_t* nal, size_t size, NalFacts* facts) noexcept nogil:
    """What a NAL unit tells. `nal` may be the beginning of one: nothing but a parameter set needs its end."""
    cdef uint8_t kind = nal_type(nal)
    cdef BitReader reader
    cdef H265Sps sps
    cdef uint32_t id, parent
    memset(facts, 0, sizeof(NalFacts))
    facts.id = -1
    facts.parent = -1
    facts.kind = NAL_OTHER
    if kind <= TYPE_SUBLAYER_MAX + 1 or TYPE_BLA_W_LP <= kind <= TYPE_IRAP_MAX:
        read_slice(nal, size, kind, facts)
    elif kind <= TYPE_SLICE_MAX:
        pass
    elif kind == TYPE_VPS:
        facts.kind = NAL_VPS
        if size > HEADER_SIZE:
            facts.id = nal[HEADER_SIZE] >> 4
    elif kind == TYPE_SPS:
        facts.kind = NAL_SPS
        if h265_parse_sps(nal, size, &sps):
            facts.id = sps.id
            facts.parent = sps.vps
            facts.width = <uint16_t>sps.width
            facts.height = <uint16_t>sps.height
    elif kind == TYPE_PPS:
        facts.kind = NAL_PPS
        bits_open(&reader, nal + HEADER_SIZE, size - HEADER_SIZE, True)
        id = bits_ue(&reader)
        parent = bits_ue(&reader)
        if not reader.error and id <= 63 and parent <= 15:
            facts.id = <int>id
            facts.parent = <int>parent
    elif kind == TYPE_AUD or kind == TYPE_SEI_PREFIX or 41 <= kind <= 44:
        facts.kind = NAL_PREFIX


cdef void merge(PayloadFacts* facts, const NalFacts* nal, bint is_first) noexcept nogil:
    """Add what one more NAL unit of a payload tells."""
    if nal.kind == NAL_SLICE:
        if is_first:
            facts.start = nal.first
        if nal.random_access and nal.first:
            facts.keyframe = 1
        if nal.switch_up:
            facts.switch_up = 1
    elif nal.kind != NAL_OTHER:
        if is_first:
            facts.start = 1
        if nal.kind == NAL_VPS or nal.kind == NAL_SPS:
            facts.keyframe = 1
        if nal.width:
            facts.width = nal.width
            facts.height = nal.height


cdef int read_aggregate(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil:
    cdef NalFacts nal
    cdef size_t offset = HEADER_SIZE
    cdef size_t length
    cdef int slices = 0
    cdef int referenced = 0
    while offset < size:
        if size - offset < 2 + HEADER_SIZE:
            return 0
        length = <size_t>data[offset] << 8 | data[offset + 1]
        offset += 2
        if not is_sound_nal(data + offset, size - offset, length):
            return 0
        h265_nal(data + offset, length, &nal)
        merge(facts, &nal, offset == HEADER_SIZE + 2)
        slices += nal.kind == NAL_SLICE
        referenced += nal.kind == NAL_SLICE and not nal.discardable
        offset += length
    facts.descriptor_size = HEADER_SIZE
    facts.discardable = slices > 0 and not referenced
    return 1


cdef inline bint is_sound_nal(const uint8_t* nal, size_t left, size_t length) noexcept nogil:
    """Whether one of an aggregate's NAL units can be one; `left` is at least 2."""
    return HEADER_SIZE <= length <= left and is_sound_header(nal) and nal_type(nal) <= TYPE_SINGLE_MAX


cdef int read_fragment(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil:
    cdef uint8_t[18] head
    cdef NalFacts nal
    cdef size_t i, count
    cdef uint8_t kind
    if size < 4:
        return 0
    kind = data[2] & 0x3F
    if kind > TYPE_SINGLE_MAX:
        return 0
    facts.descriptor_size = 3
    facts.discardable = kind <= TYPE_SUBLAYER_MAX and not kind & 1
    if data[2] & 0x80:
        # A slice tells all in its first bytes, which follow the header that the three bytes before them stand for.
        head[0] = (data[0] & 0x81) | (kind << 1)
        head[1] = data[1]
        count = size - 3 if size - 3 < 16 else 16
        for i in range(count):
            head[2 + i] = data[3 + i]
        h265_nal(head, 2 + count, &nal)
        merge(facts, &nal, True)
    return 1


cdef int h265_facts(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil:
    cdef NalFacts nal
    cdef uint8_t kind
    if size < 3 or not is_sound_header(data):
        return 0
    facts.temporal_id = <int8_t>((data[1] & 7) - 1)
    facts.spatial_id = <int8_t>((data[0] & 1) << 5 | data[1] >> 3)
    kind = nal_type(data)
    if kind <= TYPE_SINGLE_MAX:
        h265_nal(data, size, &nal)
        merge(facts, &nal, True)
        facts.discardable = nal.discardable
        return 1
    if kind == TYPE_AP:
        return read_aggregate(data, size, facts)
    if kind == TYPE_FU:
        return read_fragment(data, size, facts)
    return 0


cdef class H265Assembler(NalAssembler):
    """RTP payloads into Annex B access units."""

    cdef void inspect(self, const uint8_t* nal, size_t size, NalFacts* facts):
        h265_nal(nal, size, facts)

    cdef void add(self, const uint8_t* payload, size_t size):
        cdef uint8_t kind
        cdef uint8_t[2] header
        if size < 3 or not is_sound_header(payload):
            self.complete = False
            return
        kind = nal_type(payload)
        if kind <= TYPE_SINGLE_MAX:
            self.add_nal(payload, size)
        elif kind == TYPE_AP:
            self.add_aggregate(payload, size)
        elif kind == TYPE_FU and size > 3 and payload[2] & 0x3F <= TYPE_SINGLE_MAX:
            if payload[2] & 0x80:
                header[0] = (payload[0] & 0x81) | ((payload[2] & 0x3F) << 1)
                header[1] = payload[1]
                self.begin_fragment(header, HEADER_SIZE, payload + 3, size - 3)
            else:
                self.continue_fragment(payload + 3, size - 3)
            if payload[2] & 0x40:
                self.end_fragment()
        else:
            self.complete = False

    cdef void add_aggregate(self, const uint8_t* payload, size_t size):
        cdef size_t offset = HEADER_SIZE
        cdef size_t length
        while size - offset >= 2 + HEADER_SIZE:
            length = <size_t>payload[offset] << 8 | payload[offset + 1]
            offset += 2
            if not is_sound_nal(payload + offset, size - offset, length):
                self.complete = False
                return
            self.add_nal(payload + offset, length)
            offset += length
        if offset != size:
            self.complete = False


class Sps(NamedTuple):
    """A sequence parameter set."""

    profile_idc: int
    tier: int
    level_idc: int
    width: int
    height: int
    chroma_format: int
    bit_depth: int


def parse_sps(bytes nal not None):
    """Read an SPS NAL unit, header included; ValueError when it is malformed."""
    cdef H265Sps sps
    if not h265_parse_sps(nal, len(nal), &sps):
        raise ValueError("malformed H.265 sequence parameter set")
    return Sps(sps.profile_idc, sps.tier, sps.level_idc, sps.width, sps.height, sps.chroma_format, sps.bit_depth)
