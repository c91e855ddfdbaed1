"""A run as a picture: the line and what went over it, how long packets queued, and what was seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.sim.encoder import VideoSpec
from tests.sim.figures import freeze_limit, gaps, pauses
from tests.sim.network import MS, SECOND
from tests.sim.run import Run

BIN_US = 250 * MS
COLORS = {"ultrasound": "#d9480f", "camera": "#1971c2", "stethoscope": "#2f9e44", "voice": "#9c36b5"}
SHADES = ("#dee2e6", "#adb5bd", "#495057", "#212529")


def binned(times: Any, weights: Any, begin: int, end: int) -> np.ndarray:
    """kbit/s in each bin, from bytes."""
    count = (end - begin) // BIN_US
    index = (np.asarray(times) - begin) // BIN_US
    inside = (index >= 0) & (index < count)
    sums = np.bincount(index[inside], weights=np.asarray(weights)[inside], minlength=count)
    return sums * 8 * SECOND / BIN_US / 1000


def plot(run: Run, path: Path) -> None:
    """Writes a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    begin, end, figures = run.begin, run.end, run.figures
    at = (np.arange((end - begin) // BIN_US) + 0.5) * BIN_US / SECOND
    rows = [spec for spec in run.consultation.sources if isinstance(spec.medium, VideoSpec)]
    figure, axes = plt.subplots(
        3, 1, figsize=(10, 7.5), sharex=True, height_ratios=(3, 1.2, 0.5 + 0.55 * len(rows)), layout="constrained"
    )
    _plot_rates(axes[0], run, at)
    _plot_queue(axes[1], run, at)
    _plot_seen(axes[2], run, rows)
    network = figures.network
    figure.suptitle(
        f"{figures.line}, {figures.policy}: use {network.use:.0%}, queueing p95 {network.queue_p95_ms:.0f} ms, "
        f"ultrasound under its floor {figures.pictures['ultrasound'].under_floor:.1%}",
        fontsize=11,
    )
    axes[2].set_xlabel("seconds since the join")
    axes[2].set_xlim(0, (end - begin) / SECOND)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _plot_rates(axis: Any, run: Run, at: np.ndarray) -> None:
    begin, end, down = run.begin, run.end, run.doctor.down
    capacity = [down.capacity(begin + int(x * SECOND) - BIN_US // 2, begin + int(x * SECOND) + BIN_US // 2) for x in at]
    axis.step(at, np.asarray(capacity) * 8 * SECOND / BIN_US / 1e6, where="mid", color="black", lw=1.2, label="line")
    axis.plot(
        at, binned(down.times, down.sizes, begin, end) / 1000, color="#868e96", lw=0.8, label="sent by the server"
    )
    told = [one for one in run.doctor.told if one[0] >= begin]
    since = [(when - begin) / SECOND for when, _, _ in told]
    axis.plot(since, [bps / 1e6 for _, bps, _ in told], color="#f08c00", lw=1.2, label="the server's estimate")
    bottom = np.zeros(len(at))
    for index, spec in enumerate(run.consultation.sources):
        ssrc = run.doctor.number * 1_000 + 10 * index
        if isinstance(spec.medium, VideoSpec):
            picture = run.doctor.pictures[ssrc]
            rate = binned(picture.shown_at, picture.sizes, begin, end) / 1000
        else:
            sound = run.doctor.sounds[ssrc]
            size = sound.bytes / max(1, sound.packets)
            rate = binned(sound.arrivals, np.full(len(sound.arrivals), size), begin, end) / 1000
        axis.fill_between(at, bottom, bottom + rate, color=COLORS[spec.source], lw=0, alpha=0.7, label=spec.source)
        bottom = bottom + rate
    top = max(max(bottom, default=1.0) * 1.5, 1.0)
    axis.set_ylim(0, min(top, max(np.asarray(capacity).max() * 8 * SECOND / BIN_US / 1e6 * 1.2, 1.0)))
    axis.set_ylabel("Mbit/s")
    axis.legend(loc="upper right", fontsize=8, ncols=3)


def _plot_queue(axis: Any, run: Run, at: np.ndarray) -> None:
    times, queued = np.asarray(run.doctor.down.times), np.asarray(run.doctor.down.queued)
    worst = np.zeros(len(at))
    index = (times - run.begin) // BIN_US
    inside = (index >= 0) & (index < len(at)) & (queued >= 0)
    np.maximum.at(worst, index[inside], queued[inside] / MS)
    axis.plot(at, worst, color="#495057", lw=0.9)
    dropped = (times[queued < 0] - run.begin) / SECOND
    axis.plot(dropped, np.zeros(len(dropped)), "|", color="#e03131", ms=6, label="dropped by the queue")
    axis.set_ylabel("queueing, ms\n(worst)")
    axis.set_ylim(bottom=0)
    if len(dropped):
        axis.legend(loc="upper right", fontsize=8)


def _plot_seen(axis: Any, run: Run, rows: list[Any]) -> None:
    """A bar for each picture: darker is a better encoding, red is frozen, white is paused and told so."""
    names = []
    for row, spec in enumerate(rows):
        index = run.consultation.sources.index(spec)
        ssrc = run.doctor.number * 1_000 + 10 * index
        receiver = run.doctor.pictures[ssrc]
        edges = [*receiver.shown_at, run.end]
        top = len(spec.medium.encodings) - 1
        for number, encoding in enumerate(receiver.encodings):
            left, width = (edges[number] - run.begin) / SECOND, (edges[number + 1] - edges[number]) / SECOND
            axis.barh(row, width, left=left, height=0.7, color=SHADES[len(SHADES) - 1 - top + encoding], lw=0)
        frozen = gaps(receiver.shown_at, run.begin, run.end, freeze_limit(spec.medium.frames))
        paused = pauses(run.consultation.laboratory.events, ssrc, run.end)
        for color, spans in (("#e03131", frozen), ("white", paused)):
            for first, last in spans:
                left = (first - run.begin) / SECOND
                axis.barh(row, (last - first) / SECOND, left=left, height=0.7, color=color, lw=0)
        names.append(spec.source)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
