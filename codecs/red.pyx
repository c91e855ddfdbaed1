"""RED (RFC 2198): a packet of sound with copies of those before it, so that a lost one comes with the next."""

from typing import NamedTuple

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t

from mediaserver.codecs.unit cimport AccessUnit

cdef enum:
    MAX_PAYLOAD = 0xFFFF
    MAX_AGE = 0x3FFF
    MAX_COPY = 0x3FF


cdef int red_parse(const uint8_t* data, size_t size, RedPacket* red) noexcept nogil:
    cdef size_t at = 0
    cdef size_t start
    cdef RedBlock* block
    cdef int i
    red.copies = 0
    if size > MAX_PAYLOAD:
        return 0
    while at < size and data[at] & 0x80:
        if size - at < 4 or red.copies == RED_COPIES:
            return 0
        block = &red.blocks[red.copies]
        block.payload_type = data[at] & 0x7F
        block.age = <uint16_t>(data[at + 1] << 6 | data[at + 2] >> 2)
        block.size = <uint16_t>((data[at + 2] & 3) << 8 | data[at + 3])
        red.copies += 1
        at += 4
    if at >= size:
        return 0
    block = &red.blocks[red.copies]
    block.payload_type = data[at]
    block.age = 0
    start = at + 1
    for i in range(red.copies):
        red.blocks[i].offset = <uint16_t>start
        start += red.blocks[i].size
    if start >= size:
        return 0
    block.offset = <uint16_t>start
    block.size = <uint16_t>(size - start)
    return 1


cdef int red_facts(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil:
    cdef RedPacket red
    if not red_parse(data, size, &red):
        return 0
    facts.keyframe = 1
    facts.start = 1
    facts.end = 1
    facts.descriptor_size = red.blocks[red.copies].offset
    return 1


cdef class RedAssembler(OpusAssembler):
    """Opus in RED: the newest block is the packet; older copies stand in for packets that are missing."""

    cpdef list push(self, bytes payload, uint32_t timestamp, bint marker, bint lost_before=False):
        cdef list units = []
        cdef AccessUnit unit
        cdef const uint8_t* data
        cdef RedPacket red
        cdef uint32_t stamp
        cdef int i
        if payload is None:
            raise TypeError("payload must be bytes")
        data = <const uint8_t*>PyBytes_AS_STRING(payload)
        if not red_parse(data, PyBytes_GET_SIZE(payload), &red):
            return units
        for i in range(red.copies + 1):
            stamp = timestamp - red.blocks[i].age
            if i < red.copies and not (
                lost_before and self.has_last and <int32_t>(stamp - self.last) > 0 and stamp != timestamp
            ):
                continue
            unit = self.packet(data + red.blocks[i].offset, red.blocks[i].size, stamp)
            if unit is not None:
                units.append(unit)
                self.has_last = True
                self.last = stamp
        return units


class Block(NamedTuple):
    """One block: its payload type, its age in RTP timestamp units, and its bytes."""

    payload_type: int
    age: int
    data: bytes


def parse(bytes payload not None):
    """The blocks of a payload, oldest first, the last one the packet's own; ValueError when malformed."""
    cdef RedPacket red
    if not red_parse(<const uint8_t*>PyBytes_AS_STRING(payload), len(payload), &red):
        raise ValueError("malformed RED payload")
    return [
        Block(
            red.blocks[i].payload_type,
            red.blocks[i].age,
            payload[red.blocks[i].offset : red.blocks[i].offset + red.blocks[i].size],
        )
        for i in range(red.copies + 1)
    ]


def build(blocks):
    """The payload of these blocks, the last one the packet's own; ValueError for what the format cannot hold."""
    *copies, newest = blocks
    if len(copies) > RED_COPIES or not newest.data:
        raise ValueError(f"a packet of its own and at most {RED_COPIES} copies")
    for one in copies:
        if not 0 <= one.payload_type <= 127 or not 0 <= one.age <= MAX_AGE or len(one.data) > MAX_COPY:
            raise ValueError("a copy is at most 1023 bytes, 16383 timestamp units old")
    headers = [(1 << 31 | one.payload_type << 24 | one.age << 10 | len(one.data)).to_bytes(4, "big") for one in copies]
    return b"".join([*headers, bytes([newest.payload_type & 127]), *[one.data for one in copies], newest.data])
