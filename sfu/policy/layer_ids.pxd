"""Layers by the ids in payload descriptors: which may flow from a picture on, and VP8's picture ids without a hole."""

from libc.stdint cimport uint16_t

from mediaserver.codecs.payload cimport PayloadFacts
from mediaserver.sfu.policy.layers cimport GateInput, GatePicture, GateVerdict, LayerGate

# Whether higher temporal layers may follow the newest picture: nothing of it was forwarded yet, a packet denied it,
# all did say so.
cdef enum:
    UP_OPEN = 0
    UP_DENIED = 1
    UP_SAID = 2


cdef inline int temporal_of(const PayloadFacts* facts) noexcept nogil:
    """A picture to which no other refers is as good as one of a second temporal layer."""
    if facts.temporal_id >= 0:
        return facts.temporal_id
    return 1 if facts.discardable else 0


cdef inline int signed_step(const PayloadFacts* facts, uint16_t earlier) noexcept nogil:
    """From one picture id to this one, modulo its 7 or 15 bits."""
    cdef int size = 1 << facts.picture_id_bits
    cdef int step = (facts.picture_id - earlier) & (size - 1)
    return step - size if step >= size // 2 else step


# At the first packet of the newest picture: the temporal layers that may flow from here on.
cdef void raise_reach(LayerGate* gate, const GateInput* packet) noexcept nogil
# By the spatial and temporal ids.
cdef void begin_picture(LayerGate* gate, GatePicture* picture, const GateInput* packet, bint newest) noexcept nogil
# Of a picture that is forwarded: whether this packet's spatial layer is.
cdef GateVerdict within_picture(LayerGate* gate, GatePicture* picture, const GateInput* packet) noexcept nogil
# The pictures between the newest and this one may still come: keep a number for each that will then be sent.
cdef void guess_missing(LayerGate* gate, const GateInput* packet, int step) noexcept nogil
# A VP8 picture that follows all before it.
cdef void number_picture(LayerGate* gate, GatePicture* picture, const GateInput* packet) noexcept nogil
# A picture that was missing has come.
cdef void confirm_guess(LayerGate* gate, GatePicture* picture, const GateInput* packet) noexcept nogil
