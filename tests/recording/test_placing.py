"""Media time and the recording's own time."""

from __future__ import annotations

from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.recording.manifest import Segment
from mediaserver.recording.placing import TOLERANCE_MS, media_ms, places
from mediaserver.recording.timeline import Point, wall_at

START = 1_790_000_000_000_000


def segment(mapping: list[Point], last_rtp: int) -> Segment:
    blank: dict[str, object] = dict.fromkeys(set(Segment.__struct_fields__) - {"content"}, 0) | dict.fromkeys(
        ("file", "container", "codec", "reason", "sha256"), ""
    )
    return msgspec.convert(blank | {"clock_rate": 90_000, "last_rtp": last_rtp, "mapping": mapping}, Segment)


@st.composite
def mappings(draw: st.DrawFn) -> list[Point]:
    """Reports 5 s apart from a clock that wanders."""
    points = [Point(draw(st.integers(0, 90_000)), START)]
    for drift in draw(st.lists(st.integers(-20_000, 20_000), min_size=1, max_size=60)):
        points.append(Point(points[-1].rtp + 450_000, points[-1].wall_us + 5_000_000 + drift))
    return points


@given(mappings())
def test_few_points_say_what_all_say(mapping: list[Point]) -> None:
    file = segment(mapping, mapping[-1].rtp + 45_000)
    points = places(file, START)
    assert all(before < after for before, after in pairwise(points))
    for point in mapping:
        media, offset = point.rtp / 90, (point.wall_us - START) / 1000
        assert abs(media_ms(points, offset) - media) <= 2 * TOLERANCE_MS


def test_a_steady_clock_needs_two_points() -> None:
    """200 ppm fast for ten hours, in reasonable time."""
    mapping = [Point(n * 450_000, START + n * 4_999_000) for n in range(7200)]
    file = segment(mapping, 7200 * 450_000)
    points = places(file, START)
    assert len(points) <= 3
    end = (wall_at(mapping, 90_000, file.last_rtp) - START) / 1000
    assert points[-1] == (7200 * 5000.0, end)
