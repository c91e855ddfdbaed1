"""Voices mixed at their places on the wall clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.recording import manifest
from mediaserver.recording.export import voices
from mediaserver.recording.export.voices import BLOCK, RATE
from tests.recording import feed
from tests.recording.feed import Source, Studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """Two voices, one of which comes a second and a half later."""
    made = Studio(tmp_path_factory.mktemp("archive"))
    for name, ssrc, start in (("one", 1, 0.0), ("two", 2, 1.5e6)):
        made.track(name, "audio", "microphone", participant=name)
        source = Source(Codec.CODEC_OPUS, feed.sound(3), ssrc=ssrc, unit_us=20_000, sequence=1, start_us=start)
        made.feed(name, feed.deliver([source]))
    made.run()
    made.stop()
    return made


def bursts(samples: np.ndarray) -> list[float]:
    """When it gets loud, s."""
    loud = np.flatnonzero(np.abs(samples) > 0.2) / RATE
    return [float(time) for time, before in zip(loud, [-1, *loud], strict=False) if time - before > 0.3]


def test_each_stands_where_it_was_said(studio: Studio) -> None:
    kept = manifest.decode((studio.path / manifest.NAME).read_bytes())
    segments = [segment for track in kept.tracks for segment in track.segments]
    start = segments[0].first_us
    blocks = list(voices.mix(studio.path, segments, start, start + 5_000_000))
    assert {len(block) for block in blocks[:-1]} == {BLOCK}
    samples = np.concatenate(blocks)
    assert len(samples) == 5 * RATE
    assert bursts(samples) == pytest.approx([0, 1, 1.5, 2, 2.5, 3.5], abs=0.03)
    later = np.concatenate(list(voices.mix(studio.path, segments, start + 1_200_000, start + 2_200_000)))
    assert bursts(later) == pytest.approx([0.3, 0.8], abs=0.03)
    assert len(later) == RATE


def test_silence_where_nobody_speaks(studio: Studio, tmp_path: Path) -> None:
    assert [len(block) for block in voices.mix(tmp_path, [], 0, 50_000)] == [BLOCK, BLOCK, 2400 - 2 * BLOCK]
