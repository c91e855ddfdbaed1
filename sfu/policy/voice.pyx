"""Whether somebody speaks, by the levels that come with a voice's packets (RFC 6464)."""

from libc.string cimport memset

cdef enum:
    ONE = 1024
    QUIETEST = 127
    # Activity is so many dB over what is always there, and not under -50 dBov: what dies away after a bang is
    # soon under it. Chromium sets the V bit of whatever it sends, so the bit says little; of a sender that clears it at
    # times, too, it only narrows what counts.
    OVER_GROUND = 9
    ACTIVE_LEAST = 77
    GROUND_FIRST = 47
    GROUND_DOWN_US = 150000  # a pause between two words shows the ground
    GROUND_UP_US = 8000000
    FAST_US = 200000
    SLOW_US = 800000
    GAP_MOST_US = 400000     # a packet stands for no more time than that: silence may be left out
    BEGINS = 640             # of ONE, of the fast mean: after about 200 ms of activity
    ENDS = 300               # of ONE, of the slow mean: about a second after a word's end
    VOICE_EVERY_US = 300000


cdef inline int32_t towards(int32_t mean, int32_t value, int64_t span, int64_t over) noexcept nogil:
    """A running mean over about that time."""
    return mean + <int32_t>((value - mean) * span // (span + over))


cdef inline int is_active(const Voice* self, int vad, int loud) noexcept nogil:
    return loud >= ACTIVE_LEAST and (loud << 8) >= self.ground + (OVER_GROUND << 8) and (vad or not self.judges)


cdef int voice_packet(Voice* self, uint8_t value, int64_t now) noexcept nogil:
    cdef int loud = QUIETEST - (value & 0x7F)
    cdef int64_t span = now - self.last
    cdef int32_t active
    cdef int speaking
    if self.last == 0 or span < 0:
        span = 0
    elif span > GAP_MOST_US:
        span = GAP_MOST_US
    self.last = now
    self.judges |= value >> 7
    if self.ground == 0:
        self.ground = GROUND_FIRST << 8
    self.ground = towards(self.ground, loud << 8, span, GROUND_DOWN_US if loud << 8 < self.ground else GROUND_UP_US)
    active = ONE if is_active(self, value >> 7, loud) else 0
    self.activity = towards(self.activity, active, span, FAST_US)
    self.lasting = towards(self.lasting, active, span, SLOW_US)
    if active:
        self.loudness = towards(self.loudness, loud << 8, span, SLOW_US) if self.speaking else loud << 8
    speaking = self.lasting >= ENDS if self.speaking else self.activity >= BEGINS
    if speaking and not self.speaking:
        self.lasting = ONE  # a short word ends as late as a long one
    if speaking != self.speaking or (speaking and now - self.told >= VOICE_EVERY_US):
        self.speaking = <uint8_t>speaking
        self.told = now
        return 1
    return 0


cdef int voice_value(const Voice* self) noexcept nogil:
    return self.speaking << 8 | self.loudness >> 8


cdef class VoiceMeter:
    """One track's voice. Times are µs."""

    cdef Voice kernel

    def __init__(self) -> None:
        memset(&self.kernel, 0, sizeof(Voice))

    def packet(self, level: int, vad: bool, now: int) -> bool:
        """A packet of `level` dB under full scale (0 to 127) has come; whether there is something to tell."""
        return bool(voice_packet(&self.kernel, <uint8_t>((bool(vad) << 7) | (level & 0x7F)), now))

    @property
    def speaking(self) -> bool:
        return bool(self.kernel.speaking)

    @property
    def loudness(self) -> int:
        """dB over -127 dBov, over the last second of activity."""
        return self.kernel.loudness >> 8
