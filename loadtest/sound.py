"""Synthetic sound: a heart as a stethoscope hears it, and a voice like speech. 48 kHz, mono, float32 in -1 .. 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mediaserver.loadtest.phantom import BEATS_PER_MINUTE

SAMPLE_RATE = 48_000

Samples = NDArray[np.float32]


def heart(seconds: float, seed: int = 1) -> Samples:
    """Heart sounds at `BEATS_PER_MINUTE`: S1 at the start of the beat, S2 after the systole, over faint breathing."""
    count = round(seconds * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    beat = time % (60 / BEATS_PER_MINUTE)
    first = 0.85 * _thump(beat - 0.02, (38.0, 62.0, 95.0), 0.028)
    second = 0.60 * _thump(beat - 0.33, (55.0, 84.0, 125.0), 0.020)
    # Breath is noise below a few hundred hertz, swelling four times in ten seconds.
    breath = _shaped_noise(count, seed, 120.0, 450.0) * (0.6 - 0.4 * np.cos(2 * np.pi * 0.4 * time))
    return (first + second + 0.012 * breath).clip(-1, 1).astype(np.float32)


def speech(seconds: float, seed: int = 1) -> Samples:
    """Voiced syllables with moving formants and pauses between phrases: what a voice coder takes for speech."""
    random = np.random.default_rng(seed)
    count = round(seconds * SAMPLE_RATE)
    out = np.zeros(count)
    position = int(0.15 * SAMPLE_RATE)
    while position < count - SAMPLE_RATE // 3:
        for _ in range(random.integers(4, 9)):
            syllable = _syllable(random)
            if position + len(syllable) > count - SAMPLE_RATE // 8:
                break
            out[position : position + len(syllable)] += syllable
            position += int(len(syllable) * random.uniform(0.85, 1.1))
        position += int(random.uniform(0.3, 0.7) * SAMPLE_RATE)
    peak = float(np.abs(out).max()) or 1.0
    return (0.5 * out / peak).astype(np.float32)


def _thump(time: NDArray[np.float64], frequencies: tuple[float, ...], decay: float) -> NDArray[np.float64]:
    after = np.maximum(time, 0)
    envelope = np.where(time > 0, (after / decay) ** 1.5 * np.exp(1.5 - 1.5 * after / decay), 0)
    tones = np.zeros_like(time)
    for frequency in frequencies:
        tones += np.sin(2 * np.pi * frequency * after + 0.7 * frequency)
    sound: NDArray[np.float64] = envelope * tones / len(frequencies)
    return sound


def _shaped_noise(count: int, seed: int, low: float, high: float) -> NDArray[np.float64]:
    """White noise cut to a band in the frequency domain, so that a loop of it has no seam; unit power."""
    noise = np.random.default_rng(seed).standard_normal(count)
    spectrum = np.fft.rfft(noise)
    frequency = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    spectrum *= np.exp(-(((frequency - (low + high) / 2) / (high - low)) ** 2) * 2)
    shaped = np.fft.irfft(spectrum, count)
    unit: NDArray[np.float64] = shaped / shaped.std()
    return unit


_VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (530, 1840, 2480), (570, 840, 2410), (300, 870, 2240))


def _syllable(random: np.random.Generator) -> NDArray[np.float64]:
    length = int(random.uniform(0.14, 0.26) * SAMPLE_RATE)
    time = np.arange(length) / SAMPLE_RATE
    pitch = random.uniform(105, 135) * (1 + 0.12 * np.sin(2 * np.pi * 3 * time + random.uniform(0, 6)))
    cycle = np.cumsum(pitch / SAMPLE_RATE) % 1.0
    source = np.where(cycle < 0.6, np.sin(np.pi * cycle / 0.6) ** 2 - 0.35, -0.35)
    source += 0.03 * random.standard_normal(length)
    spectrum = np.fft.rfft(source)
    frequency = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    formants = _VOWELS[random.integers(len(_VOWELS))]
    gain = sum(np.exp(-(((frequency - f) / (90 + 0.04 * f)) ** 2)) / (1 + n) for n, f in enumerate(formants))
    voiced = np.fft.irfft(spectrum * (gain + 0.01), length)
    return np.asarray(voiced * np.sin(np.pi * np.arange(length) / length) ** 0.6 * random.uniform(0.6, 1.0))
