"""The modelled encoders: payloads that the product's own parsers accept, rates that are kept, layers that hold."""

from __future__ import annotations

import pytest

from mediaserver.codecs.payload import Codec, facts
from tests.sim.consultation import CAMERA, ULTRASOUND, with_codec
from tests.sim.encoder import PATTERNS, Encoder, Encoding, VideoSpec, references_known
from tests.sim.payloads import PAYLOAD_MAX, Unit, payloads, read_truth, sound

FRAME_US = 33_333
CODECS = [Codec.CODEC_VP8, Codec.CODEC_VP9, Codec.CODEC_H264, Codec.CODEC_AV1]


def encoder(codec: Codec, bps: int, seed: int = 1) -> Encoder:
    spec = with_codec(CAMERA, codec).medium
    assert isinstance(spec, VideoSpec)
    made = Encoder(spec, seed)
    made.allot(bps)
    return made


def frames(made: Encoder, count: int) -> list[Unit]:
    return [unit for number in range(count) for unit in made.encode(number * FRAME_US)]


@pytest.mark.parametrize("codec", CODECS)
def test_payloads_are_valid_and_say_what_they_are(codec: Codec) -> None:
    for unit in frames(encoder(codec, 2_900_000), 40):
        parts = [(payload, facts(codec, payload)) for payload in payloads(unit)]
        assert all(one.valid for _, one in parts)
        assert all(len(payload) <= PAYLOAD_MAX + 100 for payload, _ in parts)
        assert any(one.keyframe for _, one in parts) == (unit.key and unit.spatial == 0)
        assert parts[0][1].start
        if unit.key and unit.spatial == 0 and codec != Codec.CODEC_VP9:
            assert (parts[0][1].width, parts[0][1].height) == (unit.width, unit.height)
        if codec in (Codec.CODEC_VP8, Codec.CODEC_VP9):
            assert {one.temporal_id for _, one in parts} == {unit.temporal}
            assert {one.picture_id for _, one in parts} == {unit.picture}
        for index, (payload, _) in enumerate(parts):
            truth = read_truth(payload)
            assert (truth.unit, truth.captured, truth.index, truth.count) == (
                unit.number,
                unit.captured,
                index,
                len(parts),
            )


def test_vp9_tells_its_layers_and_the_size_of_the_highest() -> None:
    units = frames(encoder(Codec.CODEC_VP9, 2_900_000), 2)
    assert [unit.spatial for unit in units] == [0, 1, 2] * 2
    first = facts(Codec.CODEC_VP9, payloads(units[0])[0])
    assert (first.width, first.height, first.spatial_id) == (1280, 720, 0)
    last = facts(Codec.CODEC_VP9, payloads(units[2])[-1])
    assert last.end
    assert [unit.last for unit in units[:3]] == [False, False, True]


def test_sound_is_opus() -> None:
    payload = sound(7, 1_000_000, 320)
    assert len(payload) == 320
    assert facts(Codec.CODEC_OPUS, payload).valid
    assert read_truth(payload).unit == 7


@pytest.mark.parametrize("temporal", sorted(PATTERNS))
@pytest.mark.parametrize("bps", [400_000, 2_000_000])
def test_rates_are_kept_and_layers_have_their_shares(temporal: int, bps: int) -> None:
    spec = VideoSpec(Codec.CODEC_VP8, (Encoding(1280, 720, 50_000, 5_000_000),), temporal=temporal)
    made = Encoder(spec, 4)
    made.allot(bps)
    units = frames(made, 30 * 60)
    size = sum(unit.size for unit in units)
    assert size * 8 / 60 == pytest.approx(bps, rel=0.04)
    base = sum(unit.size for unit in units if unit.temporal == 0)
    assert base / size == pytest.approx({1: 1.0, 2: 0.6, 3: 0.4}[temporal], abs=0.02)
    assert references_known(units)


def test_a_keyframe_is_paid_for_afterwards() -> None:
    made = encoder(Codec.CODEC_VP8, 200_000)
    units = frames(made, 30)
    key, others = units[0], units[1:]
    mean = 200_000 / 8 / 30
    assert 3 * mean < key.size < 8 * mean
    assert sum(unit.size for unit in others[:15]) < 15 * mean
    made.want_keyframe()
    assert made.encode(0)[0].key
    assert made.keyframes == 2


def test_simulcast_gives_the_lowest_first_and_a_new_encoding_a_keyframe() -> None:
    made = encoder(Codec.CODEC_VP8, 700_000)
    assert made.rates == [200_000, 500_000, 0]
    assert [unit.encoding for unit in made.encode(0)] == [0, 1]
    made.allot(100_000)
    assert made.rates == [100_000, 0, 0]
    made.allot(10_000)
    assert made.rates == [60_000, 0, 0]
    made.allot(2_000_000)
    units = made.encode(1)
    assert [(unit.encoding, unit.key) for unit in units] == [(0, True), (1, True), (2, True)]
    spec = ULTRASOUND.medium
    assert isinstance(spec, VideoSpec)
    assert len({one.height for one in spec.encodings}) == 1


def test_two_encoders_of_one_seed_make_the_same() -> None:
    assert frames(encoder(Codec.CODEC_VP8, 2_000_000, 3), 100) == frames(encoder(Codec.CODEC_VP8, 2_000_000, 3), 100)
