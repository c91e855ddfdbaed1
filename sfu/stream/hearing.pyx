"""Listening to what comes: whether a clinical sound is as it was asked for."""

from libc.stdint cimport uint16_t, uint64_t

from mediaserver.codecs.payload cimport CODEC_OPUS, CODEC_RED
from mediaserver.sfu.policy.untouched cimport sound_packet
from mediaserver.sfu.stream.report cimport REPORT_SOUND, report


cdef void hear_packet(EngineState* engine, Track* track, const Packet* packet) noexcept nogil:
    cdef uint16_t inside = packet.inner_offset if packet.codec == CODEC_RED else 0
    if packet.codec != CODEC_RED and packet.codec != CODEC_OPUS:
        return
    if sound_packet(&track.sound, track.config.untouched_bps, packet.sequence, packet.timestamp,
                    packet.data + packet.payload_offset + inside, packet.payload_size - inside, engine.now):
        report(engine, REPORT_SOUND, track.id, <uint64_t>track.sound.faults, NULL, 0)
