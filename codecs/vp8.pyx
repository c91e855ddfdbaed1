"""VP8 in RTP (RFC 7741), with the frame header of RFC 6386."""

from libc.stdint cimport int8_t, uint16_t

from mediaserver.codecs.payload cimport facts_clear


cdef int vp8_facts(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil:
    cdef size_t at = 1
    cdef uint8_t first, extension
    if size < 2:
        return 0
    first = data[0]
    if first & 0x80:
        extension = data[1]
        at = 2
        if extension & 0x80:
            if at >= size:
                return 0
            if data[at] & 0x80:
                if at + 1 >= size:
                    return 0
                facts.picture_id = (data[at] & 0x7F) << 8 | data[at + 1]
                facts.picture_id_bits = 15
                at += 2
            else:
                facts.picture_id = data[at]
                facts.picture_id_bits = 7
                at += 1
        if extension & 0x40:
            if at >= size:
                return 0
            facts.tl0_pic_idx = data[at]
            at += 1
        if extension & 0x30:
            if at >= size:
                return 0
            if extension & 0x20:
                facts.temporal_id = <int8_t>(data[at] >> 6)
                facts.switch_up = (data[at] >> 5) & 1
            if extension & 0x10:
                facts.key_idx = data[at] & 0x1F
            at += 1
    if at >= size:
        return 0
    facts.descriptor_size = <uint16_t>at
    facts.discardable = (first >> 5) & 1
    facts.start = first & 0x17 == 0x10  # the S bit, and the first partition
    if facts.start and not data[at] & 1:
        facts.keyframe = 1
        return read_key_header(data + at, size - at, facts)
    return 1


cdef int read_key_header(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil:
    """The size of the picture (RFC 6386, section 9.1); a payload may end before it."""
    if size < 10:
        return 1
    if data[3] != 0x9D or data[4] != 0x01 or data[5] != 0x2A:
        return 0
    facts.width = (data[7] << 8 | data[6]) & 0x3FFF
    facts.height = (data[9] << 8 | data[8]) & 0x3FFF
    return 1


cdef class Vp8Assembler(Assembler):
    """RTP payloads into VP8 frames. Of a frame with a hole, the part before the hole is given."""

    cdef void add(self, const uint8_t* payload, size_t size):
        cdef PayloadFacts facts
        if self.broken:
            return
        facts_clear(&facts)
        if not vp8_facts(payload, size, &facts) or facts.start != (self.size == 0):
            self.hole()
            return
        if facts.keyframe:
            self.keyframe = True
            if facts.width:
                self.width = facts.width
                self.height = facts.height
        if not self.append(payload + facts.descriptor_size, size - facts.descriptor_size):
            self.hole()

    cdef void hole(self):
        self.broken = True
        self.complete = False

    cdef void restart(self):
        self.broken = False
