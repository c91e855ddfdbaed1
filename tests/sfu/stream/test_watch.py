"""What the engine tells of tracks from which nothing new comes, in virtual time."""

from __future__ import annotations

import msgspec

from mediaserver.sfu.policy.freshness import FreshState
from mediaserver.sfu.stream.params import EventKind, FreshnessParams
from tests.sfu.stream.test_engine import MS, VIDEO, VP8_DELTA, VP8_KEY, House

SECOND = 1000 * MS
RULE = FreshnessParams(stale_us=250 * MS, unchanged_us=2 * SECOND)
LIVE, STALE, UNCHANGING = FreshState.FRESH_LIVE, FreshState.FRESH_STALE, FreshState.FRESH_UNCHANGING


class Watched(House):
    """A house whose track is watched, with the reports of its freshness so far: time and state."""

    def __init__(self) -> None:
        super().__init__()
        self.engine.update_track(100, msgspec.structs.replace(VIDEO, freshness=RULE))
        self.told: list[tuple[int, int]] = []
        self.stamp = 0

    def play(self, count: int, *, size: int = 4000, key: bool = False, ssrc: int = 1234) -> None:
        """Frames, 25 in a second, and whatever the engine says meanwhile."""
        for number in range(count):
            self.stamp += 3600
            head = VP8_KEY if key and number == 0 else VP8_DELTA
            for part in range(0, size, 1000):
                plain = head[:11] + bytes(min(1000, size - part) - 11)
                self.send(plain, timestamp=self.stamp, ssrc=ssrc)
            self.wait(40 * MS)
            self.listen()

    def pause(self, us: int) -> None:
        self.wait(us)
        self.listen()

    def listen(self) -> None:
        for event in self.engine.poll_events():
            if event.kind is EventKind.TRACK_FRESHNESS:
                assert event.id == 100
                self.told.append((event.time, event.value))


def test_stale_and_live_again() -> None:
    house = Watched()
    house.pause(SECOND)
    assert house.told == [], "a track that never began is not stale"
    house.play(25, key=True)
    last = house.now - 40 * MS
    house.pause(5 * SECOND)
    assert house.told == [(last + 250 * MS, STALE)], "the engine wakes in time, and says it once"
    house.told.clear()
    house.play(10)
    assert [state for _, state in house.told] == [LIVE]


def test_unchanging() -> None:
    house = Watched()
    house.play(50, key=True, size=8000)
    house.play(75, size=200)
    assert [state for _, state in house.told] == [UNCHANGING]
    house.play(5, size=8000)
    assert [state for _, state in house.told] == [UNCHANGING, LIVE]


def test_a_muted_track_is_not_stale() -> None:
    house = Watched()
    house.play(10, key=True)
    house.engine.mute_track(100, True)
    house.pause(SECOND)
    assert house.told == []
    house.engine.mute_track(100, False)
    unmuted = house.now
    house.pause(SECOND)
    assert house.told == [(unmuted + 250 * MS, STALE)]
    house.engine.mute_track(100, True)
    house.pause(SECOND)
    assert [state for _, state in house.told] == [STALE, LIVE], "it is paused, and told as such"


def test_a_new_ssrc_goes_on() -> None:
    house = Watched()
    house.play(10, key=True)
    house.stamp, house.sequence = 123_456_789, 100
    house.play(10, key=True, ssrc=99)
    assert house.told == []
    house.pause(SECOND)
    assert [state for _, state in house.told] == [STALE]
    house.sequence = 100
    house.play(1, key=True, ssrc=77)
    assert [state for _, state in house.told] == [STALE]
    house.play(1, ssrc=77)
    assert [state for _, state in house.told] == [STALE, LIVE]


def test_padding_is_no_picture() -> None:
    house = Watched()
    house.play(10, key=True)
    last = house.now - 40 * MS
    for _ in range(20):
        house.stamp += 3600
        house.send(b"", timestamp=house.stamp)
        house.pause(40 * MS)
    assert house.told == [(last + 250 * MS, STALE)]


def test_unwatched() -> None:
    house = Watched()
    house.engine.update_track(100, VIDEO)
    house.play(10, key=True)
    house.pause(SECOND)
    assert house.told == []


def test_nothing_is_told_of_what_has_gone() -> None:
    house = Watched()
    house.play(10, key=True)
    house.engine.remove_track(100)
    house.pause(SECOND)
    assert house.told == []
