"""RED as it is written and read; what it repairs is tested with the assembler and with the engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.codecs.payload import Codec, facts
from mediaserver.codecs.red import Block, build, parse
from tests.codecs.test_chromium import received

COPIES = st.builds(Block, st.integers(0, 127), st.integers(0, 0x3FFF), st.binary(max_size=1023))
OWN = st.builds(Block, st.integers(0, 127), st.just(0), st.binary(min_size=1, max_size=1200))


@given(st.lists(COPIES, max_size=16), OWN)
def test_what_is_built_reads_back(copies: list[Block], own: Block) -> None:
    payload = build([*copies, own])
    assert parse(payload) == [*copies, own]
    assert payload[facts(Codec.CODEC_RED, payload).descriptor_size :] == own.data


def test_the_layout() -> None:
    """RFC 2198, section 3."""
    assert build([Block(111, 960, b"ab"), Block(111, 0, b"c")]).hex() == "ef0f0002" + "6f" + "6162" + "63"


@given(st.binary(max_size=200))
def test_what_reads_is_what_was_built(payload: bytes) -> None:
    try:
        blocks = parse(payload)
    except ValueError:
        assert not facts(Codec.CODEC_RED, payload).valid
        return
    assert build(blocks) == payload


def test_more_copies_than_anybody_sends_are_refused() -> None:
    with pytest.raises(ValueError, match="malformed"):
        parse(bytes([0xEF, 0, 0, 0]) * 17 + b"\x6f\xfc")
    with pytest.raises(ValueError, match="copies"):
        build([Block(111, 0, b"")] * 17 + [Block(111, 0, b"c")])


def test_chromium_sends_a_copy_of_the_packet_before() -> None:
    packets = received("red")
    before = None
    for packet in packets:
        *copies, own = parse(packet.payload)
        if before is not None:
            assert [(copy.age, copy.data) for copy in copies[-1:]] == [(packet.timestamp - before[0], before[1])]
        before = (packet.timestamp, own.data)
