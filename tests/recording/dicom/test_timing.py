"""How a file of pictures is cut, and how its times are written."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.recording.export.dicom import timing
from mediaserver.recording.export.dicom.timing import Unit


def units(
    count: int, gop: int = 30, size: int = 1000, step: int = 33_333, jitter: int = 0, hole: int = -1
) -> list[Unit]:
    chance = np.random.default_rng(1)
    shift = np.where(np.arange(count) >= hole, 5_000_000 if hole >= 0 else 0, 0)
    times = np.arange(count) * step + chance.integers(0, jitter + 1, count) + shift
    return [Unit(int(time), size, index % gop == 0) for index, time in enumerate(times)]


def test_a_regular_file_is_one_object() -> None:
    assert timing.cut(units(100_000, jitter=5_000)) == [range(100_000)]


def test_times_that_fit_no_vector_make_another_object() -> None:
    parts = timing.cut(units(60_000, hole=100))
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == 60_000
    assert len(parts) >= 2
    assert all(part.start % 30 == 0 for part in parts)
    found = units(60_000, hole=100)
    for part in parts:
        times = np.array([found[index].time_us for index in part])
        text = "\\".join(map(str, timing.frame_time_vector(times)))
        assert timing.is_regular(times) or len(text) <= timing.MAX_VECTOR


def test_size_and_length_cut_before_a_keyframe() -> None:
    assert timing.cut(units(90), max_bytes=45_000) == [range(30), range(30, 60), range(60, 90)]
    assert timing.cut(units(90), most_us=2_000_000) == [range(60), range(60, 90)]
    assert timing.cut(units(90, gop=1000), max_bytes=10) == [range(90)]
    assert timing.cut([]) == []


def test_a_hole_is_told() -> None:
    times = np.array([unit.time_us for unit in units(90, hole=45)])
    assert not timing.is_regular(times)
    vector = timing.frame_time_vector(times)
    assert vector[0] == 0
    assert max(vector) == vector[45] == 5033
    assert timing.is_regular(np.array([unit.time_us for unit in units(90, jitter=4_000)]))


@given(st.lists(st.integers(1, 2_000_000), min_size=1, max_size=200))
def test_rounding_never_adds_up(steps: list[int]) -> None:
    times = np.cumsum(np.array([0, *steps], np.int64))
    vector = timing.frame_time_vector(times)
    assert len(vector) == len(times)
    assert np.abs(np.cumsum(vector) - times / 1000).max() <= 0.5
