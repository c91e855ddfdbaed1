"""Plain counts of the control plane, kept where things happen and read at scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from mediaserver.sfu.session.model import Freshness


class Histogram:
    """Counts of values up to each bound; one more count for those above the last."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Spells:
    """How often and for how long tracks were stale, or did not change; by source and state. Times are µs."""

    def __init__(self) -> None:
        self.episodes: Counter[tuple[str, str]] = Counter()
        self._ended: Counter[tuple[str, str]] = Counter()
        self._open: dict[str, tuple[tuple[str, str], int]] = {}

    def change(self, track: str, source: str, state: Freshness, now: int) -> None:
        """The track is in this state from `now` on."""
        self.end(track, now)
        if state is not Freshness.LIVE:
            key = (source, str(state))
            self.episodes[key] += 1
            self._open[track] = (key, now)

    def end(self, track: str, now: int) -> None:
        """The track is live, or gone."""
        if track in self._open:
            key, since = self._open.pop(track)
            self._ended[key] += max(0, now - since)

    def seconds(self, now: int) -> dict[tuple[str, str], float]:
        """Those that go on included."""
        total = self._ended.copy()
        for key, since in self._open.values():
            total[key] += max(0, now - since)
        return {key: total[key] / 1e6 for key in self.episodes}


class ControlStats:
    """Keys are from small fixed sets: a way in, an error code, a reason."""

    def __init__(self) -> None:
        self.joins: Counter[str] = Counter()
        """by way in: websocket, whip, whep"""
        self.denials: Counter[str] = Counter()
        """by way in"""
        self.leaves: Counter[str] = Counter()
        """by reason"""
        self.resumes: Counter[str] = Counter()
        """ok, failed"""
        self.offers: Counter[str] = Counter()
        """ok, refused"""
        self.messages = 0
        self.bad_messages = 0
        self.dropped_clients: Counter[str] = Counter()
        """too-slow, too-fast, stranger: it had not joined when too many others came"""
        self.sockets = 0
        self.spells = Spells()
        self.first_frame = Histogram((0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0))
        """seconds from a join to the first packet of a track to that participant"""
