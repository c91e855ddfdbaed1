"""Figures of runs as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from tests.sim.figures import PictureFigures, RunFigures


def table(runs: Sequence[RunFigures]) -> str:
    """Markdown, one row a run."""
    heads = (
        "line",
        "policy",
        "use",
        "queue p95 ms",
        "dropped",
        "us kbit/s",
        "us frames/s",
        "us freezes (s)",
        "us under floor",
        "us p95 ms",
        "us first/full ms",
        "us live/full after ms",
        "camera kbit/s",
        "camera freezes (s)",
        "camera paused s",
        "voice lost",
        "stethoscope lost",
    )
    rows = [heads, tuple("---" for _ in heads), *(row(run) for run in runs)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def row(run: RunFigures) -> tuple[str, ...]:
    network, ultrasound, camera = run.network, run.pictures["ultrasound"], run.pictures["camera"]
    return (
        run.line,
        run.policy,
        f"{network.use:.0%}",
        f"{network.queue_p95_ms:.0f}",
        f"{network.overflow:.1%}",
        f"{ultrasound.kbps:.0f}",
        f"{ultrasound.frames_per_s:.1f}",
        f"{ultrasound.freezes} ({ultrasound.freeze_s:.1f})",
        f"{ultrasound.under_floor:.1%}",
        f"{ultrasound.delay_p95_ms:.0f}",
        f"{told(ultrasound.first_frame_ms)} / {told(ultrasound.full_ms)}",
        recovered(ultrasound),
        f"{camera.kbps:.0f}",
        f"{camera.freezes} ({camera.freeze_s:.1f})",
        f"{camera.paused_s:.1f}",
        f"{run.sounds['voice'].lost:.2%}",
        f"{run.sounds['stethoscope'].lost:.2%}" if "stethoscope" in run.sounds else "-",
    )


def told(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f}"


def recovered(picture: PictureFigures) -> str:
    return ", ".join(f"{told(one.live_ms)} / {told(one.full_ms)}" for one in picture.recoveries) or "-"
