"""What a transport-wide feedback message says: draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1.

Statuses of packets in chunks of runs or vectors of symbols, then one or two bytes of delta for each that came.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t

from mediaserver.sfu.wire.packet cimport read_u16, read_u24, write_u16, write_u24
from mediaserver.sfu.wire.rtcp cimport (
    RTCP_ERR_FORMAT,
    RTCP_ERR_ROOM,
    RTCP_ERR_SHORT,
    RTCP_REFERENCE_US,
    RTCP_TICK_US,
    RtcpArrival,
    RtcpTransport,
)

cdef enum:
    FIXED_SIZE = 8            # base, count, reference time, feedback count
    SYMBOL_LOST = 0
    SYMBOL_SMALL = 1          # received, the delta in one byte
    SYMBOL_LARGE = 2          # received, the delta in two bytes
    SYMBOL_NONE = 3           # reading: reserved; writing: the delta fits no symbol
    MAX_RUN = 8191
    ONE_BIT_STATUSES = 14
    TWO_BIT_STATUSES = 7
    TICKS_IN_REFERENCE = RTCP_REFERENCE_US // RTCP_TICK_US


# ---- reading

cdef size_t expand_chunk(uint16_t chunk, RtcpArrival* arrivals, size_t room) noexcept nogil:
    """The symbols of a packet status chunk into `received`; how many, at most `room`."""
    cdef size_t count, i
    if chunk >> 15 == 0:
        count = chunk & 0x1FFF
        count = count if count < room else room
        for i in range(count):
            arrivals[i].received = chunk >> 13 & 3
    elif chunk >> 14 & 1 == 0:
        count = ONE_BIT_STATUSES if room > ONE_BIT_STATUSES else room
        for i in range(count):
            arrivals[i].received = chunk >> (13 - i) & 1
    else:
        count = TWO_BIT_STATUSES if room > TWO_BIT_STATUSES else room
        for i in range(count):
            arrivals[i].received = chunk >> (12 - 2 * i) & 3
    return count


cdef int read_deltas(const uint8_t* data, size_t size, uint16_t base, RtcpArrival* arrivals,
                     size_t count) noexcept nogil:
    """Turns the symbols in `received` into flags and their deltas."""
    cdef size_t i, need, offset = 0
    cdef uint8_t symbol
    for i in range(count):
        symbol = arrivals[i].received
        if symbol == SYMBOL_NONE:
            return RTCP_ERR_FORMAT
        need = symbol
        if need > size - offset:
            return RTCP_ERR_SHORT
        arrivals[i].sequence = <uint16_t>(base + i)
        arrivals[i].received = symbol != SYMBOL_LOST
        arrivals[i].delta = 0
        if symbol == SYMBOL_SMALL:
            arrivals[i].delta = data[offset]
        elif symbol == SYMBOL_LARGE:
            arrivals[i].delta = <int16_t>read_u16(data + offset)
        offset += need
    return 0


cdef int feedback_read(const uint8_t* fci, size_t size, RtcpTransport* transport, RtcpArrival* arrivals,
                       size_t capacity) noexcept nogil:
    cdef size_t filled = 0, offset = FIXED_SIZE
    cdef int result
    if size < FIXED_SIZE:
        return RTCP_ERR_SHORT
    transport.base = read_u16(fci)
    transport.count = read_u16(fci + 2)
    transport.reference = <int32_t>(read_u24(fci + 4) << 8) >> 8
    transport.feedback_count = fci[7]
    if transport.count == 0:
        return RTCP_ERR_FORMAT
    if transport.count > capacity:
        return RTCP_ERR_ROOM
    while filled < transport.count:
        if size - offset < 2:
            return RTCP_ERR_SHORT
        filled += expand_chunk(read_u16(fci + offset), arrivals + filled, transport.count - filled)
        offset += 2
    result = read_deltas(fci + offset, size - offset, transport.base, arrivals, filled)
    return result if result < 0 else <int>filled


# ---- writing

cdef inline int symbol_of(int64_t arrival, int64_t* tick) noexcept nogil:
    """The symbol for a packet after one that came at *tick; moves *tick on when this one came."""
    cdef int64_t delta
    if arrival < 0:
        return SYMBOL_LOST
    delta = arrival // RTCP_TICK_US - tick[0]
    if not -0x8000 <= delta <= 0x7FFF:
        return SYMBOL_NONE
    tick[0] += delta
    return SYMBOL_SMALL if 0 <= delta <= 0xFF else SYMBOL_LARGE


cdef size_t run_length(const int64_t* arrivals, size_t count, int64_t tick, int* symbol) noexcept nogil:
    """How many statuses from the first on have the same symbol, which goes to *symbol."""
    cdef size_t i = 1
    symbol[0] = symbol_of(arrivals[0], &tick)
    while i < count and i < MAX_RUN and symbol_of(arrivals[i], &tick) == symbol[0]:
        i += 1
    return i


cdef size_t vector_symbols(const int64_t* arrivals, size_t count, int64_t tick, uint8_t* symbols,
                           bint* wide) noexcept nogil:
    """The symbols that the next vector chunk takes; *wide tells whether it needs two bits for each."""
    cdef size_t i, limit = ONE_BIT_STATUSES if count > ONE_BIT_STATUSES else count
    cdef int symbol
    wide[0] = False
    for i in range(limit):
        symbol = symbol_of(arrivals[i], &tick)
        if symbol == SYMBOL_NONE:
            limit = i
            break
        wide[0] |= symbol == SYMBOL_LARGE
        symbols[i] = <uint8_t>symbol
    if wide[0] and limit > TWO_BIT_STATUSES:
        limit = TWO_BIT_STATUSES
    return limit


cdef uint16_t vector_chunk(const uint8_t* symbols, size_t count, bint wide) noexcept nogil:
    cdef uint16_t chunk = 0xC000 if wide else 0x8000
    cdef size_t i
    for i in range(count):
        chunk |= <uint16_t>(symbols[i] << (12 - 2 * i if wide else 13 - i))
    return chunk


cdef size_t put_chunk(uint8_t* out, size_t room, const int64_t* arrivals, size_t count, int64_t* tick,
                      size_t* delta_size) noexcept nogil:
    """One status chunk at out; how many statuses it holds, 0 when not one more fits.

    `room` bounds the two bytes of the chunk and the deltas of its packets, whose size is added to *delta_size.
    """
    cdef uint8_t symbols[ONE_BIT_STATUSES]
    cdef int symbol
    cdef bint wide = False
    cdef size_t taken, i, added = 0
    cdef bint run
    cdef int64_t next_tick = tick[0]
    taken = run_length(arrivals, count, tick[0], &symbol)
    if symbol == SYMBOL_NONE or room < 2:
        return 0
    run = taken == count or taken >= ONE_BIT_STATUSES
    if not run:
        i = vector_symbols(arrivals, count, tick[0], symbols, &wide)
        # A run that is as long as what a vector would take says the same.
        run = taken >= i
        taken = taken if run else i
    i = 0
    while i < taken:
        symbol = symbol_of(arrivals[i], &next_tick)
        if added + symbol > room - 2:
            break
        added += symbol
        tick[0] = next_tick
        i += 1
    if i:
        # All symbols of a run are alike.
        write_u16(out, <uint16_t>(symbol << 13 | <int>i) if run else vector_chunk(symbols, i, wide))
        delta_size[0] += added
    return i


cdef void put_deltas(uint8_t* out, const int64_t* arrivals, size_t count, int64_t tick) noexcept nogil:
    cdef int64_t before
    cdef size_t i
    cdef int symbol
    for i in range(count):
        before = tick
        symbol = symbol_of(arrivals[i], &tick)
        if symbol == SYMBOL_SMALL:
            out[0] = <uint8_t>(tick - before)
        elif symbol == SYMBOL_LARGE:
            write_u16(out, <uint16_t>(tick - before))
        out += symbol


cdef int feedback_write(uint8_t* fci, size_t capacity, uint8_t feedback_count, uint16_t base,
                        const int64_t* arrivals, size_t count, size_t* consumed) noexcept nogil:
    cdef size_t done = 0, taken = 1, chunk_size = 0, delta_size = 0, used, first = 0
    cdef int64_t reference, tick
    consumed[0] = 0
    count = count if count < 0xFFFF else 0xFFFF
    while first < count and arrivals[first] < 0:
        first += 1
    if first == count:
        consumed[0] = count
        return 0
    reference = arrivals[first] // RTCP_REFERENCE_US
    tick = reference * TICKS_IN_REFERENCE
    while done < count and taken:
        used = FIXED_SIZE + chunk_size + delta_size
        taken = put_chunk(fci + FIXED_SIZE + chunk_size, capacity - used if capacity > used else 0,
                          arrivals + done, count - done, &tick, &delta_size)
        done += taken
        chunk_size += 2 if taken else 0
    if done <= first:
        return RTCP_ERR_ROOM
    write_u16(fci, base)
    write_u16(fci + 2, <uint16_t>done)
    write_u24(fci + 4, <uint32_t>(reference & 0xFFFFFF))
    fci[7] = feedback_count
    put_deltas(fci + FIXED_SIZE + chunk_size, arrivals, done, reference * TICKS_IN_REFERENCE)
    consumed[0] = done
    return <int>(FIXED_SIZE + chunk_size + delta_size)
