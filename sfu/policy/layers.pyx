"""Which packets of a track's encodings and layers go to one viewer, and where that may change.

Three kinds of streams, by what their packets say:

- with a dependency descriptor, any codec: the frames of one decode target, changed where the descriptor says that it can
  be entered;
- VP9's own descriptor: spatial layers up where a layer frame refers to no earlier picture, down at the next picture;
- temporal layers alone (VP8, H.264, H.265): up at a picture that says so, down at once.

Of simulcast encodings one flows, until a keyframe of the wanted one has come.
"""

from libc.stdlib cimport free
from libc.string cimport memset

from mediaserver.codecs.payload cimport CODEC_VP8, DESCRIBED_NUMBER
from mediaserver.sfu.policy.goals cimport ALL_LAYERS, goal_encoding, goal_layer
from mediaserver.sfu.policy.layer_ids cimport (
    UP_DENIED,
    begin_picture,
    confirm_guess,
    guess_missing,
    number_picture,
    raise_reach,
    signed_step,
    within_picture,
)
from mediaserver.sfu.policy.pictures cimport gate_marker, gate_picture, picture_key, remember
from mediaserver.sfu.policy.targets cimport adopt_structure, begin_frame, follow_ids

cdef enum:
    NUMBERED_PICTURE = 1
    NUMBERED_TL0 = 2
    NUMBERED_KEY = 4
    NUMBERED_FRAME = 8


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


cdef void gate_close(LayerGate* gate) noexcept nogil:
    if gate != NULL and gate.pictures != &gate.only:
        free(gate.pictures)
        gate.pictures = NULL


# ---- what is wanted


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
    elif packet.facts.keyframe and picture == gate.pictures + gate.newest:
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
