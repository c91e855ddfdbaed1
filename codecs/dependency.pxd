"""The dependency descriptor (AV1 RTP specification, appendix A): which frames a frame of any codec needs."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.codecs.payload cimport PayloadFacts


cdef enum:
    DEPENDENCY_MAX = 255          # bytes of a header extension
    DEPENDENCY_TEMPLATES = 64
    DEPENDENCY_TARGETS = 32
    DEPENDENCY_LAYERS = 4         # spatial


cdef struct DependencyTemplate:
    uint32_t targets              # a bit for each decode target that such a frame belongs to
    uint32_t switches             # a bit for each decode target that can be entered there
    uint32_t depends              # bit d - 1: refers to the frame whose number is lower by d
    uint8_t spatial
    uint8_t temporal


# What a keyframe says once for all frames that follow.
cdef struct DependencyStructure:
    uint8_t template_count
    uint8_t template_offset       # the id of the first template
    uint8_t target_count
    uint8_t chain_count
    uint8_t layer_count           # spatial
    uint16_t width                # of the highest spatial layer; 0 when it does not tell
    uint16_t height
    DependencyTemplate templates[DEPENDENCY_TEMPLATES]
    uint8_t target_spatial[DEPENDENCY_TARGETS]
    uint8_t target_temporal[DEPENDENCY_TARGETS]
    uint32_t contains[DEPENDENCY_TARGETS]   # the targets all of whose frames belong to this one too, itself included


# One per source. Zeroed: no structure has come yet.
cdef struct DependencyState:
    DependencyStructure structure
    uint32_t active               # the decode targets that the sender says it sends
    uint32_t version              # goes up with each new structure and each change of `active`
    uint16_t raw_bits             # of the structure as it was sent; 0: none
    uint8_t raw[DEPENDENCY_MAX + 1]


# Where the parts of a descriptor stand, in bits from its beginning.
cdef struct DependencyParts:
    uint8_t start
    uint8_t end
    uint8_t template_id
    uint16_t frame_number
    uint8_t extended              # it has the extended fields
    uint8_t custom                # flags of custom decode target indications, frame differences and chains: 4, 2, 1
    uint16_t structure_at
    uint16_t structure_bits       # 0: none
    uint8_t target_count          # of its own structure, else as given
    uint8_t has_mask
    uint32_t mask                 # active decode targets; all of them when a structure stands alone
    uint16_t rest_at              # the custom fields
    uint16_t rest_bits


# 1, or 0 when it is malformed. `target_count`: of the structure that is in force, 0 when there is none.
# `structure` (may be NULL) gets the structure that it brings.
cdef int dependency_parts(const uint8_t* ext, size_t size, int target_count, DependencyParts* parts,
                          DependencyStructure* structure) noexcept nogil
# Completes `facts` from the descriptor and keeps what it says about frames to come. 1 when it can be used; else the
# facts stay as they are. For each packet once, in order of arrival.
cdef int dependency_read(DependencyState* state, const uint8_t* ext, size_t size, PayloadFacts* facts) noexcept nogil

# Copies `count` bits from bit `at` of `source` to bit `to` of `target`, which holds zeros there.
cdef void bits_copy(uint8_t* target, size_t to, const uint8_t* source, size_t at, size_t count) noexcept nogil
# Writes the `count` lowest bits of `value`, at most 32, at bit `to` of `target`, which holds zeros there.
cdef void bits_put(uint8_t* target, size_t to, uint32_t value, unsigned count) noexcept nogil
