"""AV1 in RTP: OBU elements back into a stream of OBUs with sizes (low-overhead format, AV1 section 5.2)."""

from typing import NamedTuple

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int8_t, uint16_t
from libc.string cimport memcmp, memmove, memset

from mediaserver.codecs.bits cimport BitReader, bits_open, bits_read, bits_skip, leb128_read, leb128_write

cdef enum:
    CONTINUES = 0x80            # Z: the first element continues an OBU of the packet before
    CONTINUED = 0x40            # Y: the last element goes on in the next packet
    NEW_SEQUENCE = 0x08         # N: the first packet of a coded video sequence

    OBU_SEQUENCE_HEADER = 1
    OBU_TEMPORAL_DELIMITER = 2
    OBU_FRAME_HEADER = 3
    OBU_TILE_GROUP = 4
    OBU_METADATA = 5
    OBU_FRAME = 6
    OBU_TILE_LIST = 8
    OBU_PADDING = 15

    OBU_HAS_EXTENSION = 0x04
    OBU_HAS_SIZE = 0x02

    KEY_FRAME = 0
    # Far more than a sequence header with 32 operating points; bounds what is kept of a stream.
    MAX_SEQUENCE_HEADER = 1024


cdef struct Element:
    const uint8_t* data
    size_t size


cdef inline uint8_t obu_type(uint8_t header) noexcept nogil:
    return (header >> 3) & 0x0F


cdef size_t obu_payload(const uint8_t* obu, size_t size) noexcept nogil:
    """Where the payload of a whole OBU begins, past the header, its extension and its size; 0 when malformed."""
    cdef size_t at
    cdef size_t taken
    cdef uint32_t length = 0
    if size < 1 or obu[0] & 0x80:
        return 0
    at = 2 if obu[0] & OBU_HAS_EXTENSION else 1
    if at > size:
        return 0
    if obu[0] & OBU_HAS_SIZE:
        taken = leb128_read(obu + at, size - at, &length)
        if not taken or length != size - at - taken:
            return 0
        at += taken
    return at


cdef void skip_timing(BitReader* reader, Av1Sequence* sequence) noexcept nogil:
    """From timing_info_present_flag to the operating points (AV1, section 5.5.1)."""
    cdef bint decoder_model = False
    cdef bint initial_delay
    cdef unsigned delay_bits = 0
    cdef unsigned points, i, zeros
    cdef uint32_t level, tier
    if bits_read(reader, 1):
        bits_skip(reader, 64)
        if bits_read(reader, 1):
            zeros = 0
            while not bits_read(reader, 1):
                zeros += 1
                if zeros > 31 or reader.error:
                    reader.error = 1
                    return
            bits_skip(reader, zeros)
        decoder_model = bits_read(reader, 1)
        if decoder_model:
            delay_bits = bits_read(reader, 5) + 1
            bits_skip(reader, 32 + 5 + 5)
    initial_delay = bits_read(reader, 1)
    points = bits_read(reader, 5) + 1
    for i in range(points):
        bits_skip(reader, 12)
        level = bits_read(reader, 5)
        tier = bits_read(reader, 1) if level > 7 else 0
        if i == 0:
            sequence.level = <uint8_t>level
            sequence.tier = <uint8_t>tier
        if decoder_model and bits_read(reader, 1):
            bits_skip(reader, 2 * delay_bits + 1)
        if initial_delay and bits_read(reader, 1):
            bits_skip(reader, 4)


