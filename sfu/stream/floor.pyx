"""What a recorder must not have: media of before its tap was opened, however late it comes.

A tap is opened at the moment of a consent. What had been sent by then may come later: on its way, asked for again, as a
copy in RED, or as a copy that a publisher probes with (RFC 4588), which may bear a number above all that had come. So
each encoding has a floor of two parts. By number: what stands before its source's next. By time: what was due here
before the tap was opened. A timestamp is due as long after the source's quickest recent packet (or sender report) as it
is later than that. A tap that need not be so strict has the first part alone.

A publisher answers a request for a key picture at once, so one that is asked for too early makes a picture that has to
stay out, and then bears no request for a while. So it is asked for when the first packet comes that may come in.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from mediaserver.sfu.stream.inbound cimport Inbound
from mediaserver.sfu.stream.keyframes cimport want_keyframe
from mediaserver.sfu.stream.state cimport TapFloor

cdef enum:
    ODD_US = 6000000         # a source whose timestamps say for so long that it is old has timestamps that don't go on
    JUMP_US = 2000000        # quicker than the last packet by more: the timestamps have jumped between them
    SURE_US = 100000         # what was lost may have been quicker than anything that came
    # An Opus frame (60 ms at most) may hold a copy of the one before (RFC 6716, section 2.1.7).
    COPY_US = 60000
    KEY_US = 150000          # a key picture that was asked for before would be refused; that asks when nothing else does


cdef inline uint32_t ticks(int64_t us, uint32_t clock_rate) noexcept nogil:
    return <uint32_t>(us * <int64_t>clock_rate // 1000000)


cdef uint32_t clock_rate_of(const Encoding* encoding, uint8_t payload_type) noexcept nogil:
    cdef uint8_t at = encoding.track.config.payload_at[payload_type & 127]
    return encoding.track.config.payloads[at - 1].clock_rate if at else 0


cdef const Packet* latest(const Encoding* encoding) noexcept nogil:
    """Of those that are kept."""
    cdef const Packet* found = NULL
    cdef const Packet* packet
    cdef uint32_t i
    if encoding.history.slots == NULL:
        return NULL
    for i in range(encoding.history.mask + 1):
        packet = encoding.history.slots[i]
        if packet != NULL and (found == NULL or packet.sequence > found.sequence):
            found = packet
    return found


cdef inline void raise_to(TapFloor* floor, uint32_t due, uint32_t last) noexcept nogil:
    if 0 < <int32_t>(due - floor.timestamp) and <int32_t>(due - last) < <int32_t>ticks(JUMP_US, floor.clock_rate):
        floor.timestamp = due


cdef void set_time(Tap* tap, TapFloor* floor, const Encoding* encoding) noexcept nogil:
    cdef const Packet* last = latest(encoding)
    cdef const Packet* packet
    cdef const Inbound* source = encoding.active
    cdef uint32_t due, reported, i
    if last != NULL:
        floor.clock_rate = clock_rate_of(encoding, last.payload_type)
    elif source.sender_arrival:  # it was muted from the start
        floor.clock_rate = encoding.track.config.payloads[0].clock_rate
    if floor.clock_rate == 0:
        return
    reported = source.sender_rtp + ticks(tap.opened - source.sender_arrival, floor.clock_rate)
    due = last.timestamp + ticks(tap.opened - last.arrival, floor.clock_rate) if last != NULL else reported
    floor.timestamp = due
    if source.sender_arrival:
        raise_to(floor, reported, due)
    if last != NULL:
        for i in range(encoding.history.mask + 1):
            packet = encoding.history.slots[i]
            if packet != NULL:
                raise_to(floor, packet.timestamp + ticks(tap.opened - packet.arrival, floor.clock_rate), due)
    floor.timestamp += ticks(SURE_US if encoding.track.config.video else SURE_US + COPY_US, floor.clock_rate)


cdef void floor_set(Tap* tap, const Encoding* encoding) noexcept nogil:
    cdef TapFloor* floor = &tap.floors[encoding.index]
    cdef const Inbound* source = encoding.active
    floor.first = 0
    floor.clock_rate = 0
    if source == NULL or not source.started:
        return  # nothing of it had come: it has sent nothing that could be asked for again
    floor.first = source.highest + 1
    if tap.from_now:
        set_time(tap, floor, encoding)


cdef inline int came_again(const Packet* packet) noexcept nogil:
    """By RFC 4588: its header is still that of the retransmission."""
    cdef const uint8_t* ssrc = packet.data + 8
    if packet.payload_offset == 0:
        return 1  # made of a copy in RED
    return (<uint32_t>ssrc[0] << 24 | <uint32_t>ssrc[1] << 16 | <uint32_t>ssrc[2] << 8 | ssrc[3]) != packet.ssrc


cdef int is_old(const Tap* tap, const TapFloor* floor, const Packet* packet) noexcept nogil:
    cdef int64_t since = (packet.arrival - tap.opened) * <int64_t>floor.clock_rate // 1000000
    # Against what is due now, not against the floor itself: a timestamp wraps within hours.
    return <int32_t>(floor.timestamp + <uint32_t>since - packet.timestamp) >= since


cdef void ask_now(EngineState* engine, Tap* tap) noexcept nogil:
    tap.key_due = 0
    want_keyframe(engine, &tap.track.encodings[tap.encoding])


cdef void floor_begin(EngineState* engine, Tap* tap) noexcept nogil:
    if tap.floors[tap.encoding].clock_rate:
        tap.key_due = engine.now + KEY_US
    else:
        ask_now(engine, tap)


cdef void floor_tend(EngineState* engine, Tap* tap) noexcept nogil:
    if tap.key_due and engine.now >= tap.key_due:
        ask_now(engine, tap)


cdef int is_above(EngineState* engine, Tap* tap, const Packet* packet) noexcept nogil:
    """It may have it. The first such packet asks for a key picture: what is sent from here on may come in too."""
    if tap.key_due and packet.keyframe:
        tap.key_due = 0
    elif tap.key_due and packet.encoding == tap.encoding:
        ask_now(engine, tap)
    return 1


cdef int floor_admits(EngineState* engine, Tap* tap, const Packet* packet) noexcept nogil:
    cdef TapFloor* floor
    cdef Encoding* encoding
    if packet.encoding >= tap.track.config.encoding_count:
        return 0
    floor = &tap.floors[packet.encoding]
    if packet.sequence < floor.first:
        return 0
    if floor.clock_rate == 0 or not is_old(tap, floor, packet):
        return is_above(engine, tap, packet)
    encoding = &tap.track.encodings[packet.encoding]
    floor.first = packet.sequence + 1  # what was sent before it is as old
    if (
        packet.arrival - tap.opened > ODD_US
        and encoding.active != NULL
        and packet.sequence == encoding.active.highest
        and not came_again(packet)
    ):
        floor.clock_rate = 0
        return is_above(engine, tap, packet)
    if packet.keyframe and not tap.key_due:
        want_keyframe(engine, encoding)
    return 0
