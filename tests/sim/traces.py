"""Traces of lines: how the rate of a link went, in a text file that is easily written by hand or from a log.

Lines that begin with `#` say what the trace is. Every other line is `milliseconds kbit/s`: for so long the link carries
so much. A trace repeats from its start when it is over.
"""

from __future__ import annotations

from pathlib import Path

from tests.sim.network import MS, LinkSpec, short_queue

FOLDER = Path(__file__).parent / "traces"


def read_trace(text: str) -> tuple[tuple[tuple[int, int], ...], int]:
    """The steps of a `LinkSpec`, and after how many µs they repeat. ValueError names the first line that is wrong."""
    steps, at = [], 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            duration, rate = (int(word) for word in line.split())
        except ValueError:
            raise ValueError(f"line {number} of a trace is `milliseconds kbit/s`, not {line!r}") from None
        if duration <= 0 or rate <= 0:
            raise ValueError(f"line {number} of a trace has a value that is not positive: {line!r}")
        steps.append((at, rate * 1000))
        at += duration * MS
    if not steps:
        raise ValueError("a trace without a step")
    return tuple(steps), at


def trace_link(name: str, *, delay: int = 20 * MS, queue: int = 0) -> LinkSpec:
    """A link that follows `traces/NAME.txt`. Its queue is short for the mean rate unless it is given."""
    steps, repeat = read_trace((FOLDER / f"{name}.txt").read_text())
    ends = [at for at, _ in steps[1:]] + [repeat]
    mean = sum(rate * (end - at) for (at, rate), end in zip(steps, ends, strict=True)) // repeat
    return LinkSpec(steps=steps, repeat=repeat, delay=delay, queue=queue or short_queue(mean))
