"""H.264 in RTP (RFC 6184): single NAL units, STAP-A and FU-A. Interleaved mode (STAP-B, MTAP, FU-B) is refused."""

from typing import NamedTuple

from libc.stdint cimport int8_t
from libc.string cimport memset

from mediaserver.codecs.bits cimport BitReader, bits_open, bits_read, bits_se, bits_skip, bits_ue
from mediaserver.codecs.nal cimport (
    NAL_OTHER,
    NAL_PPS,
    NAL_PREFIX,
    NAL_RECOVERY,
    NAL_SLICE,
    NAL_SPS,
    NalFacts,
)

cdef enum:
    TYPE_SLICE = 1
    TYPE_PARTITION_A = 2
    TYPE_PARTITION_C = 4
    TYPE_IDR = 5
    TYPE_SEI = 6
    TYPE_SPS = 7
    TYPE_PPS = 8
    TYPE_AUD = 9
    TYPE_PREFIX = 14
    TYPE_SINGLE_MAX = 23
    TYPE_STAP_A = 24
    TYPE_FU_A = 28

    SEI_RECOVERY_POINT = 6
    MAX_SIDE = 16384       # luma samples; level 6.2 ends at 16,864 by the square root rule of annex A
    MAX_POC_CYCLE = 255
    MAX_SEI = 256         # how far into an SEI to look


cdef void skip_scaling_list(BitReader* reader, int count) noexcept nogil:
    """scaling_list() (section 7.3.2.1.1.1)."""
    cdef int last = 8
    cdef int following = 8
    cdef int i
    for i in range(count):
        if reader.error:
            return
        if following:
            following = <int>((<uint32_t>last + <uint32_t>bits_se(reader)) & 0xFF)  # hostile deltas may wrap
        if following:
            last = following


cdef void read_high_profile(BitReader* reader, H264Sps* sps) noexcept nogil:
    cdef int i
    sps.chroma_format = <uint8_t>(bits_ue(reader) & 0xFF)
    if sps.chroma_format > 3:
        reader.error = 1
        return
    if sps.chroma_format == 3 and bits_read(reader, 1):
        # separate_colour_plane_flag: three monochrome pictures, cropped like one
        sps.chroma_format = 0
    sps.bit_depth = <uint8_t>((8 + bits_ue(reader)) & 0xFF)
    bits_ue(reader)
    bits_skip(reader, 1)
    if bits_read(reader, 1):
        for i in range(12 if sps.chroma_format == 3 else 8):
            if bits_read(reader, 1):
                skip_scaling_list(reader, 16 if i < 6 else 64)


cdef void skip_picture_order(BitReader* reader) noexcept nogil:
    cdef uint32_t kind = bits_ue(reader)
    cdef uint32_t cycle, i
    if kind == 0:
        bits_ue(reader)
    elif kind == 1:
        bits_skip(reader, 1)
        bits_se(reader)
        bits_se(reader)
        cycle = bits_ue(reader)
        if cycle > MAX_POC_CYCLE:
            reader.error = 1
            return
        for i in range(cycle):
            bits_se(reader)
    elif kind > 2:
        reader.error = 1


cdef void read_size(BitReader* reader, H264Sps* sps) noexcept nogil:
    cdef uint32_t columns = bits_ue(reader)
    cdef uint32_t rows = bits_ue(reader)
    cdef uint32_t frame_only = bits_read(reader, 1)
    cdef uint32_t left, right, top, bottom, unit_x, unit_y
    if columns >= MAX_SIDE // 16 or rows >= MAX_SIDE // 16:
        reader.error = 1
        return
    sps.width = (columns + 1) * 16
    sps.height = (rows + 1) * 16 * (2 - frame_only)
    if not frame_only:
        bits_skip(reader, 1)
    bits_skip(reader, 1)
    if not bits_read(reader, 1):
        return
    left = bits_ue(reader)
    right = bits_ue(reader)
    top = bits_ue(reader)
    bottom = bits_ue(reader)
    # CropUnitX and CropUnitY (section 7.4.2.1.1)
    unit_x = 2 if sps.chroma_format in (1, 2) else 1
    unit_y = (2 if sps.chroma_format == 1 else 1) * (2 - frame_only)
    if left > MAX_SIDE or right > MAX_SIDE or top > MAX_SIDE or bottom > MAX_SIDE:
        reader.error = 1
    elif (left + right) * unit_x >= sps.width or (top + bottom) * unit_y >= sps.height:
        reader.error = 1
    else:
        sps.width -= (left + right) * unit_x
        sps.height -= (top + bottom) * unit_y


