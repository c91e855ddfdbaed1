"""Figures of a run in browsers from what their pages told, named and counted as the laboratory does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from mediaserver.budgets import DEFAULT_BUDGETS
from tests.sim.figures import (
    FLOOR_TOLERANCE,
    SETTLE_US,
    WINDOW_US,
    below,
    either,
    freeze_limit,
    gaps,
    percentile,
    share,
)
from tests.sim.network import MS, SECOND

Row = dict[str, Any]
FRAMES = 30
VIDEO = ("ultrasound", "camera")
SOUND = ("microphone", "stethoscope")
SENT = ("bytesSent", "headerBytesSent", "framesEncoded", "keyFramesEncoded", "pliCount", "nackCount", "qpSum")


def counted(rows: Sequence[Row], source: str, *names: str) -> list[tuple[float, float]]:
    """(ms of the wall clock, by how much these counters together grew since the row before) for each row."""
    found = []
    for before, after in pairwise(rows):
        one, other = before["in"].get(source, {}), after["in"].get(source)
        if other is not None:
            grown = sum(other.get(name, 0) - one.get(name, 0) for name in names)
            found.append((after["at"], max(0.0, grown)))
    return found


def last(rows: Sequence[Row], way: str, source: str) -> Row:
    return next((row[way][source] for row in reversed(rows) if source in row[way]), {})


def by_second(counts: Sequence[tuple[float, float]], begin: float) -> list[float]:
    """What was counted in each second since `begin` (ms)."""
    sums: Counter[int] = Counter()
    for at, grown in counts:
        sums[int((at - begin) / 1000)] += grown  # type: ignore[assignment]
    return [round(sums[second], 1) for second in range(max(sums, default=-1) + 1)]


def pictures(
    rows: Sequence[Row],
    codes: Sequence[Sequence[Any]],
    sent: Sequence[tuple[int, float]],
    firsts: dict[str, float],
    begin: float,
    end: float,
    changes: Sequence[float],
) -> dict[str, Row]:
    """By source. `codes` and `sent` are of the ultrasound: [number, shown, ...] and (number, drawn), in ms; `changes`
    in seconds since `begin`."""
    found = {source: picture(rows, source, firsts.get(source), begin, end) for source in VIDEO}
    found["ultrasound"] |= by_codes(codes, sent, begin, end, changes)
    return found


def picture(rows: Sequence[Row], source: str, first: float | None, begin: float, end: float) -> Row:
    """From the counters of getStats(): rates, the share of time under the floors, the browser's own freezes."""
    budget = DEFAULT_BUDGETS[source]
    octets = counted(rows, source, "bytesReceived")
    frames = counted(rows, source, "framesDecoded")
    seconds = (end - begin) / 1000
    begin_us, end_us = int(begin * MS), int(end * MS)
    since = max(begin_us + SETTLE_US, begin_us + WINDOW_US)
    times = [int(at * MS) for at, _ in octets]
    floor = int(budget.kbit_per_second.floor * WINDOW_US / MS * FLOOR_TOLERANCE)
    rate = below(times, [int(8 * grown) for _, grown in octets], since, end_us, WINDOW_US, floor)
    # The counters come a few times a second: a frame at the edge may fall into the next second.
    least = budget.frames_per_second.floor * FLOOR_TOLERANCE
    few = below(times, [int(grown) for _, grown in frames], since, end_us, SECOND, least)
    sizes = Counter(
        "{}x{}".format(row["in"][source]["frameWidth"], row["in"][source]["frameHeight"])
        for row in rows
        if "frameWidth" in row["in"].get(source, {})
    )
    total = last(rows, "in", source)
    emitted = total.get("jitterBufferEmittedCount") or 1
    return {
        "kbps": 8 * sum(grown for _, grown in octets) / seconds / 1000,
        "frames_per_s": sum(grown for _, grown in frames) / seconds,
        "first_frame_ms": first,
        "under_floor": share(either(rate, few)),
        "under_floor_rate": share(rate),
        "under_floor_frames": share(few),
        "browser_freezes": total.get("freezeCount", 0),
        "browser_freeze_s": total.get("totalFreezesDuration", 0.0),
        "jitter_buffer_ms": 1000 * total.get("jitterBufferDelay", 0.0) / emitted,
        "keyframes": total.get("keyFramesDecoded", 0),
        "nacks": total.get("nackCount", 0),
        "plis": total.get("pliCount", 0),
        "lost_packets": total.get("packetsLost", 0),
        "retransmitted": total.get("retransmittedPacketsReceived", 0),
        "sizes": {size: count / sum(sizes.values()) for size, count in sizes.items()},
        "kbps_by_second": [round(8 * grown / 1000, 1) for grown in by_second(octets, begin)],
        "frames_by_second": by_second(frames, begin),
    }


