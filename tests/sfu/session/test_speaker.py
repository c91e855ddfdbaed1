"""Who is taken for the speaker of a room, in virtual time."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from mediaserver.sfu.session.speaker import HOLD_US, ActiveSpeaker

MS = 1000
STEP = 300 * MS


class Room:
    """Voices that tell of themselves each 0.3 s, and who was the speaker since when."""

    def __init__(self) -> None:
        self.speaker = ActiveSpeaker()
        self.now = 0
        self.changes: list[tuple[int, str | None]] = []

    def tell(self, track: str, loudness: int | None) -> None:
        if self.speaker.note(track, speaking=loudness is not None, loudness=loudness or 0, now=self.now):
            self.changes.append((self.now, self.speaker.current))

    def play(self, seconds: float, **voices: int) -> Room:
        for _ in range(round(seconds * 1000 * MS / STEP)):
            for track, loudness in voices.items():
                self.tell(track, loudness)
            self.now += STEP
        return self


def test_the_first_who_speaks_keeps_the_floor() -> None:
    room = Room().play(3, a=80).play(10, a=80, b=84)
    assert room.changes == [(0, "a")]


def test_who_is_clearly_louder_for_a_while_takes_it() -> None:
    room = Room().play(3, a=80)
    began = room.now
    room.play(0.3, a=80, b=95).play(3, a=80, b=82)
    assert room.speaker.current == "a", "a door that bangs"
    began = room.now
    room.play(3, a=80, b=90)
    assert room.changes[1:] == [(began + 2 * STEP, "b")]


def test_silence_frees_it() -> None:
    room = Room().play(3, a=80, b=70)
    room.tell("a", None)
    assert room.speaker.current == "b"
    room.tell("b", None)
    assert room.speaker.current is None
    room.tell("c", 60)
    assert room.speaker.current is None, "two changes are a second apart"
    room.play(1.8, c=60)
    assert room.speaker.current == "c"


def test_of_whom_nothing_is_heard_any_more() -> None:
    room = Room().play(3, a=80).play(3, b=70)
    assert room.speaker.current == "b"
    room.speaker.keep({"c"})
    room.tell("c", 60)
    assert room.speaker.current in ("c", None)
    assert room.speaker.remove("c", room.now + 1) == (room.speaker.current is None)


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 127)), st.integers(0, 700 * MS)),
        max_size=200,
    )
)
def test_the_floor_never_flickers(said: list[tuple[str, int | None, int]]) -> None:
    room = Room()
    speaking: set[str] = set()
    for track, loudness, step in said:
        room.now += step
        room.tell(track, loudness)
        (speaking.discard if loudness is None else speaking.add)(track)
        assert room.speaker.current is None or room.speaker.current in speaking
    begins = [time for time, current in room.changes if current is not None]
    assert all(later - earlier >= HOLD_US for earlier, later in pairwise(begins))
