"""RTCP packets as Python values: the Python face of `rtcp`. SSRCs are unsigned 32-bit, times as the wire has them."""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from mediaserver.sfu.wire.congestion_feedback cimport CcfbBlock, ccfb_metric, ccfb_next, ccfb_time
from mediaserver.sfu.wire.rtcp cimport (
    RTCP_ERR_FORMAT,
    RTCP_ERR_ROOM,
    RTCP_ERR_SHORT,
    RTCP_ERR_VALUE,
    RTCP_ERR_VERSION,
    RTCP_ITEM_BYE,
    RTCP_ITEM_CCFB,
    RTCP_ITEM_FIR,
    RTCP_ITEM_NACK,
    RTCP_ITEM_PLI,
    RTCP_ITEM_REMB,
    RTCP_ITEM_RR,
    RTCP_ITEM_SDES,
    RTCP_ITEM_SR,
    RTCP_ITEM_TRANSPORT,
    RTCP_LOST,
    RTCP_MAX_REMB_SSRCS,
    RTCP_MAX_REPORTS,
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
    rtcp_write_bye,
    rtcp_write_fir,
    rtcp_write_nack,
    rtcp_write_pli,
    rtcp_write_remb,
    rtcp_write_rr,
    rtcp_write_sdes,
    rtcp_write_sr,
    rtcp_write_transport,
)

from typing import NamedTuple


cdef enum:
    LONGEST = 65536    # of one packet, and the sequence numbers that there are


class Report(NamedTuple):
    """A report block (RFC 3550, section 6.4.1). `jitter` in RTP timestamp units, `delay` in 1/65536 s."""

    ssrc: int
    fraction_lost: int
    lost: int
    highest: int
    jitter: int
    last_sr: int
    delay: int


class SenderReport(NamedTuple):
    """`ntp` is 32.32 fixed point since 1900."""

    ssrc: int
    ntp: int
    rtp_timestamp: int
    packet_count: int
    octet_count: int
    reports: tuple[Report, ...] = ()


class ReceiverReport(NamedTuple):
    ssrc: int
    reports: tuple[Report, ...] = ()


class SourceDescription(NamedTuple):
    """Pairs of SSRC and CNAME, None where a chunk has none. One pair alone can be written."""

    chunks: tuple[tuple[int, bytes | None], ...]


class Bye(NamedTuple):
    ssrcs: tuple[int, ...]


class Nack(NamedTuple):
    ssrc: int
    media_ssrc: int
    sequences: tuple[int, ...]


class PictureLoss(NamedTuple):
    ssrc: int
    media_ssrc: int


class FullIntra(NamedTuple):
    """Pairs of media SSRC and command number. One pair alone can be written."""

    ssrc: int
    requests: tuple[tuple[int, int], ...]


class Remb(NamedTuple):
    """`bitrate` in bits per second."""

    ssrc: int
    bitrate: int
    ssrcs: tuple[int, ...]


class TransportFeedback(NamedTuple):
    """`reference` in 64 ms; `deltas` in 250 us since the packet received before, None for a lost one."""

    ssrc: int
    media_ssrc: int
    base: int
    reference: int
    feedback_count: int
    deltas: tuple[int | None, ...]


class CongestionFeedback(NamedTuple):
    """RFC 8888; read only. `timestamp` in 1/65536 s. `blocks`: of each an SSRC, the first sequence number, and what is
    told from that one on: None for a packet that has not come, else its age at that time in 1/1024 s (None when it is
    not known) and its ECN mark.
    """

    ssrc: int
    timestamp: int
    blocks: tuple[tuple[int, int, tuple[tuple[int | None, int] | None, ...]], ...]


class OtherPacket(NamedTuple):
    """A packet of a type or format that is not read here; `format` is its five bits of count, subtype or format."""

    type: int
    format: int


Packet = (
    SenderReport
    | ReceiverReport
    | SourceDescription
    | Bye
    | Nack
    | PictureLoss
    | FullIntra
    | Remb
    | TransportFeedback
    | CongestionFeedback
    | OtherPacket
)


cdef dict REASONS = {
    RTCP_ERR_SHORT: "shorter than its fields say",
    RTCP_ERR_VERSION: "not RTCP version 2",
    RTCP_ERR_FORMAT: "fields that contradict each other",
    RTCP_ERR_ROOM: "does not fit",
    RTCP_ERR_VALUE: "a value that the format cannot hold",
}


cdef int checked(int result) except -1:
    if result < 0:
        raise ValueError(REASONS[result])
    return result


cdef void* memory(size_t size) except NULL:
    cdef void* block = malloc(size)
    if block == NULL:
        raise MemoryError
    return block


