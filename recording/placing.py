"""Where the media of a file lie on the recording's own time, which begins when the recording does.

Publishers' clocks run at speeds of their own, so this is not one offset: the manifest's mapping is followed. Pairs of
media time and offset, both in ms; between two of them time runs on the straight line, outside 1:1.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from mediaserver.recording.manifest import Segment
from mediaserver.recording.timeline import wall_at

Place = tuple[float, float]

TOLERANCE_MS = 1.0
"""Points of the mapping that lie closer than this to the line through their neighbours say nothing."""


def places(segment: Segment, started_us: int) -> list[Place]:
    """The pairs (media time, offset) of a file: its beginning, its end, and what is needed between them."""
    within = [point.rtp for point in segment.mapping if segment.first_rtp < point.rtp < segment.last_rtp]
    every = [
        (
            1000 * (rtp - segment.first_rtp) / segment.clock_rate,
            (wall_at(segment.mapping, segment.clock_rate, rtp) - started_us) / 1000,
        )
        for rtp in (segment.first_rtp, *within, segment.last_rtp)
    ]
    return [(round(media, 3), round(offset, 3)) for media, offset in _straightened(every)]


def media_ms(points: Sequence[Place], offset: float) -> float:
    """The media time that lies at an offset."""
    right = bisect_right(points, offset, key=lambda place: place[1])
    if right == 0 or right == len(points):
        media, near = points[0] if right == 0 else points[-1]
        return media + offset - near
    (first, low), (last, high) = points[right - 1], points[right]
    return first + (offset - low) * (last - first) / (high - low)


def _straightened(points: Sequence[Place]) -> list[Place]:
    """As few of the points as keep within `TOLERANCE_MS` of all, in one pass: from the last point kept, the slopes
    that pass near all points since make a cone, and the next is kept when a point leaves it."""
    kept = [points[0]]
    low, high = -math.inf, math.inf
    for before, point in pairwise(points):
        run, rise = _step(kept[-1], point)
        if before is not kept[-1] and not low <= rise / run <= high:
            kept.append(before)
            low, high = -math.inf, math.inf
            run, rise = _step(before, point)
        if run > 0:
            low, high = max(low, (rise - TOLERANCE_MS) / run), min(high, (rise + TOLERANCE_MS) / run)
    return [*kept, points[-1]] if points[-1][0] > kept[-1][0] else kept


def _step(start: Place, end: Place) -> Place:
    return end[0] - start[0], end[1] - start[1]
