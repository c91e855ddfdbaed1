"""Bits, Exp-Golomb codes and leb128 from bytes that nobody vouches for."""


cdef void bits_open(BitReader* reader, const uint8_t* data, size_t size, bint escaped) noexcept nogil:
    reader.data = data
    reader.size = size
    reader.position = 0
    reader.current = 0
    reader.left = 0
    reader.escaped = escaped
    reader.zeros = 0
    reader.error = 0


cdef inline void load_byte(BitReader* reader) noexcept nogil:
    cdef uint8_t byte
    if reader.escaped and reader.zeros >= 2 and reader.position < reader.size and reader.data[reader.position] == 3:
        # emulation_prevention_three_byte (ITU-T H.264, section 7.4.1)
        reader.position += 1
        reader.zeros = 0
    if reader.position >= reader.size:
        reader.error = 1
        reader.current = 0
    else:
        byte = reader.data[reader.position]
        reader.position += 1
        reader.current = byte
        if byte:
            reader.zeros = 0
        elif reader.zeros < 2:
            reader.zeros += 1
    reader.left = 8


cdef uint32_t bits_read(BitReader* reader, unsigned count) noexcept nogil:
    cdef uint32_t value = 0
    cdef unsigned taken
    if count > 32:
        reader.error = 1
    if reader.error:
        return 0
    while count:
        if reader.left == 0:
            load_byte(reader)
        taken = count if count < reader.left else reader.left
        reader.left -= taken
        value = (value << taken) | ((reader.current >> reader.left) & ((1 << taken) - 1))
        count -= taken
    return value


cdef void bits_skip(BitReader* reader, unsigned count) noexcept nogil:
    while count > 32 and not reader.error:
        bits_read(reader, 32)
        count -= 32
    if not reader.error:
        bits_read(reader, count)


cdef uint32_t bits_ue(BitReader* reader) noexcept nogil:
    cdef unsigned zeros = 0
    while not bits_read(reader, 1):
        zeros += 1
        if zeros > 31 or reader.error:
            reader.error = 1
            return 0
    return (<uint32_t>1 << zeros) - 1 + bits_read(reader, zeros)


cdef int32_t bits_se(BitReader* reader) noexcept nogil:
    cdef uint32_t code = bits_ue(reader)
    # bits_ue gives at most 2^32 - 2, so half of it fits.
    if code & 1:
        return <int32_t>(code // 2) + 1
    return -<int32_t>(code // 2)


cdef size_t leb128_read(const uint8_t* data, size_t size, uint32_t* value) noexcept nogil:
    cdef uint32_t result = 0
    cdef size_t i
    cdef uint8_t byte
    for i in range(8 if size > 8 else size):
        byte = data[i]
        if i < 4:
            result |= <uint32_t>(byte & 0x7F) << (7 * i)
        elif i == 4:
            if byte & 0x70:
                return 0
            result |= <uint32_t>(byte & 0x0F) << 28
        elif byte & 0x7F:
            return 0
        if not byte & 0x80:
            value[0] = result
            return i + 1
    return 0


cdef size_t leb128_write(uint8_t* out, uint32_t value) noexcept nogil:
    cdef size_t size = 0
    while value >= 0x80:
        out[size] = <uint8_t>((value & 0x7F) | 0x80)
        value >>= 7
        size += 1
    out[size] = <uint8_t>value
    return size + 1


cdef class Bits:
    """Reads the bits of `data` from the first; for tests and tools, not for the packet's way."""

    cdef BitReader reader
    cdef bytes data

    def __init__(self, bytes data not None, bint escaped=False):
        self.data = data
        bits_open(&self.reader, self.data, len(data), escaped)

    def read(self, unsigned count):
        return bits_read(&self.reader, count)

    def ue(self):
        return bits_ue(&self.reader)

    def se(self):
        return bits_se(&self.reader)

    @property
    def error(self):
        return bool(self.reader.error)


def leb128_decode(bytes data not None):
    """The value and the bytes that it takes; ValueError when malformed or over 32 bits."""
    cdef uint32_t value = 0
    cdef size_t size = leb128_read(data, len(data), &value)
    if size == 0:
        raise ValueError("malformed leb128")
    return value, size


def leb128_encode(uint32_t value):
    """The shortest form."""
    cdef uint8_t[5] out
    cdef size_t size = leb128_write(out, value)
    return out[:size]
