"""The synthetic pictures and sounds: they repeat, they move, and their codes outlive coding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.loadtest import phantom, scene, sound
from mediaserver.loadtest.raster import BLOCK, CODE_WIDTH, draw_code, draw_text, read_code


@given(st.integers(0, 0xFFFF))
def test_a_code_reads_back(number: int) -> None:
    luma = np.full((40, CODE_WIDTH + 8), 90, np.uint8)
    draw_code(luma, number, 4, 3)
    assert read_code(luma, 4, 3) == number


@given(st.integers(0, 0xFFFF), st.integers(0, 19))
def test_a_flipped_block_is_noticed(number: int, bit: int) -> None:
    luma = np.zeros((BLOCK, CODE_WIDTH), np.uint8)
    draw_code(luma, number)
    block = luma[:, bit * BLOCK : (bit + 1) * BLOCK]
    block[:] = 251 - block
    assert read_code(luma) is None


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_without_code_has_none(level: int) -> None:
    assert read_code(np.full((40, CODE_WIDTH), level, np.uint8)) is None


def test_text_is_drawn_where_it_was_asked() -> None:
    luma = np.zeros((30, 60), np.uint8)
    draw_text(luma, "1:2", 4, 5, scale=2)
    rows, columns = np.nonzero(luma)
    assert (rows.min(), columns.min()) >= (5, 4)
    assert rows.max() < 5 + 14
    assert columns.max() < 4 + 36


def test_the_phantom_repeats_with_each_beat_and_moves_in_between() -> None:
    drawn = phantom.Phantom(320, 240)
    first, half, next_beat = (drawn.frame(number, code=False)[:-30] for number in (0, 12, 100))
    assert np.abs(first.astype(int) - next_beat).mean() < 1
    assert np.abs(first.astype(int) - half).mean() > 5


def test_the_phantom_is_a_sector_with_a_dark_chamber() -> None:
    luma = phantom.Phantom().frame(0, code=False)
    assert luma.shape == (480, 640)
    assert luma[240, 320] < 40  # inside the chamber
    assert luma[200:300, 180:230].mean() > 60  # tissue
    assert luma[60:200, :100].max() == 16  # outside the sector


def test_the_phantom_is_the_same_for_the_same_seed() -> None:
    one, two, other = (phantom.Phantom(160, 120, seed).frame(7) for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()


def test_the_room_is_planar_and_its_motion_has_no_seam() -> None:
    room = scene.Scene(320, 180)
    period = scene.LOOP_SECONDS * scene.FRAME_RATE
    first, end, after = (room.frame(number, code=False) for number in (0, period - 1, period))
    assert first.shape == (270, 320)
    assert (first[:150] == after[:150]).all()
    assert 0 < np.abs(first[:150].astype(int) - end[:150]).mean() < 2


def test_noise_is_new_in_each_frame() -> None:
    room = scene.Scene(320, 180, noise=3)
    wall = [room.frame(number, code=False)[20:40, 250:310].astype(int) for number in (0, 1)]
    assert wall[0].std() > 2
    assert np.abs(wall[0] - wall[1]).mean() > 2


def test_a_heart_beats_at_its_rate() -> None:
    samples = sound.heart(5.0)
    assert samples.dtype == np.float32
    assert np.abs(samples).max() <= 1
    power = np.square(samples[: 5 * sound.SAMPLE_RATE]).reshape(-1, 480).mean(axis=1)
    spectrum = np.abs(np.fft.rfft(power - power.mean()))
    beats_per_second = np.fft.rfftfreq(len(power), 0.01)
    strongest = beats_per_second[2:][spectrum[2:].argmax()]
    # The first heart sound comes once a beat, with the second one in between.
    assert strongest % (phantom.BEATS_PER_MINUTE / 60) == pytest.approx(0, abs=0.05)


def test_speech_has_syllables_and_pauses() -> None:
    samples = sound.speech(6.0)
    assert len(samples) == 6 * sound.SAMPLE_RATE
    loudness = np.sqrt(np.square(samples).reshape(-1, 960).mean(axis=1))
    assert 0.15 < (loudness > 0.05).mean() < 0.95
    assert (loudness < 0.001).sum() > 5
