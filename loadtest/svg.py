"""Plots as SVG, inline in a page: lines over time, a heat map, bars. Plain functions from numbers to text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 860, 220
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 14, 34
COLOURS = ("#1b6ca8", "#d1495b", "#2a9d5c", "#8a5fbf", "#c98a1b", "#4f6d7a")

Points = Sequence[tuple[float, float]]
Place = Callable[[float], float]


def lines(series: Mapping[str, Points], unit: str, *, logarithmic: bool = False, across: str = "s") -> str:
    """Curves over a common axis; empty for nothing to draw. A logarithmic axis leaves out what is not above 0."""
    drawn = {name: [(x, y) for x, y in points if not logarithmic or y > 0] for name, points in series.items()}
    values = [y for points in drawn.values() for _, y in points]
    if not values:
        return ""
    furthest = max(x for points in drawn.values() for x, _ in points) or 1.0
    low, high = _range(values, logarithmic)
    place = _scale(low, high, logarithmic)
    parts = [_frame(furthest, across), *_levels(low, high, place, unit, logarithmic)]
    for number, (name, points) in enumerate(drawn.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{_x(x, furthest):.1f},{place(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts.append(
            f'<text x="{LEFT + 8 + 130 * number}" y="{TOP + 2}" fill="{colour}" class="key">{escape(name)}</text>'
        )
    return _picture(parts, HEIGHT)


def heat(columns: Sequence[Mapping[int, int]], edges: Sequence[float], unit: str) -> str:
    """A heat map: of each second how many packets fell into each step; `edges[i]` is the least value of step i."""
    steps = [step for column in columns for step in column]
    if not steps:
        return ""
    low, high = min(steps), max(steps)
    rows = high - low + 1
    most = max(count for column in columns for count in column.values())
    across, down = (WIDTH - LEFT - RIGHT) / len(columns), (HEIGHT - TOP - BOTTOM) / rows
    parts = [_frame(len(columns), "s")]
    for number, column in enumerate(columns):
        for step, count in column.items():
            strength = math.log1p(count) / math.log1p(most)
            x, y = LEFT + number * across, HEIGHT - BOTTOM - (step - low + 1) * down
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{across + 0.3:.2f}" height="{down + 0.3:.2f}" '
                f'fill="{_shade(strength)}"><title>second {number + 1}: {count} packets from '
                f"{_short(edges[step])} {unit}</title></rect>"
            )
    for step in range(low, high + 1, max(1, rows // 6)):
        y = HEIGHT - BOTTOM - (step - low) * down
        parts.append(f'<text x="{LEFT - 6}" y="{y:.1f}" class="axis end">{_short(edges[step])} {unit}</text>')
    return _picture(parts, HEIGHT)


def bars(values: Mapping[str, float], unit: str, limits: Mapping[str, float] | None = None) -> str:
    """Horizontal bars, each with its limit as a mark where it has one; red where it is over it."""
    if not values:
        return ""
    limits = limits or {}
    most = max([*values.values(), *limits.values()]) or 1.0
    parts = []
    for number, (name, value) in enumerate(values.items()):
        y, limit = 6 + 26 * number, limits.get(name)
        colour = COLOURS[1] if limit is not None and value > limit else COLOURS[0]
        length = (WIDTH - 340) * value / most
        parts.append(f'<text x="180" y="{y + 14}" class="axis end">{escape(name)}</text>')
        parts.append(f'<rect x="190" y="{y}" width="{length:.1f}" height="18" fill="{colour}"/>')
        parts.append(f'<text x="{198 + length:.1f}" y="{y + 14}" class="axis">{_short(value)} {unit}</text>')
        if limit is not None:
            x = 190 + (WIDTH - 340) * limit / most
            parts.append(f'<path d="M{x:.1f} {y - 3} v24" stroke="#444" stroke-dasharray="3 2"/>')
    return _picture(parts, 26 * len(values) + 12)


def spans(rows: Mapping[str, Sequence[tuple[float, float, str]]], colours: Mapping[str, str], furthest: float) -> str:
    """Rows of coloured spans (from, to, kind) over a common axis of seconds."""
    if not rows or furthest <= 0:
        return ""
    height = 24 * len(rows) + 44
    parts = []
    for number, (name, row) in enumerate(rows.items()):
        y = 8 + 24 * number
        parts.append(f'<text x="180" y="{y + 13}" class="axis end">{escape(name)}</text>')
        for begins, ends, kind in row:
            x = 190 + (WIDTH - 210) * begins / furthest
            width = max(1.0, (WIDTH - 210) * (ends - begins) / furthest)
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="16" fill="{colours.get(kind, "#999")}">'
                f"<title>{escape(kind)}: {begins:.1f} to {ends:.1f} s</title></rect>"
            )
    for at in _ticks(0.0, furthest, 8):
        x = 190 + (WIDTH - 210) * at / furthest
        parts.append(f'<text x="{x:.1f}" y="{height - 14}" class="axis mid">{_short(at)} s</text>')
    return _picture(parts, height)


def _picture(parts: Sequence[str], height: int) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(parts)}</svg>'


def _frame(furthest: float, across: str) -> str:
    bottom = HEIGHT - BOTTOM
    marks = [
        f'<text x="{_x(at, furthest):.1f}" y="{bottom + 16}" class="axis mid">{_short(at)} {across}</text>'
        for at in _ticks(0.0, furthest, 8)
    ]
    return f'<path d="M{LEFT} {TOP} V{bottom} H{WIDTH - RIGHT}" fill="none" stroke="#999"/>' + "".join(marks)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two, `most` at most: 1, 2 or 5 of a power of ten apart."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * part for part in (1, 2, 5, 10, 20) if (high - low) / (power * part) <= most)
    return [step * number for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _levels(low: float, high: float, place: Place, unit: str, logarithmic: bool) -> list[str]:
    levels: list[float] = []
    if logarithmic:
        powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
        levels = [10.0**power for power in powers]
    if len(levels) < 2:
        levels = _ticks(low, high, 5)
    marks = []
    for level in levels:
        y = place(level)
        marks.append(f'<path d="M{LEFT} {y:.1f} H{WIDTH - RIGHT}" stroke="#ddd"/>')
        marks.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="axis end">{_short(level)} {unit}</text>')
    return marks


def _range(values: Sequence[float], logarithmic: bool) -> tuple[float, float]:
    high = max(values)
    low = min(values) if logarithmic else 0.0
    if high <= low:
        high = low * 2 if low > 0 else 1.0
    return low, high


def _scale(low: float, high: float, logarithmic: bool) -> Place:
    span = HEIGHT - TOP - BOTTOM - 14

    def place(value: float) -> float:
        part = math.log(value / low) / math.log(high / low) if logarithmic else (value - low) / (high - low)
        return HEIGHT - BOTTOM - span * part

    return place


def _x(value: float, furthest: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * value / furthest


def _shade(strength: float) -> str:
    """From nearly white to dark blue."""
    return f"hsl(208 70% {96 - 70 * strength:.0f}%)"


def _short(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:,.0f}k"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
