"""A synthetic ultrasound picture: a speckled sector with a beating chamber, as a cardiac probe would show it.

The picture is made in the probe's own coordinates (depth by scan line) and then scan-converted by a table, so a
frame costs about a millisecond of numpy. The motion is periodic in one heart beat; the speckle is not random in time
but moves with the tissue, which is what makes real ultrasound look as it does and what makes it hard to encode.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mediaserver.loadtest.raster import Plane, draw_code, draw_text

BEATS_PER_MINUTE = 72
FRAMES_PER_BEAT = 25
FRAME_RATE = 30
"""25 frames at 30/s are exactly one beat at 72 per minute, so a loop of whole beats has no seam."""

_DEPTHS, _LINES = 420, 192
_HALF_ANGLE = np.radians(40)

Floats = NDArray[np.float32]


class Phantom:
    """Draws frames of a sector scan. The same `seed` gives the same pictures."""

    def __init__(self, width: int = 640, height: int = 480, seed: int = 1) -> None:
        self.width = width
        self.height = height
        random = np.random.default_rng(seed)
        self._tissue = _speckle(random, _DEPTHS + 64, _LINES)
        self._blood = [_speckle(random, _DEPTHS, _LINES) for _ in range(4)]
        self._inside, self._source = self._scan_table()
        depth = np.linspace(0, 1, _DEPTHS, dtype=np.float32)[:, None]
        angle = np.linspace(-1, 1, _LINES, dtype=np.float32)[None, :]
        # Cartesian position of each sample in units of the depth, for drawing anatomy.
        self._x = depth * np.sin(angle * np.float32(_HALF_ANGLE))
        self._y = depth * np.cos(angle * np.float32(_HALF_ANGLE))
        self._layers = 0.10 * np.sin(depth * 47 + 3 * angle) + 0.06 * np.sin(depth * 23 - 5 * angle)
        self._gain = np.float32(1.05) - 0.45 * depth

    def frames(self, count: int, code: bool = True, step: int = 1) -> Iterator[Plane]:
        """`count` luma planes, shape (height, width), numbered from 0 and by `step`."""
        for number in range(0, count * step, step):
            yield self.frame(number, code)

    def frame(self, number: int, code: bool = True) -> Plane:
        """The luma of frame `number`; with its frame code at the top left, its counter and clock at the bottom."""
        luma: Plane = np.full((self.height, self.width), 16, np.uint8)
        luma[self._inside] = self._polar(number / FRAMES_PER_BEAT).ravel()[self._source]
        self._caliper(luma)
        if code:
            draw_code(luma, number)
        seconds = number / FRAME_RATE
        clock = f"{int(seconds) // 60:02}:{seconds % 60:05.2f}"
        draw_text(luma, f"PHANTOM {clock} {number:05}", 8, self.height - 22)
        return luma

    def _polar(self, beats: float) -> Plane:
        phase = 2 * np.pi * (beats % 1.0)
        squeeze = 0.5 - 0.5 * np.cos(phase) + 0.12 * np.sin(2 * phase)
        across, along = 0.17 - 0.045 * squeeze, 0.24 - 0.05 * squeeze
        u = (self._x + 0.04 * self._y - 0.02) / across
        v = (self._y - 0.52) / along
        radius = np.sqrt(u * u + v * v)
        # The chamber is dark, its wall bright and thicker while it contracts.
        wall = np.exp(-(((radius - 1.15) / (0.13 + 0.06 * squeeze)) ** 2))
        valve = np.exp(-((v + 0.93 - 0.25 * squeeze * np.abs(u)) ** 2) / 0.004) * (np.abs(u) < 0.8)
        echo = 0.40 + self._layers + 0.42 * wall + 0.35 * valve
        echo = np.where(radius < 1.0, 0.05 + 0.35 * valve, echo) * self._gain
        shift = 24 + round(20 * (squeeze - 0.5))
        tissue = self._tissue[shift : shift + _DEPTHS]
        blood = self._blood[int(beats * FRAMES_PER_BEAT) % len(self._blood)]
        grain = np.where(radius < 1.0, blood, tissue)
        picture: Plane = np.clip(16 + 219 * echo * grain, 16, 235).astype(np.uint8)
        return picture

    def _scan_table(self) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
        rows, columns = np.mgrid[0 : self.height, 0 : self.width].astype(np.float32)
        scale = (self.height - 48) / 1.0
        x = (columns - self.width / 2) / scale
        y = (rows - 20) / scale
        depth = np.hypot(x, y)
        angle = np.arctan2(x, y)
        inside = (depth > 0.03) & (depth < 0.98) & (np.abs(angle) < _HALF_ANGLE)
        line = ((angle / _HALF_ANGLE + 1) / 2 * (_LINES - 1)).round().astype(np.int32)
        sample = (depth * (_DEPTHS - 1)).round().astype(np.int32)
        return inside, (sample * _LINES + line)[inside]

    def _caliper(self, luma: Plane) -> None:
        # A depth scale at the right edge, as on a real console.
        for tick in range(11):
            row = 20 + round((self.height - 48) * tick / 10)
            luma[row - 1 : row + 1, self.width - (24 if tick % 5 == 0 else 16) : self.width - 8] = 180


def _speckle(random: np.random.Generator, depths: int, lines: int) -> Floats:
    """Rayleigh envelopes of a smoothed complex field, compressed to about 0.4 .. 1.6 as a console's logarithm does."""
    field = random.standard_normal((depths, lines)) + 1j * random.standard_normal((depths, lines))
    for axis, width in ((0, 2), (1, 2)):
        field = sum(np.roll(field, shift, axis) for shift in range(-width, width + 1)) / np.sqrt(2 * width + 1)
    return (1 + 0.45 * np.log(np.abs(field) + 0.25)).astype(np.float32)
