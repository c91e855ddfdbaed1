"""The small types that the container writers share."""

from __future__ import annotations

from typing import NamedTuple


class Sample(NamedTuple):
    """One access unit as a container takes it. Times count from the start of the file, in units of the clock rate."""

    data: bytes
    pts: int
    dts: int
    duration: int
    keyframe: bool


class Fragment(NamedTuple):
    """Where a fragment stands in its file (bytes) and in time (units of the clock rate)."""

    offset: int
    size: int
    time: int
    duration: int
    keyframe: bool
    """It begins with a picture to start from."""


class Patch(NamedTuple):
    """Bytes to put over others of the same number."""

    offset: int
    data: bytes
