"""What waits for a slow connection: the stream stays whole, what must arrive does, and memory is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mediaserver.sfu.stream.backlog import FrameBacklog
from mediaserver.sfu.wire.framing import FrameReader

MEDIA_ROOM, CONTROL_ROOM, REST_ROOM = 262_144, 16_384, 2_050
SECOND = 1_000_000
MARK = 62_500

Add = tuple[str, int, bool]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 2048), st.booleans()),
        st.tuples(st.just("burst"), st.integers(100, 1300), st.just(True)),
        st.tuples(st.just("take"), st.integers(0, 60_000), st.just(True)),
        st.tuples(st.just("wait"), st.integers(0, 2 * SECOND), st.just(True)),
        st.tuples(st.just("shrink"), st.just(0), st.just(True)),
    ),
    max_size=60,
)


def frame(number: int, size: int, media: bool) -> bytes:
    return (b"m" if media else b"c") + number.to_bytes(4) + bytes(max(size - 5, 0))


def number_of(data: bytes) -> int:
    return int.from_bytes(data[1:5])


@given(steps)
def test_the_stream_stays_whole(todo: list[Add]) -> None:
    backlog, reader = FrameBacklog(), FrameReader()
    now, count = 10 * SECOND, 0
    control: list[int] = []
    media: dict[int, int] = {}
    got: list[tuple[bytes, int]] = []
    for what, size, is_media in todo:
        if what in ("add", "burst"):
            for _ in range(150 if what == "burst" else 1):
                count += 1
                if backlog.add(frame(count, size, is_media), is_media, now):
                    if is_media:
                        media[count] = now
                    else:
                        control.append(count)
                else:
                    assert not is_media
        elif what == "take":
            got += [(data, now) for data in reader.push(backlog.take(size, now))]
        elif what == "wait":
            now += size
        else:
            backlog.shrink()
            assert not backlog.empty or backlog.memory == 0
        assert backlog.memory <= MEDIA_ROOM + CONTROL_ROOM + REST_ROOM
    while not backlog.empty:
        got += [(data, now) for data in reader.push(backlog.take(1000, now))]
    assert reader.kept == 0
    assert [number_of(data) for data, _ in got if data[:1] == b"c"] == control
    shown = [number_of(data) for data, _ in got if data[:1] == b"m"]
    assert shown == sorted(set(shown))
    assert len(media) - len(shown) == backlog.dropped


def test_control_overtakes_media_but_not_a_frame_on_its_way() -> None:
    backlog, reader = FrameBacklog(), FrameReader()
    for number in (1, 2):
        backlog.add(frame(number, 100, True), True, 0)
    first = backlog.take(50, 0)
    backlog.add(frame(3, 20, False), False, 0)
    rest = backlog.take(10_000, 0)
    assert [number_of(data) for data in reader.push(first + rest)] == [1, 3, 2]


def test_of_a_frame_that_was_sent_in_part_the_rest_goes_first() -> None:
    backlog, reader = FrameBacklog(), FrameReader()
    whole = frame(1, 100, True)
    backlog.split(whole, 1)
    backlog.add(frame(2, 20, False), False, 0)
    assert [number_of(data) for data in reader.push(b"\0" + backlog.take(10_000, 0))] == [1, 2]


def test_a_full_one_gives_up_the_oldest_half() -> None:
    backlog, reader = FrameBacklog(), FrameReader()
    count = MEDIA_ROOM // 1002 + 1
    for number in range(count):
        assert backlog.add(frame(number, 1000, True), True, 0)
    kept = [number_of(data) for data in reader.push(backlog.take(MEDIA_ROOM, 0))]
    assert kept == list(range(count - len(kept), count))
    assert MEDIA_ROOM * 0.45 < len(kept) * 1002 < MEDIA_ROOM * 0.55


def test_media_that_has_waited_for_a_second_is_given_up() -> None:
    backlog, reader = FrameBacklog(), FrameReader()
    start = 100 * SECOND
    for number in range(30):
        backlog.add(frame(number, 100, True), True, start + number * 100_000)
    now = start + 29 * 100_000
    kept = [number_of(data) for data in reader.push(backlog.take(100_000, now))]
    assert kept == list(range(kept[0], 30))
    assert now - SECOND - MARK <= start + kept[0] * 100_000 <= now - SECOND + 100_000 + MARK


def test_a_peer_that_reads_nothing_is_owed_no_more_control() -> None:
    backlog = FrameBacklog()
    taken = 0
    while backlog.add(bytes(100), False, 0):
        taken += 1
    assert taken == CONTROL_ROOM // 102
    assert not backlog.add(bytes(2049), True, 0)
