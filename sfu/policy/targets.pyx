"""Decode targets of the dependency descriptor: the frames of one flow, changed where a frame says that it can be entered."""

from libc.stdint cimport int16_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.codecs.dependency cimport DependencyStructure
from mediaserver.codecs.payload cimport DESCRIBED_FAR, DESCRIBED_LAYERS, PayloadFacts
from mediaserver.sfu.policy.goals cimport goal_layer, goal_reach
from mediaserver.sfu.policy.layers cimport GATE_DROP, GATE_FORWARD
from mediaserver.sfu.policy.pictures cimport before

cdef enum:
    WINDOW = 64


cdef inline int rank(const DependencyStructure* structure, unsigned target) noexcept nogil:
    return structure.target_spatial[target] * 8 + structure.target_temporal[target]


cdef int best_of(const DependencyStructure* structure, uint32_t targets) noexcept nogil:
    """The highest picture first, then the highest rate; -1 of none."""
    cdef int found = -1
    cdef int i
    for i in range(structure.target_count):
        if (targets >> i) & 1 and (found < 0 or rank(structure, i) > rank(structure, found)):
            found = i
    return found


cdef void adopt_structure(LayerGate* gate, const DependencyState* state) noexcept nogil:
    cdef const DependencyStructure* structure = &state.structure
    cdef int spatial = goal_layer(gate)
    cdef int temporal = goal_reach(gate)
    cdef int lowest = -1
    cdef int i, goal
    gate.version = state.version
    gate.target_count = structure.target_count
    gate.template_count = structure.template_count
    gate.template_first = (structure.template_offset + gate.template_offset) & 0x3F
    gate.layer_count = structure.layer_count
    gate.allowed = 0
    for i in range(structure.target_count):
        if not (state.active >> i) & 1:
            continue
        if structure.target_spatial[i] <= spatial and structure.target_temporal[i] <= temporal:
            gate.allowed |= <uint32_t>1 << i
        if lowest < 0 or rank(structure, i) < rank(structure, lowest):
            lowest = i
        gate.temporal_count = max(gate.temporal_count, structure.target_temporal[i] + 1)
    goal = best_of(structure, gate.allowed)
    if goal < 0:
        goal = max(lowest, 0)  # nothing so low is sent: the lowest there is
        gate.allowed = <uint32_t>1 << goal
    gate.goal_target = <uint8_t>goal
    if gate.target >= structure.target_count:
        gate.target = <uint8_t>goal


cdef bint is_decodable(const LayerGate* gate, const PayloadFacts* facts) noexcept nogil:
    """Whether all that the frame refers to was forwarded."""
    cdef int distance = <int16_t>(facts.frame_number - gate.window_head)
    cdef int d, back
    if facts.described & DESCRIBED_FAR:
        return False
    for d in range(1, 33):
        if (facts.depends >> (d - 1)) & 1:
            back = d - distance
            if not 0 <= back < WINDOW or not (gate.window >> back) & 1:
                return False
    return True


cdef void note_frame(LayerGate* gate, uint16_t number) noexcept nogil:
    """That frame is forwarded."""
    cdef int distance = <int16_t>(number - gate.window_head)
    if distance > 0:
        gate.window = gate.window << distance if distance < WINDOW else 0
        gate.window_head = number
        distance = 0
    if -distance < WINDOW:
        gate.window |= <uint64_t>1 << -distance


cdef void choose_target(LayerGate* gate, const GateInput* packet, bint new_unit) noexcept nogil:
    """At the first packet of the newest frame: another decode target, where this frame allows it."""
    cdef const PayloadFacts* facts = packet.facts
    cdef const DependencyStructure* structure = &packet.dependency.structure
    cdef uint32_t within
    cdef int found
    if gate.target == gate.goal_target or gate.version != packet.dependency.version:
        return
    # Up, by as much as this frame opens.
    if is_decodable(gate, facts):
        found = best_of(structure, facts.switches & gate.allowed)
        if found >= 0 and (rank(structure, found) > rank(structure, gate.target)
                           or (new_unit and not (gate.allowed >> gate.target) & 1)):
            gate.target = <uint8_t>found
            return
    if new_unit:
        # Down, to what is a part of what has flowed so far.
        within = structure.contains[gate.target] & gate.allowed
        found = best_of(structure, within)
        if found >= 0 and found != gate.target and not (gate.allowed >> gate.target) & 1:
            gate.target = <uint8_t>found


cdef void tell_mask(LayerGate* gate, GatePicture* picture, const GateInput* packet) noexcept nogil:
    """A decoder waits for whole chains of the targets that it is told of: only those that flow."""
    cdef const DependencyState* state = packet.dependency
    cdef uint32_t full = 0xFFFFFFFF
    if state.structure.target_count < 32:
        full = (<uint32_t>1 << state.structure.target_count) - 1
    if gate.target < state.structure.target_count:
        picture.mask = state.structure.contains[gate.target] & state.active
    if not picture.mask:
        picture.mask = full
    picture.target = gate.target
    picture.target_count = state.structure.target_count
    gate.masked = gate.masked or picture.mask != full
    picture.masked = gate.masked


cdef void begin_frame(LayerGate* gate, GatePicture* picture, const GateInput* packet, bint newest) noexcept nogil:
    cdef const PayloadFacts* facts = packet.facts
    cdef const DependencyStructure* structure = &packet.dependency.structure
    cdef const GatePicture* earlier
    picture.verdict = GATE_DROP
    if not facts.described & DESCRIBED_LAYERS:
        return  # its structure is not in force any more, or has not come
    if newest:
        # The state may be ahead by the rest of a batch.
        if gate.target_count == 0:
            gate.target = <uint8_t>max(best_of(structure, packet.dependency.active), 0)
        if gate.version != packet.dependency.version and facts.version == packet.dependency.version & 0xFF:
            adopt_structure(gate, packet.dependency)
        if facts.keyframe and facts.depends == 0:
            gate.target = gate.goal_target
        else:
            choose_target(gate, packet, packet.timestamp != gate.unit)
        gate.unit = packet.timestamp
        gate.top = structure.target_spatial[gate.target]
        gate.reach = structure.target_temporal[gate.target]
        tell_mask(gate, picture, packet)
    else:
        earlier = before(gate, packet.sequence)
        if earlier != NULL:
            picture.target = earlier.target
    picture.top = structure.target_spatial[picture.target]
    if (facts.targets >> picture.target) & 1:
        picture.verdict = GATE_FORWARD
        note_frame(gate, facts.frame_number)


cdef void follow_ids(LayerGate* gate, GatePicture* picture, const GateInput* packet, bint newest) noexcept nogil:
    cdef const DependencyStructure* structure = &packet.dependency.structure
    cdef uint32_t within = 0
    cdef int i
    if not newest or not structure.target_count:
        return
    for i in range(structure.target_count):
        if structure.target_temporal[i] <= gate.reach:
            within |= <uint32_t>1 << i
    gate.target = <uint8_t>max(best_of(structure, within), 0)
    gate.target_count = structure.target_count
    gate.template_count = structure.template_count
    tell_mask(gate, picture, packet)
