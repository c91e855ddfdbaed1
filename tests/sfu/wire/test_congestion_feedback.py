from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.sfu.wire.rtcp_packets import CongestionFeedback, OtherPacket, PictureLoss, read, write

Metric = tuple[int | None, int] | None
Block = tuple[int, int, tuple[Metric, ...]]

metrics = st.none() | st.tuples(st.none() | st.integers(0, 8190), st.integers(0, 3))
blocks = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 65535), st.lists(metrics, max_size=40).map(tuple))


def frame(body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | 11, 205, len(body) // 4) + body


def message(ssrc: int, timestamp: int, told: list[Block]) -> bytes:
    """RFC 8888, section 3.1."""
    body = struct.pack("!I", ssrc)
    for media, first, packets in told:
        body += struct.pack("!IHH", media, first, len(packets))
        for packet in packets:
            age, ecn = packet if packet else (0, 0)
            body += struct.pack("!H", (packet is not None) << 15 | ecn << 13 | (0x1FFF if age is None else age))
        body += bytes(2 * (len(packets) % 2))
    return frame(body + struct.pack("!I", timestamp))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.lists(blocks, max_size=4))
def test_says_what_was_written(ssrc: int, timestamp: int, told: list[Block]) -> None:
    data = message(ssrc, timestamp, told)
    assert read(data + write(PictureLoss(1, 2))) == [
        CongestionFeedback(ssrc, timestamp, tuple(told)),
        PictureLoss(1, 2),
    ]


@given(st.binary(max_size=120))
def test_anything_else_is_read_or_refused(body: bytes) -> None:
    body = body[: len(body) // 4 * 4]
    try:
        (packet,) = read(frame(body))
    except ValueError:
        return
    assert isinstance(packet, CongestionFeedback)
    assert len(packet.blocks) * 8 + 8 <= len(body)


def test_a_block_that_goes_past_the_message() -> None:
    body = struct.pack("!IIHH", 1, 2, 3, 3) + bytes(4) + bytes(4)
    with pytest.raises(ValueError, match="shorter"):
        read(frame(body))
    assert read(frame(struct.pack("!IIHH", 1, 2, 3, 2) + bytes(4) + bytes(4)))


def test_more_packets_than_a_block_may_have() -> None:
    body = struct.pack("!IIHH", 1, 2, 3, 16385) + bytes(2 * 16386) + bytes(4)
    with pytest.raises(ValueError, match="contradict"):
        read(frame(body))


def test_no_timestamp() -> None:
    with pytest.raises(ValueError, match="shorter"):
        read(frame(bytes(4)))


def test_other_formats_of_transport_feedback() -> None:
    assert read(struct.pack("!BBH", 0x80 | 12, 205, 2) + bytes(8)) == [OtherPacket(205, 12)]
