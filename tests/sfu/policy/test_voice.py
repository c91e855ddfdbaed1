"""When a voice is taken for one that speaks: scripted levels in virtual time."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from mediaserver.sfu.policy.voice import VoiceMeter

SECOND = 1_000_000
NOISE, CALM, LOUD = 70, 35, 20
"""dB under full scale."""


class Speech:
    """Packets of 20 ms and what is told: time in s, speaking, loudness."""

    def __init__(self) -> None:
        self.meter = VoiceMeter()
        self.now = SECOND
        self.told: list[tuple[float, bool, int]] = []
        self.random = random.Random(5)

    def packet(self, level: int, vad: bool = True, step: int = 20_000) -> None:
        self.now += step
        if self.meter.packet(level, vad, self.now):
            self.told.append((self.now / SECOND - 1, self.meter.speaking, self.meter.loudness))

    def play(self, seconds: float, level: int, vad: bool = True) -> Speech:
        for _ in range(round(seconds * 50)):
            self.packet(min(127, level + self.random.randrange(-2, 3)), vad)
        return self

    def talk(self, seconds: float, level: int, vad: bool = True) -> Speech:
        """Words of 0.4 s with pauses of 0.15 s."""
        for _ in range(round(seconds / 0.55)):
            self.play(0.4, level, vad).play(0.15, NOISE, vad)
        return self

    @property
    def changes(self) -> list[tuple[float, bool]]:
        found: list[tuple[float, bool]] = []
        for time, speaking, _ in self.told:
            if speaking != (found[-1][1] if found else False):
                found.append((round(time, 2), speaking))
        return found


def test_speech_begins_soon_and_ends_a_second_after() -> None:
    speech = Speech().play(5, NOISE).talk(30, CALM)
    ended = speech.now / SECOND - 1
    speech.play(5, NOISE)
    (began, on), (over, off) = speech.changes
    assert (on, off) == (True, False)
    assert 5.1 <= began <= 5.5
    assert 0.4 <= over - ended <= 1.5
    assert len(speech.told) <= (over - began) / 0.3 + 2
    assert all(abs(loudness - (127 - CALM)) <= 4 for _, _, loudness in speech.told)


def test_a_cough_is_no_speech() -> None:
    speech = Speech()
    for _ in range(10):
        speech.play(2, NOISE).play(0.12, LOUD)
    assert speech.told == []


def test_a_bang_that_dies_away_is_no_speech() -> None:
    """The beeps of Chromium's test device, twice a second, as a receiver read their levels."""
    decay = [
        13,
        8,
        32,
        36,
        44,
        49,
        53,
        57,
        66,
        69,
        75,
        79,
        90,
        94,
        127,
        127,
        127,
        127,
        127,
        127,
        127,
        127,
        127,
        127,
        127,
    ]
    speech = Speech()
    for level in decay * 60:
        speech.packet(level)
    assert speech.told == []


def test_a_fan_is_no_speech_after_a_while_and_a_voice_over_it_is() -> None:
    speech = Speech().play(60, 50)
    assert speech.changes == [] or speech.changes[-1] == (speech.changes[-1][0], False)
    quiet = len(speech.changes)
    for _ in range(40):
        speech.play(0.4, 30).play(0.15, 50)
    assert speech.changes[quiet:] == [(speech.changes[quiet][0], True)]


def test_a_detector_that_says_no_is_believed() -> None:
    speech = Speech().play(1, NOISE, True)
    for _ in range(20):
        speech.play(0.5, CALM, False)
    assert speech.told == []
    without = Speech().play(1, NOISE, False).talk(5, CALM, False)
    assert without.changes[0][1], "who never sets the bit is judged by the level alone"


def test_silence_that_is_left_out_ends_speech() -> None:
    speech = Speech().play(2, NOISE).talk(5, CALM)
    for _ in range(8):
        speech.packet(127, True, 400_000)
    assert speech.changes[-1][1] is False


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 127), st.booleans(), st.integers(-1000, 500_000)), max_size=500))
def test_whatever_comes_is_told_a_few_times_a_second_at_most(packets: list[tuple[int, bool, int]]) -> None:
    speech = Speech()
    for level, vad, step in packets:
        speech.packet(level, vad, step)
        assert 0 <= speech.meter.loudness <= 127
    span = max(1.0, speech.now / SECOND - 1)
    assert len(speech.told) <= span * 8 + 2
