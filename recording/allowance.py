"""How often something may happen: a few times at once, then once in a while (a token bucket)."""

from __future__ import annotations


class Allowance:
    """Pure: the time comes in, in µs, and does not go back for long."""

    def __init__(self, at_once: int, every_us: int) -> None:
        self._at_once, self._every_us = at_once, every_us
        self._left = at_once
        self._since = 0
        """From when on what is left grows."""

    def take(self, now: int) -> bool:
        """Whether it may happen now; then it counts as having happened."""
        grown = max(0, now - self._since) // self._every_us
        if self._left + grown >= self._at_once:
            self._left, self._since = self._at_once, now
        else:
            self._left, self._since = self._left + grown, self._since + grown * self._every_us
        if not self._left:
            return False
        self._left -= 1
        return True
