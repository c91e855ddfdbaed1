"""The modelled viewer: repair, references, and the freeze rule of BUDGETS.md."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from mediaserver.codecs.payload import Codec
from tests.sim.consultation import CAMERA, single, with_codec
from tests.sim.encoder import Encoder, VideoSpec
from tests.sim.figures import freeze_limit, gaps, overlap
from tests.sim.network import MS, SECOND
from tests.sim.payloads import payloads
from tests.sim.receiving import NACK_TRIES, VideoReceiver

FRAME_US = 33_333
Packet = tuple[int, int, bool, bytes, int, int]  # number, timestamp, marker, payload, sent, temporal layer


def stream(codec: Codec, count: int, keys: tuple[int, ...] = (), bps: int = 900_000) -> list[Packet]:
    """A publisher's packets without a network between."""
    medium = single(with_codec(CAMERA, codec)).medium
    assert isinstance(medium, VideoSpec)
    encoder = Encoder(msgspec.structs.replace(medium, svc=False), 2)
    encoder.allot(bps)
    packets: list[Packet] = []
    for number in range(count):
        if number in keys:
            encoder.want_keyframe()
        for unit in encoder.encode(number * FRAME_US):
            parts = payloads(unit)
            for index, payload in enumerate(parts):
                sequence = (65_500 + len(packets)) & 0xFFFF
                packets.append(
                    (sequence, number * 3_000, index == len(parts) - 1, payload, number * FRAME_US, unit.temporal)
                )
    return packets


def give(receiver: VideoReceiver, packet: Packet, *, late: int = 0, repair: bool = False) -> None:
    number, timestamp, marker, payload, sent, _ = packet
    receiver.take(number, timestamp, marker, payload, sent + late, repair)


@pytest.mark.parametrize("codec", [Codec.CODEC_VP8, Codec.CODEC_VP9, Codec.CODEC_H264, Codec.CODEC_AV1])
def test_what_comes_whole_is_shown(codec: Codec) -> None:
    receiver = VideoReceiver(codec, 1, 2)
    for packet in stream(codec, 90, keys=(50,)):
        give(receiver, packet)
    assert len(receiver.shown_at) == 90
    assert (receiver.corrupt, receiver.keyframes, receiver.nacked) == (0, 2, 0)
    assert list(receiver.captured) == [number * FRAME_US for number in range(90)]


@pytest.mark.parametrize("codec", [Codec.CODEC_VP8, Codec.CODEC_VP9])
def test_without_the_top_temporal_layer_half_is_shown_and_all_of_it_is_true(codec: Codec) -> None:
    receiver = VideoReceiver(codec, 1, 2)
    kept = [packet for packet in stream(codec, 120) if packet[5] < 2]
    for index, (_, timestamp, marker, payload, sent, _) in enumerate(kept):
        receiver.take(index, timestamp, marker, payload, sent, False)
    assert len(receiver.shown_at) == 60
    assert (receiver.corrupt, receiver.skipped) == (0, 0)


@pytest.mark.parametrize("codec", [Codec.CODEC_VP8, Codec.CODEC_VP9, Codec.CODEC_H264])
def test_a_lost_base_frame_stops_the_picture_until_it_is_repaired(codec: Codec) -> None:
    packets = stream(codec, 60)
    receiver = VideoReceiver(codec, 1, 2)
    lost = next(index for index, packet in enumerate(packets) if packet[4] == 20 * FRAME_US)
    for index, packet in enumerate(packets):
        if index != lost:
            give(receiver, packet)
    shown = len(receiver.shown_at)
    assert shown == 20
    assert receiver.nacks(60 * FRAME_US, 40 * MS) == [packets[lost][0]]
    give(receiver, packets[lost], late=SECOND, repair=True)
    # What was waiting goes on at once: all of it, in its order.
    assert len(receiver.shown_at) == 60
    assert (receiver.recovered, receiver.corrupt) == (1, 0)
    give(receiver, packets[lost], late=SECOND, repair=True)
    assert receiver.repeated == 1


def test_a_lost_top_layer_costs_its_frame_alone() -> None:
    packets = stream(Codec.CODEC_VP8, 60)
    lost = next(
        index
        for index, packet in enumerate(packets)
        if packet[4] > 20 * FRAME_US and packet[5] == 2 and packets[index - 1][5] == 0
    )
    receiver = VideoReceiver(Codec.CODEC_VP8, 1, 2)
    for index, packet in enumerate(packets):
        if index != lost:
            give(receiver, packet)
    assert 58 <= len(receiver.shown_at) <= 59
    assert receiver.corrupt == 0


def test_missing_packets_are_asked_for_each_round_trip_and_then_given_up() -> None:
    packets = stream(Codec.CODEC_VP8, 30)
    receiver = VideoReceiver(Codec.CODEC_VP8, 1, 2)
    for index, packet in enumerate(packets[:40]):
        if index != 30:
            give(receiver, packet)
    now, asked = packets[40][4], []
    while now < packets[40][4] + 2 * SECOND:
        if receiver.nacks(now, 40 * MS):
            asked.append(now)
        now += 5 * MS
    assert len(asked) == NACK_TRIES
    assert min(b - a for a, b in itertools.pairwise(asked)) >= 40 * MS
    assert receiver.given_up == 1
    assert receiver.keyframe_due(now)
    assert not receiver.keyframe_due(now + 1)


def test_a_server_that_joins_two_streams_without_a_keyframe_is_found_out() -> None:
    """Descriptors that look continuous over frames that are not: the picture would be broken."""
    packets = stream(Codec.CODEC_H264, 40)
    receiver = VideoReceiver(Codec.CODEC_H264, 1, 2)
    left_out = [packet for packet in packets if packet[4] != 20 * FRAME_US]
    for index, (_, timestamp, marker, payload, sent, _) in enumerate(left_out):
        receiver.take(index, timestamp, marker, payload, sent, False)
    assert len(receiver.shown_at) == 39
    assert receiver.corrupt == 1


def test_the_freeze_rule() -> None:
    assert (freeze_limit(30), freeze_limit(15), freeze_limit(5)) == (250 * MS, 250 * MS, 600 * MS)
    shown = [0, 100 * MS, 349 * MS, 600 * MS, 1_000 * MS]
    assert gaps(shown, 0, 1_100 * MS, 250 * MS) == [(349 * MS, 600 * MS), (600 * MS, 1_000 * MS)]
    assert gaps(shown, 0, 1_500 * MS, 250 * MS)[-1] == (1_000 * MS, 1_500 * MS)  # still frozen at the end
    assert gaps([], 0, SECOND, 250 * MS) == [(0, SECOND)]
    assert overlap(100, 200, [(0, 120), (150, 160), (190, 500)]) == 40
