"""The dependency descriptor (AV1 RTP specification, appendix A): which frames a frame of any codec needs.

A keyframe brings templates. Each packet names one and the differences from it, so that a middlebox knows which decode
targets (a spatial and a temporal layer each) need the frame without looking into the payload.
"""

from typing import NamedTuple

from libc.stdint cimport int8_t
from libc.string cimport memcmp, memset

from mediaserver.codecs.bits cimport BitReader, bits_open, bits_read, bits_skip
from mediaserver.codecs.payload cimport (
    DESCRIBED_FAR,
    DESCRIBED_LAYERS,
    DESCRIBED_NUMBER,
    facts_clear,
)

cdef enum:
    MANDATORY = 3                 # bytes
    NOT_PRESENT = 0
    SWITCH = 2
    TEMPORAL_LAYERS = 8
    DEPENDS_BITS = 32


cdef void bits_put(uint8_t* target, size_t to, uint32_t value, unsigned count) noexcept nogil:
    cdef unsigned i
    for i in range(count):
        if (value >> (count - 1 - i)) & 1:
            target[to >> 3] |= <uint8_t>(0x80 >> (to & 7))
        to += 1


cdef void bits_copy(uint8_t* target, size_t to, const uint8_t* source, size_t at, size_t count) noexcept nogil:
    cdef size_t i
    for i in range(count):
        if source[at >> 3] & (0x80 >> (at & 7)):
            target[to >> 3] |= <uint8_t>(0x80 >> (to & 7))
        at += 1
        to += 1


# ---- the structure


cdef inline size_t bit_position(const BitReader* reader) noexcept nogil:
    return reader.position * 8 - reader.left


cdef uint32_t read_below(BitReader* reader, uint32_t count) noexcept nogil:
    """ns(n): a number below `count`, at least 1, in as few bits as that takes."""
    cdef unsigned width = 0
    cdef uint32_t rest = count
    cdef uint32_t short_codes, value
    while rest:
        rest >>= 1
        width += 1
    short_codes = (<uint32_t>1 << width) - count
    value = bits_read(reader, width - 1)
    if value < short_codes:
        return value
    return (value << 1) - short_codes + bits_read(reader, 1)


cdef void read_layers(BitReader* reader, DependencyStructure* structure) noexcept nogil:
    """template_layers()"""
    cdef unsigned spatial = 0
    cdef unsigned temporal = 0
    cdef uint32_t following
    structure.template_count = 0
    while not reader.error:
        if structure.template_count == DEPENDENCY_TEMPLATES or spatial == DEPENDENCY_LAYERS \
                or temporal == TEMPORAL_LAYERS:
            reader.error = 1
            return
        structure.templates[structure.template_count].spatial = <uint8_t>spatial
        structure.templates[structure.template_count].temporal = <uint8_t>temporal
        structure.template_count += 1
        following = bits_read(reader, 2)
        if following == 1:
            temporal += 1
        elif following == 2:
            temporal = 0
            spatial += 1
        elif following == 3:
            structure.layer_count = <uint8_t>(spatial + 1)
            return


cdef void read_indications(BitReader* reader, unsigned count, uint32_t* targets, uint32_t* switches) noexcept nogil:
    """What a frame is to each decode target: not present, discardable, a switching point or required."""
    cdef unsigned i
    cdef uint32_t indication
    targets[0] = 0
    switches[0] = 0
    for i in range(count):
        indication = bits_read(reader, 2)
        if indication != NOT_PRESENT:
            targets[0] |= <uint32_t>1 << i
        if indication == SWITCH:
            switches[0] |= <uint32_t>1 << i


cdef void read_differences(BitReader* reader, DependencyTemplate* entry) noexcept nogil:
    """One template's part of template_fdiffs()."""
    entry.depends = 0
    while bits_read(reader, 1) and not reader.error:
        entry.depends |= <uint32_t>1 << bits_read(reader, 4)


cdef void skip_chains(BitReader* reader, DependencyStructure* structure) noexcept nogil:
    """template_chains()"""
    cdef unsigned i
    structure.chain_count = <uint8_t>read_below(reader, structure.target_count + 1)
    if structure.chain_count == 0:
        return
    for i in range(structure.target_count):
        read_below(reader, structure.chain_count)
    bits_skip(reader, 4 * structure.chain_count * structure.template_count)


