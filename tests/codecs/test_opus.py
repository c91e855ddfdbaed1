"""Opus packets by the table and the rules of RFC 6716, section 3, and RED around them."""

from __future__ import annotations

import itertools

import pytest

from mediaserver.codecs.opus import Toc, parse_toc
from mediaserver.codecs.payload import Codec, assembler, facts
from tests.codecs import media


def test_every_configuration() -> None:
    """Table 2: mode, bandwidth and frame size by configuration number."""
    rows = [
        *itertools.product(["silk"], ["narrow", "medium", "wide"], [10, 20, 40, 60]),
        *itertools.product(["hybrid"], ["superwide", "full"], [10, 20]),
        *itertools.product(["celt"], ["narrow", "wide", "superwide", "full"], [2.5, 5, 10, 20]),
    ]
    assert len(rows) == 32
    for config, (mode, bandwidth, milliseconds) in enumerate(rows):
        for stereo in (0, 1):
            found = parse_toc(bytes([config << 3 | stereo << 2, 0]))
            assert found == Toc(mode, bandwidth, bool(stereo), 1, int(milliseconds * 1000))


def test_frame_counts() -> None:
    twenty = 31 << 3
    assert parse_toc(bytes([twenty])).frames == 1  # nothing but the first byte: DTX
    assert parse_toc(bytes([twenty | 1, 5, 5])).duration_us == 40000
    assert parse_toc(bytes([twenty | 2, 1, 5, 5])).frames == 2
    assert parse_toc(bytes([twenty | 3, 6, *range(6)])).duration_us == 120000
    assert parse_toc(bytes([28 << 3 | 3, 48])).duration_us == 120000
    # Variable lengths with padding: 2 and 1 bytes, then 3 of padding.
    assert parse_toc(bytes([twenty | 3, 0xC2, 3, 2, 1, 1, 1, 0, 0, 0])).frames == 2
    # A length of two bytes: 252 + 4 * 1.
    assert parse_toc(bytes([twenty | 2, 252, 1]) + bytes(256)).frames == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes([0]) + bytes(1276),  # R2: a frame over 1275 bytes
        bytes([1, 5]),  # R3: two equal frames of one byte together
        bytes([1]) + bytes(2 * 1276),
        bytes([2]),  # R4
        bytes([2, 252]),
        bytes([2, 5, 0, 0]),
        bytes([2, 0]) + bytes(1276),
        bytes([3]),  # R6 and R7
        bytes([3, 0]),  # no frames
        bytes([31 << 3 | 3, 7]),  # R5: 140 ms
        bytes([28 << 3 | 3, 49]),
        bytes([3, 2, 1]),  # two equal frames of one byte together
        bytes([3, 0x41]),  # padding without its length
        bytes([3, 0x41, 1]),
        bytes([3, 0x41, 255, 255]),
        bytes([3, 0x82]),  # no length
        bytes([3, 0x82, 5, 1]),
        bytes([3, 0x81]) + bytes(1276),
        bytes([3, 1]) + bytes(1276),
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(ValueError, match="Opus"):
        parse_toc(data)
    assert not facts(Codec.CODEC_OPUS, data).valid
    assert assembler(Codec.CODEC_OPUS).push(data, 0, True) == []


@pytest.mark.parametrize(
    ("options", "modes"),
    [((("application", "lowdelay"),), {"celt"}), ((("application", "voip"), ("b", "12k")), {"silk", "hybrid"})],
)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("milliseconds", ["10", "20", "60"])
def test_real_packets(options: tuple[tuple[str, str], ...], modes: set[str], channels: int, milliseconds: str) -> None:
    if modes == {"celt"} and milliseconds == "60":
        milliseconds = "5"
    coded = media.encode_sound(12, (*options, ("frame_duration", milliseconds)), channels)
    found = [parse_toc(data) for data in coded]
    assert {toc.duration_us for toc in found} == {int(milliseconds) * 1000}
    assert {toc.mode for toc in found} <= modes
    if modes == {"celt"}:
        assert {toc.stereo for toc in found} == {channels == 2}


def red(*blocks: tuple[int, bytes]) -> bytes:
    """Blocks of (timestamp offset, data), the newest last (RFC 2198, section 3)."""
    *copies, (_, newest) = blocks
    headers = b"".join((1 << 31 | 111 << 24 | offset << 10 | len(data)).to_bytes(4) for offset, data in copies)
    return headers + b"\x6f" + b"".join(data for _, data in copies) + newest


class TestRed:
    A, B, C, D = (bytes([0xFC, i]) for i in range(4))

    def test_copies_are_not_needed(self) -> None:
        machine = assembler(Codec.CODEC_RED)
        made = machine.push(red((0, self.A)), 960, True) + machine.push(red((960, self.A), (0, self.B)), 1920, True)
        assert [(unit.timestamp, unit.data) for unit in made] == [(960, self.A), (1920, self.B)]

    def test_copies_stand_in_for_what_is_lost(self) -> None:
        machine = assembler(Codec.CODEC_RED)
        machine.push(red((0, self.A)), 2**32 - 960, True)
        made = machine.push(red((2880, self.A), (1920, self.B), (960, self.C), (0, self.D)), 1920, True, True)
        assert [(unit.timestamp, unit.data) for unit in made] == [(0, self.B), (960, self.C), (1920, self.D)]
        assert all(unit.complete and unit.keyframe for unit in made)

    def test_the_first_packet_gives_no_copies(self) -> None:
        made = assembler(Codec.CODEC_RED).push(red((960, self.A), (0, self.B)), 960, True, True)
        assert [unit.data for unit in made] == [self.B]
