"""A viewer's line is shared out among its legs: what the policy decides, carried out.

The policy sees operating points with measured rates, one for each layer that a publisher sends; here they are gathered
from the encodings, and the verdict is laid upon the legs' gates.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from mediaserver.sfu.policy.allocator cimport (
    ALLOC_LAYERS,
    ALLOC_NO_LAYER,
    ALLOC_OFF,
    ALLOC_PAUSED_LINE,
    ALLOC_TRACKS,
    AllocLayer,
    AllocTrack,
    alloc_demand,
    allocate,
)
from mediaserver.sfu.policy.bwe.estimator cimport estimator_demand
from mediaserver.sfu.policy.layers cimport gate_gone, gate_target
from mediaserver.sfu.stream.agenda cimport make_hot
from mediaserver.sfu.stream.catchup cimport leg_begin
from mediaserver.sfu.stream.leg cimport leg_restart
from mediaserver.sfu.stream.meter cimport meter_bps, meter_pictures
from mediaserver.sfu.stream.report cimport REPORT_LEG_QUALITY, report
from mediaserver.sfu.stream.sending cimport park, sender_limits
from mediaserver.sfu.stream.state cimport ALIVE_US, Encoding, Sender, Track
from mediaserver.sfu.stream.wanted cimport unsent_bps

cdef enum:
    SOON_US = 50000
    PARKED_US = 1000000      # a picture that the line may carry soon is not left out for as long
    AGAIN_US = 500000        # a verdict stands for so long, if nothing happens
    LEAN_US = 5000000        # at least so long copies of sound are left out, or sent
    LENIENT_US = 2000000     # after the beginning, and after an outage
    MOVED_PERCENT = 4        # a change of the estimate that is a reason for another

cdef uint64_t UNLIMITED = 1000000000000
cdef double LEAN_LOST = 0.01     # copies of sound are worth their rate where more is lost


# ---- what there is


cdef const Encoding* with_size(const Encoding* encoding) noexcept nogil:
    """Of an encoding no key picture of which has been seen it is known that it is no smaller than those below it."""
    cdef int i
    for i in range(encoding.index, -1, -1):
        if encoding.track.encodings[i].height:
            return &encoding.track.encodings[i]
    return encoding


cdef void add_point(AllocTrack* entry, const Encoding* encoding, int spatial, int temporal, int within) noexcept nogil:
    """An operating point: the layers of `encoding` up to `within` and `temporal`; `spatial` is what a gate calls it."""
    cdef const Encoding* sized
    cdef AllocLayer* layer
    cdef int below
    if entry.layer_count == ALLOC_LAYERS:
        return
    layer = &entry.layers[entry.layer_count]
    entry.layer_count += 1
    below = encoding.meter.spatial_count - 1 - within
    layer.bps = meter_bps(&encoding.meter, within, temporal)
    layer.frames = <unsigned short>meter_pictures(&encoding.meter, temporal)
    sized = with_size(encoding)
    layer.width = <unsigned short>(sized.width >> below)
    layer.height = <unsigned short>(sized.height >> below)
    layer.spatial = <signed char>spatial
    layer.temporal = <signed char>(temporal if encoding.meter.temporal_count > 1 else -1)
    layer.available = 1


cdef void add_points(AllocTrack* entry, const Track* track, int64_t now) noexcept nogil:
    cdef const Encoding* encoding
    cdef int i, s, t
    entry.layer_count = 0
    for i in range(track.config.encoding_count - 1, -1, -1):
        encoding = &track.encodings[i]
        if encoding.active == NULL or now - encoding.active.last_arrival > ALIVE_US or not encoding.meter.measured:
            continue
        for s in range(encoding.meter.spatial_count):
            for t in range(encoding.meter.temporal_count):
                if track.config.encoding_count > 1:
                    if s + 1 == encoding.meter.spatial_count:
                        add_point(entry, encoding, i, t, s)
                else:
                    add_point(entry, encoding, s if encoding.meter.spatial_count > 1 else -1, t, s)


cdef void add_sound(AllocTrack* entry, const Leg* leg, int64_t now) noexcept nogil:
    cdef const Encoding* encoding = &leg.track.encodings[0]
    entry.layer_count = 0
    if encoding.active != NULL and now - encoding.active.last_arrival <= ALIVE_US and encoding.meter.measured:
        add_point(entry, encoding, -1, 0 if leg.lean else encoding.meter.temporal_count - 1, 0)
        entry.layers[0].temporal = -1


cdef void choose_copies(EngineState* engine, Peer* peer, int is_thin) noexcept nogil:
    """Copies of sound (RED) double its rate: on a thin line that loses nothing they would take it from a floor. While
    nothing is known of the line yet, the first probes may be too much for it."""
    cdef Sender* sender = peer.sender
    cdef int lean = sender_limits(engine, sender) and is_thin and sender.estimator.lost_share < LEAN_LOST \
        and sender.estimator.measured
    cdef Leg* leg
    cdef uint32_t i
    if lean != sender.lean and engine.now - sender.lean_since >= LEAN_US:
        sender.lean = lean
        sender.lean_since = engine.now
        sender.allocate_due = engine.now
    for i in range(peer.leg_count):
        leg = peer.legs[i]
        if leg.track.config.video or leg.config.rtx_ssrc or leg.lean == sender.lean:
            continue
        leg.lean = sender.lean
        leg.floor_out = leg.renumber.next_out  # what left in the other form can't be repeated


cdef void describe(AllocTrack* entry, const Leg* leg, int64_t now) noexcept nogil:
    entry.id = leg.track.id
    entry.rank = leg.config.worth.rank
    entry.video = leg.track.config.video
    entry.frames_first = leg.config.worth.frames_first
    entry.pinned_off = leg.config.paused or leg.track.muted
    entry.floor_bps = leg.config.worth.floor_bps
    entry.floor_frames = leg.config.worth.floor_frames
    entry.least_height = leg.config.worth.least_height
    entry.max_height = leg.config.worth.max_height
    entry.desired_height = leg.config.worth.desired_height
    if entry.video:
        add_points(entry, leg.track, now)
    else:
        add_sound(entry, leg, now)


# ---- what comes of it


cdef void tell_quality(EngineState* engine, Leg* leg, const AllocTrack* entry) noexcept nogil:
    cdef const AllocLayer* layer = NULL
    cdef uint64_t value = 0
    if entry.index >= 0:
        layer = &entry.layers[<int>entry.index]
    leg.stats.frames = layer.frames if layer != NULL else 0
    leg.stats.width = layer.width if layer != NULL else 0
    leg.stats.height = layer.height if layer != NULL else 0
    if entry.reason < ALLOC_OFF:
        value = <uint64_t>entry.reason << 16
    if layer != NULL:
        value |= <uint64_t>(layer.spatial + 1) << 8
        value |= <uint64_t>(layer.temporal + 1)
    if value != leg.quality_told:
        leg.quality_told = value
        report(engine, REPORT_LEG_QUALITY, leg.id, value, NULL, 0)


cdef int may_fit_soon(const EngineState* engine, const Leg* leg, const AllocTrack* entry) noexcept nogil:
    """A hold ends with a key picture, for which the viewer waits longer than for the probes that find out what the line
    carries: a picture that is shown is not given up before they have, as long as they may find that it fits."""
    cdef const Sender* sender = leg.peer.sender
    return not leg.held and not leg.await_keyframe and engine.now - entry.changed < PARKED_US \
        and sender_limits(engine, sender) and sender.estimator.open


cdef void lay_upon(EngineState* engine, Leg* leg, const AllocTrack* entry) noexcept nogil:
    cdef const AllocLayer* layer
    cdef int i
    if not leg.track.config.video:
        return
    if entry.reason == ALLOC_OFF:
        leg.parked = 0  # nothing of it waits
        return
    if entry.index < 0 and entry.reason != ALLOC_NO_LAYER:
        if may_fit_soon(engine, leg, entry):
            if not leg.parked:
                park(engine, leg, 1)
        elif not leg.held:
            leg.held = 1
            leg.parked = 0
            leg_restart(engine, leg, 0)
        return
    if leg.parked:
        park(engine, leg, 0)
    if leg.held:
        leg.held = 0
        leg.wanting = 1
    if leg.gate == NULL:
        return
    for i in range(leg.track.config.encoding_count):
        if leg.track.encodings[i].active == NULL or engine.now - leg.track.encodings[i].active.last_arrival > ALIVE_US:
            gate_gone(leg.gate, i)
    if entry.index >= 0:
        layer = &entry.layers[<int>entry.index]
        gate_target(leg.gate, layer.spatial, layer.temporal)
    if leg.peer.tx != NULL and (leg.gate.want_key_of >= 0 or leg.wanting):
        leg_begin(engine, leg)
        leg.wanting = 0


cdef int is_unknown(const Track* track, int64_t now) noexcept nogil:
    """Some of it has only just begun to come, so that what it takes is not measured yet."""
    cdef const Encoding* encoding
    cdef int i
    for i in range(track.config.encoding_count):
        encoding = &track.encodings[i]
        if not encoding.meter.measured and encoding.active != NULL:
            if now - encoding.active.last_arrival <= ALIVE_US:
                return 1
    return 0


cdef void decide(EngineState* engine, Peer* peer, uint64_t estimate) noexcept nogil:
    cdef AllocTrack entries[ALLOC_TRACKS]
    cdef AllocLayer layers[ALLOC_TRACKS][ALLOC_LAYERS]
    cdef uint64_t used = 0, wanted = 0
    cdef int unknown = 0, parked = 0
    cdef uint32_t count = min(peer.leg_count, <uint32_t>ALLOC_TRACKS)
    cdef uint32_t i
    for i in range(count):
        entries[i] = peer.legs[i].share
        entries[i].layers = layers[i]
        describe(&entries[i], peer.legs[i], engine.now)
    if allocate(estimate, entries, <int>count, engine.allocation, engine.now) < 0:
        return
    for i in range(count):
        if engine.now < peer.sender.lenient_until:
            entries[i].lowered = 0
            entries[i].failures = 0
        peer.legs[i].share = entries[i]
        peer.legs[i].share.layers = NULL
        peer.legs[i].given = entries[i].layers[<int>entries[i].index].spatial if entries[i].index >= 0 else -1
        lay_upon(engine, peer.legs[i], &entries[i])
        if peer.legs[i].parked:
            parked = 1
        else:
            tell_quality(engine, peer.legs[i], &entries[i])
        unknown |= is_unknown(peer.legs[i].track, engine.now)
    if unknown:
        # What a picture takes that has only just begun will be known in a moment. Until then all may be wanted.
        peer.sender.allocate_due = engine.now + SOON_US
        return
    alloc_demand(entries, <int>count, &used, &wanted)
    estimator_demand(&peer.sender.estimator, used, wanted + unsent_bps(engine, peer), engine.now)
    peer.sender.allocated_bps = used
    choose_copies(engine, peer, wanted > estimate)
    if parked:
        peer.sender.allocate_due = engine.now + SOON_US


cdef void share_again(EngineState* engine, Peer* peer) noexcept nogil:
    if peer.sender != NULL:
        peer.sender.allocate_due = engine.now
        make_hot(engine, peer, engine.now)


cdef void stall(EngineState* engine, Peer* peer) noexcept nogil:
    """Pictures that nobody may get would be late when the line is back, and in the way of the first new one."""
    cdef uint32_t i
    peer.sender.stalled = 1
    for i in range(peer.leg_count):
        if peer.legs[i].track.config.video and not peer.legs[i].held:
            peer.legs[i].held = 1
            peer.legs[i].parked = 0
            leg_restart(engine, peer.legs[i], 0)


cdef void share_line(EngineState* engine, Peer* peer) noexcept nogil:
    cdef Sender* sender = peer.sender
    cdef uint64_t estimate = UNLIMITED
    cdef uint64_t apart
    if sender == NULL or peer.leg_count == 0:
        return
    if sender_limits(engine, sender):
        if sender.estimator.outage:
            if not sender.stalled:
                stall(engine, peer)
            return
        if sender.stalled or sender.allocated_for == 0:
            # What follows is no verdict on the line: the estimate is only just being made.
            sender.lenient_until = engine.now + LENIENT_US
            sender.allocate_due = 0
        sender.stalled = 0
        estimate = sender.estimator.target_bps
    apart = estimate - sender.allocated_for if estimate > sender.allocated_for else sender.allocated_for - estimate
    if engine.now < sender.allocate_due and apart * 100 <= sender.allocated_for * MOVED_PERCENT:
        return
    sender.allocated_for = estimate
    sender.allocate_due = engine.now + AGAIN_US
    decide(engine, peer, estimate)
