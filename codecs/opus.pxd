"""Opus in RTP (RFC 7587): a payload is one Opus packet (RFC 6716, section 3)."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

from mediaserver.codecs.payload cimport PayloadFacts
from mediaserver.codecs.unit cimport AccessUnit, Assembler


cdef struct OpusToc:
    uint8_t config         # 0 to 31 (RFC 6716, table 2)
    uint8_t stereo
    uint8_t frames         # 1 to 48
    uint32_t duration      # samples at 48 kHz, which is RTP's clock for Opus whatever the sound's own rate


# 1 when the packet obeys R1 to R7 of section 3.4.
cdef int opus_parse(const uint8_t* data, size_t size, OpusToc* toc) noexcept nogil
cdef int opus_facts(const uint8_t* data, size_t size, PayloadFacts* facts) noexcept nogil


cdef class OpusAssembler(Assembler):
    cdef AccessUnit packet(self, const uint8_t* data, size_t size, uint32_t timestamp)
