"""The freeze rule and the unchanging picture in virtual time, and against what real encoders make of still scenes."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mediaserver.loadtest.phantom import Phantom
from mediaserver.sfu.policy.freshness import FreshState, Watch

MS = 1000
SECOND = 1000 * MS
LIVE, STALE, UNCHANGING, WAITING = FreshState
LATEST = 400 * MS  # the server says STALE by then, so that every viewer does within 500 ms


class Stream:
    """Frames on their way to a watch, and the states that followed, each with its time."""

    def __init__(self, **rule: int) -> None:
        self.watch = Watch(**rule)
        self.now = 10 * SECOND
        self.stamp = 4_294_900_000  # wraps soon
        self.states: list[tuple[int, FreshState]] = []

    def frame(self, interval: int, size: int = 4000, *, key: bool = False, pixels: int = 0, late: int = 0) -> None:
        """`interval` µs after the frame before; `late` of them are spent on the way."""
        self.stamp = (self.stamp + interval * 9 // 100) % 2**32
        self.pass_time(interval + late)
        for part in range(3):
            self.note(self.watch.packet(self.stamp, size // 3, self.now, key=key, pixels=0 if part else pixels))

    def pass_time(self, duration: int) -> None:
        """To the end of `duration` µs, awake when the watch asks for it."""
        end = self.now + duration
        while 0 < (due := self.watch.due) <= end:
            self.now = max(self.now, due)
            self.note(self.watch.check(self.now))
            assert self.watch.due == 0 or self.watch.due > self.now, "a deadline that passes without an effect"
        self.now = end

    def note(self, changed: bool) -> None:
        if changed:
            self.states.append((self.now, self.watch.state))

    def flow(self, count: int, interval: int = 33_333, size: int = 4000, *, pixels: int = 0) -> None:
        for _ in range(count):
            self.frame(interval, size, pixels=pixels)


def test_stale_after_quarter_of_a_second() -> None:
    stream = Stream()
    assert stream.watch.state is WAITING
    assert stream.watch.due == 0
    stream.flow(60)
    assert stream.watch.state is LIVE
    last = stream.now
    stream.pass_time(2 * SECOND)
    assert stream.states == [(last + 250 * MS, STALE)]


def test_slow_picture_gets_three_intervals_but_no_more_than_the_limit() -> None:
    stream = Stream()
    stream.flow(60, 100 * MS)
    last = stream.now
    stream.pass_time(SECOND)
    assert len(stream.states) == 1
    assert abs(stream.states[0][0] - last - 300 * MS) < 5 * MS
    stream = Stream()
    stream.flow(60, 200 * MS)
    last = stream.now
    stream.pass_time(SECOND)
    assert stream.states == [(last + LATEST, STALE)]


def test_cleared_by_the_second_frame_in_time() -> None:
    stream = Stream()
    stream.flow(30)
    stream.pass_time(SECOND)
    stream.frame(33_333)
    assert stream.watch.state is STALE, "one frame may be a straggler"
    stream.frame(33_333)
    assert stream.watch.state is LIVE


def test_two_frames_a_second_do_not_flap() -> None:
    stream = Stream()
    stream.flow(20, 500 * MS)
    assert [state for _, state in stream.states] == [STALE]


def test_more_of_the_same_frame_and_late_ones_are_nothing_new() -> None:
    stream = Stream()
    stream.flow(30)
    stamp, last = stream.stamp, stream.now
    for _ in range(20):
        stream.pass_time(20 * MS)
        stream.note(stream.watch.packet(stamp, 1000, stream.now))
        if stream.watch.state is not STALE:
            stream.note(stream.watch.packet(stamp - 3000, 1000, stream.now))
    assert stream.states == [(last + 250 * MS, STALE)]


def test_clock_of_the_publisher_was_set_back() -> None:
    stream = Stream()
    stream.flow(30)
    stream.stamp -= 90_000 * 60
    stream.flow(30)
    assert stream.watch.state is LIVE
    assert [state for _, state in stream.states] == [STALE, LIVE]


def test_slow_rule_of_a_shared_screen() -> None:
    stream = Stream(stale_us=2500 * MS)
    stream.flow(10, 1000 * MS)
    assert stream.states == []
    stream.pass_time(3 * SECOND)
    assert [state for _, state in stream.states] == [STALE]


def test_resume_gives_time_to_begin() -> None:
    stream = Stream()
    stream.flow(30)
    stream.now += 60 * SECOND  # muted: nobody looks
    stream.watch.resume(stream.now)
    assert stream.watch.state is WAITING
    resumed = stream.now
    stream.pass_time(SECOND)
    assert stream.states == [(resumed + 250 * MS, STALE)]


def test_not_judged() -> None:
    stream = Stream(stale_us=0)
    stream.flow(10)
    stream.pass_time(SECOND)
    assert stream.watch.due == 0
    assert stream.states == []


SIZES = 640 * 480


def test_unchanging_by_size() -> None:
    stream = Stream()
    stream.frame(33_333, 50_000, key=True, pixels=SIZES)
    stream.flow(60, size=17_000)
    frozen = stream.now
    stream.flow(150, size=600)
    assert [state for _, state in stream.states] == [UNCHANGING]
    assert 2 * SECOND < stream.states[0][0] - frozen < 3 * SECOND
    stream.frame(33_333, 60_000, key=True, pixels=SIZES)  # somebody has joined
    stream.flow(10, size=600)
    assert stream.watch.state is UNCHANGING
    stream.flow(3, size=17_000)
    assert stream.watch.state is LIVE


def test_congestion_is_no_unchanging_picture() -> None:
    """The line gives a seventh of what it gave: frames shrink, but not to next to nothing for their size."""
    stream = Stream()
    stream.frame(33_333, 50_000, key=True, pixels=SIZES)
    stream.flow(60, size=17_000)
    stream.flow(300, size=1_500)
    assert stream.states == []


def test_without_a_keyframe_nothing_is_compared() -> None:
    stream = Stream()
    stream.flow(300, size=30, pixels=SIZES)
    assert stream.states == []


def test_stale_ends_unchanging() -> None:
    stream = Stream()
    stream.frame(33_333, 50_000, key=True, pixels=SIZES)
    stream.flow(60, size=17_000)
    stream.flow(150, size=600)
    stream.pass_time(SECOND)
    stream.flow(30, size=600)
    assert [state for _, state in stream.states] == [UNCHANGING, STALE, LIVE]


gaps = st.integers(0, 1500).map(lambda ms: ms * MS)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(gaps, st.integers(0, 200_000), st.booleans()), min_size=1, max_size=80))
def test_never_late_and_never_live_without_frames(script: list[tuple[int, int, bool]]) -> None:
    stream = Stream()
    arrivals = []
    for gap, size, key in script:
        stream.frame(max(1000, gap), size, key=key, pixels=SIZES if key else 0)
        arrivals.append(stream.now)
        since = stream.now - arrivals[-2] if len(arrivals) > 1 else 0
        if since >= LATEST:
            assert stream.watch.state in (STALE, WAITING)
        if 0 < since < 250 * MS:
            assert stream.watch.state in (LIVE, UNCHANGING)
    stream.pass_time(SECOND)
    assert stream.watch.state is STALE
    for at, state in stream.states:
        if state is STALE:
            last = max(arrival for arrival in arrivals if arrival < at)
            assert 250 * MS <= at - last <= LATEST
    assert all(one[1] is not two[1] for one, two in pairwise(stream.states)), "the same is not told twice"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 65535), st.integers(0, 10**6), st.integers(0, 2**32 - 1)),
        max_size=200,
    )
)
def test_hostile_numbers(packets: list[tuple[int, int, int, int]]) -> None:
    watch, now = Watch(), SECOND
    for stamp, size, gap, pixels in packets:
        now += gap
        watch.packet(stamp, size, now, key=bool(gap & 1), pixels=pixels)
        assert watch.due == 0 or watch.due > now - 1500 * MS
        watch.check(now)
        assert watch.due == 0 or watch.due > now


# ---- real encoders

Plane = NDArray[np.uint8]
WIDTH, HEIGHT, RATE = 320, 240, 30
PHANTOM = Phantom(WIDTH, HEIGHT)
CINE = [PHANTOM.frame(number, code=False) for number in range(50)]
RNG = np.random.default_rng(3)
NOISE = [RNG.normal(0, 2, CINE[0].shape) for _ in range(7)]


def cine(count: int) -> Plane:
    """A beating heart."""
    return CINE[count % len(CINE)]


def noisy(count: int) -> Plane:
    """A frozen picture over an analogue cable: the grabber's noise alone moves."""
    return np.clip(CINE[0] + NOISE[count % 7], 0, 255).astype(np.uint8)


