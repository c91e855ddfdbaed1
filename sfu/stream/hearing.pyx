"""Listening to what comes: whether a clinical sound is as it was asked for, and who speaks."""

from libc.stdint cimport uint8_t, uint16_t, uint64_t

from mediaserver.codecs.payload cimport CODEC_OPUS, CODEC_RED
from mediaserver.sfu.policy.untouched cimport sound_packet
from mediaserver.sfu.policy.voice cimport voice_packet, voice_value
from mediaserver.sfu.stream.report cimport REPORT_SOUND, REPORT_VOICE, report
from mediaserver.sfu.wire.packet cimport EXT_AUDIO_LEVEL

cdef enum:
    SILENCE = 127


cdef void hear_sound(EngineState* engine, Track* track, const Packet* packet) noexcept nogil:
    cdef uint16_t inside = packet.inner_offset if packet.codec == CODEC_RED else 0
    if packet.codec != CODEC_RED and packet.codec != CODEC_OPUS:
        return
    if sound_packet(&track.sound, track.config.untouched_bps, packet.sequence, packet.timestamp,
                    packet.data + packet.payload_offset + inside, packet.payload_size - inside, engine.now):
        report(engine, REPORT_SOUND, track.id, <uint64_t>track.sound.faults, NULL, 0)


cdef void hear_voice(EngineState* engine, Track* track, const Packet* packet) noexcept nogil:
    # A muted one is not heard by anybody, so it does not speak.
    cdef uint8_t value = SILENCE if track.muted else packet.ext.data[<int>EXT_AUDIO_LEVEL][0]
    if voice_packet(&track.voice, value, engine.now):
        report(engine, REPORT_VOICE, track.id, <uint64_t>voice_value(&track.voice), NULL, 0)


cdef void hear_packet(EngineState* engine, Track* track, const Packet* packet) noexcept nogil:
    if track.config.untouched:
        hear_sound(engine, track, packet)
    if track.config.voice and packet.ext.present >> <int>EXT_AUDIO_LEVEL & 1 and packet.ext.size[<int>EXT_AUDIO_LEVEL]:
        hear_voice(engine, track, packet)