cdef int h264_parse_sps(const uint8_t* nal, size_t size, H264Sps* sps) noexcept nogil:
    cdef BitReader reader
    cdef uint32_t id
    memset(sps, 0, sizeof(H264Sps))
    if size < 4 or nal[0] & 0x1F != TYPE_SPS:
        return 0
    bits_open(&reader, nal + 1, size - 1, True)
    sps.profile_idc = <uint8_t>bits_read(&reader, 8)
    sps.constraints = <uint8_t>bits_read(&reader, 8)
    sps.level_idc = <uint8_t>bits_read(&reader, 8)
    id = bits_ue(&reader)
    if id > 31:
        return 0
    sps.id = <uint8_t>id
    sps.chroma_format = 1
    sps.bit_depth = 8
    if sps.profile_idc in (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135):
        read_high_profile(&reader, sps)
    bits_ue(&reader)
    skip_picture_order(&reader)
    bits_ue(&reader)
    bits_skip(&reader, 1)
    if not reader.error:
        read_size(&reader, sps)
    return not reader.error


cdef bint is_recovery_point(const uint8_t* nal, size_t size) noexcept nogil:
    """Whether an SEI says that decoding can start at this very picture (recovery_frame_cnt 0, section D.2.8)."""
    cdef BitReader reader
    cdef uint32_t kind, length, byte
    bits_open(&reader, nal + 1, (size if size < MAX_SEI else MAX_SEI) - 1, True)
    while reader.position + 2 < reader.size:
        kind = 0
        length = 0
        byte = 0xFF
        while byte == 0xFF and not reader.error:
            byte = bits_read(&reader, 8)
            kind += byte
        byte = 0xFF
        while byte == 0xFF and not reader.error:
            byte = bits_read(&reader, 8)
            length += byte
        if reader.error:
            return False
        if kind == SEI_RECOVERY_POINT:
            return bits_ue(&reader) == 0 and not reader.error
        if length > reader.size:
            return False
        bits_skip(&reader, length * 8)
    return False


cdef void h264_nal(const uint8_t* nal, size_t size, NalFacts* facts) noexcept nogil:
    """What a NAL unit tells. `nal` may be the beginning of one: nothing but a parameter set needs its end."""
    cdef uint8_t kind = nal[0] & 0x1F
    cdef BitReader reader
    cdef H264Sps sps
    cdef uint32_t first, id
    memset(facts, 0, sizeof(NalFacts))
    facts.id = -1
    facts.parent = -1
    facts.temporal = -1
    facts.kind = NAL_OTHER
    if TYPE_SLICE <= kind <= TYPE_IDR:
        facts.kind = NAL_SLICE
        facts.discardable = nal[0] & 0x60 == 0
        bits_open(&reader, nal + 1, 16 if size > 17 else size - 1, True)
        if kind <= TYPE_PARTITION_A or kind == TYPE_IDR:
            # slice_header(): first_mb_in_slice, slice_type, pic_parameter_set_id
            first = bits_ue(&reader)
            bits_ue(&reader)
            id = bits_ue(&reader)
            if not reader.error and id <= 255:
                facts.first = first == 0
                facts.id = <int>id
        facts.random_access = kind == TYPE_IDR
    elif kind == TYPE_SPS:
        facts.kind = NAL_SPS
        if h264_parse_sps(nal, size, &sps):
            facts.id = sps.id
            facts.width = <uint16_t>sps.width
            facts.height = <uint16_t>sps.height
    elif kind == TYPE_PPS:
        facts.kind = NAL_PPS
        bits_open(&reader, nal + 1, size - 1, True)
        id = bits_ue(&reader)
        first = bits_ue(&reader)
        if not reader.error and id <= 255 and first <= 31:
            facts.id = <int>id
            facts.parent = <int>first
    elif kind == TYPE_SEI:
        facts.kind = NAL_RECOVERY if is_recovery_point(nal, size) else NAL_PREFIX
    elif kind == TYPE_AUD or 14 <= kind <= 18:
        facts.kind = NAL_PREFIX
        if kind == TYPE_PREFIX and size >= 4 and nal[1] & 0x80:
            # nal_unit_header_svc_extension() (section F.7.3.1.1)
            facts.temporal = nal[3] >> 5


cdef void merge(PayloadFacts* facts, const NalFacts* nal, bint is_first) noexcept nogil:
    """Add what one more NAL unit of a payload tells."""
    if nal.temporal >= 0:
        facts.temporal_id = <int8_t>nal.temporal
    if nal.kind == NAL_SLICE:
        if is_first:
            facts.start = nal.first
        if nal.random_access and nal.first:
            facts.keyframe = 1
    elif nal.kind != NAL_OTHER:
        if is_first:
            facts.start = 1
        if nal.kind == NAL_SPS:
            facts.keyframe = 1
            if nal.width:
                facts.width = nal.width
                facts.height = nal.height
        elif nal.kind == NAL_RECOVERY:
            facts.keyframe = 1