cdef int av1_parse_sequence(const uint8_t* obu, size_t size, Av1Sequence* sequence) noexcept nogil:
    cdef BitReader reader
    cdef size_t at = obu_payload(obu, size)
    cdef unsigned width_bits, height_bits
    memset(sequence, 0, sizeof(Av1Sequence))
    if not at or obu_type(obu[0]) != OBU_SEQUENCE_HEADER:
        return 0
    bits_open(&reader, obu + at, size - at, False)
    sequence.profile = <uint8_t>bits_read(&reader, 3)
    bits_skip(&reader, 1)
    sequence.reduced = <uint8_t>bits_read(&reader, 1)
    if sequence.reduced:
        sequence.level = <uint8_t>bits_read(&reader, 5)
    else:
        skip_timing(&reader, sequence)
    width_bits = bits_read(&reader, 4) + 1
    height_bits = bits_read(&reader, 4) + 1
    sequence.width = bits_read(&reader, width_bits) + 1
    sequence.height = bits_read(&reader, height_bits) + 1
    # 16 bits each at most, so the size can be 65,536: nobody's picture.
    return not reader.error and sequence.width <= 0xFFFF and sequence.height <= 0xFFFF


cdef size_t next_element(const uint8_t* data, size_t size, size_t at, unsigned left, Element* element) noexcept nogil:
    """The OBU element at `at`, of which `left` remain (0: each has a length). Where the next begins, 0 when malformed."""
    cdef uint32_t length = 0
    cdef size_t taken
    if left == 1:
        element.data = data + at
        element.size = size - at
        return size
    taken = leb128_read(data + at, size - at, &length)
    if not taken or length > size - at - taken:
        return 0
    element.data = data + at + taken
    element.size = length
    return at + taken + length


