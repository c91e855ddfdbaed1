"""Opus packets (RFC 6716, section 3), one to an RTP payload (RFC 7587)."""

from typing import NamedTuple

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

cdef enum:
    MAX_FRAME = 1275           # bytes (R2)
    MAX_DURATION = 5760        # samples: 120 ms (R5)

cdef uint32_t[4] SILK_DURATIONS = [480, 960, 1920, 2880]


cdef uint32_t frame_duration(uint8_t config) noexcept nogil:
    """Samples at 48 kHz of one frame (table 2)."""
    if config < 12:
        return SILK_DURATIONS[config & 3]
    if config < 16:
        return 480 << (config & 1)
    return 120 << (config & 3)


cdef size_t read_length(const uint8_t* data, size_t size, size_t* length) noexcept nogil:
    """A frame length (section 3.2.1). The bytes it takes, 0 when truncated."""
    if size < 1:
        return 0
    length[0] = data[0]
    if data[0] < 252:
        return 1
    if size < 2:
        return 0
    length[0] += 4 * <size_t>data[1]
    return 2


cdef bint check_many(const uint8_t* data, size_t size, OpusToc* toc) noexcept nogil:
    """Code 3 (section 3.2.5): a frame count byte, padding, then frames of one or of several lengths."""
    cdef size_t at = 2
    cdef size_t padding = 0
    cdef size_t total = 0
    cdef size_t length, taken
    cdef unsigned i
    if size < 2:
        return False
    toc.frames = data[1] & 0x3F
    if toc.frames == 0 or toc.frames * toc.duration > MAX_DURATION:
        return False
    if data[1] & 0x40:
        while True:
            if at >= size:
                return False
            length = data[at]
            at += 1
            padding += 254 if length == 255 else length
            if length != 255:
                break
    if padding > size - at:
        return False
    if data[1] & 0x80:
        for i in range(toc.frames - 1):
            taken = read_length(data + at, size - at, &length)
            if not taken:
                return False
            at += taken
            total += length
        return at + padding + total <= size and size - at - padding - total <= MAX_FRAME
    length = size - at - padding
    return length % toc.frames == 0 and length // toc.frames <= MAX_FRAME


cdef int opus_parse(const uint8_t* data, size_t size, OpusToc* toc) noexcept nogil:
    cdef size_t length = 0
    cdef size_t taken
    cdef uint8_t code
    if size < 1:
        return 0
    code = data[0] & 3
    toc.config = data[0] >> 3
    toc.stereo = (data[0] >> 2) & 1
    toc.frames = 1 if code == 0 else 2
    toc.duration = frame_duration(toc.config)
    if code == 0:
        if size - 1 > MAX_FRAME:
            return 0
    elif code == 1:
        if (size - 1) & 1 or (size - 1) // 2 > MAX_FRAME:
            return 0
    elif code == 2:
        taken = read_length(data + 1, size - 1, &length)
        if not taken or 1 + taken + length > size or size - 1 - taken - length > MAX_FRAME:
            return 0
    elif not check_many(data, size, toc):
        return 0
    toc.duration *= toc.frames
    return 1


cdef int opus_facts(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil:
    cdef OpusToc toc
    if not opus_parse(data, size, &toc):
        return 0
    facts.keyframe = 1
    facts.start = 1
    facts.end = 1
    return 1


cdef class OpusAssembler(Assembler):
    """Each payload is a unit; what is no Opus packet is left out."""

    cpdef list push(self, bytes payload, uint32_t timestamp, bint marker, bint lost_before=False):
        cdef AccessUnit unit
        if payload is None:
            raise TypeError("payload must be bytes")
        unit = self.packet(<const uint8_t*>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), timestamp)
        return [] if unit is None else [unit]

    cpdef list flush(self):
        return []

    cdef AccessUnit packet(self, const uint8_t* data, size_t size, uint32_t timestamp):
        cdef OpusToc toc
        cdef AccessUnit unit
        if not opus_parse(data, size, &toc):
            return None
        unit = AccessUnit.__new__(AccessUnit)
        unit.data = PyBytes_FromStringAndSize(<const char*>data, size)
        unit.timestamp = timestamp
        unit.keyframe = True
        unit.complete = True
        return unit


class Toc(NamedTuple):
    """What the first bytes of an Opus packet tell."""

    mode: str
    bandwidth: str
    stereo: bool
    frames: int
    duration_us: int


def parse_toc(bytes packet not None):
    """Read an Opus packet; ValueError when it breaks one of the rules R1 to R7 of RFC 6716, section 3.4."""
    cdef OpusToc toc
    if not opus_parse(packet, len(packet), &toc):
        raise ValueError("malformed Opus packet")
    if toc.config < 12:
        mode, bandwidth = "silk", ("narrow", "medium", "wide")[toc.config // 4]
    elif toc.config < 16:
        mode, bandwidth = "hybrid", ("superwide", "full")[(toc.config - 12) // 2]
    else:
        mode, bandwidth = "celt", ("narrow", "wide", "superwide", "full")[(toc.config - 16) // 4]
    return Toc(mode, bandwidth, bool(toc.stereo), toc.frames, toc.duration * 1000 // 48)
