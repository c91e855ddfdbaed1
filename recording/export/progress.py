"""How far an export is, and whether it should go on."""

from __future__ import annotations

from collections.abc import Callable


class ExportError(Exception):
    """The recording cannot be exported so; the message says why, and what can be done."""


class ExportCancelled(Exception):
    """Somebody wanted it stopped."""


class Progress:
    """Is called with the share of the work that is done, 0 to 1, at least once a second of work.

    `tell` hears of each hundredth once, on the export's thread. After `stop`, from any thread, the next call raises
    `ExportCancelled`, which ends the export; what it has written so far is the caller's to remove.
    """

    def __init__(self, tell: Callable[[float], None] = lambda share: None) -> None:
        self.warnings: list[str] = []
        """What whoever asked for the export should know of its result, in words."""
        self._tell = tell
        self._told = -1
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def __call__(self, share: float) -> None:
        if self._stopped:
            raise ExportCancelled("the export was stopped")
        hundredth = int(min(max(share, 0.0), 1.0) * 100)
        if hundredth > self._told:
            self._told = hundredth
            self._tell(hundredth / 100)

    def part(self, start: float, end: float) -> Callable[[float], None]:
        """The progress of a piece of the work that fills this one from `start` to `end`."""
        return lambda share: self(start + (end - start) * min(max(share, 0.0), 1.0))
