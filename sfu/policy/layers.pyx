"""Which packets of a track's encodings and layers go to one viewer, and where that may change.

Three kinds of streams, by what their packets say:

- with a dependency descriptor, any codec: the frames of one decode target, changed where the descriptor says that it can
  be entered;
- VP9's own descriptor: spatial layers up where a layer frame refers to no earlier picture, down at the next picture;
- temporal layers alone (VP8, H.264, H.265): up at a picture that says so, down at once.

Of simulcast encodings one flows, until a keyframe of the wanted one has come.
"""

from libc.stdint cimport int16_t, int32_t
from libc.string cimport memset

from mediaserver.codecs.dependency cimport DependencyStructure
from mediaserver.codecs.payload cimport (
    CODEC_VP8,
    CODEC_VP9,
    DESCRIBED_FAR,
    DESCRIBED_LAYERS,
    DESCRIBED_NUMBER,
)

cdef enum:
    ALL_LAYERS = 127
    NUMBERED_PICTURE = 1
    NUMBERED_TL0 = 2
    NUMBERED_KEY = 4
    NUMBERED_FRAME = 8
    GUESSED_MAX = 16      # pictures in a row that may be missing and still get a number by their pattern
    WINDOW = 64
    # Whether higher temporal layers may follow the newest picture: nothing of it was forwarded yet, a packet denied it,
    # all did say so.
    UP_OPEN = 0
    UP_DENIED = 1
    UP_SAID = 2


cdef void gate_init(LayerGate* gate, int encodings) noexcept nogil:
    cdef int i
    memset(gate, 0, sizeof(LayerGate))
    gate.encodings = <uint8_t>min(max(encodings, 1), <int>GATE_ENCODINGS)
    gate.plain = gate.encodings == 1
    gate.plain_encoding = -1
    gate.encoding = -1
    gate.spatial = -1
    gate.temporal = -1
    gate.goal_spatial = GATE_ALL
    gate.goal_temporal = GATE_ALL
    gate.top = ALL_LAYERS
    gate.reach = ALL_LAYERS
    gate.want_key_of = 0
    for i in range(8):
        gate.tids[i] = -1


# ---- what is wanted


cdef inline int goal_layer(const LayerGate* gate) noexcept nogil:
    """The highest spatial layer within an encoding."""
    if gate.encodings > 1 or gate.goal_spatial < 0:
        return ALL_LAYERS
    return gate.goal_spatial


cdef int goal_encoding(const LayerGate* gate) noexcept nogil:
    """Of the encodings that come the highest that is wanted, else the lowest."""
    cdef int i
    cdef int wanted = gate.goal_spatial
    if gate.encodings == 1:
        return 0
    if wanted < 0 or wanted >= gate.encodings:
        wanted = gate.encodings - 1
    if not gate.seen:
        return wanted
    for i in range(wanted, -1, -1):
        if (gate.seen >> i) & 1:
            return i
    for i in range(wanted + 1, gate.encodings):
        if (gate.seen >> i) & 1:
            return i
    return wanted


cdef int goal_reach(const LayerGate* gate) noexcept nogil:
    """The highest temporal layer. On the way up to another encoding what flows meanwhile is not thinned any further."""
    cdef int wanted = gate.goal_temporal
    if wanted < 0:
        return ALL_LAYERS
    if gate.open and goal_encoding(gate) > gate.encoding and gate.reach > wanted:
        return gate.reach
    return wanted


cdef void tell_state(LayerGate* gate) noexcept nogil:
    cdef int goal = goal_encoding(gate)
    gate.want_key_of = -1
    gate.spatial = -1
    gate.temporal = -1
    if not gate.open:
        gate.want_key_of = <int8_t>goal
        return
    if goal != gate.encoding:
        gate.want_key_of = <int8_t>goal
    elif gate.layer_count > 1 and min(goal_layer(gate), gate.layer_count - 1) > gate.top:
        gate.want_key_of = gate.encoding
    gate.spatial = gate.encoding if gate.encodings > 1 else <int8_t>max(min(gate.top, gate.layer_count - 1), 0)
    if gate.temporal_count:
        gate.temporal = <int8_t>min(gate.reach, gate.temporal_count - 1)


cdef void leave_plain(LayerGate* gate) noexcept nogil:
    """From here on pictures are decided one by one; the one under way goes on, and all before it has been forwarded."""
    cdef GatePicture* picture
    if not gate.plain:
        return
    gate.plain = 0
    gate.plain_until = gate.highest
    gate.plain_encoding = gate.encoding
    gate.target_count = 0
    gate.window = ~<uint64_t>0
    gate.window_head = gate.frame_out
    if gate.open:
        picture = remember(gate, gate.plain_key, <uint32_t>gate.highest, gate.plain_timestamp)
        picture.verdict = GATE_FORWARD
        if gate.plain_ids:
            picture.id_out = gate.id_out


