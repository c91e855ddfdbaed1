"""VP9 in RTP (RFC 9628), with the uncompressed header of the VP9 bitstream specification (section 6.2)."""

from libc.stdint cimport int8_t, uint32_t

from mediaserver.codecs.bits cimport BitReader, bits_open, bits_read, bits_skip
from mediaserver.codecs.payload cimport facts_clear

cdef enum:
    HAS_PICTURE_ID = 0x80
    INTER_PREDICTED = 0x40
    HAS_LAYERS = 0x20
    FLEXIBLE = 0x10
    BEGINS = 0x08
    ENDS = 0x04
    HAS_STRUCTURE = 0x02
    MAX_REFERENCES = 3
    COLOR_RGB = 7


cdef size_t read_structure(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil:
    """The scalability structure (section 4.2.1): the size of the largest layer. Its bytes, 0 when malformed."""
    cdef size_t at = 1
    cdef unsigned layers, pictures, i, width, height
    if size < 1:
        return 0
    layers = (data[0] >> 5) + 1
    facts.layer_count = <uint8_t>layers
    if data[0] & 0x10:
        if size - at < 4 * layers:
            return 0
        for i in range(layers):
            width = data[at] << 8 | data[at + 1]
            height = data[at + 2] << 8 | data[at + 3]
            if width >= facts.width:
                facts.width = <uint16_t>width
                facts.height = <uint16_t>height
            at += 4
    if data[0] & 0x08:
        if at >= size:
            return 0
        pictures = data[at]
        at += 1
        for i in range(pictures):
            if at >= size:
                return 0
            at += 1 + ((data[at] >> 2) & 3)
    return at if at <= size else 0


cdef size_t read_descriptor(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil:
    """Section 4.2. The bytes of the descriptor, 0 when malformed; at least one byte follows it."""
    cdef uint8_t flags = data[0]
    cdef size_t at = 1
    cdef size_t structure
    cdef unsigned references = 0
    facts.inter_predicted = flags & INTER_PREDICTED != 0
    if flags & HAS_PICTURE_ID:
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
    elif flags & FLEXIBLE:
        # In flexible mode references are given as differences of picture ids, so there must be one.
        return 0
    if flags & HAS_LAYERS:
        if at >= size:
            return 0
        facts.temporal_id = <int8_t>(data[at] >> 5)
        facts.switch_up = (data[at] >> 4) & 1
        facts.spatial_id = <int8_t>((data[at] >> 1) & 7)
        facts.inter_layer = data[at] & 1
        at += 1
        if not flags & FLEXIBLE:
            if at >= size:
                return 0
            facts.tl0_pic_idx = data[at]
            at += 1
    if flags & FLEXIBLE and flags & INTER_PREDICTED:
        while True:
            if at >= size or references == MAX_REFERENCES:
                return 0
            references += 1
            at += 1
            if not data[at - 1] & 1:
                break
    if flags & HAS_STRUCTURE:
        if at >= size:
            return 0
        structure = read_structure(data + at, size - at, facts)
        if not structure:
            return 0
        at += structure
    return at if at < size else 0


cdef void read_frame_size(BitReader* reader, Vp9Frame* frame) noexcept nogil:
    frame.width = <uint16_t>(bits_read(reader, 16) + 1)
    frame.height = <uint16_t>(bits_read(reader, 16) + 1)


cdef void skip_color(BitReader* reader, unsigned profile, bint is_key) noexcept nogil:
    """color_config() of a key frame; intra-only frames of profile 0 have none."""
    cdef unsigned space
    if not is_key and profile == 0:
        return
    if profile >= 2:
        bits_skip(reader, 1)
    space = bits_read(reader, 3)
    if space != COLOR_RGB:
        bits_skip(reader, 1)
        if profile in (1, 3):
            bits_skip(reader, 3)
    elif profile in (1, 3):
        bits_skip(reader, 1)


cdef void vp9_read_frame(const uint8_t* data, size_t size, Vp9Frame* frame) noexcept nogil:
    cdef BitReader reader
    cdef unsigned profile, shown, resilient, i
    cdef bint intra_only = False
    frame.valid = 0
    frame.keyframe = 0
    frame.width = 0
    frame.height = 0
    bits_open(&reader, data, size, False)
    if bits_read(&reader, 2) != 2:
        return
    profile = bits_read(&reader, 1)
    profile |= bits_read(&reader, 1) << 1
    if profile == 3:
        bits_skip(&reader, 1)
    if bits_read(&reader, 1):
        # show_existing_frame
        frame.valid = not reader.error
        return
    frame.keyframe = bits_read(&reader, 1) == 0
    shown = bits_read(&reader, 1)
    resilient = bits_read(&reader, 1)
    if reader.error:
        frame.keyframe = 0
        return
    frame.valid = 1
    if not frame.keyframe:
        if not shown:
            intra_only = bits_read(&reader, 1)
        if not resilient:
            bits_skip(&reader, 2)
    if frame.keyframe or intra_only:
        if bits_read(&reader, 24) != 0x498342:
            frame.valid = 0
            frame.keyframe = 0
            return
        skip_color(&reader, profile, frame.keyframe)
        if intra_only:
            bits_skip(&reader, 8)
        read_frame_size(&reader, frame)
    else:
        # refresh_frame_flags, three references with their sign biases, then found_ref for each
        bits_skip(&reader, 8 + 3 * 4)
        for i in range(3):
            if bits_read(&reader, 1):
                return
        read_frame_size(&reader, frame)
    if reader.error:
        frame.width = 0
        frame.height = 0


cdef int vp9_facts(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil:
    cdef size_t at
    cdef Vp9Frame frame
    if size < 2:
        return 0
    at = read_descriptor(data, size, facts)
    if not at:
        return 0
    facts.descriptor_size = <uint16_t>at
    facts.start = data[0] & BEGINS != 0
    facts.end = data[0] & ENDS != 0
    if facts.start and facts.spatial_id <= 0:
        # The P bit alone does not do: some packetisers never set it.
        vp9_read_frame(data + at, size - at, &frame)
        facts.keyframe = frame.keyframe and not data[0] & INTER_PREDICTED
        # Other frames may tell a size too, but with spatial layers it is the lowest one's.
        if facts.keyframe and not facts.width:
            facts.width = frame.width
            facts.height = frame.height
    return 1


cdef class Vp9Assembler(Assembler):
    """RTP payloads into VP9 pictures; several layer frames become one superframe. After a hole nothing is added.

    libvpx, and with it Chromium, shows the highest layer of a superframe. FFmpeg's decoder shows all of them.
    """

    cdef void add(self, const uint8_t* payload, size_t size):
        cdef PayloadFacts facts
        if self.broken:
            return
        facts_clear(&facts)
        if not vp9_facts(payload, size, &facts):
            self.hole()
            return
        if facts.start:
            self.begin_layer(payload, &facts, size)
        elif not self.in_layer:
            self.hole()
        if self.broken:
            return
        if not self.append(payload + facts.descriptor_size, size - facts.descriptor_size):
            self.hole()
            return
        if facts.end:
            self.in_layer = False

    cdef void begin_layer(self, const uint8_t* payload, const PayloadFacts* facts, size_t size):
        cdef Vp9Frame frame
        cdef bint depends = facts.spatial_id > 0 and has_layer_below(payload)
        if self.in_layer or self.layers == VP9_MAX_LAYERS or (depends and not self.layers):
            self.hole()
            return
        vp9_read_frame(payload + facts.descriptor_size, size - facts.descriptor_size, &frame)
        if not self.layers:
            self.keyframe = frame.keyframe
            if self.lost_at_start and facts.spatial_id > 0:
                self.complete = False
        self.told = frame
        self.starts[self.layers] = self.size
        self.layers += 1
        self.in_layer = True

    cdef void hole(self):
        self.broken = True
        self.complete = False
        if self.in_layer and self.layers > 1:
            # The lower layers make a picture of their own.
            self.layers -= 1
            self.size = self.starts[self.layers]
            self.in_layer = False

    cdef void restart(self):
        self.broken = False
        self.in_layer = False
        self.layers = 0

    cdef void conclude(self):
        if self.in_layer:
            self.hole()
        if self.told.width and self.complete:
            # Of a picture without its highest layer this would be a lower one's.
            self.width = self.told.width
            self.height = self.told.height
        if self.layers > 1:
            self.write_index()

    cdef void write_index(self):
        """The superframe index (annex B), without which a decoder can't tell the layer frames apart."""
        cdef uint8_t[2 + 4 * VP9_MAX_LAYERS] index
        cdef int i, byte
        cdef size_t end, length
        cdef size_t at = 1
        # Four bytes for each size, and the marker at both ends.
        index[0] = <uint8_t>(0xC0 | 3 << 3 | (self.layers - 1))
        for i in range(self.layers):
            end = self.starts[i + 1] if i + 1 < self.layers else self.size
            length = end - self.starts[i]
            for byte in range(4):
                index[at] = <uint8_t>(length >> (8 * byte) & 0xFF)
                at += 1
        index[at] = index[0]
        self.append(index, at + 1)


cdef bint has_layer_below(const uint8_t* payload) noexcept nogil:
    """The D bit of a descriptor that has been found valid and has layer indices."""
    cdef size_t at = 1
    if payload[0] & HAS_PICTURE_ID:
        at += 2 if payload[1] & 0x80 else 1
    return payload[at] & 1
