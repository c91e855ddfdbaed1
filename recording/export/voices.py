"""Sound of a recording as samples of one channel, at its place on the wall clock.

A lane that runs on is laid end to end, whatever its clock drifts against ours, until it is `SLACK_US` off: a step of
one sample now and then would be heard.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt

from mediaserver.recording.export import media
from mediaserver.recording.manifest import Segment

RATE = 48_000
BLOCK = 1024
SLACK_US = 20_000

Samples = npt.NDArray[np.float32]


class Run(NamedTuple):
    """Samples from `start` on, counted from the origin at `RATE`."""

    start: int
    samples: Samples


def runs(folder: Path, segment: Segment, origin_us: int, source: media.Source) -> Iterator[Run]:
    """The sound of a file, piece by piece in order; what follows without a gap follows to the sample."""
    with media.opened(folder, segment, source) as container:
        resampler = av.AudioResampler("fltp", None, RATE)
        end: int | None = None
        for time_us, frame in media.sound(segment, container):
            start = (time_us - origin_us) * RATE // 1_000_000
            if end is not None and abs(start - end) <= SLACK_US * RATE // 1_000_000:
                start = end
            frame.pts = None
            # The mean of its channels: FFmpeg's own mono of floats is 3 dB louder than either of two that are equal.
            pieces = [piece.to_ndarray().mean(axis=0) for piece in resampler.resample(frame)]
            if not pieces:
                continue
            samples = np.concatenate(pieces)
            if end is not None and start < end:
                # A clock that was set back: what is there already is not said twice.
                samples, start = samples[end - start :], end
            if len(samples):
                yield Run(start, samples)
                end = start + len(samples)


def mix(
    folder: Path, segments: Sequence[Segment], start_us: int, end_us: int, source: media.Source = media.PLAIN
) -> Iterator[Samples]:
    """All of them together between two moments, in blocks of `BLOCK` samples, silence where nobody speaks."""
    total = (end_us - start_us) * RATE // 1_000_000
    heard = [segment for segment in segments if segment.last_us > start_us and segment.first_us < end_us]
    buffer = np.zeros(0, np.float32)
    done = 0
    with ExitStack() as stack:
        lanes = [runs(folder, segment, start_us, source) for segment in heard]
        for lane in lanes:
            stack.callback(lane.close)  # type: ignore[attr-defined]
        for run in heapq.merge(*lanes, key=lambda run: run.start):
            if run.start >= total:
                break
            # Nothing comes any more for what lies before this run.
            while run.start >= done + BLOCK:
                block, buffer = _take(buffer)
                yield block
                done += BLOCK
            at = run.start - done
            samples = run.samples[-at:] if at < 0 else run.samples
            at = max(0, at)
            if len(buffer) < at + len(samples):
                buffer = np.concatenate((buffer, np.zeros(at + len(samples) - len(buffer), np.float32)))
            buffer[at : at + len(samples)] += samples
    while done < total:
        block, buffer = _take(buffer)
        yield block[: total - done]
        done += BLOCK


def _take(buffer: Samples) -> tuple[Samples, Samples]:
    block = np.zeros(BLOCK, np.float32)
    block[: min(BLOCK, len(buffer))] = buffer[:BLOCK]
    return np.clip(block, -1, 1), buffer[BLOCK:]