cdef void gate_target(LayerGate* gate, int spatial, int temporal) noexcept nogil:
    if spatial == gate.goal_spatial and temporal == gate.goal_temporal:
        return
    if not 0 <= spatial < ALL_LAYERS:
        spatial = GATE_ALL
    if not 0 <= temporal < ALL_LAYERS:
        temporal = GATE_ALL
    gate.goal_spatial = <int8_t>spatial
    gate.goal_temporal = <int8_t>temporal
    if spatial >= 0 or temporal >= 0:
        leave_plain(gate)
    gate.version = 0
    tell_state(gate)


cdef void gate_gone(LayerGate* gate, int encoding) noexcept nogil:
    if 0 <= encoding < GATE_ENCODINGS:
        gate.seen &= ~<uint8_t>(1 << encoding)
        tell_state(gate)


cdef void gate_restart(LayerGate* gate, int encoding, bint new_source) noexcept nogil:
    cdef uint32_t i
    if new_source:
        leave_plain(gate)
        if gate.plain_encoding == encoding:
            gate.plain_encoding = -1
        for i in range(gate.count):
            if gate.pictures[i].encoding == encoding:
                gate.pictures[i].encoding = -1
    if encoding < 0 or encoding == gate.encoding:
        gate.open = 0
    tell_state(gate)


# ---- pictures that are remembered


cdef inline uint32_t picture_key(const GateInput* packet) noexcept nogil:
    """What the packets of one picture have in common; with a dependency descriptor, those of one of its layers."""
    if packet.codec == CODEC_VP8 and packet.facts.picture_id >= 0:
        return packet.facts.picture_id
    if is_described(packet):
        return packet.facts.frame_number
    return packet.timestamp


cdef const GatePicture* gate_picture(const LayerGate* gate, int encoding, const GateInput* packet) noexcept nogil:
    cdef uint32_t key = picture_key(packet)
    cdef const GatePicture* picture
    cdef uint32_t i
    for i in range(gate.count):
        picture = &gate.pictures[(gate.newest + GATE_PICTURES - i) % GATE_PICTURES]
        # Ids of seven bits come again while they are remembered.
        if picture.key == key and picture.encoding == encoding and (
            picture.guessed or picture.timestamp == packet.timestamp
        ):
            return picture
    return NULL


cdef GatePicture* remember(LayerGate* gate, uint32_t key, uint32_t sequence, uint32_t timestamp) noexcept nogil:
    cdef GatePicture* picture
    gate.newest = (gate.newest + 1) % GATE_PICTURES
    if gate.count < GATE_PICTURES:
        gate.count += 1
    picture = &gate.pictures[gate.newest]
    memset(picture, 0, sizeof(GatePicture))
    picture.key = key
    picture.timestamp = timestamp
    picture.sequence = sequence
    picture.encoding = gate.encoding
    picture.stretch = gate.stretch
    picture.id_out = gate.id_offset
    picture.tl0_offset = gate.tl0_offset
    picture.key_offset = gate.key_offset
    picture.frame_offset = gate.frame_offset
    picture.template_offset = gate.template_offset
    picture.target = gate.target
    picture.target_count = gate.target_count
    picture.top = gate.top
    picture.temporal = gate.reach
    return picture


cdef const GatePicture* before(const LayerGate* gate, uint64_t sequence) noexcept nogil:
    """The latest picture of this stretch that began before `sequence`, NULL none."""
    cdef const GatePicture* found = NULL
    cdef const GatePicture* picture
    cdef uint32_t i
    for i in range(gate.count):
        picture = &gate.pictures[i]
        if picture.stretch != gate.stretch or picture.encoding != gate.encoding or picture.guessed:
            continue
        if <int32_t>(<uint32_t>sequence - picture.sequence) <= 0:
            continue
        if found == NULL or <int32_t>(picture.sequence - found.sequence) > 0:
            found = picture
    return found


cdef uint8_t gate_marker(const GatePicture* picture, const GateInput* packet) noexcept nogil:
    cdef const PayloadFacts* facts = packet.facts
    if picture != NULL and facts.end and facts.spatial_id >= 0 and facts.spatial_id == picture.top:
        return 1
    return packet.marker


# ---- decode targets


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
    """What is wanted, in terms of the structure in force."""
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
    """By the dependency descriptor."""
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


# ---- spatial and temporal ids


cdef inline int temporal_of(const PayloadFacts* facts) noexcept nogil:
    """A picture to which no other refers is as good as one of a second temporal layer."""
    if facts.temporal_id >= 0:
        return facts.temporal_id
    return 1 if facts.discardable else 0


