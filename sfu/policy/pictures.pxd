"""The pictures that a gate remembers: for late packets and retransmissions of what was decided long ago."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from mediaserver.codecs.payload cimport CODEC_VP8
from mediaserver.sfu.policy.layers cimport GateInput, GatePicture, LayerGate, is_described


cdef inline uint32_t picture_key(const GateInput* packet) noexcept nogil:
    """What the packets of one picture have in common; with a dependency descriptor, those of one of its layers."""
    if packet.codec == CODEC_VP8 and packet.facts.picture_id >= 0:
        return packet.facts.picture_id
    if is_described(packet):
        return packet.facts.frame_number
    return packet.timestamp

# What was decided for the picture of a packet, NULL when it is not remembered.
cdef const GatePicture* gate_picture(const LayerGate* gate, int encoding, const GateInput* packet) noexcept nogil
# The marker bit with which a packet leaves: the last one of the highest layer that is forwarded ends the picture.
cdef uint8_t gate_marker(const GatePicture* picture, const GateInput* packet) noexcept nogil
# A new one, with the gate's present offsets and layers, in the place of the oldest.
cdef GatePicture* remember(LayerGate* gate, uint32_t key, uint32_t sequence, uint32_t timestamp) noexcept nogil
# The latest picture of this stretch that began before `sequence`, NULL none.
cdef const GatePicture* before(const LayerGate* gate, uint64_t sequence) noexcept nogil
