"""Encoded loops and the payloads that are cut from them, held against decoders and depacketisers of others."""

from __future__ import annotations

import av
import pytest
from aiortc.codecs import depayload
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.codecs.payload import assembler, codec_from_name, facts
from mediaserver.loadtest import loops
from mediaserver.loadtest.loops import Loop
from mediaserver.loadtest.packetise import MAX_PAYLOAD, nal_units, packetise, split_evenly
from mediaserver.loadtest.raster import read_code


def ultrasound() -> Loop:
    return loops.ultrasound(beats=2, size=(320, 240), bitrate=600_000)


def camera() -> Loop:
    return loops.camera(seconds=1, size=(320, 180), bitrate=400_000, noise=2)


def thrifty() -> Loop:
    return loops.ultrasound("AV1", beats=2, size=(320, 240), bitrate=600_000)


VIDEO = pytest.mark.parametrize("make", [ultrasound, camera, thrifty])


def decode(loop: Loop, units: list[bytes]) -> list[int | None]:
    """The frame codes of decoded access units."""
    decoder = av.CodecContext.create({"H264": "h264", "VP8": "vp8", "AV1": "libdav1d"}[loop.codec], "r")
    assert isinstance(decoder, av.VideoCodecContext)
    frames = [frame for unit in units for frame in decoder.decode(av.Packet(unit))] + decoder.decode(None)
    return [read_code(frame.to_ndarray(format="yuv420p")[: loop.height]) for frame in frames]


@VIDEO
def test_frames_decode_in_order_with_their_codes(make: object) -> None:
    loop = make()
    assert decode(loop, list(loop.frames)) == list(range(len(loop.frames)))


@VIDEO
def test_a_decoder_can_start_at_each_keyframe(make: object) -> None:
    loop = make()
    starts = [number for number, is_key in enumerate(loop.keyframes) if is_key]
    assert starts[0] == 0
    last = starts[-1]
    assert decode(loop, list(loop.frames[last:])) == list(range(last, len(loop.frames)))


def test_the_bitrate_is_about_what_was_asked() -> None:
    assert loops.ultrasound(beats=3, bitrate=1_500_000).bitrate == pytest.approx(1_500_000, rel=0.3)


def test_ultrasound_is_constrained_baseline() -> None:
    sps = next(unit for unit in nal_units(ultrasound().frames[0]) if unit[0] & 31 == 7)
    assert sps[1] == 66
    assert sps[2] & 0x40  # constraint_set1_flag: main profile decoders take it too


@pytest.mark.parametrize("make", [loops.stethoscope, loops.microphone])
def test_sound_is_mono_opus_of_20_ms(make: object) -> None:
    loop = make(seconds=2)
    assert len(loop.frames) == 100
    decoder = av.CodecContext.create("libopus", "r")
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.sample_rate = 48_000
    samples = sum(frame.samples for packet in loop.frames for frame in decoder.decode(av.Packet(packet)))
    assert samples == pytest.approx(2 * 48_000, abs=960)
    assert all(facts(int(codec_from_name("opus")), packet).valid for packet in loop.frames)


@VIDEO
def test_payloads_fit_and_assemble_to_the_same_pictures(make: object) -> None:
    loop = make()
    gather = assembler(int(codec_from_name(loop.codec)))
    units = []
    for number, frame in enumerate(loop.frames):
        payloads = packetise(loop.codec, frame)
        assert all(0 < len(payload) <= MAX_PAYLOAD for payload in payloads)
        assert facts(int(codec_from_name(loop.codec)), payloads[0]).keyframe == loop.keyframes[number]
        for position, payload in enumerate(payloads):
            units += gather.push(payload, number * loop.duration, position == len(payloads) - 1)
    units += gather.flush()
    assert all(unit.complete for unit in units)
    assert decode(loop, [unit.data for unit in units]) == list(range(len(loop.frames)))


@pytest.mark.parametrize("make", [ultrasound, camera])
def test_another_implementation_reads_the_payloads(make: object) -> None:
    loop = make()
    codec = RTCRtpCodecParameters(mimeType=f"video/{loop.codec}", clockRate=90_000, payloadType=96)
    units = [b"".join(depayload(codec, payload) for payload in packetise(loop.codec, frame)) for frame in loop.frames]
    assert decode(loop, units) == list(range(len(loop.frames)))


def test_slower_pictures_keep_the_codes_of_their_moments() -> None:
    loop = loops.ultrasound(beats=2, size=(320, 240), bitrate=600_000, beats_per_keyframe=2, rate=15)
    assert loop.code_step == 2
    assert len(loop.frames) == 25
    assert decode(loop, list(loop.frames)) == list(range(0, 50, 2))


@pytest.mark.parametrize("unit", [b"\x10", b"\x12\x05abc", b"\x12\xff\xff"])
def test_malformed_av1_is_refused(unit: bytes) -> None:
    with pytest.raises(ValueError, match=r"OBU|size"):
        packetise("AV1", unit)


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="H266"):
        packetise("H266", b"x")


@given(st.binary(min_size=1, max_size=5000), st.integers(1, 1500))
def test_pieces_are_nearly_even_and_whole(data: bytes, limit: int) -> None:
    pieces = split_evenly(data, limit)
    assert b"".join(pieces) == data
    sizes = [len(piece) for piece in pieces]
    assert max(sizes) <= limit
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes)


@given(st.lists(st.binary(min_size=1, max_size=40).map(lambda unit: unit.replace(b"\0", b"\1")), max_size=6))
def test_nal_units_come_apart_as_they_were_joined(units: list[bytes]) -> None:
    assert list(nal_units(b"".join(b"\0\0\0\1" + unit for unit in units))) == units


@given(st.binary(max_size=200))
def test_any_bytes_can_be_searched_for_nal_units(data: bytes) -> None:
    assert all(nal_units(data))
