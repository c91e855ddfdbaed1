from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.sfu.wire.framing import FrameReader, framed

LONGEST = 2048
datagrams = st.lists(st.one_of(st.binary(max_size=60), st.binary(min_size=LONGEST - 2, max_size=LONGEST)), max_size=12)


@given(datagrams, st.lists(st.integers(0, 4000), max_size=30))
def test_pieces_of_any_size_give_the_same_datagrams(sent: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(framed, sent))
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reader = FrameReader()
    got = [frame for a, b in itertools.pairwise(places) for frame in reader.push(stream[a:b])]
    assert got == sent
    assert reader.kept == 0


@given(st.lists(st.binary(max_size=3000), max_size=12))
def test_whatever_comes_it_keeps_less_than_a_frame(pieces: list[bytes]) -> None:
    reader = FrameReader()
    for piece in pieces:
        if reader.broken:
            with pytest.raises(ValueError, match="too long"):
                reader.push(piece)
            continue
        assert all(len(frame) <= LONGEST for frame in reader.push(piece))
        assert reader.kept < LONGEST + 2


def test_a_frame_that_is_too_long_ends_the_stream_at_its_length() -> None:
    reader = FrameReader()
    assert reader.push(framed(b"before") + (LONGEST + 1).to_bytes(2)) == [b"before"]
    assert reader.broken
    assert reader.kept == 0
    with pytest.raises(ValueError, match="at most"):
        framed(bytes(LONGEST + 1))
