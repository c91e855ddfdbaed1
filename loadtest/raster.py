"""Marks that are burnt into synthetic pictures: small text, and a number that a program can read back after coding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]
"""One plane of 8-bit samples, shape (height, width)."""

BLOCK = 12
"""Side of one block of the frame code, in pixels: wide enough to outlive any coding that is worth looking at."""
CODE_BITS = 16
CHECK_BITS = 4
CODE_WIDTH = BLOCK * (CODE_BITS + CHECK_BITS)

_BLACK, _WHITE = 16, 235
_WORD = (1 << CODE_BITS) - 1

# 5x7 glyphs, one byte a row, the leftmost pixel in bit 4.
_GLYPHS = {
    "0": "0e11131519110e",
    "1": "040c040404040e",
    "2": "0e11010204081f",
    "3": "1f02040201110e",
    "4": "02060a121f0202",
    "5": "1f101e0101110e",
    "6": "0608101e11110e",
    "7": "1f010204080808",
    "8": "0e11110e11110e",
    "9": "0e11110f01020c",
    ":": "00040400040400",
    ".": "00000000000c0c",
    "A": "0e11111f111111",
    "C": "0e11101010110e",
    "D": "1c12111111121c",
    "E": "1f10101e10101f",
    "H": "1111111f111111",
    "I": "0e04040404040e",
    "L": "1010101010101f",
    "M": "111b1515111111",
    "N": "11111915131111",
    "O": "0e11111111110e",
    "P": "1e11111e101010",
    "R": "1e11111e141211",
    "S": "0f10100e01011e",
    "T": "1f040404040404",
    "U": "1111111111110e",
}


def draw_text(luma: Plane, text: str, x: int, y: int, scale: int = 2, level: int = _WHITE) -> None:
    """Draw capital letters and digits into `luma`, cells of 6 x 7 times `scale` pixels; others are blanks."""
    for position, character in enumerate(text):
        rows = bytes.fromhex(_GLYPHS.get(character, "00" * 7))
        bits = np.unpackbits(np.frombuffer(rows, np.uint8)[:, None], axis=1)[:, 3:]
        cell = np.kron(bits, np.ones((scale, scale), np.uint8)).astype(bool)
        left = x + position * 6 * scale
        if left + 5 * scale > luma.shape[1]:
            return  # no room for more
        luma[y : y + 7 * scale, left : left + 5 * scale][cell] = level


def draw_code(luma: Plane, number: int, x: int = 0, y: int = 0) -> None:
    """Write `number` (16 bits, most significant first, then a 4-bit check) as a row of dark and bright blocks."""
    word = (number & _WORD) << CHECK_BITS | _check(number)
    for bit in range(CODE_BITS + CHECK_BITS):
        bright = word >> (CODE_BITS + CHECK_BITS - 1 - bit) & 1
        left = x + bit * BLOCK
        luma[y : y + BLOCK, left : left + BLOCK] = _WHITE if bright else _BLACK


def read_code(luma: Plane, x: int = 0, y: int = 0) -> int | None:
    """Read what `draw_code` wrote, or None when the check does not hold."""
    inset = BLOCK // 4
    word = 0
    for bit in range(CODE_BITS + CHECK_BITS):
        left = x + bit * BLOCK
        block = luma[y + inset : y + BLOCK - inset, left + inset : left + BLOCK - inset]
        word = word << 1 | int(block.mean() > 128)
    number = word >> CHECK_BITS
    return number if word & 15 == _check(number) else None


def _check(number: int) -> int:
    # The constant keeps an all-dark row from reading as zero.
    number &= _WORD
    return (number ^ number >> 4 ^ number >> 8 ^ number >> 12 ^ 0b1010) & 15
