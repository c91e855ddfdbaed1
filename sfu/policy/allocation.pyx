"""The allocation of one viewer as a Python object: for tests and for tools."""

from collections.abc import Sequence
from typing import NamedTuple

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from mediaserver.sfu.policy.allocator cimport (
    ALLOC_GRACE_US,
    ALLOC_HOLD_US,
    ALLOC_PAUSED_US,
    ALLOC_LAYERS,
    ALLOC_TRACKS,
    ALLOC_TRIAL_US,
    AllocLayer,
    AllocTrack,
    alloc_demand,
    allocate,
)

from mediaserver.sfu.policy.allocator import AllocMode, AllocReason


class Layer(NamedTuple):
    """One operating point of a track, as `AllocLayer`: rates in bit/s, frames a second, 0 where unknown."""

    bps: int
    frames: int = 0
    width: int = 0
    height: int = 0
    spatial: int = -1
    temporal: int = -1
    available: bool = True


class Wish(NamedTuple):
    """What one track has to offer and what is wanted of it, as `AllocTrack`."""

    id: int
    layers: Sequence[Layer]
    rank: int = 0
    video: bool = True
    frames_first: bool = False
    pinned_off: bool = False
    floor_bps: int = 0
    floor_frames: int = 0
    least_height: int = 0
    max_height: int = 0
    desired_height: int = 0


class Decision(NamedTuple):
    """What one track gets: the index of its layer among those of the wish, -1 for nothing, and why."""

    layer: int
    reason: AllocReason
    cost_bps: int


class Demand(NamedTuple):
    used_bps: int
    wanted_bps: int


cdef class Allocator:
    """The allocation of one viewer with its memory, for Python. `wish` sets or replaces a track, `decide` decides."""

    HOLD_US = ALLOC_HOLD_US
    PAUSED_US = ALLOC_PAUSED_US
    TRIAL_US = ALLOC_TRIAL_US
    GRACE_US = ALLOC_GRACE_US
    TRACKS = ALLOC_TRACKS
    LAYERS = ALLOC_LAYERS

    cdef AllocTrack tracks[ALLOC_TRACKS]
    cdef AllocLayer[ALLOC_TRACKS][ALLOC_LAYERS] layers
    cdef int count
    cdef int mode

    def __cinit__(self, mode=AllocMode.ALLOC_CLINICAL):
        memset(self.tracks, 0, sizeof(self.tracks))
        self.count = 0
        self.mode = mode

    cdef int find(self, uint32_t id_):
        cdef int i
        for i in range(self.count):
            if self.tracks[i].id == id_:
                return i
        return -1

    cdef int lay_out(self) except -1:
        cdef int i
        for i in range(self.count):
            self.tracks[i].layers = self.layers[i]
        return 0

    def wish(self, wish):
        """Raises `ValueError` for more tracks or layers than there may be."""
        cdef int at = self.find(wish.id), i
        cdef AllocTrack* track
        if len(wish.layers) > ALLOC_LAYERS or (at < 0 and self.count == ALLOC_TRACKS):
            raise ValueError("too many layers or tracks")
        if at < 0:
            at = self.count
            self.count += 1
            memset(&self.tracks[at], 0, sizeof(AllocTrack))
            self.lay_out()
        track = &self.tracks[at]
        track.id, track.rank, track.video = wish.id, wish.rank, wish.video
        track.frames_first, track.pinned_off = wish.frames_first, wish.pinned_off
        track.floor_bps, track.floor_frames, track.least_height = wish.floor_bps, wish.floor_frames, wish.least_height
        track.max_height, track.desired_height = wish.max_height, wish.desired_height
        track.layer_count = len(wish.layers)
        for i, layer in enumerate(wish.layers):
            track.layers[i].bps, track.layers[i].frames = layer.bps, layer.frames
            track.layers[i].width, track.layers[i].height = layer.width, layer.height
            track.layers[i].spatial, track.layers[i].temporal = layer.spatial, layer.temporal
            track.layers[i].available = layer.available

    def drop(self, id_):
        """Forget a track."""
        cdef int at = self.find(id_)
        if at >= 0:
            self.count -= 1
            self.tracks[at] = self.tracks[self.count]
            self.layers[at] = self.layers[self.count]
            self.lay_out()

    def decide(self, estimate_bps, now):
        """Decide at `now` (µs, above 0); how many tracks have another layer than before."""
        return allocate(estimate_bps, self.tracks, self.count, self.mode, now)

    def decisions(self):
        """By id of the track."""
        return {
            self.tracks[i].id: Decision(
                self.tracks[i].index, AllocReason(self.tracks[i].reason), self.tracks[i].cost_bps
            )
            for i in range(self.count)
        }

    def demand(self):
        """What is used, and the estimate at which every track would be at its best, bit/s."""
        cdef uint64_t used = 0, wanted = 0
        alloc_demand(self.tracks, self.count, &used, &wanted)
        return Demand(used, wanted)