def frozen(count: int) -> Plane:
    """The scanner is in freeze, its picture comes over a digital cable."""
    return CINE[0]


ENCODERS = {
    "x264": ("libx264", {"preset": "veryfast", "tune": "zerolatency", "maxrate": "2M", "bufsize": "1M"}),
    "vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "-6", "lag-in-frames": "0", "static-thresh": "1"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "aq-mode": "3", "lag-in-frames": "0"}),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_real_encoders(name: str) -> None:
    av = pytest.importorskip("av")
    codec, options = ENCODERS[name]
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, RATE), Fraction(RATE)
    encoder.thread_count = 1
    encoder.bit_rate, encoder.gop_size, encoder.options = 2_000_000, 3000, options
    stream = Stream()
    number = 0

    def play(scene: object, seconds: float) -> list[FreshState]:
        nonlocal number
        before = len(stream.states)
        for count in range(int(seconds * RATE)):
            picture = av.VideoFrame.from_ndarray(
                np.vstack([scene(count), np.full((HEIGHT // 2, WIDTH), 128, np.uint8)]),  # type: ignore[operator]
                format="yuv420p",
            )
            picture.pts, number = number, number + 1
            for packet in encoder.encode(picture):
                stream.frame(SECOND // RATE, packet.size, key=packet.is_keyframe, pixels=WIDTH * HEIGHT)
        return [state for _, state in stream.states[before:]]

    assert play(cine, 3) == []
    assert play(frozen, 6) == [UNCHANGING]
    assert play(cine, 2) == [LIVE]
    assert play(noisy, 3) == [], "noise counts as change: the size of a frame cannot tell it from content"