cdef int read_fragment(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil:
    cdef uint8_t[18] head
    cdef NalFacts nal
    cdef size_t i, count
    cdef uint8_t kind
    if size < 3:
        return 0
    kind = data[1] & 0x1F
    if kind == 0 or kind > TYPE_SINGLE_MAX:
        return 0
    facts.descriptor_size = 2
    if data[1] & 0x80:
        # A slice tells all in its first bytes, which follow the header that the two bytes before them stand for.
        head[0] = (data[0] & 0xE0) | kind
        count = size - 2 if size - 2 < 17 else 17
        for i in range(count):
            head[1 + i] = data[2 + i]
        h264_nal(head, 1 + count, &nal)
        merge(facts, &nal, True)
    facts.discardable = data[0] & 0x60 == 0 and TYPE_SLICE <= kind <= TYPE_IDR
    return 1


cdef int h264_facts(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil:
    cdef NalFacts nal
    cdef uint8_t kind
    cdef size_t offset, length
    cdef int slices = 0
    cdef int referenced = 0
    if size < 2 or data[0] & 0x80:
        return 0
    kind = data[0] & 0x1F
    if 0 < kind <= TYPE_SINGLE_MAX:
        h264_nal(data, size, &nal)
        merge(facts, &nal, True)
        facts.discardable = nal.discardable
    elif kind == TYPE_STAP_A:
        facts.descriptor_size = 1
        offset = 1
        while offset < size:
            if size - offset < 3:
                return 0
            length = <size_t>data[offset] << 8 | data[offset + 1]
            offset += 2
            if length == 0 or length > size - offset or not 0 < data[offset] & 0x1F <= TYPE_SINGLE_MAX:
                return 0
            h264_nal(data + offset, length, &nal)
            merge(facts, &nal, offset == 3)
            slices += nal.kind == NAL_SLICE
            referenced += nal.kind == NAL_SLICE and not nal.discardable
            offset += length
        facts.discardable = slices > 0 and not referenced
    elif kind == TYPE_FU_A:
        return read_fragment(data, size, facts)
    else:
        return 0
    return 1


cdef class H264Assembler(NalAssembler):
    """RTP payloads into Annex B access units."""

    cdef void inspect(self, const uint8_t* nal, size_t size, NalFacts* facts):
        h264_nal(nal, size, facts)

    cdef void add(self, const uint8_t* payload, size_t size):
        cdef uint8_t kind = payload[0] & 0x1F
        cdef uint8_t header
        if size < 2 or payload[0] & 0x80:
            self.complete = False
        elif 0 < kind <= TYPE_SINGLE_MAX:
            self.add_nal(payload, size)
        elif kind == TYPE_STAP_A:
            self.add_aggregate(payload, size)
        elif kind == TYPE_FU_A and size > 2 and 0 < payload[1] & 0x1F <= TYPE_SINGLE_MAX:
            if payload[1] & 0x80:
                header = (payload[0] & 0xE0) | (payload[1] & 0x1F)
                self.begin_fragment(&header, 1, payload + 2, size - 2)
            else:
                self.continue_fragment(payload + 2, size - 2)
            if payload[1] & 0x40:
                self.end_fragment()
        else:
            self.complete = False

    cdef void add_aggregate(self, const uint8_t* payload, size_t size):
        cdef size_t offset = 1
        cdef size_t length
        while size - offset >= 3:
            length = <size_t>payload[offset] << 8 | payload[offset + 1]
            offset += 2
            if length == 0 or length > size - offset or not 0 < payload[offset] & 0x1F <= TYPE_SINGLE_MAX:
                self.complete = False
                return
            self.add_nal(payload + offset, length)
            offset += length
        if offset != size:
            self.complete = False


class Sps(NamedTuple):
    """A sequence parameter set."""

    profile_idc: int
    constraints: int
    level_idc: int
    width: int
    height: int
    chroma_format: int
    bit_depth: int


def parse_sps(bytes nal not None):
    """Read an SPS NAL unit, header included; ValueError when it is malformed."""
    cdef H264Sps sps
    if not h264_parse_sps(nal, len(nal), &sps):
        raise ValueError("malformed H.264 sequence parameter set")
    return Sps(
        sps.profile_idc, sps.constraints, sps.level_idc, sps.width, sps.height, sps.chroma_format, sps.bit_depth
    )
