"""What a viewer's decoder reads besides the media: picture ids and dependency descriptors, without a seam at a switch."""

from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from mediaserver.codecs.dependency cimport (
    DEPENDENCY_MAX,
    DependencyParts,
    bits_copy,
    bits_put,
    dependency_parts,
)
from mediaserver.codecs.payload cimport CODEC_VP8, CODEC_VP9, PayloadFacts
from mediaserver.sfu.policy.layers cimport GATE_FORWARD, GatePicture
from mediaserver.sfu.policy.pictures cimport gate_picture

cdef enum:
    MANDATORY_BITS = 24


cdef const GatePicture* sent_picture(const LayerGate* gate, int encoding, const GateInput* packet,
                                     int* status) noexcept nogil:
    """NULL with what to return: 0 for what passed as it was, -1 for what must not leave."""
    cdef const GatePicture* picture
    status[0] = 0
    if gate.plain:
        return NULL
    picture = gate_picture(gate, encoding, packet)
    if picture == NULL:
        if encoding != gate.plain_encoding or packet.sequence > gate.plain_until:
            status[0] = -1
    elif picture.verdict != GATE_FORWARD:
        status[0] = -1
        picture = NULL
    return picture


# ---- VP8 and VP9


cdef int rewrite_vp8(const GatePicture* picture, const PayloadFacts* facts, const uint8_t* payload, uint8_t* out,
                     uint16_t* replaced) noexcept nogil:
    """RFC 7741, section 4.2; the facts have been found valid. The picture id leaves with 15 bits."""
    cdef uint8_t extension = payload[1]
    cdef int at = 3 if facts.picture_id_bits == 7 else 4
    cdef int to = 4
    out[0] = payload[0]
    out[1] = extension
    out[2] = 0x80 | <uint8_t>(picture.id_out >> 8)
    out[3] = picture.id_out & 0xFF
    if extension & 0x40:
        out[to] = <uint8_t>(payload[at] + picture.tl0_offset)
        to += 1
        at += 1
    if extension & 0x30:
        out[to] = payload[at]
        if extension & 0x10:
            out[to] = (payload[at] & 0xE0) | ((payload[at] + picture.key_offset) & 0x1F)
        to += 1
        at += 1
    replaced[0] = <uint16_t>at
    return to


cdef int rewrite_vp9(const GatePicture* picture, const PayloadFacts* facts, const uint8_t* payload, uint8_t* out,
                     uint16_t* replaced) noexcept nogil:
    """RFC 9628, section 4.2; the facts have been found valid. The picture id leaves with 15 bits."""
    cdef int at = 2 if facts.picture_id_bits == 7 else 3
    cdef int to = 3
    cdef uint16_t id = <uint16_t>(facts.picture_id + picture.id_out) & 0x7FFF
    out[0] = payload[0]
    out[1] = 0x80 | <uint8_t>(id >> 8)
    out[2] = id & 0xFF
    if facts.tl0_pic_idx >= 0:
        out[to] = payload[at]
        out[to + 1] = <uint8_t>(payload[at + 1] + picture.tl0_offset)
        to += 2
        at += 2
    replaced[0] = <uint16_t>at
    return to


cdef int gate_rewrite(const LayerGate* gate, int encoding, const GateInput* packet, const uint8_t* payload,
                      size_t size, uint8_t* out, size_t capacity, uint16_t* replaced) noexcept nogil:
    cdef const PayloadFacts* facts = packet.facts
    cdef const GatePicture* picture
    cdef int status
    replaced[0] = 0
    picture = sent_picture(gate, encoding, packet, &status)
    if picture == NULL:
        return status
    if facts.picture_id < 0 or capacity < REWRITE_MAX or facts.descriptor_size >= size:
        return 0
    if packet.codec == CODEC_VP8:
        return rewrite_vp8(picture, facts, payload, out, replaced)
    if packet.codec == CODEC_VP9 and (picture.id_out or picture.tl0_offset):
        return rewrite_vp9(picture, facts, payload, out, replaced)
    return 0


# ---- the dependency descriptor


cdef int gate_dependency(const LayerGate* gate, int encoding, const GateInput* packet, const uint8_t* ext, size_t size,
                         uint8_t* out, size_t capacity) noexcept nogil:
    cdef const GatePicture* picture
    cdef DependencyParts parts
    cdef uint8_t built[2 * DEPENDENCY_MAX]
    cdef const uint8_t* structure
    cdef uint32_t structure_at, structure_bits
    cdef bint has_mask
    cdef uint32_t mask
    cdef size_t to
    cdef int status
    picture = sent_picture(gate, encoding, packet, &status)
    if picture == NULL:
        return status
    if not dependency_parts(ext, size, picture.target_count, &parts, NULL):
        return -1
    has_mask = parts.has_mask or (picture.masked and parts.start)
    if not (has_mask or picture.frame_offset or picture.template_offset or picture.attach):
        return 0
    mask = parts.mask
    if picture.masked and parts.target_count == picture.target_count:
        mask = picture.mask
    memset(built, 0, sizeof(built))
    bits_put(built, 0, parts.start, 1)
    bits_put(built, 1, parts.end, 1)
    bits_put(built, 2, (parts.template_id + picture.template_offset) & 0x3F, 6)
    bits_put(built, 8, <uint16_t>(parts.frame_number + picture.frame_offset), 16)
    to = MANDATORY_BITS
    structure = ext
    structure_at = parts.structure_at
    structure_bits = parts.structure_bits
    if picture.attach and parts.start and not structure_bits and packet.dependency != NULL:
        # The publisher took it as known when this encoding was chosen.
        structure = &packet.dependency.raw[0]
        structure_at = 0
        structure_bits = packet.dependency.raw_bits
    if structure_bits or has_mask or parts.custom:
        bits_put(built, to, structure_bits != 0, 1)
        bits_put(built, to + 1, has_mask, 1)
        bits_put(built, to + 2, parts.custom, 3)
        to += 5
        if structure_bits:
            bits_copy(built, to, structure, structure_at, structure_bits)
            shift_templates(built, to, picture.template_offset)
            to += structure_bits
        if has_mask:
            bits_put(built, to, mask, parts.target_count)
            to += parts.target_count
        if parts.custom:
            bits_copy(built, to, ext, parts.rest_at, parts.rest_bits)
            to += parts.rest_bits
    to = (to + 7) // 8
    if to > DEPENDENCY_MAX or to > capacity:
        return -1
    memcpy(out, built, to)
    return <int>to


cdef void shift_templates(uint8_t* built, size_t at, uint8_t offset) noexcept nogil:
    """The first six bits of a structure are the id of its first template."""
    cdef uint32_t first = 0
    cdef size_t i
    for i in range(at, at + 6):
        first = first << 1 | ((built[i >> 3] >> (7 - (i & 7))) & 1)
        built[i >> 3] &= ~<uint8_t>(0x80 >> (i & 7))
    bits_put(built, at, (first + offset) & 0x3F, 6)
