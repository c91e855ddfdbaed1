"""Whether a sound comes as it was asked for: an Opus stream that nothing has cut silence out of or squeezed to speech."""

from libc.string cimport memset

from mediaserver.codecs.opus cimport OpusToc, opus_parse

cdef enum:
    WINDOW_US = 2000000
    PAUSE_US = 6000000       # a window that lasted so long saw a pause: it says nothing
    SILENT_LEAST = 2         # of a window: one gap may be a device that stumbled
    SILENT_BYTES = 2         # an encoder's frame of silence is the first byte, or one more
    LONGEST = 960            # samples of a packet
    FLOOR_TENTHS = 9         # measured figures waver: a tenth less passes
    COUNTS_MOST = 60000
    HALF = 0x80000000


cdef inline int is_full_band(const OpusToc* toc) noexcept nogil:
    """Table 2 of RFC 6716."""
    return toc.config >= 28 or toc.config == 14 or toc.config == 15


cdef void begin(SoundWatch* self, int64_t now) noexcept nogil:
    self.since = now
    self.packets = 0
    self.silent = 0
    self.speech = 0
    self.narrow = 0
    self.lengthy = 0
    self.malformed = 0
    self.bytes = 0
    self.samples = 0


cdef uint8_t judge(const SoundWatch* self, uint32_t floor_bps) noexcept nogil:
    cdef uint8_t faults = 0
    if self.malformed * 2 > self.packets:
        return SOUND_MALFORMED
    if self.silent >= SILENT_LEAST:
        faults |= SOUND_DTX
    if self.speech * 2 > self.packets:
        faults |= SOUND_SPEECH
    if self.narrow * 2 > self.packets:
        faults |= SOUND_BANDWIDTH
    if self.lengthy * 2 > self.packets:
        faults |= SOUND_LONG
    # By the time that the packets hold, not by the clock: what the line loses is another matter.
    if self.samples and <uint64_t>self.bytes * 8 * 48000 * 10 < <uint64_t>floor_bps * FLOOR_TENTHS * self.samples:
        faults |= SOUND_BITRATE
    return faults


cdef void count(SoundWatch* self, uint64_t sequence, uint32_t timestamp, const uint8_t* data, size_t size) noexcept nogil:
    cdef OpusToc toc
    cdef uint32_t step = timestamp - self.timestamp
    cdef int follows = sequence == self.sequence + 1 and self.duration != 0
    self.packets += 1
    self.sequence = sequence
    self.timestamp = timestamp
    if not opus_parse(data, size, &toc):
        self.malformed += 1
        self.duration = 0
        return
    # The encoder left something out between two packets that follow each other; more than 2^31 is a clock that was set.
    if size <= SILENT_BYTES or (follows and step > self.duration and step < <uint32_t>HALF):
        self.silent += 1
    self.duration = toc.duration
    self.speech += toc.config < 16
    self.narrow += not is_full_band(&toc)
    self.lengthy += toc.duration > LONGEST
    if size > SILENT_BYTES:
        self.bytes += <uint32_t>size
        self.samples += toc.duration


cdef int sound_packet(SoundWatch* self, uint32_t floor_bps, uint64_t sequence, uint32_t timestamp, const uint8_t* data,
                      size_t size, int64_t now) noexcept nogil:
    cdef uint8_t found, told
    cdef int64_t span = now - self.since
    cdef int changed = 0
    if self.since == 0 or span >= PAUSE_US:
        begin(self, now)
        self.duration = 0
    elif span >= WINDOW_US:
        found = judge(self, floor_bps)
        told = found | (self.faults & self.before)  # a fault is over when it was not there twice
        self.before = found
        changed = told != self.faults
        self.faults = told
        begin(self, now)
    if sequence > self.sequence and self.packets < COUNTS_MOST:
        count(self, sequence, timestamp, data, size)
    return changed


cdef class Listener:
    """One track's sound. Times are µs; `floor_bps` is the least bitrate of the source."""

    cdef SoundWatch kernel
    cdef uint32_t floor_bps

    def __init__(self, floor_bps: int = 0) -> None:
        memset(&self.kernel, 0, sizeof(SoundWatch))
        self.floor_bps = floor_bps

    def packet(self, sequence: int, timestamp: int, payload: bytes, now: int) -> bool:
        """A packet has come; whether the faults have changed."""
        return bool(sound_packet(&self.kernel, self.floor_bps, sequence, timestamp, payload, len(payload), now))

    @property
    def faults(self) -> int:
        """Bits of `SoundFault`."""
        return self.kernel.faults