cdef void derive_targets(DependencyStructure* structure) noexcept nogil:
    """decode_target_layers(), and which decode targets lie within which."""
    cdef uint64_t members[DEPENDENCY_TARGETS]
    cdef unsigned i, j
    cdef const DependencyTemplate* entry
    for i in range(structure.target_count):
        members[i] = 0
        structure.target_spatial[i] = 0
        structure.target_temporal[i] = 0
        for j in range(structure.template_count):
            entry = &structure.templates[j]
            if (entry.targets >> i) & 1:
                members[i] |= <uint64_t>1 << j
                structure.target_spatial[i] = max(structure.target_spatial[i], entry.spatial)
                structure.target_temporal[i] = max(structure.target_temporal[i], entry.temporal)
    for i in range(structure.target_count):
        structure.contains[i] = 0
        for j in range(structure.target_count):
            if not members[j] & ~members[i]:
                structure.contains[i] |= <uint32_t>1 << j


cdef void read_structure(BitReader* reader, DependencyStructure* structure) noexcept nogil:
    """template_dependency_structure()"""
    cdef unsigned i
    structure.template_offset = <uint8_t>bits_read(reader, 6)
    structure.target_count = <uint8_t>(bits_read(reader, 5) + 1)
    structure.width = 0
    structure.height = 0
    read_layers(reader, structure)
    if reader.error:
        return
    for i in range(structure.template_count):
        read_indications(reader, structure.target_count, &structure.templates[i].targets,
                         &structure.templates[i].switches)
    for i in range(structure.template_count):
        read_differences(reader, &structure.templates[i])
    skip_chains(reader, structure)
    if bits_read(reader, 1):
        for i in range(structure.layer_count):
            structure.width = <uint16_t>(bits_read(reader, 16) + 1)
            structure.height = <uint16_t>(bits_read(reader, 16) + 1)


# ---- a packet


cdef inline uint32_t all_targets(unsigned count) noexcept nogil:
    return 0xFFFFFFFF if count >= DEPENDENCY_TARGETS else (<uint32_t>1 << count) - 1


cdef int dependency_parts(const uint8_t* ext, size_t size, int target_count, DependencyParts* parts,
                          DependencyStructure* structure) noexcept nogil:
    cdef BitReader reader
    cdef DependencyStructure own
    cdef bint has_structure
    memset(parts, 0, sizeof(DependencyParts))
    if size < MANDATORY or size > DEPENDENCY_MAX:
        return 0
    parts.start = ext[0] >> 7
    parts.end = (ext[0] >> 6) & 1
    parts.template_id = ext[0] & 0x3F
    parts.frame_number = <uint16_t>(ext[1] << 8 | ext[2])
    parts.target_count = <uint8_t>target_count
    parts.mask = all_targets(target_count)
    parts.rest_at = <uint16_t>(size * 8)
    if size == MANDATORY:
        return 1
    parts.extended = 1
    bits_open(&reader, ext, size, False)
    bits_skip(&reader, 24)
    has_structure = bits_read(&reader, 1)
    parts.has_mask = <uint8_t>bits_read(&reader, 1)
    parts.custom = <uint8_t>bits_read(&reader, 3)
    if has_structure:
        if structure == NULL:
            structure = &own
        parts.structure_at = <uint16_t>bit_position(&reader)
        read_structure(&reader, structure)
        parts.structure_bits = <uint16_t>(bit_position(&reader) - parts.structure_at)
        parts.target_count = structure.target_count
        parts.mask = all_targets(structure.target_count)
    if parts.has_mask:
        if not parts.target_count:
            return 0
        parts.mask = bits_read(&reader, parts.target_count)
    if reader.error:
        return 0
    parts.rest_at = <uint16_t>bit_position(&reader)
    parts.rest_bits = <uint16_t>(size * 8 - parts.rest_at)
    return 1


