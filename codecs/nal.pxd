"""What H.264 and H.265 share: NAL units into Annex B, and the parameter sets that a decoder needs to begin."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t

from mediaserver.codecs.unit cimport Assembler


cdef enum NalKind:
    NAL_OTHER = 0
    NAL_SLICE = 1        # a slice, or a partition of one
    NAL_VPS = 2
    NAL_SPS = 3
    NAL_PPS = 4
    NAL_PREFIX = 5       # what else may come before the first slice of a picture
    NAL_RECOVERY = 6     # a NAL_PREFIX after which a decoder can start (H.264's recovery point)


# What one NAL unit tells.
cdef struct NalFacts:
    uint8_t kind           # NalKind
    uint8_t first          # the first slice of a picture
    uint8_t random_access  # a slice from which a decoder can start
    uint8_t discardable    # a slice of a picture that no other refers to
    uint8_t switch_up
    int temporal           # layer, of an H.264 prefix NAL unit; -1 unknown
    int id                 # of a parameter set; of the PPS that a first slice uses; -1 unknown
    int parent             # the parameter set that a parameter set refers to; -1 none
    uint16_t width         # of an SPS
    uint16_t height


cdef class ParameterSets:
    cdef dict sets         # kind << 8 | id: (NAL unit, parent, width, height)
    cdef dict configs      # id of a PPS: what config() has made since the last change
    cdef void store(self, const NalFacts* facts, const uint8_t* nal, size_t size)
    cdef tuple config(self, int pps)


cdef class NalAssembler(Assembler):
    cdef ParameterSets parameters
    cdef size_t fragment   # where the fragmented NAL unit under way begins in `data`; 0 none (a start code lies before it)
    cdef bint has_slice
    cdef bint has_first
    cdef bint has_parameters   # the first of the parameter sets, to which the others refer
    cdef bint in_recovery

    # Fills `facts` from a whole NAL unit with its header. A codec gives this.
    cdef void inspect(self, const uint8_t* nal, size_t size, NalFacts* facts)

    cdef void add_nal(self, const uint8_t* nal, size_t size)
    cdef void begin_fragment(self, const uint8_t* header, size_t header_size, const uint8_t* body, size_t size)
    cdef void continue_fragment(self, const uint8_t* body, size_t size)
    cdef void end_fragment(self)
    cdef void drop_fragment(self)
    cdef void taken(self, size_t offset)
