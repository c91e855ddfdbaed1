"""Layers by the ids in payload descriptors: which may flow from a picture on, and VP8's picture ids without a hole."""

from libc.stdint cimport uint8_t, uint32_t

from mediaserver.codecs.payload cimport CODEC_VP9
from mediaserver.sfu.policy.goals cimport goal_layer, goal_reach
from mediaserver.sfu.policy.layers cimport GATE_DROP, GATE_FORWARD
from mediaserver.sfu.policy.pictures cimport before, remember

cdef enum:
    GUESSED_MAX = 16      # pictures in a row that may be missing and still get a number by their pattern


cdef void raise_reach(LayerGate* gate, const GateInput* packet) noexcept nogil:
    cdef const PayloadFacts* facts = packet.facts
    cdef int goal = goal_reach(gate)
    cdef int temporal = temporal_of(facts)
    if facts.keyframe or gate.reach > goal:
        gate.reach = <uint8_t>goal
    elif packet.codec == CODEC_VP9:
        # The switching up point (RFC 9628, section 4.2) speaks of what follows it.
        if gate.up_ready == UP_SAID:
            gate.reach = <uint8_t>goal
    elif temporal == gate.reach + 1 and temporal <= goal and (facts.switch_up or facts.temporal_id < 0):
        # VP8's layer sync and H.265's TSA and STSA pictures speak of themselves. One layer at a time: what a picture
        # of a layer between refers to is not known.
        gate.reach = <uint8_t>temporal
    gate.up_ready = UP_OPEN


cdef void begin_picture(LayerGate* gate, GatePicture* picture, const GateInput* packet, bint newest) noexcept nogil:
    cdef const GatePicture* earlier
    if newest:
        if packet.facts.keyframe or gate.top > goal_layer(gate):
            gate.top = <uint8_t>goal_layer(gate)
        raise_reach(gate, packet)
        picture.top = gate.top
        picture.temporal = gate.reach
    else:
        earlier = before(gate, packet.sequence)
        if earlier != NULL:
            picture.top = earlier.top
            picture.temporal = earlier.temporal
    picture.verdict = GATE_FORWARD if temporal_of(packet.facts) <= <int>picture.temporal else GATE_DROP


cdef GateVerdict within_picture(LayerGate* gate, GatePicture* picture, const GateInput* packet) noexcept nogil:
    cdef const PayloadFacts* facts = packet.facts
    cdef bint is_newest = picture == gate.pictures + gate.newest
    if packet.codec != CODEC_VP9 or facts.spatial_id < 0:
        return GATE_FORWARD
    if facts.keyframe and is_newest:
        # Its first packet comes after another of it.
        gate.top = <uint8_t>goal_layer(gate)
        picture.top = gate.top
    if facts.spatial_id > picture.top:
        if not is_newest or facts.spatial_id != picture.top + 1 or facts.spatial_id > goal_layer(gate) \
                or facts.inter_predicted:
            return GATE_DROP
        gate.top = facts.spatial_id
        picture.top = gate.top
    if not facts.switch_up:
        gate.up_ready = UP_DENIED
    elif gate.up_ready == UP_OPEN:
        gate.up_ready = UP_SAID
    return GATE_FORWARD


# ---- picture ids of VP8: closed up, for a decoder waits for what is missing


cdef void guess_missing(LayerGate* gate, const GateInput* packet, int step) noexcept nogil:
    cdef GatePicture* picture
    cdef int i, id
    if step < 1 or step - 1 > GUESSED_MAX:
        gate.id_out = (gate.id_out + 1) & 0x7FFF  # the ids have jumped: one number stays out, to tell that
        return
    for i in range(1, step):
        id = (gate.id_in + i) & ((1 << packet.facts.picture_id_bits) - 1)
        picture = remember(gate, id, <uint32_t>gate.highest, 0)
        picture.guessed = 1
        picture.verdict = GATE_DROP if gate.tids[id & 7] > <int>gate.reach else GATE_FORWARD
        if picture.verdict == GATE_FORWARD:
            gate.id_out = (gate.id_out + 1) & 0x7FFF
            picture.id_out = gate.id_out


cdef void number_picture(LayerGate* gate, GatePicture* picture, const GateInput* packet) noexcept nogil:
    gate.id_in = <uint16_t>packet.facts.picture_id
    if picture.verdict == GATE_FORWARD:
        gate.id_out = (gate.id_out + 1) & 0x7FFF
        picture.id_out = gate.id_out


cdef void confirm_guess(LayerGate* gate, GatePicture* picture, const GateInput* packet) noexcept nogil:
    picture.guessed = 0
    picture.sequence = <uint32_t>packet.sequence
    picture.timestamp = packet.timestamp
    if picture.verdict == GATE_FORWARD and temporal_of(packet.facts) > picture.temporal:
        picture.verdict = GATE_DROP
    elif picture.verdict == GATE_DROP and temporal_of(packet.facts) <= picture.temporal:
        # Others need it, and it has no number.
        if temporal_of(packet.facts) == 0:
            gate.open = 0
        else:
            gate.reach = <uint8_t>min(<int>gate.reach, temporal_of(packet.facts) - 1)