cdef int read_custom(const uint8_t* ext, size_t size, const DependencyParts* parts, unsigned targets,
                     PayloadFacts* facts) noexcept nogil:
    """frame_dependency_definition(): what this frame has of its own. 0 when malformed."""
    cdef BitReader reader
    cdef uint32_t width, difference
    if not parts.custom:
        return 1
    bits_open(&reader, ext, size, False)
    bits_skip(&reader, parts.rest_at)
    if parts.custom & 4:
        read_indications(&reader, targets, &facts.targets, &facts.switches)
    if parts.custom & 2:
        facts.depends = 0
        facts.described &= ~<uint8_t>DESCRIBED_FAR
        width = bits_read(&reader, 2)
        while width and not reader.error:
            difference = bits_read(&reader, 4 * width)
            if difference < DEPENDS_BITS:
                facts.depends |= <uint32_t>1 << difference
            else:
                facts.described |= DESCRIBED_FAR
            width = bits_read(&reader, 2)
    return not reader.error


cdef bint keep_structure(DependencyState* state, const DependencyParts* parts, const uint8_t* ext,
                         const DependencyStructure* structure) noexcept nogil:
    """Whether it is another than before."""
    cdef uint8_t raw[DEPENDENCY_MAX + 1]
    memset(raw, 0, sizeof(raw))
    bits_copy(raw, 0, ext, parts.structure_at, parts.structure_bits)
    if parts.structure_bits == state.raw_bits and not memcmp(raw, state.raw, sizeof(raw)):
        return False
    state.raw = raw
    state.raw_bits = parts.structure_bits
    state.structure = structure[0]
    derive_targets(&state.structure)
    return True


cdef int dependency_read(DependencyState* state, const uint8_t* ext, size_t size, PayloadFacts* facts) noexcept nogil:
    cdef DependencyParts parts
    cdef DependencyStructure structure
    cdef PayloadFacts found = facts[0]
    cdef const DependencyTemplate* entry
    cdef unsigned index
    if not dependency_parts(ext, size, state.structure.target_count, &parts, &structure):
        return 0
    if parts.structure_bits or parts.has_mask:
        if (parts.structure_bits and keep_structure(state, &parts, ext, &structure)) or state.active != parts.mask:
            state.version += 1
        state.active = parts.mask
    found.version = state.version & 0xFF
    found.frame_number = parts.frame_number
    found.start = parts.start
    found.end = parts.end
    found.described |= DESCRIBED_NUMBER
    index = (parts.template_id + 64 - state.structure.template_offset) % 64
    if index < state.structure.template_count:
        entry = &state.structure.templates[index]
        found.spatial_id = <int8_t>entry.spatial
        found.temporal_id = <int8_t>entry.temporal
        found.targets = entry.targets
        found.switches = entry.switches
        found.depends = entry.depends
        found.layer_count = state.structure.layer_count
        found.described |= DESCRIBED_LAYERS
        if not read_custom(ext, size, &parts, state.structure.target_count, &found):
            return 0
        if parts.structure_bits and not found.width and state.structure.width:
            found.width = state.structure.width
            found.height = state.structure.height
    facts[0] = found
    return 1


class Described(NamedTuple):
    """What one descriptor tells; the fields are those of `PayloadFacts`."""

    start: bool
    end: bool
    frame_number: int
    described: int
    spatial_id: int
    temporal_id: int
    targets: int
    switches: int
    depends: int
    layer_count: int
    width: int
    height: int


cdef class Dependency:
    """The descriptors of one source, in order of arrival; for tests and tools, not for the packet's way."""

    cdef DependencyState state

    def __cinit__(self):
        memset(&self.state, 0, sizeof(self.state))

    def read(self, bytes ext not None):
        """ValueError when it is malformed."""
        cdef PayloadFacts found
        facts_clear(&found)
        if not dependency_read(&self.state, ext, len(ext), &found):
            raise ValueError("malformed dependency descriptor")
        return Described(
            bool(found.start),
            bool(found.end),
            found.frame_number,
            found.described,
            found.spatial_id,
            found.temporal_id,
            found.targets,
            found.switches,
            found.depends,
            found.layer_count,
            found.width,
            found.height,
        )

    @property
    def active(self):
        return self.state.active

    @property
    def targets(self):
        """(spatial, temporal) of each decode target."""
        cdef unsigned i
        return [
            (self.state.structure.target_spatial[i], self.state.structure.target_temporal[i])
            for i in range(self.state.structure.target_count)
        ]

    @property
    def contains(self):
        cdef unsigned i
        return [self.state.structure.contains[i] for i in range(self.state.structure.target_count)]

    @property
    def structure(self):
        """The structure as it was sent, in bits from the first, padded to a whole byte."""
        return self.state.raw[: (self.state.raw_bits + 7) // 8]