def by_codes(
    codes: Sequence[Sequence[Any]],
    sent: Sequence[tuple[int, float]],
    begin: float,
    end: float,
    changes: Sequence[float],
) -> Row:
    """From the numbers in the frames: freezes by the freeze rule, delays from drawing to showing, recoveries."""
    drawn = dict(sent)
    shown = [(int(at * MS), number) for number, at, *_ in codes]
    first = shown[0][0] if shown else int(begin * MS)
    frozen = gaps([at for at, _ in shown], first, int(end * MS), freeze_limit(FRAMES))
    delays = [at - drawn[number] for number, at, *_ in codes if number in drawn]
    recoveries = []
    for change in changes:
        moment = begin + 1000 * change
        later = (at - moment for number, at, *_ in codes if at >= moment and drawn.get(number, 0.0) >= moment)
        recoveries.append({"at_s": change, "live_ms": next(later, None)})
    return {
        "freezes": len(frozen),
        "freeze_s": sum(b - a for a, b in frozen) / SECOND,
        "longest_freeze_ms": max((b - a for a, b in frozen), default=0) / MS,
        "delay_p50_ms": percentile(delays, 50),
        "delay_p95_ms": percentile(delays, 95),
        "delay_p99_ms": percentile(delays, 99),
        "legible": sum(number >= 0 for number, *_ in codes) / max(1, len(codes)),
        "shown": len(codes),
        "recoveries": recoveries,
    }


def sounds(rows: Sequence[Row]) -> dict[str, Row]:
    """`lost` is the share of samples that the browser had to make up."""
    found = {}
    for source in SOUND:
        total = last(rows, "in", source)
        made_up = total.get("concealedSamples", 0) - total.get("silentConcealedSamples", 0)
        octets = counted(rows, source, "bytesReceived")
        span = (octets[-1][0] - octets[0][0]) / 1000 if len(octets) > 1 else 1.0
        found[source] = {
            "kbps": 8 * sum(grown for _, grown in octets) / span / 1000,
            "lost": made_up / max(1, total.get("totalSamplesReceived", 0)),
            "lost_packets": total.get("packetsLost", 0),
        }
    return found


def rates(rows: Sequence[Row]) -> dict[str, Row]:
    """Of a publisher, by stream (source, or source/rid): its rate while it was sent, and what its encoder made."""
    found: dict[str, Row] = {}
    for stream in {name for row in rows for name in row["out"]}:
        own = [(row["at"], row["out"][stream]) for row in rows if stream in row["out"]]
        first, final = own[0][1], own[-1][1]
        # One that nobody gets is left out by the page.
        sent = (b[0] - a[0] for a, b in pairwise(own) if b[1].get("bytesSent", 0) > a[1].get("bytesSent", 0))
        seconds = max(0.001, sum(sent) / 1000)
        sized = next((one for _, one in reversed(own) if "frameWidth" in one), final)
        grown = {name: final.get(name, 0) - first.get(name, 0) for name in SENT}
        found[stream] = {
            "kbps": 8 * grown["bytesSent"] / seconds / 1000,
            "frames_per_s": grown["framesEncoded"] / seconds,
            "keyframes": grown["keyFramesEncoded"],
            "plis": grown["pliCount"],
            "nacks": grown["nackCount"],
            "qp": grown["qpSum"] / max(1, grown["framesEncoded"]),
            "size": "{}x{}".format(sized.get("frameWidth"), sized.get("frameHeight")),
            "limited_by": final.get("qualityLimitationReason"),
        }
    return found
