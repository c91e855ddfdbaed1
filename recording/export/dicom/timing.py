"""Where the pictures of a file stand in time, and how it is cut into objects.

DICOM writes either one time between pictures (FrameTime) or each of them (FrameTimeVector), whose 64 KiB hold some
twenty thousand; an object holds 4 GiB of one fragment. A file that needs more is cut before a keyframe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MAX_BYTES = 0xF000_0000
"""What an object may hold of pictures: 4 GiB less room for sound and the container's tables."""
MAX_VECTOR = 65_534
"""The longest value of an attribute with a short length (PS3.5, 7.1.2)."""
REGULAR_SHARE = 0.25
"""Pictures this share of their interval around an even rhythm are regular: cameras jitter by milliseconds."""


class Unit(NamedTuple):
    """A coded picture: when it is shown (wall clock, µs), its size, whether a decoder can begin with it."""

    time_us: int
    size: int
    keyframe: bool


def cut(units: Sequence[Unit], most_us: int | None = None, max_bytes: int = MAX_BYTES) -> list[range]:
    """The units of each object, none of which is longer than `most_us` where a keyframe allows it."""
    times = np.array([unit.time_us for unit in units], np.int64)
    sizes = np.concatenate(([0], np.cumsum([unit.size for unit in units], dtype=np.int64)))
    ends = [index for index, unit in enumerate(units) if unit.keyframe and index] + [len(units)]

    def fits(begin: int, end: int) -> bool:
        return bool(
            sizes[end] - sizes[begin] <= max_bytes
            and (most_us is None or times[end - 1] - times[begin] <= most_us)
            and (_vector_fits(times[begin:end]) or is_regular(times[begin:end]))
        )

    parts = []
    begin = first = 0
    while units and begin < len(units):
        # The last end that fits, by halving; the nearest one is taken whether it fits or not.
        low, high = first, len(ends) - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(begin, ends[middle]) else (low, middle - 1)
        parts.append(range(begin, ends[low]))
        begin, first = ends[low], low + 1
    return parts


def rate(units: Sequence[Unit]) -> float:
    """Pictures in a second, by the median interval; 0 for less than two."""
    if len(units) < 2:
        return 0.0
    interval = float(np.median(np.diff(np.sort(np.array([unit.time_us for unit in units], np.int64)))))
    return 1e6 / interval if interval > 0 else 0.0


def is_regular(times: npt.NDArray[np.int64]) -> bool:
    """Whether one time between pictures tells the truth of all."""
    if len(times) < 3:
        return True
    shown = np.sort(times)
    step = (shown[-1] - shown[0]) / (len(shown) - 1)
    off = np.abs(shown - shown[0] - step * np.arange(len(shown)))
    return bool(off.max() <= step * REGULAR_SHARE)


def frame_time_ms(times: npt.NDArray[np.int64]) -> float:
    """The time between two pictures of a regular file."""
    return float(times.max() - times.min()) / 1000 / max(1, len(times) - 1)


def frame_time_vector(times: npt.NDArray[np.int64]) -> list[int]:
    """The ms between each picture and the one before it; the rounding of one is made good by the next."""
    since = np.rint((np.sort(times) - times.min()) / 1000).astype(np.int64)
    return [0, *np.diff(since).tolist()]


def _vector_fits(times: npt.NDArray[np.int64]) -> bool:
    if len(times) < MAX_VECTOR // 8:
        return True
    return len(times) <= MAX_VECTOR and len("\\".join(map(str, frame_time_vector(times)))) <= MAX_VECTOR
