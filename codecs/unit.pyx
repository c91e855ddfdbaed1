"""Access units and the base of all assemblers.

An assembler is given the payloads of one RTP stream in sequence order and gives back whole access units. It never
raises for what the network sent: what is lost or broken shows in `complete`, or is left out.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

cdef enum:
    # More than any encoder makes of one picture: a raw 4:2:0 picture of 3840x2160 has 12 MiB.
    MAX_UNIT = 16 << 20
    FIRST_CAPACITY = 16 << 10
    # A unit larger than this gives its memory back, so that one big keyframe does not stay with each stream.
    KEPT_CAPACITY = 1 << 20


cdef class AccessUnit:
    """One picture, or one packet of sound, as a decoder or a muxer takes it."""

    def __init__(
        self,
        bytes data not None,
        uint32_t timestamp,
        bint keyframe=False,
        int width=0,
        int height=0,
        bint complete=True,
        bytes config=None,
    ):
        self.data = data
        self.timestamp = timestamp
        self.keyframe = keyframe
        self.width = width
        self.height = height
        self.complete = complete
        self.config = config

    def __repr__(self):
        flags = ("keyframe " if self.keyframe else "") + ("complete" if self.complete else "incomplete")
        return f"<AccessUnit {self.timestamp} {len(self.data)} bytes {self.width}x{self.height} {flags}>"


cdef class Assembler:
    """What all codecs share. Make one with `mediaserver.codecs.payload.assembler`."""

    def __cinit__(self):
        self.data = NULL
        self.size = 0
        self.capacity = 0

    def __dealloc__(self):
        free(self.data)

    cpdef list push(self, bytes payload, uint32_t timestamp, bint marker, bint lost_before=False):
        """The units that end with this payload: none, one, or two when the end of the one before got lost."""
        cdef list units = []
        cdef size_t size
        if payload is None:
            raise TypeError("payload must be bytes")
        size = PyBytes_GET_SIZE(payload)
        if size == 0:
            # Padding that probes the path (RFC 3550, section 5.1): it belongs to no unit.
            self.lost_pending |= lost_before
            return units
        if self.lost_pending:
            lost_before = True
            self.lost_pending = False
        if self.is_open and timestamp != self.timestamp:
            # The marker is no more than a hint (RFC 6184, section 5.1): another timestamp ends a unit too.
            if lost_before:
                self.complete = False
            self.finish(units)
        if not self.is_open:
            self.is_open = True
            self.timestamp = timestamp
            self.size = 0
            self.complete = True
            self.keyframe = False
            self.lost_at_start = lost_before
            self.restart()
        elif lost_before:
            self.complete = False
            self.hole()
        self.add(<const uint8_t*>PyBytes_AS_STRING(payload), size)
        # Parameter sets that come with a marker of their own wait for their picture.
        if marker and self.ready():
            self.finish(units)
        return units

    cpdef list flush(self):
        """The unit under way, at the end of the stream. It is incomplete, as nothing said that it had ended."""
        cdef list units = []
        if self.is_open:
            self.complete = False
            self.finish(units)
        return units

    cdef void finish(self, list units):
        cdef AccessUnit unit
        if self.ready():
            self.conclude()
        if self.ready() and self.size:
            unit = AccessUnit.__new__(AccessUnit)
            unit.data = PyBytes_FromStringAndSize(<const char*>self.data, self.size)
            unit.timestamp = self.timestamp
            unit.keyframe = self.keyframe
            unit.width = self.width
            unit.height = self.height
            unit.complete = self.complete
            unit.config = self.config if self.keyframe else None
            units.append(unit)
        self.is_open = False
        self.size = 0
        if self.capacity > KEPT_CAPACITY:
            free(self.data)
            self.data = NULL
            self.capacity = 0

    cdef bint reserve(self, size_t room):
        cdef size_t wanted = self.size + room
        cdef size_t capacity = self.capacity
        cdef uint8_t* data
        if wanted <= capacity:
            return True
        if room > MAX_UNIT or wanted > MAX_UNIT:
            return False
        if capacity < FIRST_CAPACITY:
            capacity = FIRST_CAPACITY
        while capacity < wanted:
            capacity *= 2
        data = <uint8_t*>realloc(self.data, capacity)
        if data == NULL:
            return False
        self.data = data
        self.capacity = capacity
        return True

    cdef bint append(self, const uint8_t* bytes, size_t size):
        if not self.reserve(size):
            self.complete = False
            return False
        if size:  # there may be no block yet, and memcpy takes no null pointer
            memcpy(self.data + self.size, bytes, size)
        self.size += size
        return True

    cdef void add(self, const uint8_t* payload, size_t size):
        self.append(payload, size)

    cdef void hole(self):
        pass

    cdef bint ready(self):
        return self.size > 0

    cdef void conclude(self):
        pass

    cdef void restart(self):
        pass
