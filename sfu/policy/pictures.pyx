"""The pictures that a gate remembers: for late packets and retransmissions of what was decided long ago."""

from libc.stdint cimport int32_t
from libc.stdlib cimport calloc
from libc.string cimport memset

from mediaserver.codecs.payload cimport PayloadFacts
from mediaserver.sfu.policy.layers cimport GATE_PICTURES


cdef const GatePicture* gate_picture(const LayerGate* gate, int encoding, const GateInput* packet) noexcept nogil:
    cdef uint32_t key = picture_key(packet)
    cdef const GatePicture* picture
    cdef uint32_t i
    for i in range(gate.count):
        picture = &gate.pictures[(gate.newest + gate.room - i) % gate.room]
        # Ids of seven bits come again while they are remembered.
        if picture.key == key and picture.encoding == encoding and (
            picture.guessed or picture.timestamp == packet.timestamp
        ):
            return picture
    return NULL


cdef void make_room(LayerGate* gate) noexcept nogil:
    """Where no layers are told apart nothing is remembered, and most viewers never need it."""
    gate.pictures = <GatePicture*>calloc(GATE_PICTURES, sizeof(GatePicture))
    gate.room = GATE_PICTURES
    if gate.pictures == NULL:
        gate.pictures = &gate.only
        gate.room = 1


cdef GatePicture* remember(LayerGate* gate, uint32_t key, uint32_t sequence, uint32_t timestamp) noexcept nogil:
    cdef GatePicture* picture
    if gate.pictures == NULL:
        make_room(gate)
    gate.newest = (gate.newest + 1) % gate.room
    if gate.count < gate.room:
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