cdef void raise_reach(LayerGate* gate, const GateInput* packet) noexcept nogil:
    """At the first packet of the newest picture: the temporal layers that may flow from here on."""
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
    """By the spatial and temporal ids."""
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
    """Of a picture that is forwarded: whether this packet's spatial layer is."""
    cdef const PayloadFacts* facts = packet.facts
    cdef bint is_newest = picture == &gate.pictures[gate.newest]
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


cdef inline int signed_step(const PayloadFacts* facts, uint16_t earlier) noexcept nogil:
    """From one picture id to this one, modulo its 7 or 15 bits."""
    cdef int size = 1 << facts.picture_id_bits
    cdef int step = (facts.picture_id - earlier) & (size - 1)
    return step - size if step >= size // 2 else step


cdef void guess_missing(LayerGate* gate, const GateInput* packet, int step) noexcept nogil:
    """The pictures between the newest and this one may still come: keep a number for each that will then be sent."""
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
    """A VP8 picture that follows all before it."""
    gate.id_in = <uint16_t>packet.facts.picture_id
    if picture.verdict == GATE_FORWARD:
        gate.id_out = (gate.id_out + 1) & 0x7FFF
        picture.id_out = gate.id_out


cdef void confirm_guess(LayerGate* gate, GatePicture* picture, const GateInput* packet) noexcept nogil:
    """A picture that was missing has come."""
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


# ---- a packet


cdef void open_encoding(LayerGate* gate, int encoding, const GateInput* packet) noexcept nogil:
    """A keyframe: everything that follows goes on from the numbers that were sent before."""
    cdef const PayloadFacts* facts = packet.facts
    if gate.numbered:
        leave_plain(gate)
    gate.switched = gate.encoding >= 0 and gate.encoding != encoding
    gate.opened = 1
    gate.open = 1
    gate.encoding = <int8_t>encoding
    gate.stretch += 1
    gate.opened_at = packet.sequence
    gate.highest = packet.sequence - 1
    gate.reach = <uint8_t>(ALL_LAYERS if gate.goal_temporal < 0 else gate.goal_temporal)
    gate.top = <uint8_t>goal_layer(gate)
    gate.up_ready = UP_DENIED
    gate.window = 0
    gate.window_head = facts.frame_number
    gate.version = 0
    if gate.switched:
        gate.layer_count = 0
        gate.temporal_count = 0
    if facts.picture_id >= 0:
        if not gate.numbered & NUMBERED_PICTURE:
            gate.id_out = (facts.picture_id - 1) & 0x7FFF
        gate.id_in = <uint16_t>(facts.picture_id - 1) & ((1 << facts.picture_id_bits) - 1)
        gate.id_offset = (gate.id_out + 1 - facts.picture_id) & 0x7FFF
    if facts.tl0_pic_idx >= 0 and gate.numbered & NUMBERED_TL0:
        gate.tl0_offset = <uint8_t>(gate.tl0_out + 1 - facts.tl0_pic_idx)
    if facts.key_idx >= 0 and gate.numbered & NUMBERED_KEY:
        gate.key_offset = (gate.key_out + 1 - facts.key_idx) & 0x1F
    if is_described(packet):
        if gate.numbered & NUMBERED_FRAME:
            gate.frame_offset = gate.frame_out + 1 - facts.frame_number
            # Behind those before, so that a late packet of the old structure is not taken for one of the new.
            gate.template_offset = (gate.template_first + gate.template_count
                                    - packet.dependency.structure.template_offset) & 0x3F
        gate.masked = 0


cdef bint may_open(const LayerGate* gate, int encoding, const PayloadFacts* facts) noexcept nogil:
    cdef int goal
    if not facts.keyframe:
        return False
    goal = goal_encoding(gate)
    return encoding == goal or (not gate.open and encoding < goal)


cdef inline void note_sent(LayerGate* gate, const GatePicture* picture, const GateInput* packet) noexcept nogil:
    """The numbers of the newest packet that was sent."""
    cdef const PayloadFacts* facts = packet.facts
    if facts.picture_id >= 0:
        gate.numbered |= NUMBERED_PICTURE
        if packet.codec != CODEC_VP8:
            gate.id_out = <uint16_t>(facts.picture_id + picture.id_out) & 0x7FFF if picture != NULL \
                else <uint16_t>facts.picture_id
        elif picture == NULL:
            gate.id_out = gate.id_in = <uint16_t>facts.picture_id
    if facts.tl0_pic_idx >= 0:
        gate.numbered |= NUMBERED_TL0
        gate.tl0_out = <uint8_t>(facts.tl0_pic_idx + gate.tl0_offset)
    if facts.key_idx >= 0:
        gate.numbered |= NUMBERED_KEY
        gate.key_out = (facts.key_idx + gate.key_offset) & 0x1F
    if facts.described & DESCRIBED_NUMBER:
        gate.numbered |= NUMBERED_FRAME
        gate.frame_out = facts.frame_number + gate.frame_offset