cdef tuple reports_of(const RtcpItem* item):
    cdef RtcpReport report
    cdef size_t index = 0
    cdef list found = []
    while rtcp_report(item, index, &report):
        found.append(Report(
            report.ssrc, report.fraction_lost, report.lost, report.highest, report.jitter, report.last_sr, report.delay
        ))
        index += 1
    return tuple(found)


cdef object source_description_of(const RtcpItem* item):
    cdef size_t offset = 0, size
    cdef uint32_t ssrc
    cdef const uint8_t* cname
    cdef list chunks = []
    while checked(rtcp_sdes_next(item, &offset, &ssrc, &cname, &size)):
        chunks.append((ssrc, <bytes>cname[:size] if cname != NULL else None))
    return SourceDescription(tuple(chunks))


cdef object bye_of(const RtcpItem* item):
    cdef size_t index = 0
    cdef uint32_t ssrc
    cdef list ssrcs = []
    while rtcp_bye(item, index, &ssrc):
        ssrcs.append(ssrc)
        index += 1
    return Bye(tuple(ssrcs))


cdef object nack_of(const RtcpItem* item):
    # 17 for each of the most entries that fit a packet.
    cdef size_t capacity = 17 * (item.body_size // 4) + 1
    cdef uint16_t* sequences = <uint16_t*>memory(capacity * sizeof(uint16_t))
    cdef int count = rtcp_nack(item, sequences, capacity)
    try:
        return Nack(item.ssrc, item.media_ssrc, tuple([sequences[i] for i in range(count)]))
    finally:
        free(sequences)


cdef object full_intra_of(const RtcpItem* item):
    cdef size_t index = 0
    cdef uint32_t ssrc
    cdef uint8_t command
    cdef list requests = []
    while rtcp_fir(item, index, &ssrc, &command):
        requests.append((ssrc, command))
        index += 1
    return FullIntra(item.ssrc, tuple(requests))


cdef object remb_of(const RtcpItem* item):
    cdef RtcpRemb remb
    checked(rtcp_remb(item, &remb))
    return Remb(item.ssrc, remb.bitrate, tuple([remb.ssrcs[i] for i in range(remb.ssrc_count)]))


cdef object transport_of(const RtcpItem* item):
    cdef RtcpTransport transport
    cdef RtcpArrival* arrivals = <RtcpArrival*>memory(LONGEST * sizeof(RtcpArrival))
    cdef int count, i
    try:
        count = checked(rtcp_transport(item, &transport, arrivals, LONGEST))
        return TransportFeedback(
            item.ssrc, item.media_ssrc, transport.base, transport.reference, transport.feedback_count,
            tuple([arrivals[i].delta if arrivals[i].received else None for i in range(count)]),
        )
    finally:
        free(arrivals)


cdef object congestion_of(const RtcpItem* item):
    cdef CcfbBlock block
    cdef size_t offset = 0, i
    cdef int32_t age
    cdef uint8_t ecn
    cdef list blocks = []
    cdef list metrics
    while checked(ccfb_next(item, &offset, &block)):
        metrics = []
        for i in range(block.count):
            came = ccfb_metric(&block, i, &age, &ecn)
            metrics.append((age if age >= 0 else None, ecn) if came else None)
        blocks.append((block.ssrc, block.first, tuple(metrics)))
    return CongestionFeedback(item.ssrc, ccfb_time(item), tuple(blocks))


cdef object packet_of(const RtcpItem* item):
    if item.kind == RTCP_ITEM_SR:
        return SenderReport(
            item.ssrc, item.ntp, item.rtp_timestamp, item.packet_count, item.octet_count, reports_of(item)
        )
    if item.kind == RTCP_ITEM_RR:
        return ReceiverReport(item.ssrc, reports_of(item))
    if item.kind == RTCP_ITEM_SDES:
        return source_description_of(item)
    if item.kind == RTCP_ITEM_BYE:
        return bye_of(item)
    if item.kind == RTCP_ITEM_NACK:
        return nack_of(item)
    if item.kind == RTCP_ITEM_PLI:
        return PictureLoss(item.ssrc, item.media_ssrc)
    if item.kind == RTCP_ITEM_FIR:
        return full_intra_of(item)
    if item.kind == RTCP_ITEM_REMB:
        return remb_of(item)
    if item.kind == RTCP_ITEM_TRANSPORT:
        return transport_of(item)
    if item.kind == RTCP_ITEM_CCFB:
        return congestion_of(item)
    return OtherPacket(item.type, item.count)


def read(bytes data not None):
    """The packets of a compound or reduced-size datagram as a list. ValueError when any of it is malformed."""
    cdef RtcpItem item
    cdef size_t offset = 0
    cdef list packets = []
    while checked(rtcp_next(<const uint8_t*>data, len(data), &offset, &item)):
        packets.append(packet_of(&item))
    return packets


cdef size_t fill_reports(RtcpReport* out, reports) except? 0:
    cdef size_t count = 0
    if len(reports) > RTCP_MAX_REPORTS:
        raise ValueError(REASONS[RTCP_ERR_VALUE])
    for ssrc, fraction_lost, lost, highest, jitter, last_sr, delay in reports:
        out[count] = RtcpReport(ssrc, fraction_lost, lost, highest, jitter, last_sr, delay)
        count += 1
    return count


cdef size_t fill_ssrcs(uint32_t* out, size_t most, ssrcs) except? 0:
    if <size_t>len(ssrcs) > most:
        raise ValueError(REASONS[RTCP_ERR_VALUE])
    for i, ssrc in enumerate(ssrcs):
        out[<size_t>i] = ssrc
    return len(ssrcs)


cdef int write_nack(uint8_t* out, size_t capacity, packet) except? -1:
    cdef uint16_t* sequences
    cdef size_t count = 0
    if len(packet.sequences) > LONGEST:
        raise ValueError(REASONS[RTCP_ERR_VALUE])
    sequences = <uint16_t*>memory(LONGEST * sizeof(uint16_t))
    try:
        for sequence in packet.sequences:
            sequences[count] = sequence
            count += 1
        return rtcp_write_nack(out, capacity, packet.ssrc, packet.media_ssrc, sequences, count)
    finally:
        free(sequences)


cdef int write_one(uint8_t* out, size_t capacity, packet) except? -1:
    cdef RtcpReport reports[RTCP_MAX_REPORTS]
    cdef uint32_t ssrcs[RTCP_MAX_REMB_SSRCS]
    cdef size_t count
    cdef bytes cname
    if isinstance(packet, SenderReport):
        count = fill_reports(reports, packet.reports)
        return rtcp_write_sr(
            out, capacity, packet.ssrc, packet.ntp, packet.rtp_timestamp, packet.packet_count, packet.octet_count,
            reports, count,
        )
    if isinstance(packet, ReceiverReport):
        count = fill_reports(reports, packet.reports)
        return rtcp_write_rr(out, capacity, packet.ssrc, reports, count)
    if isinstance(packet, SourceDescription):
        ((ssrc, cname),) = packet.chunks
        return rtcp_write_sdes(out, capacity, ssrc, <const uint8_t*>cname, len(cname))
    if isinstance(packet, Bye):
        count = fill_ssrcs(ssrcs, RTCP_MAX_REMB_SSRCS, packet.ssrcs)
        return rtcp_write_bye(out, capacity, ssrcs, count)
    if isinstance(packet, Nack):
        return write_nack(out, capacity, packet)
    if isinstance(packet, PictureLoss):
        return rtcp_write_pli(out, capacity, packet.ssrc, packet.media_ssrc)
    if isinstance(packet, FullIntra):
        ((media_ssrc, command),) = packet.requests
        return rtcp_write_fir(out, capacity, packet.ssrc, media_ssrc, command)
    if isinstance(packet, Remb):
        count = fill_ssrcs(ssrcs, RTCP_MAX_REMB_SSRCS, packet.ssrcs)
        return rtcp_write_remb(out, capacity, packet.ssrc, packet.bitrate, ssrcs, count)
    raise TypeError(f"{type(packet).__name__} is not written here")


def write(*packets, size_t capacity=LONGEST):
    """A compound of the packets in their order. ValueError when they exceed `capacity` bytes or a format's limits."""
    cdef bytearray out = bytearray(capacity)
    cdef size_t used = 0
    for packet in packets:
        used += checked(write_one(<uint8_t*>out + used, capacity - used, packet))
    return bytes(out[:used])


def write_transport(uint32_t ssrc, uint32_t media_ssrc, uint8_t feedback_count, uint16_t base, arrivals,
                    size_t capacity=LONGEST):
    """Transport-wide feedback: the packet, b"" when there is nothing to say, and how many of `arrivals` it covers.

    `arrivals` are times in us from sequence number `base` on, None for what has not come. ValueError when nothing fits.
    """
    cdef size_t count = len(arrivals), consumed = 0, i = 0
    cdef bytearray out = bytearray(capacity)
    cdef int64_t* times = <int64_t*>memory((count + 1) * sizeof(int64_t))
    try:
        for arrival in arrivals:
            times[i] = RTCP_LOST if arrival is None else arrival
            i += 1
        size = checked(rtcp_write_transport(
            <uint8_t*>out, capacity, ssrc, media_ssrc, feedback_count, base, times, count, &consumed
        ))
        return bytes(out[:size]), consumed
    finally:
        free(times)
