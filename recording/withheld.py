"""Tracks of a recording that nothing is kept of, as their participants have not agreed: each a gap that says so.

Pure: entries for the journal come out. A track comes back with the numbers of its files, gaps and SSRCs going on.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mediaserver.recording import journal
from mediaserver.recording.entry import Entry
from mediaserver.recording.pipeline import Position

CAUSE = "consent"
_NONE_YET = Position(0, 0, -1)


@dataclass(slots=True)
class _Track:
    at: Position
    gap: journal.Lost


class Withheld:
    """Those of one recording. Times are Unix times in µs."""

    def __init__(self) -> None:
        self._tracks: dict[str, _Track] = {}

    def __contains__(self, track: str) -> bool:
        return track in self._tracks

    def begin(self, track: str, from_us: int, at: Position = _NONE_YET) -> list[Entry]:
        """Nothing is kept from now on; the pipeline before, if any, had come so far."""
        number = at.gaps + 1
        gap = journal.Lost(track, number, CAUSE, 0, 0, 0, 0, 0, from_us, 0)
        self._tracks[track] = _Track(at._replace(gaps=number), gap)
        return [Entry(gap)]

    def end(self, track: str, to_us: int) -> tuple[list[Entry], Position]:
        """Its participant has agreed, or it has ended: where a pipeline goes on. Raises KeyError."""
        ended = self._tracks.pop(track)
        gap = ended.gap
        return [Entry(msgspec.structs.replace(gap, to_us=max(to_us, gap.from_us + 1)))], ended.at

    def close(self, to_us: int) -> list[Entry]:
        """All end."""
        return [entry for track in list(self._tracks) for entry in self.end(track, to_us)[0]]
