"""Where media stands on the wall clock."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.recording.timeline import (
    Arrival,
    Point,
    Report,
    Source,
    Unwrapper,
    map_sources,
    ntp_to_unix_us,
    wall_at,
)

START = 1_790_000_000_000_000


def capture(
    rate: int, rtp_start: int, seconds: int, *, clock_us: int, seed: int, ppm: float = 0, reports: bool = True
) -> Source:
    """A source seen through a network of 20 to 60 ms; its publisher's clock is `clock_us` off and `ppm` fast."""
    chance = random.Random(seed)
    facts: list[Report] = []
    arrivals: list[Arrival] = []
    for second in range(seconds):
        real = START + second * 1_000_000
        theirs = real + clock_us + round(second * ppm)
        rtp = rtp_start + round(second * rate * (1 + ppm / 1e6))
        arrived = real + 20_000 + chance.randrange(40_000)
        arrivals.append(Arrival(rtp, arrived))
        if reports and second >= 3:
            facts.append(Report(rtp, theirs, arrived + chance.randrange(5_000)))
    return Source("cart", rate, facts, arrivals)


def test_ntp_time_becomes_unix_time() -> None:
    assert ntp_to_unix_us((2_208_988_800 + 10) << 32 | 0x80000000) == 10_500_000


def test_unwraps_both_ways() -> None:
    unwrap = Unwrapper()
    assert [unwrap(t) for t in (0xFFFFFFF0, 0x10, 0xFFFFFFFF, 0x20)] == [
        0xFFFFFFF0,
        0x100000010,
        0xFFFFFFFF,
        0x100000020,
    ]
    assert unwrap.peek(0x30) == 0x100000030


@given(st.integers(0, 0xFFFFFFFF), st.lists(st.integers(-0x7FFFFFFF, 0x7FFFFFFF), max_size=20))
def test_unwrapping_keeps_every_step(start: int, steps: list[int]) -> None:
    unwrap = Unwrapper()
    value = unwrap(start)
    for step in steps:
        after = unwrap((value + step) & 0xFFFFFFFF)
        assert after - value == step
        value = after


def test_tracks_of_one_publisher_are_in_sync_to_a_millisecond() -> None:
    sources = {
        "video": capture(90_000, 4_000_000_000, 120, clock_us=-7_200_000_000, seed=1),
        "audio": capture(48_000, 17, 120, clock_us=-7_200_000_000, seed=2),
    }
    mapping = map_sources(sources)
    for second in (0, 1, 60, 119):
        video = wall_at(mapping["video"], 90_000, 4_000_000_000 + second * 90_000)
        audio = wall_at(mapping["audio"], 48_000, 17 + second * 48_000)
        assert abs(video - audio) <= 5_000
        assert 15_000 <= video - (START + second * 1_000_000) <= 30_000


def test_follows_a_clock_that_drifts_for_two_hours() -> None:
    source = capture(90_000, 0, 7200, clock_us=500_000, seed=3, ppm=200)
    points = map_sources({"video": source})["video"]
    for second in range(0, 7200, 100):
        error = wall_at(points, 90_000, round(second * 90_000 * 1.0002)) - (START + second * 1_000_000)
        assert 0 <= error <= 40_000


def worst_skew(video: Source, audio: Source, seconds: int, ppm: float = 0) -> float:
    """How far picture and sound that were taken together stand apart at the most, µs."""
    mapping = map_sources({"video": video, "audio": audio})
    return max(
        abs(
            wall_at(mapping["video"], 90_000, round(second * 90_000 * (1 + ppm / 1e6)))
            - wall_at(mapping["audio"], 48_000, round(second * 48_000))
        )
        for second in range(seconds)
    )


