"""What is heard of a clinical sound that was altered before it came: scripted streams, and those of a real encoder."""

from __future__ import annotations

from functools import cache

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediaserver.sfu.policy.untouched import Listener, SoundFault

MS = 1000
FULL, WIDE, SILK, HYBRID = 31 << 3, 23 << 3, 9 << 3, 15 << 3
"""First bytes of packets of 20 ms (RFC 6716, table 2)."""
FLOOR = 64_000


class Stream:
    """A publisher's packets of 20 ms, in virtual time, and what the listener says: time in s and faults."""

    def __init__(self, floor_bps: int = FLOOR) -> None:
        self.listener = Listener(floor_bps)
        self.now = 1_000_000
        self.sequence = 1 << 32
        self.timestamp = 2**32 - 48_000
        self.told: list[tuple[float, int]] = []

    def play(self, seconds: float, *, head: int = FULL, size: int = 320, samples: int = 960) -> Stream:
        for _ in range(round(seconds * 48_000 / samples)):
            self.packet(bytes([head]) + bytes(size - 1), samples)
        return self

    def packet(self, payload: bytes, samples: int = 960) -> None:
        if self.listener.packet(self.sequence, self.timestamp % 2**32, payload, self.now):
            self.told.append((self.now / 1e6 - 1, self.listener.faults))
        self.sequence += 1
        self.timestamp += samples
        self.now += samples * 1000 // 48

    def skip(self, samples: int) -> None:
        self.timestamp += samples
        self.now += samples * 1000 // 48


def test_a_good_sound_is_no_news() -> None:
    stream = Stream().play(10)
    for _ in range(500):  # 3 % lost on the way, some late, some twice
        stream.packet(bytes([FULL]) + bytes(319))
        if stream.sequence % 33 == 0:
            stream.sequence += 1
            stream.timestamp += 960
        if stream.sequence % 50 == 0:
            stream.listener.packet(stream.sequence - 5, (stream.timestamp - 4800) % 2**32, b"\xf8" * 320, stream.now)
    assert stream.told == []


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"head": SILK}, SoundFault.SOUND_SPEECH | SoundFault.SOUND_BANDWIDTH),
        ({"head": HYBRID}, SoundFault.SOUND_SPEECH),
        ({"head": WIDE}, SoundFault.SOUND_BANDWIDTH),
        ({"size": 140}, SoundFault.SOUND_BITRATE),
        ({"head": FULL | 3, "size": 900, "samples": 2880}, SoundFault.SOUND_MALFORMED),
        ({"size": 1277}, SoundFault.SOUND_MALFORMED),
    ],
)
def test_faults_are_told_after_a_window_and_taken_back_after_two(options: dict[str, int], fault: int) -> None:
    stream = Stream().play(2).play(10, **options).play(10)
    assert [faults for _, faults in stream.told][-2:] == [fault, 0]
    began, ended = stream.told[0][0], stream.told[-1][0]
    assert 4 <= began <= 6.1
    assert 14 <= ended <= 18.1


def test_long_packets() -> None:
    stream = Stream()
    for _ in range(100):
        stream.packet(bytes([FULL | 1]) + bytes(640), 1920)
    assert [faults for _, faults in stream.told] == [SoundFault.SOUND_LONG]


def test_silence_that_is_left_out() -> None:
    stream = Stream().play(4)
    for _ in range(20):  # as Chromium's: numbers go on, a packet each 400 ms
        stream.packet(bytes([FULL]) + bytes(319))
        stream.skip(19_200 - 960)
    assert [faults for _, faults in stream.told] == [SoundFault.SOUND_DTX]
    quiet = Stream().play(4)
    for _ in range(200):  # an encoder's empty packets
        quiet.packet(bytes([FULL]))
    assert [faults for _, faults in quiet.told] == [SoundFault.SOUND_DTX]


def test_one_gap_is_a_device_that_stumbled() -> None:
    stream = Stream()
    for _ in range(5):
        stream.play(2).skip(4800)
    stream.now += 10_000_000
    stream.play(5)
    assert stream.told == []


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 2**33), st.integers(0, 2**32 - 1), st.binary(max_size=40), st.integers(0, 10**6)),
        max_size=400,
    )
)
def test_whatever_comes_is_told_at_most_once_in_a_window(packets: list[tuple[int, int, bytes, int]]) -> None:
    listener = Listener(FLOOR)
    now, last = 1, -(10**9)
    for sequence, timestamp, payload, step in packets:
        now += step
        if listener.packet(sequence, timestamp, payload, now):
            assert now - last >= 2_000_000
            last = now
        assert 0 <= listener.faults < 64


@cache
def coded(application: str, bitrate: int, *, quiet: bool = False) -> tuple[bytes, ...]:
    """Six seconds of mono sound of libopus, in the second half silence where that is wanted."""
    context = av.CodecContext.create("libopus", "w")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate, context.format, context.layout = 48_000, av.AudioFormat("flt"), "mono"  # type: ignore[assignment]
    context.bit_rate = bitrate
    context.options = {"application": application, "vbr": "off"}
    noise = np.random.default_rng(7).normal(0, 0.1, 300 * 960).astype(np.float32)
    if quiet:
        noise[150 * 960 :] = 0
    packets: list[bytes] = []
    for i in range(300):
        frame = av.AudioFrame.from_ndarray(noise[np.newaxis, 960 * i : 960 * (i + 1)], format="flt", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 960 * i
        packets += [bytes(one) for one in context.encode(frame)]
    return tuple(packets)


@pytest.mark.parametrize(
    ("application", "bitrate", "fault"),
    [
        ("audio", 128_000, 0),
        ("audio", 96_000, 0),
        ("audio", 32_000, SoundFault.SOUND_BITRATE),
        ("voip", 12_000, SoundFault.SOUND_SPEECH | SoundFault.SOUND_BANDWIDTH | SoundFault.SOUND_BITRATE),
    ],
)
def test_a_real_encoder(application: str, bitrate: int, fault: int) -> None:
    stream = Stream()
    for payload in coded(application, bitrate):
        stream.packet(payload)
    assert stream.listener.faults & ~SoundFault.SOUND_SPEECH == fault & ~SoundFault.SOUND_SPEECH
    assert bool(stream.listener.faults & SoundFault.SOUND_SPEECH) >= bool(fault & SoundFault.SOUND_SPEECH)


def test_a_silent_heart_at_a_constant_bitrate_is_no_fault() -> None:
    stream = Stream()
    for payload in coded("audio", 128_000, quiet=True):
        stream.packet(payload)
    assert stream.told == []