cdef int av1_facts(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil:
    cdef unsigned count
    cdef size_t at = 1
    cdef unsigned index = 0
    cdef Element element
    cdef Av1Sequence sequence
    cdef uint8_t kind
    # N and Z exclude each other: a new sequence continues nothing.
    if size < 2 or data[0] & (CONTINUES | NEW_SEQUENCE) == CONTINUES | NEW_SEQUENCE:
        return 0
    count = (data[0] >> 4) & 3
    facts.descriptor_size = 1
    facts.keyframe = data[0] & NEW_SEQUENCE != 0
    while at < size:
        if count and index == count:
            return 0
        at = next_element(data, size, at, count - index if count else 0, &element)
        if not at:
            return 0
        if (index > 0 or not data[0] & CONTINUES) and element.size:
            kind = obu_type(element.data[0])
            if element.data[0] & 0x80:
                return 0
            if element.data[0] & OBU_HAS_EXTENSION and element.size > 1 and facts.temporal_id < 0:
                facts.temporal_id = <int8_t>(element.data[1] >> 5)
                facts.spatial_id = <int8_t>((element.data[1] >> 3) & 3)
            if index == 0:
                facts.start = kind != OBU_TILE_GROUP and kind != OBU_PADDING
            if kind == OBU_SEQUENCE_HEADER:
                facts.keyframe = 1
                if av1_parse_sequence(element.data, element.size, &sequence):
                    facts.width = <uint16_t>sequence.width
                    facts.height = <uint16_t>sequence.height
        index += 1
    return not count or index == count


cdef class Av1Assembler(Assembler):
    """RTP payloads into temporal units without temporal delimiter. An OBU of which a part is missing is left out."""

    cdef void add(self, const uint8_t* payload, size_t size):
        cdef unsigned count = (payload[0] >> 4) & 3
        cdef unsigned index = 0
        cdef size_t at = 1
        cdef Element element
        cdef bint continues = payload[0] & CONTINUES != 0
        cdef bint last
        if size < 2:
            self.complete = False
            return
        if self.in_obu and not continues:
            self.drop_obu()
        while at < size:
            if count and index == count:
                at = 0
            else:
                at = next_element(payload, size, at, count - index if count else 0, &element)
            if not at:
                self.drop_obu()
                self.complete = False
                return
            last = at == size
            if index or not continues:
                self.in_obu = True
                self.obu = self.size
            elif not self.in_obu:
                # The OBU's beginning is missing.
                self.complete = False
            if self.in_obu and not self.append(element.data, element.size):
                self.drop_obu()
            if self.in_obu and not (last and payload[0] & CONTINUED):
                self.end_obu()
            index += 1
        if index < count:
            self.complete = False

    cdef void drop_obu(self):
        if self.in_obu:
            self.size = self.obu
            self.in_obu = False
            self.complete = False

    cdef void end_obu(self):
        """A whole OBU stands at the end of the unit: give it a size field, or take it out."""
        cdef size_t size = self.size - self.obu
        cdef size_t at = obu_payload(self.data + self.obu, size) if size else 0
        cdef uint8_t* obu = self.data + self.obu
        cdef uint8_t kind
        cdef uint8_t[5] field
        cdef size_t header_size, field_size, length
        if not at:
            self.drop_obu()
            return
        self.in_obu = False
        kind = obu_type(obu[0])
        if kind in (OBU_TEMPORAL_DELIMITER, OBU_TILE_LIST, OBU_PADDING):
            self.size = self.obu
            return
        header_size = 2 if obu[0] & OBU_HAS_EXTENSION else 1
        length = size - at
        field_size = leb128_write(field, <uint32_t>length)
        if not self.reserve(field_size):
            self.size = self.obu
            self.complete = False
            return
        obu = self.data + self.obu
        memmove(obu + header_size + field_size, obu + at, length)
        obu[0] |= OBU_HAS_SIZE
        for at in range(field_size):
            obu[header_size + at] = field[at]
        self.size = self.obu + header_size + field_size + length
        self.judge(self.obu, header_size + field_size)

    cdef void judge(self, size_t start, size_t header_size):
        """Learn from a whole OBU that has become part of the unit."""
        cdef const uint8_t* obu = self.data + start
        cdef size_t size = self.size - start
        cdef uint8_t kind = obu_type(obu[0])
        cdef Av1Sequence sequence
        if kind == OBU_SEQUENCE_HEADER:
            if size > MAX_SEQUENCE_HEADER or not av1_parse_sequence(obu, size, &sequence):
                self.complete = False
                return
            self.has_sequence = True
            self.width = sequence.width
            self.height = sequence.height
            self.reduced = sequence.reduced
            if (
                self.config is None
                or <size_t>PyBytes_GET_SIZE(self.config) != size
                or memcmp(PyBytes_AS_STRING(self.config), obu, size)
            ):
                self.config = PyBytes_FromStringAndSize(<const char*>obu, size)
        elif kind == OBU_FRAME or kind == OBU_FRAME_HEADER:
            if not self.has_frame and size > header_size:
                # show_existing_frame, frame_type, show_frame (AV1, section 5.9.2)
                self.keyframe = self.reduced or obu[header_size] & 0xF0 == (KEY_FRAME << 5 | 0x10)
                if (self.lost_at_start or self.config is None) and obu[0] & OBU_HAS_EXTENSION and obu[1] & 0x18:
                    # The lower spatial layers may have been lost, or sent before we began to listen.
                    self.complete = False
            self.has_frame = True
        elif kind == OBU_TILE_GROUP and not self.has_frame:
            self.complete = False

    cdef void hole(self):
        self.drop_obu()

    cdef bint ready(self):
        return self.has_frame

    cdef void restart(self):
        self.in_obu = False
        self.has_frame = False
        self.has_sequence = False

    cdef void conclude(self):
        self.drop_obu()
        if self.keyframe and (self.config is None or (self.lost_at_start and not self.has_sequence)):
            # What was lost may have been another sequence header.
            self.complete = False


class Sequence(NamedTuple):
    """A sequence header."""

    profile: int
    level: int
    tier: int
    width: int
    height: int


def parse_sequence(bytes obu not None):
    """Read a sequence header OBU, header included; ValueError when it is malformed."""
    cdef Av1Sequence sequence
    if not av1_parse_sequence(obu, len(obu), &sequence):
        raise ValueError("malformed AV1 sequence header")
    return Sequence(sequence.profile, sequence.level, sequence.tier, sequence.width, sequence.height)
