"""The laboratory's links on a real clock, and what they and the relay around them did."""

from __future__ import annotations

from array import array
from typing import Any

import msgspec
import numpy as np

from tests.sim.figures import line_figures, percentile
from tests.sim.lines import ALL_LINES, Line
from tests.sim.network import MS, SECOND, Link, LinkSpec

NOBODY = ("", 0)
DIRECT = "direct"
"""The name of a line that delays nothing and loses nothing."""


def find(name: str) -> Line:
    """A line of the table, or the direct one. Raises `KeyError`."""
    nothing = LinkSpec(steps=((0, 10_000_000_000),), queue=1 << 30, delay=0)
    return Line(DIRECT, "nothing in between", nothing, nothing) if name == DIRECT else ALL_LINES[name]


class Direction:
    """One direction of a line. Until `begin` the line is as at its start, outages and steps still to come."""

    def __init__(self, spec: LinkSpec, seed: int, now: int) -> None:
        self._spec = spec
        self._seed = seed
        first = spec.steps[0][1]
        waiting = msgspec.structs.replace(spec, steps=((0, first),), repeat=0, outages=(), competitors=())
        self.link = Link(waiting, seed, now)
        self.lateness = array("q")

    def begin(self, now: int) -> None:
        """What is on its way stays on it."""
        self.link = Link(self._spec, self._seed, now)
        self.lateness = array("q")

    def offer(self, arrived: int, datagram: bytes) -> int:
        """When the datagram is to leave at the other end, or -1. Stamps of several sockets may cross: the link's own
        time does not go back."""
        due = self.link.offer(datagram, NOBODY, arrived)
        # The relay keeps what is on its way itself, with where it goes.
        self.link.take(due)
        return due

    def left(self, due: int, now: int) -> None:
        """A datagram that was due has been sent."""
        self.lateness.append(now - due)

    def figures(self, now: int) -> dict[str, Any]:
        """The laboratory's figures of a line, packets by their fate, what was carried each second, and by how much the
        relay itself was late."""
        link, begin = self.link, self.link.start
        end = max(now, begin + 1)
        times, queued, sizes = np.asarray(link.times), np.asarray(link.queued), np.asarray(link.sizes)
        passed = queued >= 0
        seconds = (end - begin) // SECOND
        span = (begin, begin + seconds * SECOND)
        carried, _ = np.histogram((times + queued)[passed], bins=max(1, seconds), range=span, weights=sizes[passed])
        return {
            **msgspec.to_builtins(line_figures(link, begin, end, 0)),
            "packets": link.packets,
            "lost_packets": link.lost_packets,
            "overflowed_packets": link.overflowed_packets,
            "kbps_by_second": [round(float(octets) * 8 / 1000) for octets in carried[:seconds]],
            "late_p50_ms": percentile(self.lateness, 50) / MS,
            "late_p99_ms": percentile(self.lateness, 99) / MS,
            "late_max_ms": max(self.lateness, default=0) / MS,
        }


class Shape:
    """Both directions of a line: `up` is from the peers to the server."""

    def __init__(self, line: Line, seed: int, now: int) -> None:
        self.line = line
        self.up = Direction(line.up, 2 * seed, now)
        self.down = Direction(line.down, 2 * seed + 1, now)

    def begin(self, now: int) -> None:
        self.up.begin(now)
        self.down.begin(now)

    def figures(self, now: int) -> dict[str, Any]:
        return {"line": self.line.name, "up": self.up.figures(now), "down": self.down.figures(now)}
