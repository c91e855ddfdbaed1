"""Sound as the samples of a General Audio Waveform object: decoded, nothing else.

The object holds at most 44,100 samples a second (PS3.3, A.34.11.4), and a network's sound has 48,000, so it is
resampled. What is missing is not filled with silence but marked, by a value that no sample has.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np

from mediaserver.recording.export import voices
from mediaserver.recording.export.media import Source
from mediaserver.recording.export.voices import Run
from mediaserver.recording.manifest import Segment

RATE = 44_100
PADDING = -32_768


def write(folder: Path, source: Source, segment: Segment, out: BinaryIO, progress: Callable[[int], None]) -> int:
    """Samples of 16 bits (little endian, one channel) from `segment.first_us` on; gives how many.

    `progress` is told times (wall clock, µs). Raises `ExportError` and OSError.
    """
    written = 0
    resampler: av.AudioResampler | None = None
    expected = None
    for run in voices.runs(folder, segment, segment.first_us, source):
        if resampler is None or run.start != expected:
            written += _flush(resampler, out)
            resampler = av.AudioResampler("s16", "mono", RATE)
            start = max(0, run.start) * RATE // voices.RATE
            written += _pad(out, start - written)
        written += _put(resampler, run, out)
        expected = run.start + len(run.samples)
        progress(segment.first_us + run.start * 1_000_000 // voices.RATE)
    return written + _flush(resampler, out)


def _put(resampler: av.AudioResampler, run: Run, out: BinaryIO) -> int:
    frame = av.AudioFrame.from_ndarray(run.samples[np.newaxis], "flt", "mono")
    frame.sample_rate = voices.RATE
    return sum(_samples(piece, out) for piece in resampler.resample(frame))


def _flush(resampler: av.AudioResampler | None, out: BinaryIO) -> int:
    return sum(_samples(piece, out) for piece in resampler.resample(None)) if resampler else 0


def _samples(frame: av.AudioFrame, out: BinaryIO) -> int:
    samples = np.maximum(frame.to_ndarray()[0], PADDING + 1).astype("<i2")
    out.write(samples.tobytes())
    return len(samples)


def _pad(out: BinaryIO, count: int) -> int:
    step = 1 << 16
    for at in range(0, count, step):
        out.write(np.full(min(step, count - at), PADDING, "<i2").tobytes())
    return max(0, count)
