"""Plots are well-formed whatever the numbers."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from mediaserver.loadtest import svg

VALUES = st.floats(1e-4, 1e6)


@given(st.lists(st.tuples(st.floats(0, 1e5), VALUES), min_size=1, max_size=30), st.booleans())
def test_lines_stay_within_their_frame(points: list[tuple[float, float]], logarithmic: bool) -> None:
    drawn = ET.fromstring(svg.lines({"p99 <&>": points}, "ms", logarithmic=logarithmic))
    curve = drawn.find("polyline")
    assert curve is not None
    for place in curve.get("points", "").split():
        x, y = map(float, place.split(","))
        assert 0 <= x <= svg.WIDTH
        assert 0 <= y <= svg.HEIGHT


@given(st.lists(st.dictionaries(st.integers(0, 40), st.integers(1, 10**6), max_size=8), min_size=1, max_size=20))
def test_a_heat_map_has_a_cell_for_each_count(columns: list[dict[int, int]]) -> None:
    text = svg.heat(columns, [2.0**step for step in range(41)], "ms")
    cells = sum(map(len, columns))
    assert (len(ET.fromstring(text).findall("rect")) if cells else len(text)) == cells


@given(st.dictionaries(st.text(max_size=8), VALUES, min_size=1, max_size=6))
def test_bars_and_spans_are_well_formed(values: dict[str, float]) -> None:
    names = {name: value for name, value in values.items() if name.isprintable()}
    if names:
        ET.fromstring(svg.bars(names, "ms", dict.fromkeys(names, 100.0)))
        ET.fromstring(svg.spans({name: [(0.0, value, "ok")] for name, value in names.items()}, {}, max(names.values())))


def test_nothing_is_drawn_of_nothing() -> None:
    assert svg.lines({"p99": []}, "ms") == svg.heat([{}], [], "ms") == svg.bars({}, "ms") == svg.spans({}, {}, 1) == ""
