"""A synthetic room camera: an examination room with a person who moves, drawn with plain numpy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mediaserver.loadtest.raster import Plane, draw_code, draw_text

FRAME_RATE = 30
LOOP_SECONDS = 6

Colour = tuple[int, int, int]
"""Y, Cb, Cr."""

_WALL, _FLOOR, _SHADOW = (168, 124, 128), (96, 118, 138), (60, 122, 132)
_WINDOW, _FRAME = (215, 142, 112), (70, 128, 128)
_BED, _SHEET = (72, 128, 124), (205, 128, 126)
_SKIN, _HAIR, _COAT, _TROUSERS = (158, 112, 152), (46, 124, 134), (222, 128, 128), (66, 140, 122)


class Scene:
    """Draws frames as planar 4:2:0, shape (height * 3 / 2, width), the layout that encoders take.

    `noise` is the deviation of the luma, as a real sensor has it; without it an encoder finds next to nothing to do.
    """

    def __init__(self, width: int = 640, height: int = 360, noise: float = 0.0) -> None:
        self.width = width
        self.height = height
        grain = np.random.default_rng(1).standard_normal((2 * height, 2 * width)) * noise
        self._grain = grain.round().astype(np.int16) if noise else None
        self._rows, self._columns = np.mgrid[0:height, 0:width].astype(np.float32)
        self._background = self._draw_background()

    def frames(self, count: int, code: bool = True, step: int = 1) -> Iterator[Plane]:
        """`count` pictures, numbered from 0 and by `step`."""
        for number in range(0, count * step, step):
            yield self.frame(number, code)

    def frame(self, number: int, code: bool = True) -> Plane:
        """Frame `number`; the motion repeats after `LOOP_SECONDS`."""
        turn = 2 * np.pi * number / (FRAME_RATE * LOOP_SECONDS)
        picture = self._background.copy()
        self._person(picture, turn)
        self._wall_clock(picture, turn)
        if self._grain is not None:
            # One field of noise, seen through a window that jumps: as good as new noise, and much cheaper.
            down, right = number * 61 % self.height, number * 97 % self.width
            grain = self._grain[down : down + self.height, right : right + self.width]
            picture[: self.height] = np.clip(picture[: self.height] + grain, 16, 235)
        if code:
            draw_code(picture[: self.height], number)
        seconds = number / FRAME_RATE
        draw_text(picture[: self.height], f"ROOM {seconds:05.2f}", 8, self.height - 20)
        return picture

    def _person(self, picture: Plane, turn: float) -> None:
        sway, nod = np.sin(2 * turn), np.sin(3 * turn + 1)
        x, y = 0.42 + 0.03 * sway, 0.34 + 0.008 * nod
        self._ellipse(picture, x, 0.86, 0.12, 0.05, _SHADOW)
        self._ellipse(picture, x, 0.78, 0.075, 0.22, _TROUSERS)
        self._ellipse(picture, x, y + 0.25, 0.095, 0.20, _COAT)
        # The arm with the probe goes to the patient and back.
        reach = 0.5 + 0.5 * np.sin(turn)
        for part in np.linspace(0, 1, 9):
            arm_x = x + 0.07 + part * (0.12 + 0.06 * reach)
            self._ellipse(picture, arm_x, y + 0.17 + 0.16 * part, 0.022, 0.035, _COAT)
        self._ellipse(picture, x + 0.20 + 0.06 * reach, y + 0.34, 0.022, 0.032, _SKIN)
        self._ellipse(picture, x, y - 0.03, 0.052, 0.10, _HAIR)
        self._ellipse(picture, x + 0.004 * sway, y, 0.045, 0.085, _SKIN)

    def _wall_clock(self, picture: Plane, turn: float) -> None:
        self._ellipse(picture, 0.62, 0.16, 0.042, 0.075, _FRAME)
        self._ellipse(picture, 0.62, 0.16, 0.038, 0.068, (225, 128, 128))
        for part in np.linspace(0, 1, 8):
            x, y = 0.62 + 0.033 * part * np.sin(turn), 0.16 - 0.058 * part * np.cos(turn)
            self._ellipse(picture, x, y, 0.003, 0.006, (40, 128, 200))

    def _draw_background(self) -> Plane:
        picture: Plane = np.empty((self.height * 3 // 2, self.width), np.uint8)
        wall = self._rows < 0.68 * self.height
        light = 14 * np.cos(self._columns / self.width * np.pi * 0.8) - 10 * self._rows / self.height
        for plane, index in zip(self._planes(picture), range(3), strict=True):
            step = 1 if index == 0 else 2
            plane[:] = np.where(wall[::step, ::step], _WALL[index], _FLOOR[index])
        luma = picture[: self.height]
        luma[:] = np.clip(luma + light, 16, 235)
        self._box(picture, 0.06, 0.10, 0.24, 0.44, _FRAME)
        self._box(picture, 0.07, 0.12, 0.145, 0.42, _WINDOW)
        self._box(picture, 0.155, 0.12, 0.23, 0.42, _WINDOW)
        self._box(picture, 0.52, 0.70, 0.95, 0.76, _BED)
        self._box(picture, 0.55, 0.76, 0.57, 0.92, _BED)
        self._box(picture, 0.90, 0.76, 0.92, 0.92, _BED)
        self._box(picture, 0.53, 0.64, 0.94, 0.71, _SHEET)
        self._ellipse(picture, 0.74, 0.62, 0.15, 0.06, (120, 140, 118))
        self._ellipse(picture, 0.90, 0.60, 0.032, 0.055, _SKIN)
        return picture

    def _planes(self, picture: Plane) -> tuple[Plane, Plane, Plane]:
        chroma = picture[self.height :].reshape(2, self.height // 2, self.width // 2)
        return picture[: self.height], chroma[0], chroma[1]

    def _box(self, picture: Plane, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        for plane, level in zip(self._planes(picture), colour, strict=True):
            height, width = plane.shape
            plane[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = level

    def _ellipse(self, picture: Plane, x: float, y: float, across: float, along: float, colour: Colour) -> None:
        """Positions and half axes in parts of the width and of the height; only the bounding box is touched."""
        for plane, level in zip(self._planes(picture), colour, strict=True):
            height, width = plane.shape
            rows = slice(max(0, int((y - along) * height)), min(height, int((y + along) * height) + 2))
            columns = slice(max(0, int((x - across) * width)), min(width, int((x + across) * width) + 2))
            v = (self._rows[rows, :1] / height - y) / along
            u = (self._columns[:1, columns] / width - x) / across
            mask: NDArray[np.bool_] = u * u + v * v < 1
            plane[rows, columns][mask] = level
