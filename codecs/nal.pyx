"""NAL units into access units in Annex B, for H.264 and H.265."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcmp

cdef enum:
    # With every scaling list, 32 buffering entries and an extension an SPS stays under 2 KiB. Bounds what a hostile
    # publisher can make us keep: 16 + 32 + 256 sets.
    MAX_PARAMETER_SET = 4096
    START_CODE_SIZE = 4

cdef const uint8_t* START_CODE = b"\x00\x00\x00\x01"


cdef class ParameterSets:
    """The latest parameter set of each kind and id."""

    def __cinit__(self):
        self.sets = {}
        self.configs = {}

    cdef void store(self, const NalFacts* facts, const uint8_t* nal, size_t size):
        cdef int key = facts.kind << 8 | facts.id
        cdef tuple known
        cdef bytes before
        if facts.id < 0 or size > MAX_PARAMETER_SET:
            return
        known = self.sets.get(key)
        if known is not None:
            before = known[0]
            if <size_t>PyBytes_GET_SIZE(before) == size and not memcmp(PyBytes_AS_STRING(before), nal, size):
                return
        self.sets[key] = (PyBytes_FromStringAndSize(<const char*>nal, size), facts.parent, facts.width, facts.height)
        self.configs.clear()

    cdef tuple config(self, int pps):
        """(Annex B, width, height) for pictures of this PPS: its SPS, the SPS's VPS and all PPS of that SPS; or None."""
        cdef tuple made = self.configs.get(pps)
        cdef tuple picture, sequence, video
        cdef list nals = []
        if made is not None:
            return made
        picture = self.sets.get(NAL_PPS << 8 | pps)
        if picture is None:
            return None
        sequence = self.sets.get(NAL_SPS << 8 | <int>picture[1])
        if sequence is None:
            return None
        if sequence[1] >= 0:
            video = self.sets.get(NAL_VPS << 8 | <int>sequence[1])
            if video is None:
                return None
            nals.append(video[0])
        nals.append(sequence[0])
        for key in sorted(self.sets):
            if key >> 8 == NAL_PPS and self.sets[key][1] == picture[1]:
                nals.append(self.sets[key][0])
        made = (b"".join([b"\x00\x00\x00\x01" + nal for nal in nals]), sequence[2], sequence[3])
        self.configs[pps] = made
        return made


cdef class NalAssembler(Assembler):
    """Writes NAL units behind start codes. A NAL unit of which a part is missing is left out whole."""

    def __cinit__(self):
        self.parameters = ParameterSets()

    cdef void inspect(self, const uint8_t* nal, size_t size, NalFacts* facts):
        facts.kind = NAL_OTHER

    cdef void add_nal(self, const uint8_t* nal, size_t size):
        cdef size_t offset
        self.drop_fragment()
        if not self.reserve(START_CODE_SIZE + size):
            self.complete = False
            return
        self.append(START_CODE, START_CODE_SIZE)
        offset = self.size
        self.append(nal, size)
        self.taken(offset)

    cdef void begin_fragment(self, const uint8_t* header, size_t header_size, const uint8_t* body, size_t size):
        self.drop_fragment()
        if not self.reserve(START_CODE_SIZE + header_size + size):
            self.complete = False
            return
        self.append(START_CODE, START_CODE_SIZE)
        self.fragment = self.size
        self.append(header, header_size)
        self.append(body, size)

    cdef void continue_fragment(self, const uint8_t* body, size_t size):
        if not self.fragment:
            # Its start is missing: the rest of this NAL unit is of no use.
            self.complete = False
        elif not self.append(body, size):
            self.drop_fragment()

    cdef void end_fragment(self):
        cdef size_t offset = self.fragment
        if offset:
            self.fragment = 0
            self.taken(offset)

    cdef void drop_fragment(self):
        if self.fragment:
            self.size = self.fragment - START_CODE_SIZE
            self.fragment = 0
            self.complete = False

    cdef void taken(self, size_t offset):
        """A whole NAL unit stands at `offset`."""
        cdef const uint8_t* nal = self.data + offset
        cdef size_t size = self.size - offset
        cdef NalFacts facts
        cdef tuple config
        self.inspect(nal, size, &facts)
        if facts.kind == NAL_SLICE:
            self.has_slice = True
            self.has_first |= facts.first
            if facts.random_access or self.in_recovery:
                self.keyframe = True
            if facts.first and facts.id >= 0 and (self.keyframe or not self.width):
                config = self.parameters.config(facts.id)
                if config is not None:
                    self.config, self.width, self.height = config
                elif self.keyframe:
                    self.config = None
        elif facts.kind == NAL_RECOVERY:
            self.in_recovery = True
        elif facts.kind in (NAL_VPS, NAL_SPS, NAL_PPS):
            self.has_parameters |= facts.parent < 0
            self.parameters.store(&facts, nal, size)

    cdef void hole(self):
        self.drop_fragment()

    cdef bint ready(self):
        return self.has_slice

    cdef void restart(self):
        self.fragment = 0
        self.has_slice = False
        self.has_first = False
        self.has_parameters = False
        self.in_recovery = False

    cdef void conclude(self):
        self.drop_fragment()
        if not self.has_first:
            self.complete = False
        if self.keyframe and (self.config is None or (self.lost_at_start and not self.has_parameters)):
            # What was lost before it may have been other parameter sets.
            self.complete = False
