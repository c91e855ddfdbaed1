"""Whether a sound comes as it was asked for: an Opus stream that nothing has cut silence out of or squeezed to speech.

One `SoundWatch` for each track. Times are µs. Nothing is decoded: the first bytes of a packet (RFC 6716, section 3.1),
its size and its place in the stream tell.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cpdef enum SoundFault:       # bits
    SOUND_DTX = 1            # silence is left out (RFC 6716, section 2.1.9; RFC 7587, section 3.1.3)
    SOUND_SPEECH = 2         # coded as speech (SILK or hybrid)
    SOUND_BANDWIDTH = 4      # not the full band
    SOUND_BITRATE = 8        # under the floor
    SOUND_LONG = 16          # more than 20 ms in a packet
    SOUND_MALFORMED = 32     # no Opus

# A zeroed one is ready for its first packet.
cdef struct SoundWatch:
    int64_t since            # begin of the window, 0: none yet
    uint64_t sequence        # extended, of the newest packet
    uint32_t timestamp       # of that
    uint32_t duration        # of that, samples at 48 kHz; 0: not known
    uint16_t packets
    uint16_t silent
    uint16_t speech
    uint16_t narrow
    uint16_t lengthy
    uint16_t malformed
    uint32_t bytes           # of packets with sound
    uint32_t samples         # in these
    uint8_t before           # faults of the window before
    uint8_t faults           # as told

# A packet's payload, one Opus packet. 1 when the faults have changed. `floor_bps` is a bitrate, 0: any will do.
cdef int sound_packet(SoundWatch* self, uint32_t floor_bps, uint64_t sequence, uint32_t timestamp, const uint8_t* data,
                      size_t size, int64_t now) noexcept nogil