cdef bint learn(LayerGate* gate, const GateInput* packet) noexcept nogil:
    """What the stream consists of; whether that is news."""
    cdef const PayloadFacts* facts = packet.facts
    cdef int layers = max(<int>facts.layer_count, facts.spatial_id + 1)
    cdef bint news = False
    if layers > gate.layer_count:
        gate.layer_count = <uint8_t>layers
        news = True
    if facts.temporal_id >= gate.temporal_count:
        gate.temporal_count = <uint8_t>(facts.temporal_id + 1)
        news = True
    if packet.codec == CODEC_VP8 and facts.picture_id >= 0:
        gate.tids[facts.picture_id & 7] = facts.temporal_id
    return news


cdef GatePicture* place(LayerGate* gate, const GateInput* packet) noexcept nogil:
    """Decides for a picture of which this is the first packet to come."""
    cdef GatePicture* picture
    cdef bint newest = packet.sequence > gate.highest
    cdef bint numbered = packet.codec == CODEC_VP8 and packet.facts.picture_id >= 0
    cdef int step = signed_step(packet.facts, gate.id_in) if numbered else 1
    if numbered and newest and step != 1:
        guess_missing(gate, packet, step)
    picture = remember(gate, picture_key(packet), <uint32_t>packet.sequence, packet.timestamp)
    if is_described(packet) and not numbered:
        begin_frame(gate, picture, packet, newest)
    else:
        begin_picture(gate, picture, packet, newest)
        if is_described(packet):
            follow_ids(gate, picture, packet, newest)
    if numbered:
        if newest:
            number_picture(gate, picture, packet)
        else:
            picture.verdict = GATE_DROP  # its number was closed up long ago
    picture.attach = gate.opened
    return picture


cdef void follow_ids(LayerGate* gate, GatePicture* picture, const GateInput* packet, bint newest) noexcept nogil:
    """VP8 that has a descriptor as well: the temporal layers decide, and the decode targets are told by them."""
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


cdef GateVerdict decide_layers(LayerGate* gate, int encoding, const GateInput* packet) noexcept nogil:
    cdef GatePicture* picture = <GatePicture*>gate_picture(gate, encoding, packet)
    cdef GateVerdict verdict
    if picture != NULL and picture.stretch != gate.stretch:
        picture = NULL
    if picture == NULL:
        if packet.sequence <= gate.plain_until and encoding == gate.plain_encoding \
                and packet.sequence <= gate.highest and gate.opened_at <= gate.plain_until:
            return GATE_FORWARD
        picture = place(gate, packet)
    elif picture.guessed:
        confirm_guess(gate, picture, packet)
    elif packet.facts.keyframe and picture == &gate.pictures[gate.newest]:
        raise_reach(gate, packet)
    if picture.verdict == GATE_DROP:
        return GATE_DROP
    verdict = GATE_FORWARD if is_described(packet) else within_picture(gate, picture, packet)
    if verdict == GATE_FORWARD:
        gate.marker = gate_marker(picture, packet)
        if packet.sequence > gate.highest:
            note_sent(gate, picture, packet)
    return verdict


cdef GateVerdict gate_decide(LayerGate* gate, int encoding, const GateInput* packet) noexcept nogil:
    cdef GateVerdict verdict = GATE_FORWARD
    cdef bint news
    gate.switched = 0
    gate.opened = 0
    gate.marker = packet.marker
    if not 0 <= encoding < GATE_ENCODINGS:
        return GATE_WAIT_KEY
    if not (gate.seen >> encoding) & 1:
        gate.seen |= <uint8_t>(1 << encoding)
        tell_state(gate)
    if not gate.open or encoding != gate.encoding:
        if not may_open(gate, encoding, packet.facts):
            return GATE_WAIT_KEY
        open_encoding(gate, encoding, packet)
    if packet.sequence < gate.opened_at:
        return GATE_DROP
    news = learn(gate, packet)
    if gate.plain:
        if packet.sequence > gate.highest:
            note_sent(gate, NULL, packet)
            if is_described(packet) and gate.version != packet.dependency.version:
                adopt_structure(gate, packet.dependency)
            gate.plain_key = picture_key(packet)
            gate.plain_timestamp = packet.timestamp
            gate.unit = packet.timestamp  # what is wanted may change in the middle of a picture
            gate.plain_ids = packet.codec == CODEC_VP8 and packet.facts.picture_id >= 0
    else:
        verdict = decide_layers(gate, encoding, packet)
    if packet.sequence > gate.highest:
        gate.highest = packet.sequence
    if news or gate.opened or not gate.plain:
        tell_state(gate)
    return verdict
