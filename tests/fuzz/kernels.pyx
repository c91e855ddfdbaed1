"""Fuzz targets in C: each takes one input, without the GIL, and says whether what must hold does hold.

An input is copied to a block of exactly its size first, so that every byte read past it is seen. Where the
first bytes choose between variants, the rest is what the parser sees.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from mediaserver.codecs.payload cimport PayloadFacts, payload_facts
from mediaserver.sfu.wire.extended_reports cimport xr_delay
from mediaserver.sfu.wire.packet cimport (
    EXT_COUNT,
    RTP_X_BIT,
    ExtMap,
    ExtValues,
    RtpHeader,
    demux_kind,
    ext_read,
    ext_write,
    is_rtcp,
    read_u16,
    read_u32,
    rtp_padding,
    rtp_parse,
    rtp_write,
    write_u16,
)
from mediaserver.sfu.wire.gcm cimport gcm_allow
from mediaserver.sfu.wire.congestion_feedback cimport CcfbBlock, ccfb_metric, ccfb_next, ccfb_time
from mediaserver.sfu.wire.rtcp cimport (
    RTCP_ITEM_BYE,
    RTCP_ITEM_CCFB,
    RTCP_ITEM_FIR,
    RTCP_ITEM_NACK,
    RTCP_ITEM_REMB,
    RTCP_ITEM_RR,
    RTCP_ITEM_SDES,
    RTCP_ITEM_SR,
    RTCP_ITEM_TRANSPORT,
    RTCP_LOST,
    RTCP_XR,
    RtcpArrival,
    RtcpItem,
    RtcpRemb,
    RtcpReport,
    RtcpTransport,
    rtcp_bye,
    rtcp_fir,
    rtcp_nack,
    rtcp_next,
    rtcp_remb,
    rtcp_report,
    rtcp_sdes_next,
    rtcp_transport,
    rtcp_write_transport,
)
from mediaserver.sfu.wire.srtp cimport (
    PROFILE_AEAD_AES_128_GCM,
    PROFILE_AEAD_AES_256_GCM,
    PROFILE_AES128_CM_SHA1_80,
    SRTCP_MAX_OVERHEAD,
    SRTP_ERR_REPLAY,
    SrtpContext,
    SrtpReceiver,
    srtcp_protect,
    srtcp_unprotect,
    srtp_free,
    srtp_key_size,
    srtp_new,
    srtp_protect,
    srtp_salt_size,
    srtp_tag_size,
    srtp_unprotect,
)
from mediaserver.sfu.wire.stun cimport (
    STUN_MAX_ANSWER,
    StunMessage,
    stun_parse,
    stun_verify,
    stun_write_error,
    stun_write_success,
)

cdef extern from "<sys/mman.h>":
    void* mmap(void*, size_t, int, int, int, long) nogil
    int mprotect(void*, size_t, int) nogil
    int munmap(void*, size_t) nogil
    int PROT_NONE
    int PROT_READ
    int PROT_WRITE
    int MAP_PRIVATE
    int MAP_ANONYMOUS

cdef enum:
    PAGE = 4096


cdef uint8_t* copy_of(const uint8_t* data, size_t size) noexcept nogil:
    """A block of exactly that size."""
    cdef uint8_t* block = <uint8_t*>malloc(size)
    if size:
        memcpy(block, data, size)
    return block


cdef uint8_t* before_wall(const uint8_t* data, size_t size, size_t room) noexcept nogil:
    """A block of `room` bytes that begins with the data, and after which no byte can be touched.

    For ciphers in assembly, into which a sanitizer does not see.
    """
    cdef size_t pages = (room + PAGE - 1) // PAGE * PAGE
    cdef uint8_t* start = <uint8_t*>mmap(NULL, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    mprotect(start + pages, PAGE, PROT_NONE)
    if size:
        memcpy(start + pages - room, data, size)
    return start + pages - room


cdef void take_down(uint8_t* block, size_t room) noexcept nogil:
    cdef size_t pages = (room + PAGE - 1) // PAGE * PAGE
    munmap(block + room - pages, pages + PAGE)


cdef uint32_t touch(const uint8_t* data, size_t size) noexcept nogil:
    """Reads each byte, so that a pointer or size that leads astray is found out."""
    cdef uint32_t total = 0
    cdef size_t i
    for i in range(size):
        total = total * 31 + data[i]
    return total


cdef bint inside(const uint8_t* part, size_t part_size, const uint8_t* data, size_t size) noexcept nogil:
    return part >= data and part_size <= size and part <= data + size - part_size


# ---- SRTP. Nobody can forge a packet: what comes as it is must be refused, what was sealed must open once.

cdef SrtpContext* context_for(uint8_t choice) noexcept nogil:
    """One of three profiles, and of two libraries for AES-GCM."""
    cdef uint8_t secret[32]
    cdef SrtpContext* context
    cdef int profile = PROFILE_AES128_CM_SHA1_80
    if choice % 3:
        profile = PROFILE_AEAD_AES_128_GCM if choice % 3 == 1 else PROFILE_AEAD_AES_256_GCM
    memset(secret, 0x5A, sizeof(secret))
    gcm_allow(choice // 3 % 2 == 0)
    context = srtp_new(profile, secret, srtp_key_size(profile), secret, srtp_salt_size(profile))
    gcm_allow(True)
    return context


cdef int open_forged(SrtpContext* context, uint8_t* packet, size_t size) noexcept nogil:
    cdef SrtpReceiver receiver
    cdef RtpHeader header
    cdef uint64_t index
    memset(&receiver, 0, sizeof(receiver))
    if is_rtcp(packet, size):
        return 1 if srtcp_unprotect(context, packet, size) >= 0 else 0
    if rtp_parse(packet, size, &header) < 0:
        return 0
    if srtp_unprotect(context, &receiver, packet, size, header.header_size, &index) >= 0:
        return 2
    return 3 if receiver.highest else 0


cdef int fuzz_srtp_open(const uint8_t* data, size_t size) noexcept nogil:
    """One byte of profile, then an SRTP or SRTCP packet."""
    cdef SrtpContext* context
    cdef uint8_t* packet
    cdef int failed
    if size < 1:
        return 0
    context = context_for(data[0])
    packet = before_wall(data + 1, size - 1, size - 1)
    failed = open_forged(context, packet, size - 1)
    take_down(packet, size - 1)
    srtp_free(context)
    return failed


cdef int seal_and_open(SrtpContext* context, uint32_t roc, uint16_t flip, const uint8_t* plain,
                       size_t size, uint8_t* sealed) noexcept nogil:
    cdef SrtpReceiver receiver
    cdef RtpHeader header
    cdef size_t total = size + srtp_tag_size(context)
    cdef uint64_t index, found
    if rtp_parse(plain, size, &header) < 0:
        return 0
    index = <uint64_t>roc << 16 | header.sequence
    memset(&receiver, 0, sizeof(receiver))
    receiver.highest = index - 1 if index else 0
    memcpy(sealed, plain, header.header_size)
    if srtp_protect(context, index, sealed, header.header_size, plain + header.header_size,
                    size - header.header_size) != <int>total:
        return 1
    # A flipped bit in the sequence number or in what shapes the header is another packet; it fails too.
    sealed[flip // 8 % total] ^= <uint8_t>(1 << flip % 8)
    if rtp_parse(sealed, total, &header) == 0 and srtp_unprotect(
            context, &receiver, sealed, total, header.header_size, &found) >= 0:
        return 2
    rtp_parse(plain, size, &header)
    memcpy(sealed, plain, header.header_size)
    srtp_protect(context, index, sealed, header.header_size, plain + header.header_size, size - header.header_size)
    if srtp_unprotect(context, &receiver, sealed, total, header.header_size, &found) != <int>size:
        return 3
    if found != index or receiver.highest != index or memcmp(sealed, plain, size) != 0:
        return 4
    if srtp_unprotect(context, &receiver, sealed, total, header.header_size, &found) != SRTP_ERR_REPLAY:
        return 5
    return 0


cdef int fuzz_srtp_seal(const uint8_t* data, size_t size) noexcept nogil:
    """Profile, four bytes of roll-over counter, two of a bit to flip, then an RTP packet."""
    cdef SrtpContext* context
    cdef uint8_t* plain
    cdef uint8_t* sealed
    cdef size_t total
    cdef int failed
    if size < 7:
        return 0
    context = context_for(data[0])
    total = size - 7 + srtp_tag_size(context)
    plain = before_wall(data + 7, size - 7, size - 7)
    sealed = before_wall(NULL, 0, total)
    failed = seal_and_open(context, read_u32(data + 1), read_u16(data + 5), plain, size - 7, sealed)
    take_down(sealed, total)
    take_down(plain, size - 7)
    srtp_free(context)
    return failed


cdef int fuzz_srtcp_seal(const uint8_t* data, size_t size) noexcept nogil:
    """Profile, four bytes of index, two of a bit to flip, then an RTCP packet."""
    cdef SrtpContext* context
    cdef uint8_t* packet
    cdef size_t plain = size - 7
    cdef size_t capacity
    cdef int total, failed = 0
    if size < 7:
        return 0
    context = context_for(data[0])
    context.rtcp_index = read_u32(data + 1)
    capacity = plain + 4 + srtp_tag_size(context)
    packet = before_wall(data + 7, plain, capacity)
    total = srtcp_protect(context, packet, plain, capacity)
    if total >= 0:
        packet[(read_u16(data + 5) >> 3) % total] ^= 1 << (data[6] & 7)
        if srtcp_unprotect(context, packet, total) >= 0:
            failed = 1
        memcpy(packet, data + 7, plain)
        context.rtcp_index = read_u32(data + 1)
        srtcp_protect(context, packet, plain, capacity)
        if srtcp_unprotect(context, packet, total) != <int>plain:
            failed = 2
        elif memcmp(packet, data + 7, plain) != 0:
            failed = 3
    take_down(packet, capacity)
    srtp_free(context)
    return failed


# ---- RTP

cdef int check_extensions(const uint8_t* packet, size_t size, const RtpHeader* header) noexcept nogil:
    """Values lie inside the packet, and what is written reads back the same."""
    cdef ExtMap ids
    cdef ExtValues values, again
    cdef RtpHeader second
    cdef uint8_t out[4400]
    cdef int i, written
    memset(&ids, 0, sizeof(ids))
    for i in range(1, 256):
        ids.kind[i] = <uint8_t>(i % EXT_COUNT)
    # Ids on both sides of what the one-byte form can hold.
    for i in range(1, EXT_COUNT):
        ids.id[i] = <uint8_t>i
    ext_read(packet, header, &ids, &values)
    for i in range(1, EXT_COUNT):
        if values.present >> i & 1:
            if not inside(values.data[i], values.size[i], packet + header.ext_offset, header.ext_size):
                return 1
            touch(values.data[i], values.size[i])
    rtp_write(out, 96, 0, 1, 2, 3)
    out[0] |= RTP_X_BIT
    written = ext_write(out + 12, sizeof(out) - 12, &values, ids.id, 0xFFFFFFFF)
    if written < 0 or written % 4:
        return 2
    if written == 0:
        return 3 if values.present & 0xFFFE else 0
    if rtp_parse(out, 12 + written, &second) < 0:
        return 4
    ext_read(out, &second, &ids, &again)
    if again.present != values.present:
        return 5
    for i in range(1, EXT_COUNT):
        if values.present >> i & 1 and (again.size[i] != values.size[i]
                                        or memcmp(again.data[i], values.data[i], values.size[i]) != 0):
            return 6
    return 0


cdef int fuzz_rtp(const uint8_t* data, size_t size) noexcept nogil:
    """An RTP packet in plaintext."""
    cdef uint8_t* packet = copy_of(data, size)
    cdef RtpHeader header
    cdef int padding, failed = 0
    if size:
        demux_kind(packet[0])
    is_rtcp(packet, size)
    if rtp_parse(packet, size, &header) == 0:
        if header.header_size + header.payload_size != size or header.header_size < 12:
            failed = 10
        elif header.ext_size and header.ext_offset + header.ext_size > header.header_size:
            failed = 11
        else:
            padding = rtp_padding(packet, size, &header)
            if padding > header.payload_size:
                failed = 12
            else:
                failed = check_extensions(packet, size, &header)
    free(packet)
    return failed


# ---- STUN

cdef int check_stun(const uint8_t* message, size_t size) noexcept nogil:
    cdef StunMessage parsed, again
    cdef uint8_t out[STUN_MAX_ANSWER]
    cdef int written
    if stun_parse(message, size, &parsed) < 0:
        return 0
    if parsed.username != NULL:
        if not inside(parsed.username, parsed.username_size, message, size):
            return 1
        touch(parsed.username, parsed.username_size)
    stun_verify(message, size, &parsed, <const uint8_t*>b"VOkJxbRl1RmTxUk/WvJxBt", 22)
    if parsed.family:
        written = stun_write_success(out, sizeof(out), parsed.txid, parsed.family, parsed.ip, parsed.port,
                                     parsed.txid, sizeof(parsed.txid))
        if written < 0 or stun_parse(out, written, &again) < 0:
            return 2
        if again.port != parsed.port or memcmp(again.ip, parsed.ip, 4 if parsed.family == 1 else 16) != 0:
            return 3
        if stun_verify(out, written, &again, parsed.txid, sizeof(parsed.txid)) != 1:
            return 4
    if parsed.unknown_required:
        written = stun_write_error(out, sizeof(out), parsed.txid, 420, parsed.unknown_required, parsed.txid, 12)
        if written < 0 or stun_parse(out, written, &again) < 0 or again.error_code != 420:
            return 5
    return 0


cdef int fuzz_stun(const uint8_t* data, size_t size) noexcept nogil:
    """A STUN message."""
    cdef uint8_t* message = copy_of(data, size)
    cdef int failed = check_stun(message, size)
    free(message)
    return failed


# ---- RTCP

cdef int check_congestion_feedback(const RtcpItem* item) noexcept nogil:
    cdef CcfbBlock block
    cdef size_t offset = 0, i, total = 0
    cdef int32_t age = 0
    cdef uint8_t ecn = 0
    ccfb_time(item)
    while ccfb_next(item, &offset, &block) == 1:
        total += 8 + 2 * <size_t>block.count
        for i in range(block.count):
            ccfb_metric(&block, i, &age, &ecn)
            if not -1 <= age < 0x1FFF or ecn > 3:
                return 9
    return 10 if total > item.body_size else 0


cdef int check_item(const RtcpItem* item, const uint8_t* data, size_t size) noexcept nogil:
    cdef RtcpReport report
    cdef RtcpRemb remb
    cdef RtcpTransport transport
    cdef RtcpArrival arrivals[600]
    cdef uint16_t sequences[64]
    cdef const uint8_t* cname
    cdef size_t cname_size, offset = 0
    cdef size_t i = 0
    cdef uint32_t ssrc, last_reference
    cdef uint8_t command
    cdef int status
    if item.body_size and not inside(item.body, item.body_size, data, size):
        return 1
    touch(item.body, item.body_size)
    if item.kind == RTCP_ITEM_SR or item.kind == RTCP_ITEM_RR:
        while rtcp_report(item, i, &report) == 1:
            i += 1
        return 0 if i == item.count else 2
    if item.kind == RTCP_ITEM_BYE:
        while rtcp_bye(item, i, &ssrc) == 1:
            i += 1
        return 0 if i == item.count else 3
    if item.kind == RTCP_ITEM_SDES:
        while rtcp_sdes_next(item, &offset, &ssrc, &cname, &cname_size) == 1:
            if cname != NULL:
                if not inside(cname, cname_size, data, size):
                    return 4
                touch(cname, cname_size)
            i += 1
            if i > item.body_size:
                return 5
    elif item.kind == RTCP_ITEM_NACK:
        status = rtcp_nack(item, sequences, 64)
        return 0 if 0 <= status <= 64 else 6
    elif item.kind == RTCP_ITEM_FIR:
        while rtcp_fir(item, i, &ssrc, &command) == 1:
            i += 1
        return 0 if i <= item.body_size // 8 else 7
    elif item.kind == RTCP_ITEM_REMB:
        rtcp_remb(item, &remb)
    elif item.kind == RTCP_ITEM_TRANSPORT:
        status = rtcp_transport(item, &transport, arrivals, 600)
        if status > 600 or (status >= 0 and status != transport.count):
            return 8
    elif item.type == RTCP_XR:
        xr_delay(item, 5, &ssrc, &last_reference)
    return 0


cdef int fuzz_rtcp(const uint8_t* data, size_t size) noexcept nogil:
    """An RTCP compound packet."""
    cdef uint8_t* packet = copy_of(data, size)
    cdef RtcpItem item
    cdef size_t offset = 0
    cdef size_t before = 0
    cdef int failed = 0
    while not failed and rtcp_next(packet, size, &offset, &item) == 1:
        if offset <= before or offset > size:
            failed = 20
        else:
            before = offset
            failed = check_item(&item, packet, size)
    free(packet)
    return failed


cdef int check_written_feedback(const uint8_t* out, int written, uint16_t base, const int64_t* arrivals,
                                size_t consumed) noexcept nogil:
    """What was written reads back: the same packets came, at the same times within a tick."""
    cdef RtcpItem item
    cdef RtcpTransport transport
    cdef RtcpArrival found[512]
    cdef size_t offset = 0
    cdef size_t i
    cdef int64_t clock, error
    cdef int64_t start = 0
    cdef bint started = False
    if rtcp_next(out, written, &offset, &item) != 1 or offset != <size_t>written or item.kind != RTCP_ITEM_TRANSPORT:
        return 1
    if rtcp_transport(&item, &transport, found, 512) != <int>consumed or transport.base != base:
        return 2
    clock = 0
    for i in range(consumed):
        if found[i].sequence != <uint16_t>(base + i) or found[i].received != (arrivals[i] != RTCP_LOST):
            return 3
        if found[i].received:
            clock += found[i].delta * 250
            if not started:
                started = True
                start = arrivals[i] - clock
            error = arrivals[i] - start - clock
            if error > 500 or error < -500:
                return 4
    return 0


cdef int fuzz_rtcp_feedback(const uint8_t* data, size_t size) noexcept nogil:
    """Capacity (1 byte), base (2), then an arrival each 3 bytes: lost by the first bit, else a step of 23 bits."""
    cdef int64_t arrivals[512]
    cdef int64_t now = 10000000000
    cdef uint8_t* out
    cdef size_t count = 0
    cdef size_t done = 0
    cdef size_t capacity, consumed
    cdef uint16_t base
    cdef int written, failed = 0
    if size < 3:
        return 0
    capacity = 40 + data[0] * 4
    base = read_u16(data + 1)
    while count < 512 and 3 + count * 3 + 3 <= size:
        now += (<int64_t>(data[3 + count * 3] & 0x7F) << 16 | read_u16(data + 4 + count * 3)) - 0x200000
        arrivals[count] = RTCP_LOST if data[3 + count * 3] & 0x80 else now
        count += 1
    while done < count and not failed:
        out = <uint8_t*>malloc(capacity)
        written = rtcp_write_transport(out, capacity, 1, 2, 3, <uint16_t>(base + done), arrivals + done, count - done,
                                       &consumed)
        if written < 0 or consumed == 0 or consumed > count - done or written > <int>capacity:
            failed = 30
        elif written:
            failed = check_written_feedback(out, written, <uint16_t>(base + done), arrivals + done, consumed)
        done += consumed
        free(out)
    return failed


# ---- codecs

cdef int fuzz_facts(const uint8_t* data, size_t size) noexcept nogil:
    """One byte of codec, then an RTP payload."""
    cdef PayloadFacts facts
    cdef PayloadFacts again
    cdef uint8_t* payload
    cdef int status, failed = 0
    if size < 1:
        return 0
    payload = copy_of(data + 1, size - 1)
    memset(&facts, 0xA5, sizeof(facts))
    memset(&again, 0, sizeof(again))
    status = payload_facts(data[0] % 8, payload, size - 1, &facts)
    payload_facts(data[0] % 8, payload, size - 1, &again)
    if status != facts.valid or status > 1 or status < 0:
        failed = 1
    elif facts.descriptor_size > size - 1:
        failed = 2
    elif not facts.valid and (facts.keyframe or facts.width or facts.height or facts.picture_id != -1):
        failed = 3
    elif facts.keyframe != again.keyframe or facts.width != again.width or facts.temporal_id != again.temporal_id \
            or facts.start != again.start or facts.end != again.end or facts.picture_id != again.picture_id:
        failed = 4    # something was left unset
    free(payload)
    return failed


cdef Kernel kernel_find(str name):
    if name == "srtp_open":
        return fuzz_srtp_open
    if name == "srtp_seal":
        return fuzz_srtp_seal
    if name == "srtcp_seal":
        return fuzz_srtcp_seal
    if name == "rtp":
        return fuzz_rtp
    if name == "stun":
        return fuzz_stun
    if name == "rtcp":
        return fuzz_rtcp
    if name == "rtcp_feedback":
        return fuzz_rtcp_feedback
    if name == "facts":
        return fuzz_facts
    return NULL


NAMES = ("srtp_open", "srtp_seal", "srtcp_seal", "rtp", "stun", "rtcp", "rtcp_feedback", "facts")


def run(str name, bytes data):
    """One input for one target. AssertionError when a check fails, KeyError for an unknown name."""
    cdef Kernel kernel = kernel_find(name)
    cdef const uint8_t* start = data
    cdef size_t size = len(data)
    cdef int failed
    if kernel == NULL:
        raise KeyError(name)
    with nogil:
        failed = kernel(start, size)
    if failed:
        raise AssertionError(f"{name}: check {failed} fails")
