"""Whether somebody speaks, by the levels that come with a voice's packets (RFC 6464).

One `Voice` for each track. Times are µs. Nothing is decoded: a level is that of one packet, and its V bit what the
sender's own detector thinks.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

# A zeroed one is ready for its first packet.
cdef struct Voice:
    uint8_t speaking
    uint8_t judges           # the sender has set V bits: its detector is heard
    int32_t activity         # of 1024, over the last fifth of a second or so
    int32_t lasting          # of 1024, over the last second or so
    int32_t ground           # dB over -127 dBov in 256ths: what is always there, 0: not known yet
    int32_t loudness         # dB over -127 dBov in 256ths, over the last second of activity
    int64_t last             # of the last packet, 0: none yet
    int64_t told             # when it was last told

# A packet has come with this value of the extension. 1 when it is to be told: a change, and every VOICE_EVERY_US
# while somebody speaks.
cdef int voice_packet(Voice* self, uint8_t value, int64_t now) noexcept nogil
# What is told: speaking << 8 | loudness in dB over -127 dBov.
cdef int voice_value(const Voice* self) noexcept nogil
