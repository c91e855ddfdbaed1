"""What a stream must hold, by its source: the default policy, which an operator may change.

The load test, the metrics and the viewers all judge by the same figures. They are engineering budgets, not
validated minimums, so nothing that meets them may be called "of diagnostic quality".
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Levels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure's floor (below it a breach is shown, counted and kept), alarm and target; 0 where it says nothing."""

    floor: float = 0
    alarm: float = 0
    target: float = 0

    def __post_init__(self) -> None:
        said = [figure for figure in (self.floor, self.alarm, self.target) if figure]
        if min(self.floor, self.alarm, self.target) < 0 or said != sorted(said):
            raise ValueError("floor, alarm and target are 0 or more, in rising order")


class SourceBudget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The budget of one source. Times are in milliseconds, loss is a fraction, 0 means no demand.

    Where a line does not carry everything, sound goes before any picture and then a smaller `rank` before a larger
    one: floors first, then targets. An app may move a track from `best_rank` to `worst_rank`. With `frames_first`
    frames are given up before pixels; without `sized` the picture is sent whole however small it is shown.

    A picture is STALE when no new frame came for `stale_frames` frame intervals, but never before `stale_ms`;
    it is dimmed after `dim_ms`, and called unchanging when its content stayed the same for `unchanged_ms`. Sound is
    STALE when no packet came for so long. Frame intervals count up to 0.4 s, so that everybody can be told in 0.5 s.
    """

    rank: Annotated[int, Meta(ge=0, le=255)] = 4
    best_rank: Annotated[int, Meta(ge=0, le=255)] = 3
    worst_rank: Annotated[int, Meta(ge=0, le=255)] = 9
    frames_first: bool = False
    sized: bool = True
    frames_per_second: Levels = Levels()
    kbit_per_second: Levels = Levels()
    least_width: int = 0
    least_height: int = 0
    glass_to_glass_ms: float = 0
    server_p99_ms: float = 10
    server_jitter_p99_ms: float = 5
    raw_loss: float = 0
    recovery_ms: float = 0
    first_frame_ms: float = 1500
    stale_frames: int = 3
    stale_ms: float = 250
    dim_ms: float = 2000
    unchanged_ms: float = 0

    def __post_init__(self) -> None:
        if not self.best_rank <= self.rank <= self.worst_rank:
            raise ValueError("best_rank, rank and worst_rank must be in rising order")


class Skew(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far two tracks of one participant may be apart, in milliseconds."""

    sound_ahead_ms: float = 45
    sound_behind_ms: float = 125
    ultrasound_camera_ms: float = 80
    stethoscope_picture_ms: float = 100


EXAMINED_UNCHANGED_MS = 2000
"""Only what is examined is judged: a room in which nobody moves is no cause for alarm."""

_SCOPE = SourceBudget(
    rank=3,
    unchanged_ms=EXAMINED_UNCHANGED_MS,
    frames_per_second=Levels(15, 15, 30),
    kbit_per_second=Levels(800, 1500, 4000),
    least_width=1280,
    least_height=720,
    glass_to_glass_ms=400,
    raw_loss=0.03,
    recovery_ms=1500,
)
_CAMERA = SourceBudget(
    frames_per_second=Levels(15, 15, 30),
    kbit_per_second=Levels(400, 600, 2000),
    least_width=640,
    least_height=360,
    glass_to_glass_ms=300,
    raw_loss=0.05,
    recovery_ms=1500,
)

DEFAULT_BUDGETS: dict[str, SourceBudget] = {
    "ultrasound": SourceBudget(
        rank=2,
        best_rank=2,
        worst_rank=2,
        frames_first=True,
        sized=False,
        unchanged_ms=EXAMINED_UNCHANGED_MS,
        frames_per_second=Levels(15, 25, 30),
        kbit_per_second=Levels(1000, 2000, 5000),
        least_width=640,
        least_height=480,
        glass_to_glass_ms=300,
        server_p99_ms=5,
        server_jitter_p99_ms=3,
        raw_loss=0.03,
        recovery_ms=1000,
        first_frame_ms=1000,
    ),
    "camera": _CAMERA,
    # Browsers send a screen when it changes, and else about once a second.
    "screen": msgspec.structs.replace(_CAMERA, rank=5, stale_ms=2500),
    "dermatoscope": _SCOPE,
    "otoscope": _SCOPE,
    "stethoscope": SourceBudget(
        rank=1,
        best_rank=1,
        worst_rank=1,
        kbit_per_second=Levels(64, 96, 128),
        glass_to_glass_ms=300,
        server_p99_ms=5,
        raw_loss=0.02,
        recovery_ms=500,
        first_frame_ms=800,
    ),
    "microphone": SourceBudget(
        rank=0,
        best_rank=0,
        worst_rank=0,
        kbit_per_second=Levels(16, 24, 40),
        stale_ms=1500,  # a silent encoder with DTX sends a packet each 400 ms
        glass_to_glass_ms=150,
        server_p99_ms=5,
        raw_loss=0.1,
        recovery_ms=500,
        first_frame_ms=800,
    ),
    "vitals": SourceBudget(
        rank=6,
        frames_per_second=Levels(1, 1, 1),
        kbit_per_second=Levels(target=2),
        glass_to_glass_ms=1000,
        server_jitter_p99_ms=0,
        recovery_ms=1000,
        first_frame_ms=1000,
    ),
}
"""Guided ultrasound; `ROBOTIC_ULTRASOUND` replaces it where a robot holds the probe."""

ROBOTIC_ULTRASOUND = SourceBudget(
    rank=2,
    best_rank=2,
    worst_rank=2,
    frames_first=True,
    sized=False,
    unchanged_ms=EXAMINED_UNCHANGED_MS,
    frames_per_second=Levels(30, 30, 60),
    kbit_per_second=Levels(2000, 4000, 8000),
    least_width=1280,
    least_height=720,
    glass_to_glass_ms=200,
    server_p99_ms=3,
    server_jitter_p99_ms=2,
    raw_loss=0.01,
    recovery_ms=500,
    first_frame_ms=1000,
)