def test_two_hours_of_a_sound_card_that_drifts_against_the_picture() -> None:
    """Two clocks in one publisher, 200 ppm apart, both told by its reports; and its own is off ours by as much."""
    seconds = 7200
    video = capture(90_000, 0, seconds, clock_us=90_000_000, seed=8, ppm=200)
    audio = capture(48_000, 0, seconds, clock_us=90_000_000, seed=9, ppm=200)
    true_rate = [r._replace(rtp=round(r.rtp / (1 + 200 / 1e6))) for r in audio.reports]
    arrivals = [a._replace(rtp=round(a.rtp / (1 + 200 / 1e6))) for a in audio.arrivals]
    audio = audio._replace(reports=true_rate, arrivals=arrivals)
    assert worst_skew(video, audio, seconds, ppm=200) <= 40_000
    points = map_sources({"video": video, "audio": audio})["audio"]
    assert abs(wall_at(points, 48_000, seconds * 48_000) - (START + seconds * 1_000_000)) <= 60_000


@pytest.mark.parametrize("step", [-3_600_000_000, -900_000, -300_000, 300_000, 900_000, 3_600_000_000])
def test_a_clock_that_is_set_keeps_sound_and_picture_together(step: int) -> None:
    """Its reports jump, at a moment that lies between those of sound and those of picture."""

    def set_after(source: Source, second: float) -> Source:
        at = START + round(second * 1e6)
        return source._replace(
            reports=[r._replace(ntp_us=r.ntp_us + (step if r.wall_us >= at else 0)) for r in source.reports]
        )

    video = set_after(capture(90_000, 0, 300, clock_us=0, seed=10), 150.5)
    audio = set_after(capture(48_000, 0, 300, clock_us=0, seed=11), 150.5)
    sooner = [
        r._replace(rtp=r.rtp - 19_200, ntp_us=r.ntp_us - 400_000, wall_us=r.wall_us - 400_000) for r in audio.reports
    ]
    audio = audio._replace(reports=sooner)
    assert worst_skew(video, audio, 300) <= 40_000
    points = map_sources({"video": video, "audio": audio})["video"]
    for second in range(300):
        assert abs(wall_at(points, 90_000, second * 90_000) - (START + second * 1_000_000)) <= 80_000


def test_before_the_first_report_and_without_any_arrival_counts() -> None:
    source = capture(48_000, 5, 30, clock_us=0, seed=4, reports=False)
    points = map_sources({"audio": source})["audio"]
    assert 20_000 <= wall_at(points, 48_000, 5) - START <= 40_000


def test_reports_that_cannot_be_are_not_believed() -> None:
    source = capture(48_000, 5, 30, clock_us=0, seed=5)
    absurd = source._replace(reports=[r._replace(rtp=r.rtp + 48_000 * 100) for r in source.reports])
    points = map_sources({"audio": absurd})["audio"]
    assert abs(wall_at(points, 48_000, 5) - START) <= 60_000


def test_a_clock_that_is_set_does_not_pull_what_was_before() -> None:
    source = capture(90_000, 0, 60, clock_us=0, seed=6)
    stepped = source._replace(
        reports=[r._replace(ntp_us=r.ntp_us + (3_600_000_000 if r.rtp > 30 * 90_000 else 0)) for r in source.reports]
    )
    points = map_sources({"video": stepped})["video"]
    for second in range(60):
        assert abs(wall_at(points, 90_000, second * 90_000) - (START + second * 1_000_000)) <= 70_000


def test_one_late_report_moves_nothing() -> None:
    source = capture(90_000, 0, 60, clock_us=0, seed=7)
    reports = [r._replace(wall_us=r.wall_us + (900_000 if i == 20 else 0)) for i, r in enumerate(source.reports)]
    points = map_sources({"video": source._replace(reports=reports)})["video"]
    for second in range(60):
        assert abs(wall_at(points, 90_000, second * 90_000) - (START + second * 1_000_000)) <= 70_000


def test_walks_between_points_and_beyond_them() -> None:
    points = [Point(0, 0), Point(90_000, 1_000_100)]
    assert wall_at(points, 90_000, 45_000) == 500_050
    assert wall_at(points, 90_000, -90_000) == -1_000_000
    assert wall_at(points, 90_000, 180_000) == 2_000_100


def test_nothing_known_gives_no_points() -> None:
    assert map_sources({"x": Source("p", 90_000, [], [])}) == {"x": []}
