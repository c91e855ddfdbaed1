"""A bit reader that never leaves its bytes: past the end it gives zeros and remembers the error."""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint32_t


cdef struct BitReader:
    const uint8_t* data
    size_t size
    size_t position        # the next byte to load
    uint32_t current       # the loaded byte
    uint8_t left           # its bits not yet read
    uint8_t escaped        # 1: drop emulation prevention bytes (H.264, H.265)
    uint8_t zeros          # zero bytes loaded in a row
    uint8_t error          # something was read past the end, or a code is longer than its type


cdef void bits_open(BitReader* reader, const uint8_t* data, size_t size, bint escaped) noexcept nogil
# The next `count` bits, at most 32, most significant first.
cdef uint32_t bits_read(BitReader* reader, unsigned count) noexcept nogil
cdef void bits_skip(BitReader* reader, unsigned count) noexcept nogil
# ue(v) and se(v): Exp-Golomb codes (ITU-T H.264, section 9.1).
cdef uint32_t bits_ue(BitReader* reader) noexcept nogil
cdef int32_t bits_se(BitReader* reader) noexcept nogil
# leb128() of at most 32 significant bits (AV1, section 4.10.5). The bytes it takes, 0 when malformed or truncated.
cdef size_t leb128_read(const uint8_t* data, size_t size, uint32_t* value) noexcept nogil
# Writes the shortest form; `out` has room for 5 bytes. The bytes written.
cdef size_t leb128_write(uint8_t* out, uint32_t value) noexcept nogil
