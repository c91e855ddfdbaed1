"""Sound that comes in RED (RFC 2198): what it is without, and the packets that a later one makes up for.

A copy bears no sequence number. Senders copy the packets right before, without leaving any out, so the newest copy is
that of the number before, and so on; the timestamps have to bear that out.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from mediaserver.codecs.opus cimport OpusToc, opus_parse
from mediaserver.codecs.payload cimport CODEC_OPUS
from mediaserver.codecs.red cimport RedBlock, RedPacket, red_parse
from mediaserver.sfu.policy.missing cimport missing_covered
from mediaserver.sfu.stream.buffers cimport packet_new
from mediaserver.sfu.stream.history cimport history_get
from mediaserver.sfu.stream.inbound cimport SEQUENCE_BASE
from mediaserver.sfu.wire.replay cimport replay_mark, replay_seen
from mediaserver.sfu.wire.srtp cimport SRTP_WINDOW_WORDS, SrtpReceiver


cdef int is_opus(const Encoding* encoding, uint8_t payload_type) noexcept nogil:
    cdef uint8_t index = encoding.track.config.payload_at[payload_type]
    return index and encoding.track.config.payloads[index - 1].codec == CODEC_OPUS


cdef int red_open(Encoding* encoding, Packet* packet) noexcept nogil:
    cdef RedPacket red
    cdef RedBlock* own
    if not red_parse(packet.data + packet.payload_offset, packet.payload_size, &red):
        return 0
    own = &red.blocks[red.copies]
    if not is_opus(encoding, own.payload_type):
        return 0
    packet.inner_type = own.payload_type
    packet.inner_offset = own.offset
    return 1


cdef int fits_in(const Encoding* encoding, uint64_t sequence, uint32_t timestamp) noexcept nogil:
    """The number before, where it is there, is older."""
    cdef const Packet* before = history_get(&encoding.history, sequence - 1)
    return before == NULL or <int32_t>(timestamp - before.timestamp) > 0


cdef Packet* make(EngineState* engine, const Packet* packet, const RedBlock* block, uint64_t sequence) noexcept nogil:
    cdef Packet* made = packet_new(&engine.pool, block.size)
    if made == NULL:
        engine.counters.drop_memory += 1
        return NULL
    memcpy(made.data, packet.data + packet.payload_offset + block.offset, block.size)
    memset(&made.ext, 0, sizeof(made.ext))
    memset(&made.facts, 0, sizeof(made.facts))
    made.payload_type = block.payload_type
    made.marker = 0
    made.keyframe = 0
    made.codec = CODEC_OPUS
    made.payload_offset = 0
    made.payload_size = block.size
    made.inner_type = 0
    made.inner_offset = 0
    made.timestamp = packet.timestamp - block.age
    made.ssrc = packet.ssrc
    made.sequence = sequence
    made.arrival = engine.now
    return made


cdef int red_recover(EngineState* engine, Encoding* encoding, const Packet* packet, Packet** found) noexcept nogil:
    cdef RedPacket red
    cdef const RedBlock* block
    cdef const uint8_t* payload = packet.data + packet.payload_offset
    cdef SrtpReceiver* receiver = &encoding.active.srtp
    cdef OpusToc toc
    cdef uint64_t sequence
    cdef int count = 0, i
    if not red_parse(payload, packet.payload_size, &red):
        return 0
    for i in range(red.copies):
        block = &red.blocks[i]
        sequence = packet.sequence - <uint64_t>(red.copies - i)
        if (
            block.age <= red.blocks[i + 1].age  # the packet's own has the age 0
            or not is_opus(encoding, block.payload_type)
            or not opus_parse(payload + block.offset, block.size, &toc)
            or not fits_in(encoding, sequence, packet.timestamp - block.age)
            or replay_seen(receiver.window, SRTP_WINDOW_WORDS * 64, receiver.highest, sequence - SEQUENCE_BASE)
            or not missing_covered(&encoding.active.missing, sequence)
        ):
            continue
        found[count] = make(engine, packet, block, sequence)
        if found[count] == NULL:
            continue
        # The original may still come: its number is given away on every leg.
        replay_mark(receiver.window, SRTP_WINDOW_WORDS * 64, &receiver.highest, sequence - SEQUENCE_BASE)
        encoding.active.recovered += 1
        count += 1
    return count
