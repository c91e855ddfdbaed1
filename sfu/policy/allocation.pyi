from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from mediaserver.sfu.policy.allocator import AllocMode, AllocReason

class Layer(NamedTuple):
    bps: int
    frames: int = 0
    width: int = 0
    height: int = 0
    spatial: int = -1
    temporal: int = -1
    available: bool = True

class Wish(NamedTuple):
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
    layer: int
    reason: AllocReason
    cost_bps: int

class Demand(NamedTuple):
    used_bps: int
    wanted_bps: int

class Allocator:
    HOLD_US: ClassVar[int]
    PAUSED_US: ClassVar[int]
    TRIAL_US: ClassVar[int]
    GRACE_US: ClassVar[int]
    TRACKS: ClassVar[int]
    LAYERS: ClassVar[int]
    def __init__(self, mode: AllocMode = ...) -> None: ...
    def wish(self, wish: Wish) -> None: ...
    def drop(self, id_: int) -> None: ...
    def decide(self, estimate_bps: int, now: int) -> int: ...
    def decisions(self) -> dict[int, Decision]: ...
    def demand(self) -> Demand: ...
